"""Writing the stream of export.py from views of spools, a batch of contents at a time."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from engine.base.errors import StorageError
from engine.message.content import whole
from engine.storage.spool.entry import Spot
from engine.storage.spool.export import StreamWriter
from engine.storage.spool.reader import read_deliveries
from engine.storage.spool.table import Rows
from engine.storage.spool.view import Part, SpoolView

#: What is read at once; contents that lie elsewhere come one by one, as their length is not known before.
_BATCH_ROWS, _BATCH_BYTES = 256, 4 << 20


class Extract:
    """One export. problems: a line for each delivery that cannot be read and is not in the stream, or for all of a
    folder whose contents are gone.

    views: of each spool; the next is asked for when the one before is done with. choose: the rows of a part that are
    wanted.
    """

    def __init__(self, views: Iterable[SpoolView], choose: Callable[[Part], Iterator[Rows]]) -> None:
        self._views = views
        self._choose = choose
        self._writer = StreamWriter()
        self.problems: list[str] = []
        self.recipients = 0

    @property
    def count(self) -> int:
        return self._writer.count

    def pieces(self, owner: str, at: float, scope: str) -> Iterator[bytes]:
        """The whole stream. Raises StorageError: the spool cannot be read."""
        yield self._writer.begin(owner, at, scope)
        for view in self._views:
            for part in view.parts():
                for rows in self._choose(part):
                    yield from self._deliveries(view, part, rows)
            self.problems += view.lost
        yield self._writer.end()

    def _deliveries(self, view: SpoolView, part: Part, rows: Rows) -> Iterator[bytes]:
        names = ("place", "length", "state_place", "number", "content_file")
        columns = part.table.columns(rows, names)
        order = np.argsort(columns["place"], kind="stable")
        kept = (columns[name][order].tolist() for name in names)
        batch: list[Spot] = []
        size = 0
        for *where, content_file in zip(*kept, strict=True):
            spot = Spot(*where)
            if batch and (content_file or len(batch) >= _BATCH_ROWS or size + spot.length > _BATCH_BYTES):
                yield from self._read(view, batch)
                batch, size = [], 0
            batch.append(spot)
            size += _BATCH_BYTES if content_file else spot.length
        if batch:
            yield from self._read(view, batch)

    def _read(self, view: SpoolView, batch: list[Spot]) -> Iterator[bytes]:
        for spot, answer in zip(batch, read_deliveries(view.files, view.segments, batch), strict=True):
            if isinstance(answer, StorageError):
                self.problems.append(str(answer))
                continue
            try:
                content = whole(answer.content)
            except StorageError as exc:
                self.problems.append(str(exc))
                continue
            yield from self._writer.add(answer.envelope, spot.number, answer.snapshot, content)
            self.recipients += len(answer.snapshot[1])
