"""The budget: how much of a site or provider may be used at once, by everyone together.

Whoever wants to send asks here and nowhere else. The answers are immediate: a lease or none, and the time of the
next permit; nobody polls. Whoever holds a lease and has no use for it just now says so, and is asked for it when
somebody else wants one: an idle connection to one site must not hold up the mail of another.

`LocalBudget` serves one worker. `SharedBudget` (shares.py) answers the same questions from the shares that the node
grants to each of several workers.

B1  leases given out never exceed the limit. A lease is released in the `finally` of the task that holds it, so a
    task that dies gives it back.
"""

from collections import deque
from itertools import chain
from typing import Final, Protocol

#: A burst is what one second allows, never what the whole period does: "3600/h" is not 3,600 at once.
BURST_S: Final = 1.0
#: The key of all connections of the node together.
NODE: Final = ""


class Lease(Protocol):
    """Permission to hold one connection."""

    def release(self) -> None:
        """Give it back; once is enough, twice is harmless."""


class Party(Protocol):
    """Who uses leases: a ready queue."""

    @property
    def hungry(self) -> bool:
        """It waits for a lease, and would use it."""

    def lease_freed(self) -> bool:
        """A lease may be had again: whether it took it. Called once for each `wait`."""

    def give_back(self) -> bool:
        """Somebody wants a lease it offered: whether one will be released soon."""


class Budget(Protocol):
    """Connections and messages per second, by key (`Limits.key`)."""

    def lease(self, key: str, limit: int) -> Lease | None:
        """One connection, or None while `limit` (or the limit of the node) is reached."""

    def wait(self, key: str, party: Party) -> None:
        """`lease` said no: tell the party when one of this key may be had again. An idle one is asked for at once."""

    def offer(self, key: str, party: Party) -> None:
        """The party has idle leases of this key, until `withdraw`."""

    def withdraw(self, key: str, party: Party) -> None: ...

    def wanted(self, key: str, party: Party) -> bool:
        """Whether anybody else waits for a lease of this key."""

    def permit(self, key: str, rate: float | None, now: float) -> float:
        """When the next message may go (same clock as `now`); that permit is the caller's."""


class LocalLease:
    """A lease of a LocalBudget."""

    __slots__ = ("_budget", "_key")

    def __init__(self, budget: "LocalBudget", key: str) -> None:
        self._budget: LocalBudget | None = budget
        self._key = key

    def release(self) -> None:
        budget, self._budget = self._budget, None
        if budget is not None:
            budget._release(self._key)


class LocalBudget:
    """The budget of a single worker. max_connections: of the node, all keys together."""

    def __init__(self, max_connections: int) -> None:
        self.max_connections = max_connections
        self.connections = 0
        self._used: dict[str, int] = {}
        self._waiting: dict[str, deque[Party]] = {}
        self._waiting_for_any: deque[Party] = deque()
        self._offers: dict[str, dict[Party, None]] = {}  #: by key, the oldest first; no key without a party
        self._next: dict[str, float] = {}  #: GCRA: when the bucket of a key will be full again

    def lease(self, key: str, limit: int) -> Lease | None:
        used = self._used.get(key, 0)
        if used >= self._allowed(key, limit) or self.full:
            return None
        self._used[key] = used + 1
        self.connections += 1
        return LocalLease(self, key)

    @property
    def full(self) -> bool:
        """No connection may be opened, to whatever site."""
        return self.connections >= self._allowed(NODE, self.max_connections)

    def wait(self, key: str, party: Party) -> None:
        if self.full:
            self._waiting_for_any.append(party)
            key = key if key in self._offers else next(iter(self._offers), key)
        else:
            self._waiting.setdefault(key, deque()).append(party)
        for holder in self._offers.get(key, ()):
            if holder.give_back():
                return

    def offer(self, key: str, party: Party) -> None:
        self._offers.setdefault(key, {})[party] = None

    def withdraw(self, key: str, party: Party) -> None:
        offers = self._offers.get(key, {})
        offers.pop(party, None)
        if not offers:
            self._offers.pop(key, None)

    def wanted(self, key: str, party: Party) -> bool:
        if not (self._waiting or self._waiting_for_any):
            return False  # asked for every message, and mostly so
        waiting = chain(self._waiting.get(key, ()), self._waiting_for_any)
        return any(other.hungry for other in waiting if other is not party)

    def permit(self, key: str, rate: float | None, now: float) -> float:
        if rate is None:
            return now
        interval = 1.0 / rate
        full = max(self._next.get(key, now), now)
        self._next[key] = full + interval
        return max(now, full - max(BURST_S - interval, 0.0))

    def permits_at_once(self, key: str, rate: float, now: float) -> bool:
        """Whether a permit asked for now would be due now; takes none. For operators."""
        return self._next.get(key, now) - max(BURST_S - 1.0 / rate, 0.0) <= now

    def used(self, key: str) -> int:
        """Connections leased now, for operators."""
        return self._used.get(key, 0)

    def forget(self, now: float) -> None:
        """Drop buckets that are full: they say nothing (bounds the memory by the keys in use)."""
        for key in [key for key, full in self._next.items() if full <= now]:
            del self._next[key]

    def _allowed(self, key: str, limit: int) -> int:
        """How many connections of this key may be leased here."""
        return limit

    def _release(self, key: str) -> None:
        self.connections -= 1
        self._used[key] -= 1
        if not self._used[key]:
            del self._used[key]
        if not self._wake_one(self._waiting.get(key, deque())):
            self._wake_one(self._waiting_for_any)
        if not self._waiting.get(key, True):
            del self._waiting[key]

    def _wake_one(self, waiting: deque[Party]) -> bool:
        """Wake waiters until one takes the lease; each at most once, for one may come back to wait again."""
        return any(self._tell(waiting.popleft()) for _ in range(len(waiting)))

    def _tell(self, party: Party) -> bool:
        return party.lease_freed()
