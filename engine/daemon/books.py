"""The books of a node since its start (Q2), whatever became of its workers.

A worker counts in memory, from zero in each of its lives. About once a second it says what it has counted, and up to
which record of its spool. When it dies, what it counted after that is read from its events, up to the record that its
next life began with: only then are all of them there again. So every outcome that is on disk is in the books, once.

What it accepted follows from the rest: a life began with `recovered`, the next one did, and what was not final between
was taken in. A life that ended before it had read its backlog does not know what it began with; its `accepted` is
counted like an outcome.

A report is used when the next has come: by then its records are on disk.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.message.channels import channel_of
from engine.storage.events.journal import events_directory
from engine.storage.events.reader import EventReader

#: A worker's status, as far as it is counted; and "loading", and "frame": the next record.
Row = Mapping[str, Any]

_FATES = ("delivered", "failed", "expired", "suppressed", "removed")
_COUNTED = (*_FATES, "deferred", "unknown")
_KEPT = ("recovered", "accepted", *_COUNTED, "queued")
#: Events that are counted by another name: what mail calls delivered.
_AS = {"sent": "delivered", "handed-over": "delivered", "received": "accepted"}
#: More events than a record has.
_MANY = 1 << 30


@dataclass(slots=True)
class _Worker:
    """last: the newest report of this life; sure: the one before. first: what the first life began with that knew it.

    past: of the lives that have ended since then; early: of those before.
    """

    last: Row
    sure: Row
    first: int | None = None
    past: Counter[str] = field(default_factory=Counter)
    early: Counter[str] = field(default_factory=Counter)

    def fold(self) -> Counter[str]:
        """This life has ended, and its sure report is of the past; where what it did after that is to be added."""
        ended = self.sure
        if self.first is None and not ended["loading"]:
            self.first = ended["recovered"]
        counts = self.early if self.first is None else self.past
        counts.update({name: ended[name] for name in ("accepted", *_COUNTED)})
        return counts

    def before(self, recovered: int) -> dict[str, int]:
        """What ended lives did, given what this one began with: with it, the books balance as if all were one life."""
        row = {name: self.past[name] + self.early[name] for name in _COUNTED}
        accepted = self.early["accepted"]
        opening = sum(self.early[name] for name in _FATES) - accepted
        if self.first is not None:
            accepted += sum(self.past[name] for name in _FATES) + recovered - self.first
            opening += self.first - recovered
        return {"recovered": opening, "accepted": accepted, **row}


class Books:
    """See above. Of all workers, by number."""

    def __init__(self, data_dir: Path, now: Callable[[], float]) -> None:
        """now: a clock in seconds."""
        self._data_dir = data_dir
        self._now, self._began = now, now()
        self._workers: dict[int, _Worker] = {}
        self._ended: list[Row] = []  #: of workers that have drained their spools

    def report(self, number: int, row: Row) -> None:
        """What a worker says it has counted; not the first of a life."""
        worker = self._workers.get(number)
        if worker is not None:  # it may have been retired meanwhile
            worker.sure, worker.last = worker.last, row

    def begin(self, number: int, row: Row) -> "Unread | None":
        """A life begins, with this report. What is to be read of the one before, if there was one."""
        worker = self._workers.get(number)
        if worker is None:
            self._workers[number] = _Worker(last=row, sure=row)
            return None
        start, counts = worker.sure["frame"], worker.fold()
        worker.last = worker.sure = row
        return Unread(events_directory(self._data_dir, number), start, row["frame"], counts)

    def retire(self, number: int, row: Row) -> None:
        """A worker has done its work, and these are its last books."""
        worker = self._workers.pop(number)
        self._ended += [worker.before(row["recovered"]), {name: row[name] for name in _KEPT}]

    def past(self, answered: Mapping[int, Row]) -> list[Row]:
        """What a status has to count beside what workers answer. One that does not is as it was when it last spoke."""
        rows: list[Row] = [{"uptime_s": round(self._now() - self._began, 1)}, *self._ended]
        for number, worker in self._workers.items():
            now = answered.get(number, worker.sure)
            rows.append(worker.before(now["recovered"]))
            if number not in answered:
                rows.append({name: worker.sure[name] for name in _KEPT})
        return rows


@dataclass(frozen=True, slots=True)
class Unread:
    """Events of a life that has ended: of the records from start on, before end. into: where they are counted."""

    directory: Path
    start: int
    end: int
    into: Counter[str]

    def count(self) -> Counter[str]:
        """Read them; blocks. Raises StorageError."""
        reader = EventReader(self.directory)
        reader.seek((max(self.start - 1, 0), _MANY))
        return _count(reader.read(), self.end)


def _count(events: Iterable[dict[str, Any]], end: int) -> Counter[str]:
    """By the name that a worker counts them under; an event that is there twice (E1), once."""
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    for event in events:
        if int(event["id"].partition(".")[0]) >= end or event["id"] in seen:
            continue
        seen.add(event["id"])
        kind = event["type"]
        if kind == "delivered" and channel_of(event["destination"])[0] == "carrier":
            continue  # a receipt says so: no outcome
        kind = _AS.get(kind, kind)
        if kind == "accepted" or kind in _COUNTED:
            counts[kind] += 1
    return counts
