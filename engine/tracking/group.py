"""Hits that belong together: of one message, or of one client; and which of them are looked at as one."""

from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from engine.tracking.hit import Hit

#: Hits of a group, and members of one whose number matters no further.
MOST_REMEMBERED = 64
#: Members of a message: links that lead to different targets.
MOST_TARGETS = 1000
_MOST_SPANS = 8
_MAX_GROUPS = 50_000
#: Of all groups together, at some 100 bytes.
_MAX_MEMBERS = 200_000
_NEVER: Mapping[str, float] = MappingProxyType({})


class Group(msgspec.Struct, eq=False, gc=False):
    """hits: the last ones. seen: when each of its members (targets, messages) was fetched, the last one last.

    trapped_at: when a client fetched the hidden link, and "" when anybody did; burst_at: the last burst of a client.
    spans: from when to when hits are those of a machine, as pairs: of hits that are not remembered here, too.
    Without cycles, and as many as hits: see Hit about gc.
    """

    hits: tuple[Hit, ...] = ()
    seen: dict[int | str, float] = {}
    trapped_at: Mapping[str, float] = _NEVER
    burst_at: Mapping[str, float] = _NEVER
    spans: tuple[float, ...] = ()

    def add(self, hit: Hit) -> None:
        self.hits = (*self.hits[1 - MOST_REMEMBERED :], hit)

    def accuse(self, since: float, at: float) -> None:
        """All hits of this time."""
        spans = self.spans
        if spans and since <= spans[-1]:
            self.spans = (*spans[:-1], max(at, spans[-1]))
        else:
            self.spans = (*spans[2 - 2 * _MOST_SPANS :], since, at)

    def accuses(self, at: float) -> bool:
        """Whether a hit of then is among those."""
        spans = self.spans
        return any(spans[n] <= at <= spans[n + 1] for n in range(0, len(spans), 2))


class Groups(OrderedDict[str, Group]):
    """By what they have in common; those without a hit for longest are forgotten first (J1)."""

    def __init__(self) -> None:
        super().__init__()
        self.members = 0  #: of all groups

    def of(self, key: str) -> Group:
        group = self.get(key)
        if group is None:
            group = self[key] = Group()
            if len(self) > _MAX_GROUPS:
                self._drop()
        else:
            self.move_to_end(key)
        return group

    def within(self, group: Group, member: int | str, at: float, span_s: float, most: int) -> int:
        """Note a member of the group that was used last; how many there are in this span, as far as `most`."""
        seen = group.seen
        before = len(seen)
        if before:
            seen.pop(member, None)
        seen[member] = at
        if before:
            oldest = at - span_s
            while seen[first := next(iter(seen))] < oldest or len(seen) > most:
                del seen[first]
        self.members += len(seen) - before
        while self.members > _MAX_MEMBERS and len(self) > 1:
            self._drop()
        return len(seen)

    def forget(self, before: float) -> None:
        """Those whose last hit was then, or earlier."""
        while self:
            group = next(iter(self.values()))
            if group.hits and group.hits[-1].at > before:
                break
            self._drop()

    def _drop(self) -> None:
        _, group = self.popitem(last=False)
        self.members -= len(group.seen)
