"""A spool as a start would find it, without starting: what lives, folder by folder, read-only.

The same steps as Spool.start and Spool.load_backlog take, over a snapshot; never more than one folder's rows in memory.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.base.units import counted
from engine.storage.spool.files import Files
from engine.storage.spool.index import TEXTS
from engine.storage.spool.loading import (
    Copies,
    Journaled,
    Loaded,
    find_segments,
    load,
    lost_segments,
    replaced_rows,
    tell_lost,
)
from engine.storage.spool.names import Names
from engine.storage.spool.recovery import NO_EVENTS, content_segments, recover, rows_of
from engine.storage.spool.segment import Segment, Segments
from engine.storage.spool.table import COLUMNS, Column, Table


class Part:
    """The live deliveries of the journal (folder ""), or of one folder of the old generation.

    table: their rows. segments: the files. unindexed: those without a valid index; the next start reads them whole.
    """

    def __init__(self, folder: str, segments: list[Segment], texts: dict[str, Names]) -> None:
        self.folder = folder
        self.segments = segments
        self.texts = texts
        self.table = Table()
        self.unindexed: list[Segment] = []


class SpoolView:
    """See above. problems: lines for people. lost: what should live and cannot. Both are complete after `parts`."""

    def __init__(self, directory: Path, files: Files, newest_event: int = NO_EVENTS) -> None:
        """Reads the journal. newest_event: the frame of an event that was written before the snapshot was taken.

        Raises StorageError: a file cannot be read, or a later program wrote it.
        """
        self.directory = directory
        self.files = files
        self.texts = {name: Names() for name in TEXTS}
        self.segments = Segments()
        self.found = recover(directory / "journal", files, lambda _: newest_event, read_only=True)
        self.problems = self.found.problems
        self.lost: list[str] = list(self.found.lost.values())
        self._journaled = Journaled(self.found, self.texts)
        contents = content_segments(directory, files, self.problems)
        self.segments.update((segment.number, segment) for segment in (*self.found.segments, *contents))

    def parts(self) -> Iterator[Part]:
        """First the journal, then each folder. Raises StorageError."""
        journal = Part("", self.found.segments, self.texts)
        rows = rows_of(self.found, self.texts)
        columns = {name: np.array([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()}
        self._enter(journal, columns)
        yield journal
        lost = lost_segments(self.directory, self.files)
        self.lost += [tell_lost(segment, self.files, self.texts, self._journaled) for segment in lost]
        for segments in find_segments(self.directory, self.files, self.problems):
            yield self._folder(segments)

    def _folder(self, segments: list[Segment]) -> Part:
        part, copies = Part(segments[0].folder, segments, self.texts), Copies()
        for segment in segments:
            loaded: Loaded = load(segment, self.files, self.texts, self._journaled, read_only=True)
            self.segments[segment.number] = segment
            copies.add(loaded.columns)
            self.problems += loaded.problems
            if not loaded.indexed:
                part.unindexed.append(segment)
            self._enter(part, loaded.columns)
        for row in replaced_rows(part.table, copies.replaced()):
            part.table.remove(row)
        return part

    def _enter(self, part: Part, columns: dict[str, Column]) -> None:
        known = np.isin(columns["content_file"], [0, *self.segments])
        if not known.all():
            gone = counted(int((~known).sum()), "delivery")
            self.lost.append(f"{part.folder or 'journal'}: {gone} whose content is gone")
            columns = {name: column[known] for name, column in columns.items()}
        part.table.add_many(columns)
