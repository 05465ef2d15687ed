"""Who clicked: a person or a machine, as far as can be told; pure, the caller says what happened and when.

A hit is judged when it comes: a sure sign makes it `machine` at once, all others are `unsure`. Six seconds later,
when what fetches many links has shown itself and the delivery's 250 is known, it is `human` or `machine`; for a minute
more late evidence still corrects it. Consumers count the last verdict of a hit. These times are settings.

    head, prefetch     it says so itself                      known:NAME   a row of scanners.toml
    honeypot           the hidden link, and what the same client, or anybody within five seconds, fetched with it
    burst              most targets of a message within five seconds, and the pictures that the same clients fetch then
    early              before the delivery's 250, or within a second after it
    many-recipients    one address for ten recipients or more within a minute
    undelivered        no 250 is known (yet): a hit that cannot be judged stays `unsure`

J1  memory is bounded: of hits, messages and clients a fixed number each is remembered; the oldest are settled early.
    A group remembers its last hits, and from when to when it was a machine's: what it has forgotten finds that when it
    is settled, and when it is forgotten itself.
J2  a sign is never taken back; a verdict only changes by more evidence.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from engine.message.link_token import HONEYPOT
from engine.tracking.clients import neighbourhood
from engine.tracking.group import MOST_REMEMBERED, MOST_TARGETS, Group, Groups
from engine.tracking.hit import Hit, Verdict

#: Where nobody says otherwise ([tracking]): when a hit is settled, and how long it may still be corrected;
SETTLE_S: Final = 6.0
KEEP_S: Final = 60.0
#: for how many recipients one address may not ask within a minute.
MANY: Final = 10
MANY_S: Final = 60.0
BURST_S: Final = 5.0
EARLY_S: Final = 1.0
#: Later than this after it was sent, a missing 250 is a lost note, and no sign.
_DELIVERY_S: Final = 3600.0
#: J1: at some 500 bytes a hit 30 MB.
MAX_HITS: Final = 60_000

_UNDELIVERED: Final = frozenset({"undelivered"})
Delivered = Callable[[str, int], float | None]


class Judge:
    """See above. known: the name of the scanner that a client and an agent are, or "". delivered: when the 250 came."""

    def __init__(self, known: Callable[[str, str], str], delivered: Delivered) -> None:
        self._delivered = delivered
        self.use(known)
        self._messages, self._clients = Groups(), Groups()
        self._fresh: deque[Hit] = deque()
        self._settled: deque[Hit] = deque()
        self._changed: dict[Hit, None] = {}
        self._found_at = 0.0  #: when something was found out last that also holds of hits before

    def use(
        self,
        known: Callable[[str, str], str],
        settle_s: float = SETTLE_S,
        keep_s: float = KEEP_S,
        many: int = MANY,
    ) -> None:
        """From now on. many: up to 64, as so much is remembered of a client."""
        self.known, self._settle_s, self._keep_s, self._many = known, settle_s, keep_s, many

    def judge(self, hit: Hit) -> None:
        """Give a hit its first verdict, and others a new one where it is evidence against them."""
        if hit.head:
            hit.blame("head")
        if hit.prefetch:
            hit.blame("prefetch")
        if name := self.known(hit.client, hit.agent):
            hit.blame(f"known:{name}")
        self._look_for_early(hit)
        owner = _owner(hit)
        group = self._messages.of(owner)
        group.add(hit)
        if hit.type == "clicked":
            self._look_for_traps(group, hit)
            self._look_for_bursts(group, hit)
        elif hit.at - group.burst_at.get(hit.client, -BURST_S) <= BURST_S:
            hit.blame("burst")
        self._look_for_many(hit, owner)
        if hit.reasons:
            hit.verdict = "machine"
        self._fresh.append(hit)
        if len(self._fresh) + len(self._settled) > MAX_HITS:
            if self._settled:
                self._leave(self._settled.popleft())
            else:
                self._settle(self._fresh.popleft())

    def tick(self, now: float) -> None:
        """Settle what is old enough, forget what is older."""
        fresh, settled = self._fresh, self._settled
        while fresh and fresh[0].at <= now - self._settle_s:
            hit = fresh.popleft()
            self._settle(hit)
            settled.append(hit)
        while settled and settled[0].at <= now - self._keep_s:
            self._leave(settled.popleft())
        for groups in (self._messages, self._clients):
            groups.forget(now - max(self._keep_s, MANY_S))

    def settle_all(self) -> None:
        """At a stop: what is fresh is judged by what is known."""
        while self._fresh:
            self._settle(self._fresh.popleft())

    def corrections(self) -> Iterator[Hit]:
        """Hits whose events say something else than is known now. Those that have no event yet come later."""
        changed = [hit for hit in self._changed if hit.name]
        for hit in changed:
            del self._changed[hit]
            if hit.verdict != hit.told:
                yield hit

    def __len__(self) -> int:
        """Hits that may still be corrected."""
        return len(self._fresh) + len(self._settled)

    # ---- inside

    def _settle(self, hit: Hit) -> None:
        hit.reasons -= _UNDELIVERED
        self._look_for_early(hit)
        if self._found_at >= hit.at:
            self._look_for_late(hit)
        if hit.reasons:
            self._say(hit, "machine")
        elif self._undelivered(hit):
            hit.blame("undelivered")
            self._say(hit, "unsure")
        else:
            self._say(hit, "human")

    def _leave(self, hit: Hit) -> None:
        """The last look: for a 250, and for what was found out since."""
        if hit.verdict != "machine" and (self._found_at >= hit.at or "undelivered" in hit.reasons):
            self._settle(hit)

    def _undelivered(self, hit: Hit) -> bool:
        sent = hit.sent
        return hit.full and sent.channel == "mail" and hit.delivered_at is None and hit.at - sent.at <= _DELIVERY_S

    def _look_for_early(self, hit: Hit) -> None:
        if hit.full and hit.delivered_at is None:
            at = hit.delivered_at = self._delivered(hit.sent.id, hit.index)
            if at is not None and hit.at < at + EARLY_S:
                hit.blame("early")

    def _look_for_traps(self, group: Group, hit: Hit) -> None:
        if hit.link == HONEYPOT:
            hit.blame("honeypot")
            self._found_at = hit.at
            group.trapped_at = _more(group.trapped_at, [hit.client, ""], hit.at)
            for other in group.hits:
                if other.client == hit.client or other.at >= hit.at - BURST_S:
                    self._accuse(other, "honeypot")
        elif group.trapped_at:
            by_same = group.trapped_at.get(hit.client, 0.0)
            if hit.at - by_same <= self._keep_s or hit.at - group.trapped_at[""] <= BURST_S:
                hit.blame("honeypot")

    def _look_for_bursts(self, group: Group, hit: Hit) -> None:
        if hit.link == HONEYPOT:
            return
        count = self._messages.within(group, hit.target, hit.at, BURST_S, MOST_TARGETS)
        if count < 2 or count <= hit.targets // 2:
            return
        oldest = self._accuse_all(group, hit.at, BURST_S)
        if group.burst_at.get(hit.client, 0.0) >= oldest and _was(group, "burst"):
            group.burst_at = _more(group.burst_at, [hit.client], hit.at)
            hit.blame("burst")
            return
        recent = [other for other in group.hits if other.at >= oldest]
        group.burst_at = _more(group.burst_at, [other.client for other in recent if other.type == "clicked"], hit.at)
        for other in recent:
            if group.burst_at.get(other.client) == hit.at:  # else a picture that somebody else fetched
                self._accuse(other, "burst")

    def _look_for_many(self, hit: Hit, owner: str) -> None:
        if not hit.full or not hit.client:
            return
        group = self._clients.of(neighbourhood(hit.client))
        group.add(hit)
        if self._clients.within(group, owner, hit.at, MANY_S, MOST_REMEMBERED) < self._many:
            return
        self._accuse_all(group, hit.at, MANY_S)
        if _was(group, "many-recipients"):
            hit.blame("many-recipients")
        else:
            for other in group.hits:
                if other.at >= hit.at - MANY_S:
                    self._accuse(other, "many-recipients")

    def _look_for_late(self, hit: Hit) -> None:
        """What its groups have found out since, while it was not among those that they remember."""
        group = self._messages.get(_owner(hit))
        if group is not None:
            if group.trapped_at:
                by_same = group.trapped_at.get(hit.client, 0.0)
                if hit.at - by_same <= self._keep_s or abs(hit.at - group.trapped_at[""]) <= BURST_S:
                    hit.blame("honeypot")
            if group.spans and (
                group.accuses(hit.at) if hit.type == "clicked"
                else abs(hit.at - group.burst_at.get(hit.client, 0.0)) <= BURST_S
            ):  # fmt: skip
                hit.blame("burst")
        if hit.full and hit.client:
            group = self._clients.get(neighbourhood(hit.client))
            if group is not None and group.spans and group.accuses(hit.at):
                hit.blame("many-recipients")

    def _accuse_all(self, group: Group, at: float, span_s: float) -> float:
        """Hits of this group, those too that it does not remember; returns since when."""
        group.accuse(at - span_s, at)
        self._found_at = at
        return at - span_s

    def _accuse(self, hit: Hit, reason: str) -> None:
        hit.reasons -= _UNDELIVERED
        hit.blame(reason)
        self._say(hit, "machine")

    def _say(self, hit: Hit, verdict: Verdict) -> None:
        if hit.verdict != verdict:
            hit.verdict = verdict
            self._changed[hit] = None


def _owner(hit: Hit) -> str:
    """Whose group it is in. Without recipients a message is that of all who got it: its hits of one client are one."""
    return f"{hit.sent.id} {hit.index if hit.full else hit.client}"


def _was(group: Group, reason: str) -> bool:
    """Whether this was found of the hit before the last one, and so of all that were remembered then."""
    return len(group.hits) > 1 and reason in group.hits[-2].reasons


def _more(times: Mapping[str, float], clients: Sequence[str], at: float) -> Mapping[str, float]:
    """The times of clients, with one more of each of these; of too many the oldest are forgotten."""
    more = {client: when for client, when in times.items() if client not in clients}
    more.update(dict.fromkeys(clients, at))
    for client in list(more)[: -2 * MOST_REMEMBERED]:
        del more[client]
    return more
