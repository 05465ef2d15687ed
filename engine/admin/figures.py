"""How many deliveries each destination has, in which state, how old: of everything that is queued, in one pass.

Sums over the whole table are kept in arrays by destination number, and rows are added to them a slab at a time: no
sorting, and no object for a row.
"""

import asyncio
from dataclasses import dataclass, field

import numpy as np

from engine.message.ids import id_time
from engine.storage.spool.entry import State
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Column, Slab

_STATES = len(State)
_NO_ID = np.iinfo("u8").max
_NEVER = np.iinfo("u4").max


@dataclass(slots=True)
class Figures:
    """Of one destination. counts: deliveries by state. oldest: when the first arrived. due: the next that waits."""

    counts: dict[int, int] = field(default_factory=dict)
    oldest: float = float("inf")
    due: float | None = None

    def add(self, state: int, count: int, oldest: float, due: float) -> None:
        self.counts[state] = self.counts.get(state, 0) + count
        self.oldest = min(self.oldest, oldest)
        if state == State.WAITING:
            self.due = due if self.due is None else min(self.due, due)


class _Sums:
    """Of the rows that go by one relay, or by their route, by destination number."""

    def __init__(self) -> None:
        self.counts = np.zeros(0, dtype="i8")  #: by destination and state
        self.oldest = np.zeros(0, dtype="u8")
        self.due = np.zeros(0, dtype="u4")  #: of those that wait

    def grow(self, size: int) -> None:
        """Room for so many destinations."""
        more = size - len(self.oldest)
        if more > 0:
            self.counts = np.concatenate([self.counts, np.zeros(more * _STATES, dtype="i8")])
            self.oldest = np.concatenate([self.oldest, np.full(more, _NO_ID, dtype="u8")])
            self.due = np.concatenate([self.due, np.full(more, _NEVER, dtype="u4")])


async def gather(spool: Spool) -> dict[tuple[str, str], Figures]:
    """By destination and relay, in their order."""
    found: dict[tuple[str, str], Figures] = {}
    for delivery in spool.in_hand:
        if delivery.state is not State.FINAL:
            figures = found.setdefault((delivery.destination, delivery.via), Figures())
            figures.add(delivery.state, 1, delivery.message.received_at, delivery.due_at)
    sums: dict[int, _Sums] = {}
    for slab in list(spool.table.slabs):
        _add_slab(sums, slab)
        await asyncio.sleep(0)
    names, vias = spool.texts["destination"], spool.texts["via"]
    for via, own in sums.items():
        counts = own.counts.reshape(-1, _STATES)
        for number in np.flatnonzero(counts.any(axis=1)).tolist():
            figures = found.setdefault((names.text(number), vias.text(via)), Figures())
            first = id_time(int(own.oldest[number]))
            for state in np.flatnonzero(counts[number]).tolist():
                figures.add(state, int(counts[number, state]), first, int(own.due[number]))
    return dict(sorted(found.items()))


def _add_slab(sums: dict[int, _Sums], slab: Slab) -> None:
    states, vias = slab["state"], slab["via"]
    live = states != State.STORING
    if not vias.any():
        _add_rows(sums.setdefault(0, _Sums()), slab, live)
        return
    for via in np.unique(vias[live]).tolist():
        _add_rows(sums.setdefault(via, _Sums()), slab, live & (vias == via))


def _add_rows(own: _Sums, slab: Slab, which: Column) -> None:
    """which: a mask over the rows of the slab."""
    rows = slice(None) if which.all() else which
    numbers, state = slab["destination"][rows].astype(np.intp), slab["state"][rows]
    if not len(numbers):
        return
    own.grow(int(numbers.max()) + 1)
    np.add.at(own.counts, numbers * _STATES + state, 1)
    np.minimum.at(own.oldest, numbers, slab["id"][rows])
    waiting = state == State.WAITING
    np.minimum.at(own.due, numbers[waiting], slab["due_at"][rows][waiting])
