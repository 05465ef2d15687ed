"""What lives in a spool, by message id and delivery number: enough to tell whether another spool has the same."""

from collections.abc import Iterable, Mapping, Set
from typing import Self

import numpy as np

from engine.message.ids import join_id, split_id
from engine.storage.spool.names import Names
from engine.storage.spool.table import COLUMNS, Column
from engine.storage.spool.view import SpoolView

Key = tuple[str, int]  #: message id and delivery number

#: What is needed of a table.
KEY_COLUMNS = ("id", "number", "node")


class LiveKeys:
    """Some 16 bytes a delivery, sorted by id."""

    def __init__(self, parts: Iterable[Mapping[str, Column]], nodes: Names) -> None:
        """parts: KEY_COLUMNS of tables whose nodes have these names."""
        kept = list(parts)
        self._nodes = nodes
        self._ids, self._numbers, self._node = (
            np.concatenate([np.zeros(0, dtype=COLUMNS[name]), *(part[name] for part in kept)]) for name in KEY_COLUMNS
        )
        order = np.argsort(self._ids)
        self._ids, self._numbers, self._node = self._ids[order], self._numbers[order], self._node[order]

    @classmethod
    def of(cls, view: SpoolView) -> Self:
        """Of all that lives in a view. Raises StorageError."""
        return cls(
            (part.table.columns(rows, KEY_COLUMNS) for part in view.parts() for rows in part.table.select()),
            view.texts["node"],
        )

    def among(self, wanted: Set[Key]) -> set[Key]:
        """Those of these deliveries that live here."""
        return {key for key in wanted if self._has(*key)}

    def common(self, other: "LiveKeys") -> list[Key]:
        """What lives here and there."""
        both = np.flatnonzero(np.isin(self._ids, other._ids)).tolist()
        return sorted(other.among({self._key(at) for at in both}))

    def _has(self, message_id: str, number: int) -> bool:
        packed = np.uint64(split_id(message_id)[0])
        start, end = int(np.searchsorted(self._ids, packed)), int(np.searchsorted(self._ids, packed, "right"))
        return any(self._key(at) == (message_id, number) for at in range(start, end))

    def _key(self, at: int) -> Key:
        return join_id(int(self._ids[at]), self._nodes.text(int(self._node[at]))), int(self._numbers[at])
