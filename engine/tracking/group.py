"""Hits that belong together: of one message, or of one client; and which of them are looked at as one."""

from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from engine.tracking.hit import Hit

#: Of hits, and about twice of members.
MOST_REMEMBERED = 64
_MAX_GROUPS = 50_000
_NEVER: Mapping[str, float] = MappingProxyType({})


class Group(msgspec.Struct, eq=False, gc=False):
    """hits: the last ones. seen: when each of its members (links, messages) was fetched last.

    trapped_at: when a client fetched the hidden link, and "" when anybody did; burst_at: the last burst of a client.
    Without cycles, and as many as hits: see Hit about gc.
    """

    hits: tuple[Hit, ...] = ()
    seen: dict[int | str, float] = {}
    trapped_at: Mapping[str, float] = _NEVER
    burst_at: Mapping[str, float] = _NEVER

    def add(self, hit: Hit) -> None:
        self.hits = (*self.hits[1 - MOST_REMEMBERED :], hit)

    def within(self, member: int | str, at: float, span_s: float) -> int:
        """Note a member; how many there are in this span."""
        self.seen[member] = at
        if len(self.seen) == 1:
            return 1
        oldest = at - span_s
        if len(self.seen) > MOST_REMEMBERED:
            self.seen = {each: when for each, when in self.seen.items() if when >= oldest}
            while len(self.seen) > 2 * MOST_REMEMBERED:
                del self.seen[next(iter(self.seen))]
        return sum(when >= oldest for when in self.seen.values())


class Groups(OrderedDict[str, Group]):
    """By what they have in common; those without a hit for longest are forgotten first (J1)."""

    def of(self, key: str) -> Group:
        group = self.get(key)
        if group is None:
            group = self[key] = Group()
            if len(self) > _MAX_GROUPS:
                self.popitem(last=False)
        else:
            self.move_to_end(key)
        return group

    def forget(self, before: float) -> None:
        """Those whose last hit was then, or earlier."""
        while self:
            group = next(iter(self.values()))
            if group.hits and group.hits[-1].at > before:
                break
            self.popitem(last=False)
