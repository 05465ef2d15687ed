"""The throttle of one site: how many connections, how fast, and whether at all.

Deliveries widen the window step by step, failed connections narrow it, a row of them closes the site for a while
that doubles each time; a block (a reply that speaks of us, not of a message) halves window and rate. Clean
deliveries give back what was taken, never beyond the configured caps.

What a site says of us all, that it is closed or that we are too fast, the node's other workers are told (`tell`), so
that each need not hear it for itself. What one delivery wins back is its worker's own.

Pure: the caller says what happened and when (unix seconds, because the state survives a restart).

W1  0 <= window <= limit; 0 means closed.      W2  in use <= window when an attempt starts.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

#: What a site said: "closed", with the time until when; "blocked", with the time when.
Word = Literal["closed", "blocked"]

#: Connections to a site we know nothing of yet (Postfix starts with the same 5).
FIRST_WINDOW: Final = 5
#: A closed site is tried again after this long, then twice as long, up to LONGEST_S.
FIRST_CLOSE_S: Final = 30.0
LONGEST_S: Final = 1800.0
#: Deliveries in a row that win back one step of what a block took.
CLEAN_RUN: Final = 20
#: Blocks within this time are one: what was under way hears the same as the first.
BLOCK_S: Final = 30.0
SLOWEST: Final = 1 / 60  #: messages per second: the floor of a halved rate


class Throttle:
    """State of one site. limit: connections; cap: messages per second or None. tell: a word, its time and reason."""

    def __init__(self, limit: int, cap: float | None, tell: Callable[[Word, float, str], object] | None = None) -> None:
        self._tell = tell
        self.limit = limit
        self.cap = cap
        self.rate = cap
        self.in_use = 0
        self.closed_until = 0.0
        self.reason = ""  #: why it is closed or slow, for people
        self._window = min(limit, FIRST_WINDOW)
        self._failures = 0  #: failed connections in a row
        self._closures = 0  #: closings in a row
        self._clean = 0  #: deliveries since the last step
        self._blocked_at = -BLOCK_S

    def configure(self, limit: int, cap: float | None) -> None:
        """New limits from a reload or a fresh plan; what was learned stays, within them."""
        if (limit, cap) == (self.limit, self.cap):
            return
        unhurt = self.rate == self.cap
        self.limit, self.cap = limit, cap
        self._window = min(self._window, limit)
        if unhurt or cap is None or self.rate is None:
            self.rate = cap
        else:
            self.rate = min(self.rate, cap)

    def window(self, now: float) -> int:
        """How many connections may be in use (W1)."""
        return 0 if now < self.closed_until else self._window

    def delivered(self) -> None:
        self._failures = self._closures = 0
        self._clean += 1
        if self._window < self.limit and self._clean >= min(self._window, CLEAN_RUN):
            self._window += 1
            self._clean = 0
        elif self._clean >= CLEAN_RUN and self.rate != self.cap:
            self._clean = 0
            self._speed_up()

    def connect_failed(self, now: float, reason: str) -> None:
        """No host of the site took a connection."""
        if now < self.closed_until:
            return  # one of those that were under way when it was closed: no news
        self._failures += 1
        self._clean = 0
        self._window = max(1, self._window - 1)
        if self._failures >= self._window:
            self.close(now + min(FIRST_CLOSE_S * 2.0**self._closures, LONGEST_S), reason)
            self._closures = min(self._closures + 1, 16)
            self._window, self._failures = 1, 0

    def blocked(self, now: float, reason: str) -> None:
        """The site spoke of us: half the connections, half the rate; once for all that were under way then."""
        self._clean = 0
        self.reason = reason
        if self._slow_down(now) and self._tell is not None:
            self._tell("blocked", now, reason)

    def close(self, until: float, reason: str) -> None:
        news = until > self.closed_until
        self.closed_until = max(self.closed_until, until)
        self.reason = reason
        if news and self._tell is not None:
            self._tell("closed", until, reason)

    def hear(self, word: Word, at: float, reason: str) -> None:
        """Another worker was told this by the site."""
        self.reason = reason
        if word == "closed":
            self.closed_until = max(self.closed_until, at)
        else:
            self._slow_down(at)

    def _slow_down(self, now: float) -> bool:
        """False: it is slowed down for this already."""
        if now < self._blocked_at + BLOCK_S:
            return False
        self._blocked_at = now
        self._window = max(1, self._window // 2)
        # Where no rate is configured, half of one message a second is a place to start giving back from.
        self.rate = max(SLOWEST, (self.rate if self.rate is not None else 1.0) / 2)
        return True

    def reopen(self) -> None:
        """An operator says: try now."""
        self.closed_until = 0.0
        self._failures = self._closures = 0

    def _speed_up(self) -> None:
        assert self.rate is not None
        if self.cap is None:
            # Without a cap the way back ends where the rate says nothing any more.
            self.rate = None if self.rate >= 100 else self.rate * 2
        else:
            self.rate = min(self.cap, self.rate + max(self.cap / 10, SLOWEST))
        if self.rate == self.cap:
            self.reason = ""

    def learned(self, now: float) -> dict[str, Any] | None:
        """What must survive a restart; None when there is nothing to remember."""
        if self.rate == self.cap and now >= self.closed_until:
            return None
        return {"rate": self.rate, "window": self._window, "closed_until": self.closed_until, "reason": self.reason}

    def remember(self, learned: dict[str, Any]) -> None:
        """Take up what `learned` told before the restart, within today's caps."""
        rate = learned["rate"]
        self.rate = self.cap if rate is None else (rate if self.cap is None else min(rate, self.cap))
        self._window = max(1, min(learned["window"], self.limit))
        self.closed_until, self.reason = learned["closed_until"], learned["reason"]
