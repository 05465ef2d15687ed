"""The sleep of a task that waits until something has changed, or for so long at most."""

import asyncio


class Waking:
    """One task sleeps, anybody wakes it; when nobody sleeps that does nothing."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wakeup: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def woken(self, seconds: float | None = None) -> None:
        """Until `wake`, or for so long."""
        self._wakeup = wakeup = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, self.wake)
        try:
            await wakeup
        finally:
            self._wakeup = None
            if timer is not None:
                timer.cancel()
