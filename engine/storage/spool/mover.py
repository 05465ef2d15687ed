"""The mover: empties files, and lets them go when nothing of them lives.

A journal file goes when it is the oldest and nothing refers to it, and not before an older one: later files hold the
outcomes of its messages. When more than `journal_files` stand there, what lives in the oldest is moved to the segments
of its destinations; so is what lives in a segment that is mostly dead, or unsound (S4).

How a file is emptied: emptying.py.

Where nothing is accepted for want of room, the journal waits neither for `journal_files` nor until the file being
written has its size, which may be that of the disk: that one is left for another, and what is mostly dead is emptied.

A file of shared contents is mostly dead when few of them are needed. Its contents are written anew, each once, and so
is whatever refers to them, in its own folder. How many are needed only a look at all rows tells: the mover takes it
when half of the file's deliveries have gone since it looked last, or saw the file first; if somebody waits, when it
never looked, or any has gone.

The order that makes a crash harmless at any point:
    copies, states and deaths are durable in the old generation -> what was appended to the journal meanwhile is
    durable -> the file is removed, durably -> the next one

One of which nothing lives goes at all times, however little room there is on the disk.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from engine.base.errors import StorageError
from engine.base.settings import SpoolSettings
from engine.message.ids import split_id
from engine.storage.spool.backlog import Backlog
from engine.storage.spool.emptying import Emptier
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.headroom import Headroom
from engine.storage.spool.index import Texts, encode_index
from engine.storage.spool.journal import Journal
from engine.storage.spool.rows import row_of
from engine.storage.spool.segment import Segment, Segments
from engine.storage.spool.table import COLUMNS, Rows, Table

log = logging.getLogger(__name__)
T = TypeVar("T")

#: A segment is emptied when less than this fraction of it lives.
_MOSTLY_DEAD = 0.25
#: Smaller segments are not worth emptying: they go when their last message does.
_WORTH_EMPTYING = 1 << 20


class Mover:
    """See above. All methods on the loop. lost: see emptying.py."""

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
        lost: Callable[[Rows], None],
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
        self._emptier = Emptier(backlog, table, texts, segments, in_hand, headroom, self._run, self._seal, lost)
        self._first_seen: dict[int, int] = {}  #: how many deliveries needed a file of shared contents then
        self._looked_at: dict[int, int] = {}  #: and when it was last seen how many contents they need

    @property
    def damaged(self) -> int:
        """Records that were found damaged, and set aside."""
        return len(self._emptier.aside)

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
            self._emptier.rate = 0 if at_once else self.settings.move_rate
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
        await self._leave_file_for_room()
        while (oldest := journal.oldest()) is not None:
            if oldest.refs:
                few = len(journal.segments) <= self.settings.journal_files and not self._gives_room(oldest)
                if few or oldest.number in self._emptier.stuck:
                    return
                await self._emptier.empty(oldest)
                if oldest.refs:
                    return  # of what is in an attempt just now, or cannot be read
            await self._write_deaths()
            await journal.flush()
            await journal.unlink(oldest, self._thread)

    async def _leave_file_for_room(self) -> None:
        """The file being written goes like the others, if it gives room that is wanted."""
        files = list(self._journal.segments.values())
        if files and self._gives_room(files[-1]):
            await self._journal.run(self._journal.leave_file)

    def _gives_room(self, file: Segment) -> bool:
        wanted = self._headroom.wanted() and file.bytes > _WORTH_EMPTYING
        return wanted and file.live_bytes < file.bytes * _MOSTLY_DEAD

    async def _drop_dead(self) -> None:
        for segment in [s for s in self._all_segments() if s.sealed and not s.is_journal]:
            await self._drop_if_dead(segment)

    async def _compact(self, at_once: bool) -> None:
        for segment in [s for s in self._all_segments() if s.sealed and not s.is_journal]:
            if not segment.refs:
                await self._drop_if_dead(segment)
            elif segment.number not in self._emptier.stuck and await self._is_mostly_dead(segment, at_once):
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
            self._emptier.stuck.add(number)
            return False
        if self._messages_of(segment) < written * _MOSTLY_DEAD:
            return True
        self._looked_at[number] = refs
        return False

    def _messages_of(self, segment: Segment) -> int:
        """How many messages need a file of shared contents; each needs one content."""
        rows = self._table.columns(self._emptier.rows_in(segment), ("id",))["id"]
        in_hand = {split_id(d.message.id)[0] for d in self._in_hand if d.content_file == segment.number}
        return len(np.union1d(rows, np.array(list(in_hand), dtype="u8")))

    async def _clear(self, segment: Segment) -> None:
        """Empty a file of the old generation, and let go of it."""
        await self._emptier.empty(segment)
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

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        """In the mover's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
