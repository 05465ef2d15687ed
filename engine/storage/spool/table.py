"""The packed table of deliveries that nobody has in hand: those that wait, are held, or are due and not yet read.

A row is 72 bytes in arrays, never an object: what ten million of them cost is counted in hundreds of megabytes. The
bytes of a message, its envelope and its last reply stay on disk, at `place` and `state_place` (segment.py).

Rows lie in slabs of 65,536, so that the table grows without copies and every look at it can be made in slices. A row
number is `slab << 16 | position`; it names the row until `remove`.
"""

from array import array
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.storage.spool.entry import State
from engine.storage.spool.segment import files_of

Rows = NDArray[np.uint32]
Column = NDArray[Any]
#: A row to be: a value for each column.
Values = dict[str, int]

SLAB_ROWS: Final = 1 << 16
#: place, length: the frame with the message. state_place: the frame with a newer state; 0: none. frame: the number of
#: the frame that gave the state. id: packed (message/ids.py), with node. content_file: where the content lies if not
#: in that frame, else 0. recipients: not final yet. via: the relay that an operator sent it to. Times are
#: unix seconds, rounded up.
COLUMNS: Final[Mapping[str, str]] = {
    "place": "u8", "state_place": "u8", "frame": "u8", "id": "u8", "due_at": "u4", "expires_at": "u4", "length": "u4",
    "content_file": "u4", "destination": "u4", "batch": "u4", "tenant": "u4", "node": "u2", "number": "u2", "via": "u2",
    "attempts": "u2", "recipients": "u2", "message_class": "u1", "notices": "u1", "state": "u1",
}  # fmt: skip
#: `state` of a row that is free. STORING is no state a row can have.
_FREE: Final = int(State.STORING)
_NEVER: Final = (1 << 32) - 1


def rows_of_slab(number: int, positions: NDArray[np.intp]) -> Rows:
    """The rows at these positions of a slab."""
    return (positions | (number << 16)).astype(np.uint32)


class Slab:
    """65,536 rows, a column an array. next_due: the earliest of those that wait, or before it.

    cells: the same columns for single values, which a memoryview gives three times as fast.
    """

    __slots__ = (*COLUMNS, "cells", "free", "live", "next_due", "used")
    due_at: Column
    recipients: Column
    state: Column

    def __init__(self) -> None:
        for name, kind in COLUMNS.items():
            # Not zeros: pages that were never written cost nothing.
            setattr(self, name, np.zeros(SLAB_ROWS, dtype=kind))
        self.cells = {name: memoryview(getattr(self, name)) for name in COLUMNS}
        self.used = 0
        self.live = 0
        self.free = array("H")
        self.next_due = _NEVER

    def __getitem__(self, name: str) -> Column:
        column: Column = getattr(self, name)
        return column[: self.used]


