"""Wrong passwords, counted by the address that they came from: one with many has to wait."""

from collections import OrderedDict
from collections.abc import Callable

from engine.base.clock import Clock
from engine.base.settings import Intake

_MAX_ADDRESSES = 10_000


class Guesses:
    """Of all listeners. The limits are those of the settings of the moment.

    tell: called with each address that failed here, and the window in seconds; other workers `count` it, too.
    """

    def __init__(self, clock: Clock, tell: Callable[[str, float], object] | None = None) -> None:
        self._clock = clock
        self._tell = tell
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # address -> count, since (monotonic)

    def blocked(self, address: str, intake: Intake) -> bool:
        """Whether nobody is heard there now."""
        count, since = self._failures.get(address, (0, 0.0))
        recent = self._clock.monotonic() - since < intake.failed_login_window
        return recent and count >= intake.max_failed_logins_per_address

    def failed(self, address: str, intake: Intake) -> None:
        """One more."""
        self.count(address, intake.failed_login_window)
        if self._tell is not None:
            self._tell(address, float(intake.failed_login_window))

    def count(self, address: str, window_s: float) -> None:
        """One more, here or at another worker."""
        now = self._clock.monotonic()
        count, since = self._failures.pop(address, (0, now))
        if now - since >= window_s:
            count, since = 0, now
        self._failures[address] = (count + 1, since)
        if len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)
