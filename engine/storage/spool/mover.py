"""The mover: empties files, and lets them go when nothing of them lives.

A journal file goes when it is the oldest and nothing refers to it, and not before an older one: later files hold the
outcomes of its messages. When more than `journal_files` stand there, what lives in the oldest is moved to the segments
of its destinations; so is what lives in a segment that is mostly dead, or unsound (S4).

A file of shared contents is mostly dead when few of them are needed. Its contents are written anew, each once, and so
is whatever refers to them, in its own folder. How many are needed only a look at all rows tells: the mover takes it
when half of the file's deliveries have gone since it looked last, or saw the file first; if somebody waits, when it
never looked, or any has gone.

The order that makes a crash harmless at any point:
    copies, states and deaths are durable in the old generation -> what was appended to the journal meanwhile is
    durable -> the file is removed, durably -> the next one

Where there is little room on the disk, a file that has much to be moved waits (headroom.py); one of which nothing lives
goes at all times.

Work is done in chunks, in a thread of its own, at `move_rate`; between two chunks the loop takes note of what moved.
What became of a delivery while its copy was being written is seen then: a copy that came too late is dead.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from engine.base.errors import StorageError
from engine.base.settings import SpoolSettings
from engine.message.ids import split_id
from engine.storage.spool.backlog import Backlog, Moved
from engine.storage.spool.entry import Delivery, Spot, State
from engine.storage.spool.headroom import Headroom
from engine.storage.spool.index import Texts, encode_index
from engine.storage.spool.journal import Journal
from engine.storage.spool.rows import row_of, spots_in
from engine.storage.spool.segment import Segment, Segments, file_of, files_of, offset_of, place_of, side_place
from engine.storage.spool.table import COLUMNS, Column, Rows, Table

log = logging.getLogger(__name__)
T = TypeVar("T")

#: A chunk ends at so many deliveries or bytes: what the loop does between two takes a few milliseconds.
_CHUNK_ITEMS, _CHUNK_BYTES = 64, 1 << 20
#: A segment is emptied when less than this fraction of it lives.
_MOSTLY_DEAD = 0.25
#: Smaller segments are not worth emptying: they go when their last message does.
_WORTH_EMPTYING = 1 << 20


class _Task(NamedTuple):
    """A delivery to be moved. subject: its row, or itself if somebody has it in hand."""

    subject: int | Delivery
    spot: Spot


class Mover:
    """See above. All methods on the loop."""

    def __init__(
        self,
        backlog: Backlog,
        journal: Journal,
        table: Table,
        texts: Texts,
        segments: Segments,
        in_hand: dict[Delivery, None],
        settings: SpoolSettings,
        headroom: Headroom,
    ) -> None:
        self._backlog = backlog
        self._journal = journal
        self._table = table
        self._texts = texts
        self._segments = segments
        self._in_hand = in_hand
        self._headroom = headroom
        self.settings = settings
        self._thread = ThreadPoolExecutor(1, "mover")
        self._at_work = asyncio.Lock()
        self._soon: asyncio.Task[None] | None = None
        self._rate = 0  #: bytes a second, of the work that is being done
        self._stuck: set[int] = set()  #: files with records that cannot be read; they stay until those are final
        self._first_seen: dict[int, int] = {}  #: how many deliveries needed a file of shared contents then
        self._looked_at: dict[int, int] = {}  #: and when it was last seen how many contents they need

    def work_soon(self) -> None:
        """Begin now what upkeep would do later; a fault is upkeep's to meet again."""
        if self._soon is None or self._soon.done():
            self._soon = asyncio.get_running_loop().create_task(self._work_once())

    async def _work_once(self) -> None:
        try:
            await self.work()
        except StorageError as exc:
            log.error("spool: %s; tried again", exc)

    async def work(self, at_once: bool = False) -> None:
        """Everything that there is to do now. Raises StorageError: the disk refused; what was there is there.

        at_once: somebody waits for it, so `move_rate` does not count.
        """
        if self._at_work.locked() and not at_once:
            return
        async with self._at_work:
            self._rate = 0 if at_once else self.settings.move_rate
            await self._drop_dead()
            for segment in list(self._backlog.unsound.values()):
                await self._clear(segment)
            if not self._backlog.unsound:
                await self._retire_journal()
            await self._compact(at_once)

    async def index(self, segments: Iterable[Segment]) -> None:
        """Write the indexes of segments that a crash left without."""
        async with self._at_work:
            for segment in segments:
                await self._seal(segment)

    async def close(self) -> None:
        """Write what makes the next start quick: indexes of open segments, and who is dead."""
        if self._soon is not None:
            await asyncio.wait([self._soon])
        async with self._at_work:
            try:
                await self._write_deaths()
                for segment in list(self._backlog.open.values()):
                    await self._seal(segment)
            finally:
                self._thread.shutdown()

    def _all_segments(self) -> list[Segment]:
        """Of this moment: the threads begin new ones."""
        return list(self._segments.values())

    # ---- files that go

    async def _retire_journal(self) -> None:
        journal = self._journal
        while (oldest := journal.oldest()) is not None:
            if oldest.refs:
                if len(journal.segments) <= self.settings.journal_files or oldest.number in self._stuck:
                    return
                await self._empty(oldest)
                if oldest.refs:
                    return  # of what is in an attempt just now, or cannot be read
            await self._write_deaths()
            await journal.flush()
            await journal.unlink(oldest, self._thread)

    async def _drop_dead(self) -> None:
        for segment in [s for s in self._all_segments() if s.sealed and not s.is_journal]:
            await self._drop_if_dead(segment)

    async def _compact(self, at_once: bool) -> None:
        for segment in [s for s in self._all_segments() if s.sealed and not s.is_journal]:
            if not segment.refs:
                await self._drop_if_dead(segment)
            elif segment.number not in self._stuck and await self._is_mostly_dead(segment, at_once):
                await self._clear(segment)

    async def _is_mostly_dead(self, segment: Segment, at_once: bool) -> bool:
        size = segment.bytes + segment.side_bytes
        if size <= _WORTH_EMPTYING:
            return False
        if segment.path.suffix == ".con":
            return await self._are_contents_dead(segment, at_once)
        return segment.path.suffix == ".seg" and segment.live_bytes < size * _MOSTLY_DEAD

    async def _are_contents_dead(self, segment: Segment, at_once: bool) -> bool:
        """Most of a file's contents, by number: how long those are that are needed, their rows do not tell."""
        number, refs = segment.number, segment.refs
        last = self._looked_at.get(number)
        if last is None and not at_once:
            last = self._first_seen.setdefault(number, refs)
        if last is not None and refs > (last - 1 if at_once else last // 2):
            return False
        try:
            written = await self._run(self._backlog.contents_in, segment)
        except StorageError as exc:
            log.error("spool: %s; the contents in it are not compacted", exc)
            self._stuck.add(number)
            return False
        if self._messages_of(segment) < written * _MOSTLY_DEAD:
            return True
        self._looked_at[number] = refs
        return False

    def _messages_of(self, segment: Segment) -> int:
        """How many messages need a file of shared contents; each needs one content."""
        rows = self._table.columns(self._rows_in(segment), ("id",))["id"]
        in_hand = {split_id(d.message.id)[0] for d in self._in_hand if d.content_file == segment.number}
        return len(np.union1d(rows, np.array(list(in_hand), dtype="u8")))

    async def _clear(self, segment: Segment) -> None:
        """Empty a file of the old generation, and let go of it."""
        await self._empty(segment)
        if segment.path.suffix == ".con":
            # Or after a crash there would be the records that named it, and it would be missed.
            await self._write_deaths()
        await self._drop_if_dead(segment)

    async def _drop_if_dead(self, segment: Segment) -> None:
        if not segment.refs and segment.number in self._segments:
            await self._run(self._backlog.drop, segment)
            del self._segments[segment.number]
            for seen in (self._first_seen, self._looked_at):
                seen.pop(segment.number, None)

    async def _write_deaths(self) -> None:
        """Before a journal file goes, the old generation knows whose outcomes it held.

        Not what is unsound (S4): no journal file goes while there is such a segment.
        """
        for segment in [s for s in self._all_segments() if s.dead and s.number not in self._backlog.unsound]:
            if not segment.refs:
                await self._drop_if_dead(segment)
                continue
            await self._note_deaths(segment)

    async def _note_deaths(self, segment: Segment) -> None:
        dead = list(segment.dead)
        if not await self._run(self._headroom.may_note, len(dead)):
            # A write that fails would cost the segment (S4).
            raise StorageError("the disk is full: what is dead cannot be noted")
        await self._run(self._backlog.note, segment, dead, ())
        del segment.dead[: len(dead)]

    async def _seal(self, segment: Segment) -> None:
        """Close a segment for good, with an index of what lives in it."""
        if not segment.refs:
            await self._drop_if_dead(segment)
            return
        if segment.path.suffix == ".con":
            await self._run(self._backlog.close, segment)
            return
        if segment.dead:
            # Who is missing in the index is dead for the next start, which would never note it; and indexes get lost.
            await self._note_deaths(segment)
        found = [self._table.columns(rows) for rows in self._table.in_file(segment.number)]
        in_hand = [row_of(d, State.WAITING, self._texts) for d in self._in_hand if d.segment is segment]
        columns = {
            name: np.concatenate(
                [*(part[name] for part in found), np.array([values[name] for values in in_hand], dtype=kind)]
            )
            for name, kind in COLUMNS.items()
        }
        await self._run(self._backlog.seal, segment, encode_index(segment, columns, self._texts))

    # ---- emptying

    async def _empty(self, segment: Segment) -> None:
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

    async def _chunks(self, segment: Segment) -> AsyncIterator[tuple[Path, list[_Task]]]:
        """What is to be moved, a chunk at a time, each for one directory."""
        rows = self._rows_in(segment)
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
            spot = Spot(delivery.place, delivery.length, delivery.state_place, delivery.number)
            yield directory, [_Task(delivery, spot)]

    def _rows_in(self, segment: Segment) -> Rows:
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
                if source.number not in self._stuck:
                    log.error("spool: %s; it holds back its file, and the journal's behind it, until a start", answer)
                self._stuck.add(source.number)
            else:
                self._take_note(task, answer)
        if self._rate:
            await asyncio.sleep((self._backlog.written - before) / self._rate)
        segment = next((a.segment for a in answers if isinstance(a, Moved)), None)
        if segment is not None and not segment.sealed and segment.bytes >= self._backlog.segment_bytes:
            await self._seal(segment)

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
        states: dict[int, list[tuple[int, int, int | Delivery]]] = {}
        for rows in self._table.in_file(source.number, "state_place"):
            for task in self._tasks(rows, self._table.columns(rows)):
                place = task.spot.place
                states.setdefault(file_of(place), []).append((offset_of(place), task.spot.state_place, task.subject))
        for delivery in self._in_hand:
            if delivery.state_place and file_of(delivery.state_place) == source.number:
                own = delivery.offset, delivery.state_place, delivery
                states.setdefault(delivery.segment.number, []).append(own)
        for number, found in states.items():
            segment = self._segments[number]
            if segment.is_journal:
                continue  # of a record that cannot be read
            for start in range(0, len(found), _CHUNK_ITEMS):
                await self._write_states(segment, found[start : start + _CHUNK_ITEMS])

    async def _write_states(self, segment: Segment, states: list[tuple[int, int, int | Delivery]]) -> None:
        pairs = [(offset, place) for offset, place, _ in states]
        written = await self._run(self._backlog.note, segment, (), pairs)
        for (_, old, subject), offset in zip(states, written, strict=True):
            new = side_place(segment.number, offset)
            if isinstance(subject, Delivery):
                if subject in self._in_hand and subject.state_place == old:
                    subject.state_place = new
                    self._segments[file_of(old)].refs -= 1
            elif self._table.holds(subject) and self._table.get(subject, "state_place") == old:
                self._table.set(subject, "state_place", new)
                self._segments[file_of(old)].refs -= 1

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        """In the mover's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
