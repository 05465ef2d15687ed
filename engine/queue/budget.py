"""The budget: how much of a site or provider may be used at once, by everyone together.

Whoever wants to send asks here and nowhere else. The answers are immediate: a lease or none, and the time of the
next permit; nobody polls. This implementation serves one worker. One that leases shares from a supervisor or from
Redis keeps the same two questions, answered from its share.

B1  leases given out never exceed the limit. A lease is released in the `finally` of the task that holds it, so a
    task that dies gives it back.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

#: A burst is what one second allows, never what the whole period does: "3600/h" is not 3,600 at once.
BURST_S = 1.0


class Lease(Protocol):
    """Permission to hold one connection."""

    def release(self) -> None:
        """Give it back; once is enough, twice is harmless."""


class Budget(Protocol):
    """Connections and messages per second, by key (`Limits.key`)."""

    def lease(self, key: str, limit: int) -> Lease | None:
        """One connection, or None while `limit` (or the limit of the node) is reached."""

    def wait(self, key: str, wake: Callable[[], bool]) -> None:
        """Call `wake` once, when a lease of this key may be had again; it says whether it took one."""

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
        self._waiting: dict[str, deque[Callable[[], bool]]] = {}
        self._waiting_for_any: deque[Callable[[], bool]] = deque()
        self._next: dict[str, float] = {}  #: GCRA: when the bucket of a key will be full again

    def lease(self, key: str, limit: int) -> Lease | None:
        used = self._used.get(key, 0)
        if used >= limit or self.connections >= self.max_connections:
            return None
        self._used[key] = used + 1
        self.connections += 1
        return LocalLease(self, key)

    def wait(self, key: str, wake: Callable[[], bool]) -> None:
        if self.connections >= self.max_connections:
            self._waiting_for_any.append(wake)
        else:
            self._waiting.setdefault(key, deque()).append(wake)

    def permit(self, key: str, rate: float | None, now: float) -> float:
        if rate is None:
            return now
        interval = 1.0 / rate
        full = max(self._next.get(key, now), now)
        self._next[key] = full + interval
        return max(now, full - max(BURST_S - interval, 0.0))

    def used(self, key: str) -> int:
        """Connections leased now, for operators."""
        return self._used.get(key, 0)

    def forget(self, now: float) -> None:
        """Drop buckets that are full: they say nothing (bounds the memory by the keys in use)."""
        for key in [key for key, full in self._next.items() if full <= now]:
            del self._next[key]

    def _release(self, key: str) -> None:
        self.connections -= 1
        self._used[key] -= 1
        if not self._used[key]:
            del self._used[key]
        if not _wake_one(self._waiting.get(key, deque())):
            _wake_one(self._waiting_for_any)
        if not self._waiting.get(key, True):
            del self._waiting[key]


def _wake_one(waiting: deque[Callable[[], bool]]) -> bool:
    """Wake waiters until one takes the lease; each at most once, for one may come back to wait again."""
    return any(waiting.popleft()() for _ in range(len(waiting)))
