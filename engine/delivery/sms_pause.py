"""The pauses of a link that is told to slow down: each time it is told again twice as long, and half after a success.

After a pause one message goes alone, so that the order is kept if it is refused again.
"""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class Pause:
    """Of one link. probing: the pause is over, and nothing was taken since. Times are of the caller's clock."""

    def __init__(self) -> None:
        self.probing = False
        self._seconds = 0.0
        self._until = 0.0

    def left(self, now: float) -> float:
        """Seconds; not above zero: it is over."""
        return self._until - now

    def begin(self, now: float) -> float:
        """The peer takes no more for now: how long it is left alone; 0.0: it is already."""
        if now < self._until:  # once for all that were on the wire
            return 0.0
        self._seconds = min(max(2 * self._seconds, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self._until, self.probing = now + self._seconds, True
        return self._seconds

    def ended(self) -> None:
        """The peer has taken something."""
        self._seconds /= 2
        self.probing = False