class Table:
    """See above. counts: rows by state. recipients: of all rows."""

    def __init__(self) -> None:
        self.slabs: list[Slab] = []
        self.counts = [0] * len(State)
        self.recipients = 0
        self._roomy: list[int] = []  #: slabs with free rows, the one to use next at the end

    def __len__(self) -> int:
        return sum(self.counts)

    # ---- in and out

    def add(self, values: Values) -> int:
        """A row with these values, one for each of COLUMNS."""
        number, slab = self._slab_with_room()
        if slab.free:
            at = slab.free.pop()
        else:
            at = slab.used
            slab.used += 1
        if not slab.free and slab.used == SLAB_ROWS:
            self._roomy.pop()
        for name, cells in slab.cells.items():
            cells[at] = values[name]
        slab.live += 1
        state = values["state"]
        self.counts[state] += 1
        self.recipients += values["recipients"]
        if state == State.WAITING and values["due_at"] < slab.next_due:
            slab.next_due = values["due_at"]
        return number << 16 | at

    def add_many(self, columns: Mapping[str, Column]) -> None:
        """Many rows at once, at the ends of slabs."""
        count, done = len(columns["id"]), 0
        while done < count:
            number = next((n for n in reversed(self._roomy) if self.slabs[n].used < SLAB_ROWS), None)
            slab = self._new_slab() if number is None else self.slabs[number]
            size = min(count - done, SLAB_ROWS - slab.used)
            for name in COLUMNS:
                getattr(slab, name)[slab.used : slab.used + size] = columns[name][done : done + size]
            states = columns["state"][done : done + size]
            for state, added in enumerate(np.bincount(states, minlength=len(State))):
                self.counts[state] += int(added)
            self.recipients += int(columns["recipients"][done : done + size].sum())
            waiting = columns["due_at"][done : done + size][states == State.WAITING]
            if len(waiting):
                slab.next_due = min(slab.next_due, int(waiting.min()))
            slab.used += size
            slab.live += size
            if slab.used == SLAB_ROWS and not slab.free:
                self._roomy.remove(self.slabs.index(slab) if number is None else number)
            done += size

    def remove(self, row: int) -> None:
        slab, at = self.slabs[row >> 16], row & 0xFFFF
        states = slab.cells["state"]
        self.counts[states[at]] -= 1
        self.recipients -= slab.cells["recipients"][at]
        states[at] = _FREE
        slab.live -= 1
        if not slab.live:
            # Its pages go back to the system.
            self.slabs[row >> 16] = Slab()
            if row >> 16 not in self._roomy:
                self._roomy.append(row >> 16)
            return
        if not slab.free and slab.used == SLAB_ROWS:
            self._roomy.append(row >> 16)
        slab.free.append(at)

    def holds(self, row: int) -> bool:
        """Whether this is a row now."""
        return row >> 16 < len(self.slabs) and self.get(row, "state") != _FREE

    def get(self, row: int, name: str) -> int:
        value: int = self.slabs[row >> 16].cells[name][row & 0xFFFF]
        return value

    def set(self, row: int, name: str, value: int) -> None:
        """Any column but state and recipients, which are counted."""
        self.slabs[row >> 16].cells[name][row & 0xFFFF] = value

    def set_many(self, rows: Rows, name: str, value: int) -> None:
        """`set`, of many."""
        for number in np.unique(rows >> 16):
            self.slabs[int(number)][name][rows[rows >> 16 == number] & 0xFFFF] = value

    def columns(self, rows: Rows, names: Collection[str] = COLUMNS) -> dict[str, Column]:
        """Copies of these columns of these rows, in their order."""
        slabs, at = rows >> 16, rows & 0xFFFF
        numbers = np.unique(slabs).tolist()
        if len(numbers) == 1:
            slab = self.slabs[numbers[0]]
            return {name: getattr(slab, name)[at] for name in names}
        out = {name: np.empty(len(rows), dtype=COLUMNS[name]) for name in names}
        for number in numbers:
            here = slabs == number
            slab = self.slabs[number]
            for name in names:
                out[name][here] = getattr(slab, name)[at[here]]
        return out

    # ---- states

    def move(self, row: int, state: State, due_at: int | None = None) -> None:
        """Give a row another state, and another due time if one is said."""
        slab, at = self.slabs[row >> 16], row & 0xFFFF
        states, due = slab.cells["state"], slab.cells["due_at"]
        self.counts[states[at]] -= 1
        self.counts[state] += 1
        states[at] = state
        if due_at is not None:
            due[at] = due_at
        if state is State.WAITING:
            slab.next_due = min(slab.next_due, due[at])

    def move_many(self, rows: Rows, state: State, due_at: int | None = None) -> None:
        """`move`, of many; each of them once, or the counts are wrong."""
        for number in np.unique(rows >> 16):
            slab = self.slabs[int(number)]
            at = rows[rows >> 16 == number] & 0xFFFF
            for old, count in enumerate(np.bincount(slab.state[at], minlength=len(State))):
                self.counts[old] -= int(count)
            self.counts[state] += len(at)
            slab.state[at] = state
            if due_at is not None:
                slab.due_at[at] = due_at
            if state is State.WAITING and len(at):
                slab.next_due = min(slab.next_due, int(slab.due_at[at].min()))

    @property
    def next_due(self) -> int | None:
        """When the first row that waits is due, or a little before; None: none waits."""
        earliest = min((slab.next_due for slab in self.slabs), default=_NEVER)
        return None if earliest == _NEVER else earliest

    def take_due(self, now: float) -> Rows:
        """Rows of one slab that waited until now; they are DUE from here on. Empty: none is due."""
        for number, slab in enumerate(self.slabs):
            if slab.next_due > now:
                continue
            waiting = slab["state"] == State.WAITING
            due = waiting & (slab["due_at"] <= now)
            rows = np.flatnonzero(due)
            later = slab["due_at"][waiting & ~due]
            slab.next_due = int(later.min()) if len(later) else _NEVER
            if len(rows):
                slab.state[rows] = State.DUE
                self.counts[State.WAITING] -= len(rows)
                self.counts[State.DUE] += len(rows)
                return rows_of_slab(number, rows)
        return np.zeros(0, dtype=np.uint32)

    # ---- looking

    def select(self, **wanted: int) -> Iterator[Rows]:
        """Rows whose columns have these values, slab by slab; `states`, a tuple, may stand for state.

        Between two slabs the caller may let others run; rows that are added or changed meanwhile may be missed.
        """
        for number in range(len(self.slabs)):
            slab = self.slabs[number]
            found = slab["state"] != _FREE
            for name, value in wanted.items():
                if not found.any():
                    break
                found &= slab[name] == value
            rows = np.flatnonzero(found)
            if len(rows):
                yield rows_of_slab(number, rows)

    def in_file(self, number: int, column: str = "place") -> Iterator[Rows]:
        """Rows whose `place` or `state_place` lies in this file, slab by slab."""
        for slab_number, slab in enumerate(self.slabs):
            found = files_of(slab[column]) == number
            found &= slab["state"] != _FREE
            rows = np.flatnonzero(found)
            if len(rows):
                yield rows_of_slab(slab_number, rows)

    def at(self, places: Collection[int]) -> list[int]:
        """The rows whose message lies at one of these places."""
        wanted = np.array(sorted(places), dtype="u8")
        rows: list[int] = []
        for number, slab in enumerate(self.slabs):
            found = np.isin(slab["place"], wanted) & (slab["state"] != _FREE)
            rows += (np.flatnonzero(found) | (number << 16)).tolist()
        return rows

    def values(self, name: str) -> list[int]:
        """What this column holds, of all rows."""
        return [value for slab in self.slabs for value in np.unique(slab[name][slab["state"] != _FREE]).tolist()]

    def find(self, packed: int, node: int) -> list[int]:
        """The rows of one message."""
        return [int(row) for rows in self.select(id=packed, node=node) for row in rows]

    # Inside.

    def _slab_with_room(self) -> tuple[int, Slab]:
        if not self._roomy:
            self._new_slab()
        number = self._roomy[-1]
        return number, self.slabs[number]

    def _new_slab(self) -> Slab:
        slab = Slab()
        self._roomy.append(len(self.slabs))
        self.slabs.append(slab)
        return slab
