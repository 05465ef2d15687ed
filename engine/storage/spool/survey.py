"""What a spool holds and what it takes: the figures of `postrider spool status`, running or stopped."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine.base.units import dead_share
from engine.message.ids import id_time
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.segment import Segment, Segments, files_of
from engine.storage.spool.table import Column

#: What `Survey.add` needs of a table.
NEEDED = ("place", "length", "recipients", "content_file", "id")


@dataclass
class Figures:
    """Of a generation or a folder. files, bytes: of segments, without side files and indexes. live_bytes: of frames
    with messages that live; a frame that several deliveries share counts for each."""

    files: int = 0
    bytes: int = 0
    side_bytes: int = 0
    deliveries: int = 0
    recipients: int = 0
    live_bytes: int = 0

    def as_row(self) -> dict[str, Any]:
        """All of it, and the share of the dead."""
        return {**asdict(self), "dead": dead_share(self.live_bytes, self.bytes)}


class Survey:
    """Add everything that lives, then ask. unindexed: segments that the next start would read whole."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._live: dict[int, list[int]] = {}  #: deliveries, recipients and bytes by file
        self._shared = 0  #: deliveries whose content lies with others'
        self.oldest_at: float | None = None
        self.unindexed = 0

    def add(self, columns: Mapping[str, Column]) -> None:
        """Rows of a table, with NEEDED."""
        if not len(columns["id"]):
            return
        numbers, group = np.unique(files_of(columns["place"]), return_inverse=True)
        sums = [
            np.bincount(group),
            np.bincount(group, columns["recipients"]),
            np.bincount(group, columns["length"]),
        ]
        for number, *counts in zip(numbers.tolist(), *(part.tolist() for part in sums), strict=True):
            self._count(number, *map(int, counts))
        self._shared += int((columns["content_file"] != 0).sum())
        self._see(id_time(int(columns["id"].min())))

    def add_in_hand(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.state is not State.FINAL:
                self._count(delivery.segment.number, 1, len(delivery.indexes), delivery.length)
                self._shared += delivery.content_file != 0
                self._see(delivery.message.received_at)

    def row(self, now: float, most: int | None) -> dict[str, Any]:
        """One row, folders with the most deliveries first, so many at most; None: all."""
        journal, backlog, contents, side_files = Figures(), Figures(), Figures(), 0
        folders: dict[str, Figures] = {}
        for number, segment in list(self._segments.items()):
            suffix = segment.path.suffix
            kind = journal if suffix == ".log" else backlog if suffix == ".seg" else contents
            self._add(kind, number, segment)
            if suffix == ".seg":
                self._add(folders.setdefault(segment.folder, Figures()), number, segment)
                side_files += segment.side_bytes > 0
        top = sorted(folders.items(), key=lambda item: -item[1].deliveries)
        return {
            "bytes": sum(kind.bytes + kind.side_bytes for kind in (journal, backlog, contents)),
            "deliveries": journal.deliveries + backlog.deliveries,
            "recipients": journal.recipients + backlog.recipients,
            "oldest_s": None if self.oldest_at is None else round(now - self.oldest_at, 1),
            "clean": not self.unindexed,
            "to_scan": self.unindexed,
            "journal": journal.as_row(),
            "backlog": {**backlog.as_row(), "side_files": side_files, "folders": len(folders)},
            "contents": {"files": contents.files, "bytes": contents.bytes, "deliveries": self._shared},
            "folders": [{"folder": name, **figures.as_row()} for name, figures in top[:most]],
        }

    def _add(self, figures: Figures, number: int, segment: Segment) -> None:
        deliveries, recipients, live_bytes = self._live.get(number, (0, 0, 0))
        figures.files += 1
        figures.bytes += segment.bytes
        figures.side_bytes += segment.side_bytes
        figures.deliveries += deliveries
        figures.recipients += recipients
        figures.live_bytes += live_bytes

    def _count(self, number: int, deliveries: int, recipients: int, live_bytes: int) -> None:
        counts = self._live.setdefault(number, [0, 0, 0])
        for index, more in enumerate((deliveries, recipients, live_bytes)):
            counts[index] += more

    def _see(self, at: float) -> None:
        self.oldest_at = at if self.oldest_at is None else min(self.oldest_at, at)
