"""Writing the stream of export.py from views of spools, a message at a time: its deliveries together, content once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter

import numpy as np

from engine.storage.spool.collect import collect
from engine.storage.spool.entry import Spot
from engine.storage.spool.export import StreamWriter
from engine.storage.spool.rows import spots_in
from engine.storage.spool.table import COLUMNS, SLAB_ROWS, Column, Rows
from engine.storage.spool.view import Part, SpoolView

#: What is kept of each row of a spool until all are known: 34 bytes. With what it takes to put them in order, ten
#: million need 720 MiB.
_KEPT = (*Spot._fields, "id", "node")


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
            for spots in messages_in(self._columns(view)):
                message, problems = collect(view.files, view.segments, spots)
                self.problems += problems
                if message is not None:
                    self.recipients += len(message.recipients)
                    yield from self._writer.add(message)
            self.problems += view.lost
        yield self._writer.end()

    def _columns(self, view: SpoolView) -> dict[str, Column]:
        """Of all rows that are wanted, wherever they lie."""
        parts = [part.table.columns(rows, _KEPT) for part in view.parts() for rows in self._choose(part)]
        # Column by column, so that nearly nothing is there twice.
        return {
            name: np.concatenate([np.zeros(0, dtype=COLUMNS[name]), *(part.pop(name) for part in parts)])
            for name in _KEPT
        }


def messages_in(columns: Mapping[str, Column]) -> Iterator[list[Spot]]:
    """The deliveries of each message together, whatever their number.

    Messages come in the order of the first place of each: what lies side by side is read one after the other.
    """
    order = np.lexsort((columns["place"], columns["node"], columns["id"]))
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = np.logical_or.reduce(
        [columns[name][order][1:] != columns[name][order][:-1] for name in ("id", "node")]
    )
    first = columns["place"][order[begins]][np.cumsum(begins) - 1]
    again = np.argsort(first, kind="stable")
    order, first = order[again], first[again]

    def rows() -> Iterator[tuple[int, Spot]]:
        for start in range(0, len(order), SLAB_ROWS):
            some = order[start : start + SLAB_ROWS]
            spots = spots_in({name: columns[name][some] for name in Spot._fields})
            yield from zip(first[start : start + SLAB_ROWS].tolist(), spots, strict=True)

    for _, group in groupby(rows(), itemgetter(0)):
        yield [spot for _, spot in group]
