"""The clock seam: wall time and monotonic time come from one object, which tests replace."""

import time
from typing import Final, Protocol

_time: Final = time.time
_monotonic: Final = time.monotonic


class Clock(Protocol):
    def time(self) -> float:
        """Unix time in seconds."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""


class SystemClock:
    """The clock of the machine."""

    def time(self) -> float:
        return _time()

    def monotonic(self) -> float:
        return _monotonic()
