"""The budget of one of several workers: it answers at once, from the shares that the node has granted it.

A share of a key is one connection and its part of the key's rate (holdings.py). When a lease is refused for want of
shares, or a permit comes late, the worker reports that it is hungry; shares it has not used for a while it gives back,
and sooner when it is told to: idle connections are asked for, busy ones end after their messages (`wanted`).

Who waits for the node's limit keeps the share of its key meanwhile, and the share of the node is used as soon as it
comes: so two workers, each with one half of what one connection needs, cannot wait for each other.

Whoever owns this calls `report` soon after `changed`, carries what it gives to the supervisor, brings back the answers
to `obey`, and calls `beat` about once a second.

B1  leases here never exceed the shares held; a share goes back only when no lease stands on it.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from engine.queue.budget import NODE, Lease, LocalBudget, Party
from engine.queue.holdings import Order, Report

#: A key that nothing was sent over for so long is left to others.
IDLE_S: Final = 3.0
#: `permit` keys that begin so pace a part of another key: "slow KEY SITE".
_SLOW: Final = "slow "


@dataclass(slots=True)
class _Share:
    """What is held of one key. late: a permit came late since the last beat. hungry: what the node knows, or will."""

    limit: int
    held: int = 0
    keep: int = 0
    returned: int = 0
    late: bool = False
    hungry: bool = False


class SharedBudget(LocalBudget):
    """See above. changed: called when there is something to report; may be called again before `report` is."""

    def __init__(self, max_connections: int, changed: Callable[[], object], now: Callable[[], float]) -> None:
        super().__init__(max_connections)
        self._changed = changed
        self._now = now
        self._shares: dict[str, _Share] = {}
        self._dirty: dict[str, None] = {}
        self._unused: dict[str, float] = {}  #: keys with shares and no lease, and since when
        self._hungry: set[str] = set()
        self._pins: dict[Party, str] = {}  #: who waits for the node, and the key whose share is kept for it
        self._pinned: Counter[str] = Counter()
        self._redeeming: str | None = None  #: the key whose pin is being made a lease, asked back or not

    # What the node and this budget tell each other.

    def report(self) -> list[Report]:
        """What changed since the last time."""
        rows = []
        for key in self._dirty:
            share = self._shares[key]
            rows.append(
                Report(key, share.limit, self._taken(key), share.hungry, share.returned, self._next.get(key, 0.0))
            )
            share.returned = 0
            if not share.held and not share.hungry and not self._taken(key):
                del self._shares[key]
        self._dirty.clear()
        return rows

    def obey(self, orders: Iterable[Order]) -> None:
        """Shares come or are asked back; who waits for them is told."""
        for key, limit, added, keep, full_at in orders:
            share = self._shares.setdefault(key, _Share(limit))
            if added:
                self._take_over(key, share, added, full_at)
            share.keep = keep
            if share.held and not self._taken(key):
                self._unused.setdefault(key, self._now())
            self._wake(key)
            self._look(key, share)
            if share.held > share.keep:
                self._ask_back(key, share)

    def beat(self) -> None:
        """About once a second: see who is still hungry, and leave to others what is not used."""
        now = self._now()
        for party in [party for party in self._pins if not party.hungry]:
            self._settle(self._unpin(party) or NODE)
        for key in list(self._hungry):
            share = self._shares[key]
            self._look(key, share)
            share.late = False
        for key, since in list(self._unused.items()):
            share = self._shares[key]
            if now - since >= IDLE_S and not share.hungry:
                self._give(key, share, share.held)

    # Budget.

    def lease(self, key: str, limit: int) -> Lease | None:
        lease = super().lease(key, limit)
        if lease is not None:
            self._unused.pop(key, None)
            self._unused.pop(NODE, None)
        return lease

    def wait(self, key: str, party: Party) -> None:
        share = self._share(key)
        if self._taken(key) < min(share.limit, share.held, share.keep):
            self._pins[party] = key
            self._pinned[key] += 1
            self._waiting_for_any.append(party)
            self._look(NODE, self._share(NODE))
            key = key if key in self._offers else next(iter(self._offers), key)
        else:
            self._waiting.setdefault(key, deque()).append(party)
            self._look(key, share)
        for holder in self._offers.get(key, ()):
            if holder.give_back():
                return

    def wanted(self, key: str, party: Party) -> bool:
        return super().wanted(key, party) or self._asked_back(key) or self._asked_back(NODE)

    def permit(self, key: str, rate: float | None, now: float) -> float:
        if rate is None:
            return now
        share = self._shares.get(_paced(key))
        at = super().permit(key, rate * _part(share), now)
        if at > now and share is not None and share.held < share.limit and not share.late:
            share.late = True
            self._look(_paced(key), share)
        return at

    def permits_at_once(self, key: str, rate: float, now: float) -> bool:
        return super().permits_at_once(key, rate * _part(self._shares.get(_paced(key))), now)

    def used(self, key: str) -> int:
        """As far as this worker knows: what it leased itself, and what it may not lease because others may."""
        share = self._shares.get(key)
        return self._in_use(key) + (max(share.limit - share.held, 0) if share else 0)

    # Inside.

    def _in_use(self, key: str) -> int:
        return self.connections if key == NODE else self._used.get(key, 0)

    def _taken(self, key: str) -> int:
        """Shares that cannot be given away: leased, or kept for who waits for the node."""
        return self._in_use(key) + self._pinned[key]

    def _tell(self, party: Party) -> bool:
        self._redeeming = key = self._unpin(party)
        try:
            return super()._tell(party)
        finally:
            self._redeeming = None
            if key is not None:
                self._settle(key)

    def _unpin(self, party: Party) -> str | None:
        """The key of the party's pin, which is gone now; `_settle` it."""
        key = self._pins.pop(party, None)
        if key is not None:
            self._pinned[key] -= 1
            if not self._pinned[key]:
                del self._pinned[key]
        return key

    def _share(self, key: str) -> _Share:
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = _Share(self.max_connections if key == NODE else 1)
        return share

    def _allowed(self, key: str, limit: int) -> int:
        share = self._share(key)
        if share.limit != limit:
            share.limit = limit
            self._note(key)
        keep = max(share.keep, self._in_use(key) + 1) if key == self._redeeming else share.keep
        return min(limit, share.held, keep)

    def _note(self, key: str) -> None:
        if not self._dirty:
            self._changed()
        self._dirty[key] = None

    def _look(self, key: str, share: _Share) -> None:
        """Whether more of this key would be used; news of it is reported."""
        waiting = self._waiting_for_any if key == NODE else self._waiting.get(key, ())
        hungry = share.held < share.limit and (share.late or any(party.hungry for party in waiting))
        if hungry:
            self._hungry.add(key)
        else:
            self._hungry.discard(key)
        if hungry != share.hungry:
            share.hungry = hungry
            self._note(key)

    def _take_over(self, key: str, share: _Share, added: int, full_at: float) -> None:
        """More shares: what others have sent with them counts against the burst."""
        now = self._now()
        mine, theirs = max(self._next.get(key, now) - now, 0.0), max(full_at - now, 0.0)
        debt = (mine * share.held + theirs * added) / (share.held + added)
        share.held += added
        if debt > 0:
            self._next[key] = now + debt

    def _wake(self, key: str) -> None:
        """Tell those that wait, as long as there is room and somebody takes it."""
        waiting = self._waiting_for_any if key == NODE else self._waiting.get(key)
        while waiting and self._room(key) and self._wake_one(waiting):
            pass
        if key != NODE and not self._waiting.get(key, True):
            del self._waiting[key]

    def _room(self, key: str) -> bool:
        share = self._shares[key]
        return self._in_use(key) < min(share.limit, share.held, share.keep)

    def _ask_back(self, key: str, share: _Share) -> None:
        """Give what is idle, and have idle connections closed for the rest."""
        self._give(key, share, share.held - share.keep)
        missing = share.held - share.keep
        for party in [party for name, offers in self._offers.items() if key in (NODE, name) for party in offers]:
            while missing > 0 and party.give_back():
                missing -= 1

    def _asked_back(self, key: str) -> bool:
        share = self._shares.get(key)
        return share is not None and share.held > share.keep

    def _give(self, key: str, share: _Share, count: int) -> None:
        """Return so many shares, but none that a lease stands on."""
        count = min(count, share.held - self._taken(key))
        if count <= 0:
            return
        share.held -= count
        share.returned += count
        if not share.held:
            self._unused.pop(key, None)
        self._note(key)
        self._look(key, share)

    def _release(self, key: str) -> None:
        super()._release(key)
        self._settle(key)
        self._settle(NODE)

    def _settle(self, key: str) -> None:
        """A lease or a pin of this key is gone: give back what was asked for, note when it is used no more."""
        share = self._share(key)
        if share.held > share.keep:
            self._give(key, share, share.held - share.keep)
        if share.held and not self._taken(key):
            self._unused[key] = self._now()


def _paced(key: str) -> str:
    """The key whose share a permit key is cut to."""
    return key.removeprefix(_SLOW).rpartition(" ")[0] if key.startswith(_SLOW) else key


def _part(share: _Share | None) -> float:
    """The part of a rate that goes with a share: never nothing, for who asks holds a lease."""
    return 1.0 if share is None else max(min(share.held, share.limit), 1) / share.limit
