"""A clock that stands still until told."""


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
