"""Messages whose receipts are waited for, in memory: by the ids of their parts, so many and no more. Pure.

The oldest leave when there are too many; they are in the table, which is asked for ids that are not here.
"""

import enum
from collections.abc import Iterator, Sequence
from typing import Final

from engine.message.sms import SentPart
from engine.protocol.receipt_ids import stored_as
from engine.protocol.receipt_parts import Fate, Parts
from engine.protocol.receipt_states import Heard, State
from engine.storage.tables.sent_db import Row


class Ending(enum.IntEnum):
    """`fate` of a row. On disk: never renumber."""

    WAITING = 0
    FINAL = 1
    MISSING = 2


#: Shared by all of which nothing was heard: there are many.
_NOTHING: Final[dict[int, Heard]] = {}


class Taken:
    """A message to one number that a carrier took. first: the key of its first part in the table.

    whole: what became of it; made when it is first asked for, as most wait for one receipt and leave.
    """

    __slots__ = ("_heard", "_whole", "first", "parts")

    def __init__(self, first: int, parts: Sequence[SentPart]) -> None:
        self.first = first
        self.parts = parts
        self._whole: Parts | None = None
        self._heard: dict[int, Heard] = _NOTHING  #: by number of the part

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Taken | None":
        """As the table has it; None: some of its rows are missing."""
        parts = [row.part for row in rows]
        if [part.part for part in parts] != list(range(1, parts[0].parts + 1)):
            return None
        taken = cls(rows[0].first, parts)
        for row in rows:
            if row.state is not None:
                taken.heard(row.part.part, Heard.unpacked(row.state))
        if any(row.fate == Ending.MISSING for row in rows):
            taken.whole.expire(float("inf"))
        return taken

    @property
    def whole(self) -> Parts:
        if self._whole is None:
            self._whole = whole = Parts(len(self.parts), max(part.deadline for part in self.parts))
            for part in self.parts:
                if not part.carrier_id:
                    whole.accepted(part.part, "")
        return self._whole

    def heard(self, number: int, heard: Heard) -> Fate | None:
        """A receipt came for a part; as `Parts.heard`, to be called while no final state of it is known."""
        if self._heard is _NOTHING:
            self._heard = {}
        self._heard[number] = heard
        return self.whole.heard(number, heard.state)

    @property
    def ending(self) -> Ending:
        if self._whole is None:
            return Ending.WAITING
        if self._whole.fate.final:
            return Ending.FINAL
        return Ending.MISSING if self._whole.fate is Fate.MISSING else Ending.WAITING

    @property
    def known(self) -> Heard:
        """What is known of the whole message, as a query is answered."""
        match self.whole.fate:
            case Fate.DELIVERED:
                return max(self._heard.values(), key=lambda heard: heard.at)
            case Fate.FAILED:
                finals = [heard for heard in self._heard.values() if heard.state.final]
                return next(heard for heard in finals if heard.state is not State.DELIVERED)
            case Fate.SENT:
                return Heard(State.ACCEPTED)
            case Fate.MISSING:
                return Heard(State.UNKNOWN)
        return Heard(State.ENROUTE)

    def rows(self) -> Iterator[tuple[int, int | None, int]]:
        """Key, state and fate of each part, for the table."""
        ending = int(self.ending)
        for number in range(1, len(self.parts) + 1):
            heard = self._heard.get(number)
            yield self.first + number - 1, None if heard is None else heard.packed(), ending


class Outstanding:
    """See above."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken: dict[int, Taken] = {}
        #: By carrier and stored id; a list where several have the same.
        self._by_id: dict[str, dict[str, Taken | list[Taken]]] = {}

    def __len__(self) -> int:
        return len(self._taken)

    def get(self, first: int) -> Taken | None:
        return self._taken.get(first)

    def add(self, taken: Taken) -> None:
        if taken.first in self._taken:
            return
        self._taken[taken.first] = taken
        ids = self._by_id.setdefault(taken.parts[0].carrier, {})
        for part in taken.parts:
            form = stored_as(part.carrier_id)
            there = ids.get(form)
            if there is None:
                ids[form] = taken
            elif isinstance(there, list):
                there.append(taken)
            else:
                ids[form] = [there, taken]
        while len(self._taken) > self.limit:
            self.remove(next(iter(self._taken.values())))

    def remove(self, taken: Taken) -> None:
        if self._taken.pop(taken.first, None) is None:
            return
        ids = self._by_id[taken.parts[0].carrier]
        for part in taken.parts:
            form = stored_as(part.carrier_id)
            there = ids.get(form)
            if isinstance(there, list):
                there.remove(taken)
                if not there:
                    del ids[form]
            elif there is taken:
                del ids[form]

    def find(self, carrier: str, texts: Sequence[str]) -> list[Taken]:
        """Those with a part that is stored as one of these, newest last."""
        ids = self._by_id.get(carrier)
        if ids is None:
            return []
        found: list[Taken] = []
        for text in texts:
            there = ids.get(text)
            if isinstance(there, list):
                found += there
            elif there is not None:
                found.append(there)
        return found
