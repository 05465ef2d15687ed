"""A clock that stands still until told, and an event loop that goes by it."""

import asyncio


class FakeClock:
    """`base.clock.Clock` for tests: both times start at `now` and move by `advance`."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class ClockLoop(asyncio.SelectorEventLoop):
    """A loop whose timers go by a FakeClock; threads and sockets wake it as ever."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        super().__init__()

    def time(self) -> float:
        return self._clock.monotonic()

    async def jump(self, seconds: float) -> None:
        """Let so much time pass, and everything run that is due by then."""
        self._clock.advance(seconds)
        await breathe()


async def breathe() -> None:
    """Let everything run that can run now."""
    for _ in range(20):
        await asyncio.sleep(0)
