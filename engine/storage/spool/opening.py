"""Opening a spool: the journal at once, before anything is accepted; the old generation in the background.

S5  what is named and not there is told, and what needs it waits for an operator.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np

from engine.base.errors import StorageError
from engine.base.units import counted
from engine.storage.spool.files import Files
from engine.storage.spool.index import Texts
from engine.storage.spool.loading import (
    Copies,
    Journaled,
    Loaded,
    find_segments,
    folders,
    load,
    lost_segments,
    replaced_rows,
    tell_lost,
)
from engine.storage.spool.names import HOMES
from engine.storage.spool.recovery import Loss, Recovered, content_segments, keep_aside, recover, rows_of
from engine.storage.spool.segment import Numbers, Segment, Segments, file_of, number_in, offset_of, segment_path
from engine.storage.spool.table import COLUMNS, SLAB_ROWS, Column, Table

log = logging.getLogger(__name__)

_CONTENTS = ("shared", "large")


class Opening:
    """One start. table, texts, segments: to be filled. Every call may raise StorageError.

    damaged: how many records were set aside, and files found missing.
    """

    def __init__(
        self, directory: Path, files: Files, table: Table, texts: Texts, segments: Segments, numbers: Numbers
    ) -> None:
        self._directory = directory
        self._files = files
        self._table = table
        self._texts = texts
        self._segments = segments
        self._numbers = numbers
        self._missing: Counter[int] = Counter()  #: files of contents, with the deliveries that need them
        self.damaged = 0

    def make_directories(self) -> None:
        folders = [self._directory / name for name in ("journal", *HOMES, *_CONTENTS)]
        for directory in (self._directory.parent, self._directory, *folders):
            self._files.make_directory(directory)

    def recover_journal(self, trusted: Callable[[int], int]) -> Recovered:
        """What the journal tells; trusted: see recovery.py. Blocks."""
        found = recover(self._directory / "journal", self._files, trusted)
        self._tell(found.problems)
        return found

    def highest_number(self) -> int:
        """Of the files on disk that are ours, those included that have lost their segment."""
        directories = [self._directory / name for name in ("journal", *_CONTENTS)]
        directories += folders(self._directory, self._files)
        names = (name for directory in directories for name in self._files.names(directory))
        return max(map(number_in, names), default=0)

    def enter_journal(self, found: Recovered) -> None:
        """A row for each delivery of the journal; its segments are registered."""
        problems: list[str] = []
        for segment in content_segments(self._directory, self._files, problems):
            self._segments[segment.number] = segment
        self._tell(problems)
        rows = rows_of(found, self._texts)
        columns = {name: np.array([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()}
        self._enter(columns)
        self._tell_missing()

    async def load_backlog(self, found: Recovered, thread: Executor, loaded: Callable[[int], None]) -> list[Segment]:
        """Read the old generation, a segment at a time. Gives the segments that have no index.

        loaded: told the recipients of each segment; fewer than none, where a copy turned out to be one.
        """
        loop, problems, unindexed = asyncio.get_running_loop(), list[str](), list[Segment]()
        journaled = Journaled(found, self._texts)
        problems += await loop.run_in_executor(thread, self._set_lost_aside, journaled)
        await loop.run_in_executor(thread, self._clear_away)
        for segments in find_segments(self._directory, self._files, problems):
            copies = Copies()
            for segment in segments:
                one: Loaded = await loop.run_in_executor(thread, load, segment, self._files, self._texts, journaled)
                problems += one.problems
                copies.add(one.columns)
                self._segments[segment.number] = segment
                segment.dead += one.ghosts
                await self._enter_slowly(one.columns)
                loaded(int(one.columns["recipients"].sum()))
                if not one.indexed:
                    unindexed.append(segment)
            for row in replaced_rows(self._table, await loop.run_in_executor(thread, copies.replaced)):
                loaded(-self._table.get(row, "recipients"))
                self._release(row)
        if found.lost:
            unnamed = [s for s in list(self._segments.values()) if s.path.suffix in (".con", ".dat") and not s.refs]
            problems += await loop.run_in_executor(thread, self._set_unnamed_aside, unnamed)
        self._tell(problems)
        self._tell_missing()
        return unindexed

    def _set_lost_aside(self, journaled: Journaled) -> list[str]:
        """What is left of segments that are gone goes to `damaged/`, where an operator finds it (S5)."""
        problems: list[str] = []
        for segment in list(lost_segments(self._directory, self._files)):
            told = tell_lost(segment, self._files, self._texts, journaled)
            try:
                for path in (segment.side, segment.index):  # in this order: by its index a segment is found again
                    if self._files.size(path) is not None:
                        copy = self._move_aside(path)
                problems.append(Loss(f"{told}; set aside as {copy}"))
            except StorageError as exc:  # there is another start
                problems.append(Loss(f"{told}; not set aside: {exc}"))
        return problems

    def _set_unnamed_aside(self, unnamed: Sequence[Segment]) -> list[str]:
        """Contents that no message names, where some of the journal is lost: the messages may have been in it."""
        problems: list[str] = []
        for segment in unnamed:
            try:
                copy = self._move_aside(segment.path)
                problems.append(f"{segment.path.name} has contents that no message names any more; set aside as {copy}")
            except StorageError as exc:
                problems.append(Loss(f"{segment.path.name} has contents that no message names; not set aside: {exc}"))
            self._segments.pop(segment.number, None)
        return problems

    def _move_aside(self, path: Path) -> Path:
        copy = keep_aside(self._files, path, path.name, self._files.read(path))
        self._files.unlink(path)
        return copy

    def _clear_away(self) -> None:
        """What a crash in the middle of dropping a segment left: its side file, which goes last."""
        for folder in folders(self._directory, self._files):
            names = self._files.names(folder)
            segments = {name[:-4] for name in names if name.endswith(".seg")}
            with contextlib.suppress(StorageError):  # there is another start
                for name in names:
                    if name.endswith(".sta") and name[:-4] not in segments:
                        self._files.unlink(folder / name)
                        log.info("spool: %s is of a segment that was dropped, and goes, too", folder / name)
                self._files.remove_directory(folder)

    async def _enter_slowly(self, columns: Mapping[str, Column]) -> None:
        """A slab's worth at a time; then the loop serves others."""
        for start in range(0, len(columns["id"]), SLAB_ROWS):
            self._enter({name: column[start : start + SLAB_ROWS] for name, column in columns.items()})
            await asyncio.sleep(0)

    def _enter(self, columns: Mapping[str, Column]) -> None:
        numbers, counts = np.unique(columns["content_file"], return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            if number in self._missing:
                self._missing[number] += count
            elif number and number not in self._segments:
                self._missing[number] = count
                self._segments[number] = Segment(segment_path(self._directory / "shared", number, 0, ".con"))
                # It may have been the newest file: another of its number would be taken for it.
                self._numbers.pass_over(number)
        self._segments.refer_many(columns)
        self._table.add_many(columns)

    def _release(self, row: int) -> None:
        """A row whose message is somewhere else."""
        place, *rest = (self._table.get(row, name) for name in ("place", "length", "state_place", "content_file"))
        self._segments.refer(place, rest[0], rest[1], rest[2], -1)
        self._segments[file_of(place)].dead.append(offset_of(place))
        self._table.remove(row)

    def _tell_missing(self) -> None:
        """Of files of contents: how many of the deliveries that were entered since the last time need them."""
        for number, count in sorted(self._missing.items()):
            if count:
                needed = f"{counted(count, 'delivery')} can only be bounced, or purged"
                self._tell([Loss(f"file {number} with contents of queued messages is gone: {needed}")])
                self._missing[number] = 0

    def _tell(self, problems: Sequence[str]) -> None:
        """One line each, for the log."""
        for problem in problems:
            is_loss = isinstance(problem, Loss)
            self.damaged += is_loss
            log.log(logging.ERROR if is_loss else logging.WARNING, "spool: %s", problem)
