"""The holdings of a node with several workers: which of them holds how many shares of each key.

A key (`Limits.key`, or NODE for all connections together) is cut into as many shares as it allows connections. A
share is one connection and its part of the key's rate. Workers report what they use and whether they want more; the
node grants what is free and asks for shares back where others want them more. Nobody waits for an answer here.

A key that one worker uses is all that worker's. Where several want it, each gets what it uses, up to an even part; what
nobody asks for stays where it is. Where there are more workers than shares, shares move on: who has waited longest is
next, and who has had its share longest gives it up.

Pure: the caller says who reported what, and carries the orders to the workers.

B1  the shares out for a key never exceed its limit: only what came back, or was never out, is granted. Those of a
    worker that is gone come back with `lost`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from engine.queue.budget import BURST_S


class Report(NamedTuple):
    """What a worker says of one key.

    hungry: it would use more than it holds. returned: shares it gives back with this. full_at: when its part of the
    rate will be unused again (monotonic seconds, the same clock in all processes of a machine).
    """

    key: str
    limit: int
    used: int
    hungry: bool
    returned: int
    full_at: float


class Order(NamedTuple):
    """What a worker is told of one key.

    added: shares it has from now on. keep: what is above this it gives back, idle ones at once, others when they are
    released. full_at: until then the rate of the added shares was used by others.
    """

    key: str
    limit: int
    added: int
    keep: int
    full_at: float


@dataclass(slots=True)
class Claim:
    """What one worker holds of a key, and how it stands to it.

    turn: the number of its last change between holding none and holding some; the smaller, the longer ago.
    """

    held: int = 0
    keep: int = 0
    used: int = 0
    hungry: bool = False
    turn: int = 0
    full_at: float = 0.0


@dataclass(slots=True)
class _Key:
    limit: int = 0
    full_at: float = 0.0  #: of the shares that are not out
    claims: dict[int, Claim] = field(default_factory=dict)


class Holdings:
    """See above. `orders` is what there is to tell since it was asked last."""

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}
        self._orders: dict[int, list[Order]] = {}
        self._turn = count(1)

    def report(self, worker: int, report: Report) -> None:
        """Take note of what a worker says; shares may move."""
        key = self._keys.setdefault(report.key, _Key())
        claim = key.claims.setdefault(worker, Claim())
        key.limit = report.limit
        began = report.hungry and not claim.hungry and not claim.held
        claim.used, claim.hungry, claim.full_at = report.used, report.hungry, report.full_at
        if report.returned:
            claim.held -= report.returned
            assert claim.held >= 0, "a worker returns what it was given"
            claim.keep = min(claim.keep, claim.held)
            key.full_at = max(key.full_at, report.full_at)
        if began or (report.returned and not claim.held):
            claim.turn = next(self._turn)
        self._settle(report.key, key)

    def lost(self, worker: int, now: float) -> None:
        """The worker is gone, and its connections with it: what it held is free."""
        self._orders.pop(worker, None)
        for name, key in list(self._keys.items()):
            claim = key.claims.pop(worker, None)
            if claim is None:
                continue
            if claim.held:
                # What it sent since its last report is not known; a burst is the most it can have been.
                key.full_at = max(key.full_at, claim.full_at, now + BURST_S)
            self._settle(name, key)

    def forget(self, now: float) -> None:
        """Drop keys nobody holds and whose rate nobody used lately (bounds the memory by the keys in use)."""
        for name in [name for name, key in self._keys.items() if not key.claims and key.full_at <= now]:
            del self._keys[name]

    def orders(self) -> dict[int, list[Order]]:
        """What to tell each worker, in order; told once."""
        orders, self._orders = self._orders, {}
        return orders

    def out(self, name: str) -> int:
        """Shares of a key that are out."""
        key = self._keys.get(name)
        return sum(claim.held for claim in key.claims.values()) if key else 0

    def _settle(self, name: str, key: _Key) -> None:
        """Grant and ask back, as the claims stand now."""
        workers = list(key.claims)
        claims = [key.claims[worker] for worker in workers]
        targets = divide(key.limit, claims)
        free = key.limit - sum(claim.held for claim in claims)
        for place in _in_turn(claims):
            claim, target = claims[place], targets[place]
            added = max(0, min(target - claim.held, free))
            keep = min(target, claim.held + added)
            if added or keep != claim.keep:
                if added and not claim.held:
                    claim.turn = next(self._turn)
                free -= added
                claim.held += added
                claim.keep = keep
                self._orders.setdefault(workers[place], []).append(Order(name, key.limit, added, keep, key.full_at))
        for worker, claim in zip(workers, claims, strict=True):
            if not (claim.held or claim.used or claim.hungry):
                del key.claims[worker]


def divide(limit: int, claims: Sequence[Claim]) -> list[int]:
    """How many shares each claim should come to hold: together never more than the limit."""
    if any(claim.hungry for claim in claims):
        # Who is hungry gets its even part at once, and more step by step: twice what it has, if others leave it.
        even = -(-limit // len(claims))
        demands = [min(limit, max(2 * claim.held, even)) if claim.hungry else claim.used for claim in claims]
    else:
        demands = [claim.held for claim in claims]
    order = _in_turn(claims)
    targets = _fill(limit, demands, order)
    spare = limit - sum(targets)
    for place in order:
        stays = min(max(claims[place].held - targets[place], 0), spare)
        targets[place] += stays
        spare -= stays
    return targets


def _in_turn(claims: Sequence[Claim]) -> list[int]:
    """Places of the claims: first those that hold nothing, the longest without; then who got its first share last."""

    def turn(place: int) -> tuple[bool, int]:
        claim = claims[place]
        return bool(claim.held), -claim.turn if claim.held else claim.turn

    return sorted(range(len(claims)), key=turn)


def _fill(limit: int, demands: Sequence[int], order: Sequence[int]) -> list[int]:
    """Max-min fair: nobody gets more than it asks for, and nobody less than another that got more than an even part."""
    targets, left = [0] * len(demands), limit
    hungry = [place for place in order if demands[place]]
    while left > 0 and hungry:
        each = max(left // len(hungry), 1)
        for place in hungry:
            added = min(each, demands[place] - targets[place], left)
            targets[place] += added
            left -= added
        hungry = [place for place in hungry if targets[place] < demands[place]]
    return targets
