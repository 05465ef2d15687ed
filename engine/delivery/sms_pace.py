"""How fast a peer is sent to that says when it is too fast: the rate of a carrier, and the pauses of each link to it.

A refusal halves the rate. Answers that are good bring it back step by step: soon to the level at which the peer took
nearly everything, then slowly beyond. Each refusal lowers that level a little, so that it settles where about one
submit in fifty is refused: a peer that refuses fewer, whatever the rate, is sent to at the full rate.

If nothing is taken between refusals the link pauses, each time twice as long, and then one message goes alone, so that
the order is kept if it is refused again.

A peer that answers no submit at all, though it is there, is left alone in the same way, and longer: then one message
goes alone, to see whether it answers again.

Pure; times are of the caller's clock. What was on the wire when the peer refused is no news when it is refused as well.

A1  floor <= rate <= cap.
"""

import math
from typing import Final

#: Parts a second: the floor of a rate that is not configured slower. What is slower than that is done by pauses.
SLOWEST: Final = 1.0
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 60.0
#: After so many submits in a row without an answer a link is silent, and pauses so long: each look costs a message the
#: time of an answer, and may double it.
SILENT: Final = 3
FIRST_SILENCE_S: Final = 30.0
LONGEST_SILENCE_S: Final = 600.0
#: What a good answer adds to the rate below the level, as a share of the level.
_STEP: Final = 1 / 20
#: What a good answer adds to the level, and what a refusal takes from it: at 1 in 50 they are even.
_CREEP: Final = 0.002
_LOSS: Final = 0.1
#: A rate is not measured over less. What it is taken for if nothing was ever taken.
_SHORT_S: Final = 0.05
_UNKNOWN: Final = 20.0
#: The level stays so many times above what was taken in a second: it would take itself down by its own falls.
_ABOVE: Final = 1.1
#: Without a configured rate the way back ends at so many times the rate at which the peer refused first.
_AWAY: Final = 4.0


class Pace:
    """The rate of a carrier, over all its binds. cap: parts a second as configured, None: no limit."""

    def __init__(self, cap: float | None) -> None:
        self._cap = cap
        self.rate = self._top = self._level = math.inf if cap is None else cap
        self._floor = min(SLOWEST, self._top)
        self._fell_at = -math.inf
        self._next = -math.inf  #: when the next part may go
        self._taken = True  #: something was, since the rate fell
        self._second, self._count, self._before = -math.inf, 0, 0  #: taken in this second, and in the one before

    @property
    def slowed(self) -> bool:
        return self.rate < self._top

    def permit(self, now: float, parts: int) -> float:
        """When so many parts may go, together. No burst: a peer that refuses is to have its parts one by one."""
        if self.rate >= self._top:
            return now
        at = max(self._next, now)
        self._next = at + parts / self.rate
        return at

    def taken(self, now: float) -> None:
        """A good answer."""
        if now >= self._second + 1:
            self._before = self._count if now < self._second + 2 else 0
            self._second, self._count = now, 0
        self._count += 1
        if self.rate >= self._top:
            return
        self._taken = True
        if self.rate < self._level:
            self.rate = min(self.rate + _STEP * self._level, self._level)
        else:
            self.rate = self._level = min(self._level * (1 + _CREEP), self._top)
        if self.rate >= self._top and self._cap is None:
            self.rate = self._top = self._level = math.inf

    def refused(self, sent_at: float, now: float) -> None:
        """It was too fast. sent_at: when that was sent which was refused."""
        if sent_at < self._fell_at:
            return
        if self._top == math.inf:
            self._level = max(self._took(now, _SHORT_S), _UNKNOWN)
            self._top = _AWAY * self._level
        if self._taken:  # else it takes nothing, at whatever rate: that is for pauses
            self._level = min(max(self._level * (1 - _LOSS), _ABOVE * self._took(now), self._floor), self._top)
        self.rate = max(min(self.rate, self._level) / 2, self._level * _STEP, self._floor)
        self._fell_at = now
        self._next = now + 1 / self.rate
        self._taken = False

    def _took(self, now: float, shortest: float = 1.0) -> float:
        """Parts a second that the peer has taken lately, measured over this second if that is not too short."""
        age = now - self._second
        if shortest <= age < 1:
            return max(self._count / age, self._before)
        return self._before if age < 1 else self._count if age < 2 else 0


class Pause:
    """The pauses of one link. alone: there was one, and nothing was taken since. seconds: how long the last one is,
    0.0 if something was taken since. silent: so many submits in a row that nobody answered."""

    def __init__(self) -> None:
        self.alone, self.seconds = False, 0.0
        self.silent = 0
        self._refused_at: float | None = None  #: when the peer refused first, since it took something
        self._until = self._silent_at = -math.inf

    def left(self, now: float) -> float:
        """Seconds; not above zero: it is over."""
        return self._until - now

    def taken(self) -> None:
        """A good answer."""
        self.alone, self._refused_at = False, None
        self.seconds = 0.0
        self.silent = 0

    def refused(self, sent_at: float, now: float) -> float:
        """How long the link is left alone from now on; 0.0: it is already, or need not be."""
        self.silent = 0
        if self._refused_at is None:
            self._refused_at = now
            return 0.0
        if sent_at < self._refused_at or now < self._until:
            return 0.0
        self.seconds = min(max(2 * self.seconds, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self._until, self.alone = now + self.seconds, True
        return self.seconds

    def unanswered(self, sent_at: float, now: float) -> float:
        """A submit had no answer in time. How long the link is left alone from now on; 0.0: it is not, or is."""
        self.silent += 1
        if self.silent < SILENT or sent_at < self._silent_at:
            return 0.0
        self.seconds = min(max(2 * self.seconds, FIRST_SILENCE_S), LONGEST_SILENCE_S)
        self._silent_at, self._until, self.alone = now, now + self.seconds, True
        return self.seconds

    def bound(self) -> None:
        """The link is made anew: that nobody answered on the old one says nothing any more."""
        if self.silent:
            self.taken()
            self._until = self._silent_at = -math.inf
