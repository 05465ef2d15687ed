"""Emptying a file: what lives in it moves to the segments of its destinations.

Work is done in chunks, in the mover's thread, at a rate; between two chunks the loop takes note of what moved. What
became of a delivery while its copy was being written is seen then: a copy that came too late is dead.

Where there is little room on the disk, a file that has much to be moved waits (headroom.py).

A record that is damaged cannot be moved. Its file stays, and an operator decides (S5). But where the journal would stay
with it, the record is set aside as at a start, and its delivery is lost, which is for the queue to tell.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.base.errors import StorageError
from engine.storage.spool.backlog import Backlog, Moved
from engine.storage.spool.entry import Delivery, Spot
from engine.storage.spool.frame import RecordDamaged
from engine.storage.spool.headroom import Headroom
from engine.storage.spool.index import Texts
from engine.storage.spool.rows import spots_in
from engine.storage.spool.segment import Segment, Segments, file_of, files_of, offset_of, place_of, side_place
from engine.storage.spool.table import Column, Rows, Table

log = logging.getLogger(__name__)

#: A chunk ends at so many deliveries or bytes: what the loop does between two takes a few milliseconds.
_CHUNK_ITEMS, _CHUNK_BYTES = 64, 1 << 20


class _Task(NamedTuple):
    """A delivery to be moved. subject: its row, or itself if somebody has it in hand."""

    subject: int | Delivery
    spot: Spot


class Emptier:
    """See above. run: calls a function in the mover's thread. seal: closes a segment for good. lost: told rows whose
    records are damaged and hold back the journal.

    stuck: files with records that cannot be read; they stay until those are final.
    """

    def __init__(
        self,
        backlog: Backlog,
        table: Table,
        texts: Texts,
        segments: Segments,
        in_hand: dict[Delivery, None],
        headroom: Headroom,
        run: Callable[..., Awaitable[Any]],
        seal: Callable[[Segment], Awaitable[None]],
        lost: Callable[[Rows], None],
    ) -> None:
        self._backlog = backlog
        self._table = table
        self._texts = texts
        self._segments = segments
        self._in_hand = in_hand
        self._headroom = headroom
        self._run = run
        self._seal = seal
        self._lost = lost
        self.rate = 0  #: bytes a second, of the work that is being done
        self.stuck: set[int] = set()
        self.aside: set[tuple[int, int]] = set()  #: places of records that were set aside, and of their states
        self._damaged: list[tuple[int, Spot, int]] = []  #: rows, of the file that is emptied just now, and their ids

    async def empty(self, segment: Segment) -> None:
        """Move what lives in a file, and what only its records say of others, elsewhere."""
        try:
            async for directory, tasks in self._chunks(segment):
                if not await self._run(self._headroom.may_empty, segment):
                    return
                await self._move(directory, tasks, segment)
            if await self._run(self._headroom.may_empty, segment):
                await self._move_states(segment)
        finally:
            await self._run(self._backlog.forget_contents)
            self._tell_lost()

    async def _chunks(self, segment: Segment) -> AsyncIterator[tuple[Path, list[_Task]]]:
        """What is to be moved, a chunk at a time, each for one directory."""
        rows = self.rows_in(segment)
        columns = self._table.columns(rows)
        directories, group = await self._directories(segment, columns)
        order = np.lexsort((columns["place"], group))
        groups, starts = np.unique(group[order], return_index=True)
        for index, own in zip(groups.tolist(), np.split(order, starts)[1:], strict=True):
            ends = np.cumsum(columns["length"][own], dtype="u8") // _CHUNK_BYTES
            for part in np.split(own, np.flatnonzero(np.diff(ends)) + 1):
                for start in range(0, len(part), _CHUNK_ITEMS):
                    chunk = part[start : start + _CHUNK_ITEMS]
                    yield directories[index], self._tasks(rows[chunk], {k: v[chunk] for k, v in columns.items()})
        for delivery in [d for d in self._in_hand if segment.number in (d.segment.number, d.content_file)]:
            directory = delivery.segment.path.parent
            if delivery.segment.is_journal:
                directory = await self._run(self._backlog.directory_for, delivery.destination, 1)
            yield directory, [_task_of(delivery)]

    def rows_in(self, segment: Segment) -> Rows:
        """Rows whose message lies in a file; of a file of contents, those whose content does."""
        contents = segment.path.suffix == ".con"
        table = self._table
        parts = list(table.select(content_file=segment.number) if contents else table.in_file(segment.number))
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint32)

    async def _directories(self, segment: Segment, columns: Mapping[str, Column]) -> tuple[list[Path], Column]:
        """Where to, and which of them for each row: by destination; what is in a folder already stays in it."""
        if not segment.is_journal:
            numbers, which = np.unique(files_of(columns["place"]), return_inverse=True)
            found = [self._segments[number].path.parent for number in numbers.tolist()]
        else:
            numbers, which, counts = np.unique(columns["destination"], return_inverse=True, return_counts=True)
            names = [self._texts["destination"].text(number) for number in numbers.tolist()]
            find = self._backlog.directory_for
            found = await self._run(lambda: list(map(find, names, counts.tolist())))
        places = {directory: index for index, directory in enumerate(dict.fromkeys(found))}
        positions = np.array([places[directory] for directory in found], dtype="u4")
        return list(places), positions[which] if len(which) else np.zeros(0, dtype="u4")

    @staticmethod
    def _tasks(rows: Rows, columns: Mapping[str, Column]) -> list[_Task]:
        return [_Task(*pair) for pair in zip(rows.tolist(), spots_in(columns), strict=True)]

    async def _move(self, directory: Path, tasks: list[_Task], source: Segment) -> None:
        spots = [task.spot for task in tasks]
        before = self._backlog.written
        answers = await self._run(self._backlog.move, directory, spots, source.number)
        for task, answer in zip(tasks, answers, strict=True):
            if isinstance(answer, StorageError):
                await self._cannot_move(task, answer, source)
            else:
                self._take_note(task, answer)
        if self.rate:
            await asyncio.sleep((self._backlog.written - before) / self.rate)
        segment = next((a.segment for a in answers if isinstance(a, Moved)), None)
        if segment is not None and not segment.sealed and segment.bytes >= self._backlog.segment_bytes:
            await self._seal(segment)

    async def _cannot_move(self, task: _Task, error: StorageError, source: Segment) -> None:
        holds_back = source.is_journal or source.number in self._backlog.unsound
        subject, spot = task.subject, task.spot
        if not (holds_back and isinstance(error, RecordDamaged)):
            if source.number not in self.stuck:
                log.error("spool: %s; it holds back its file%s", error, ", and the journal's" if holds_back else "")
            self.stuck.add(source.number)
        elif not isinstance(subject, Delivery) and self._is_still(subject, spot):
            # One in hand is in memory, perhaps with all that it needs.
            try:
                await self._run(self._backlog.set_aside, spot)
            except StorageError as exc:
                log.error("spool: %s; not set aside: %s", error, exc)
                return
            log.error("spool: %s: set aside; its delivery is lost", error)
            self.aside.add((spot.place, spot.state_place))
            self._damaged.append((subject, spot, self._table.get(subject, "id")))

    def _is_still(self, row: int, spot: Spot) -> bool:
        """A row is the delivery that it was: it may have been settled meanwhile, and the row be another's."""
        table = self._table
        there = (table.get(row, "place"), table.get(row, "state_place"), table.get(row, "number"))
        return table.holds(row) and there == (spot.place, spot.state_place, spot.number)

    def _tell_lost(self) -> None:
        damaged, self._damaged = self._damaged, []
        rows = [row for row, spot, id_ in damaged if self._is_still(row, spot) and self._table.get(row, "id") == id_]
        if rows:
            self._lost(np.array(rows, dtype=np.uint32))

    def _take_note(self, task: _Task, moved: Moved) -> None:
        """A copy is written: it is the delivery's place from now on, unless that went elsewhere meanwhile."""
        subject, spot = task.subject, task.spot
        if isinstance(subject, Delivery):
            if subject not in self._in_hand or subject.place != spot.place:
                moved.segment.dead.append(moved.offset)
                return
            state_place, content_file = subject.state_place, subject.content_file
            kept = state_place if state_place != spot.state_place else 0
            subject.segment, subject.offset, subject.length = moved.segment, moved.offset, moved.length
            subject.state_place, subject.content_file = kept, moved.content_file
        else:
            table = self._table
            there = table.get(subject, "place"), table.get(subject, "number")
            if not table.holds(subject) or there != (spot.place, spot.number):
                moved.segment.dead.append(moved.offset)
                return
            state_place, content_file = table.get(subject, "state_place"), table.get(subject, "content_file")
            kept = state_place if state_place != spot.state_place else 0
            for name, value in (
                ("place", place_of(moved.segment.number, moved.offset)), ("length", moved.length),
                ("state_place", kept), ("content_file", moved.content_file),
            ):  # fmt: skip
                table.set(subject, name, value)
        # First the new, then the old: nothing falls to zero in between.
        self._segments.refer(place_of(moved.segment.number, moved.offset), moved.length, kept, moved.content_file)
        self._segments.refer(spot.place, spot.length, state_place, content_file, -1)
        source = self._segments[file_of(spot.place)]
        if not source.is_journal:
            source.dead.append(offset_of(spot.place))

    async def _move_states(self, source: Segment) -> None:
        """States of deliveries in the old generation that only a journal file has."""
        if not source.is_journal:
            return
        states: dict[int, list[_Task]] = {}
        for rows in self._table.in_file(source.number, "state_place"):
            for task in self._tasks(rows, self._table.columns(rows)):
                states.setdefault(file_of(task.spot.place), []).append(task)
        for delivery in self._in_hand:
            if delivery.state_place and file_of(delivery.state_place) == source.number:
                states.setdefault(delivery.segment.number, []).append(_task_of(delivery))
        for number, tasks in states.items():
            segment = self._segments[number]
            if segment.is_journal:
                continue  # of a record that cannot be read
            for start in range(0, len(tasks), _CHUNK_ITEMS):
                await self._write_states(segment, tasks[start : start + _CHUNK_ITEMS], source)

    async def _write_states(self, segment: Segment, tasks: list[_Task], source: Segment) -> None:
        pairs = [(offset_of(task.spot.place), task.spot.state_place) for task in tasks]
        answers = await self._run(self._backlog.note, segment, (), pairs)
        for task, answer in zip(tasks, answers, strict=True):
            if isinstance(answer, StorageError):
                await self._cannot_move(task, answer, source)
                continue
            subject, old, new = task.subject, task.spot.state_place, side_place(segment.number, answer)
            if isinstance(subject, Delivery):
                if subject in self._in_hand and subject.state_place == old:
                    subject.state_place = new
                    self._segments[file_of(old)].refs -= 1
            elif self._table.holds(subject) and self._table.get(subject, "state_place") == old:
                self._table.set(subject, "state_place", new)
                self._segments[file_of(old)].refs -= 1


def _task_of(delivery: Delivery) -> _Task:
    return _Task(delivery, Spot(delivery.place, delivery.length, delivery.state_place, delivery.number))
