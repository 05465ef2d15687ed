"""A destination: the queue of one mail domain or carrier, and what of it is due and still on disk."""

import asyncio
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from engine.message.envelope import MessageClass
from engine.message.ids import id_time
from engine.storage.spool.entry import State
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Rows

Key = tuple[str, str]  #: destination, and the relay that an operator sent it to, or ""

_CHUNK: Final = 4096


class Stock:
    """Rows that are due, first in, first out; four bytes each.

    aside: rows that stood before all others, and are not taken before `restore`, so that those behind have their turn.
    """

    __slots__ = ("_at", "_chunks", "_count", "aside")

    def __init__(self) -> None:
        self._chunks: deque[array[int]] = deque()
        self._at = 0  #: of the next one in the first chunk
        self._count = 0
        self.aside = array("I")

    def __len__(self) -> int:
        """Without those aside."""
        return self._count

    def add(self, row: int) -> None:
        chunks = self._chunks
        if not chunks or len(chunks[-1]) >= _CHUNK:
            chunks.append(array("I"))
        chunks[-1].append(row)
        self._count += 1

    def extend(self, rows: Rows | Sequence[int]) -> None:
        """Behind all others, in this order."""
        numbers = np.asarray(rows, dtype=np.uint32)
        for start in range(0, len(numbers), _CHUNK):
            self._chunks.append(array("I", numbers[start : start + _CHUNK].tobytes()))
        self._count += len(numbers)

    def put_back(self, rows: Iterable[int]) -> None:
        """In front of all others, in this order."""
        chunk = array("I", rows)
        if not chunk:
            return
        if self._at:
            self._chunks[0] = self._chunks[0][self._at :]
            self._at = 0
        self._chunks.appendleft(chunk)
        self._count += len(chunk)

    def restore(self) -> None:
        """Those aside are in front of all others again."""
        aside, self.aside = self.aside, array("I")
        self.put_back(aside)

    def take(self, most: int) -> list[int]:
        """The first rows, so many at most."""
        taken: list[int] = []
        chunks = self._chunks
        while chunks and len(taken) < most:
            end = min(len(chunks[0]), self._at + most - len(taken))
            taken += chunks[0][self._at : end]
            self._at = end
            if end == len(chunks[0]):
                chunks.popleft()
                self._at = 0
        self._count -= len(taken)
        return taken


class Destination:
    """The queue of one mail domain or carrier, or the part of it that an operator sent to another relay (`via`).

    live: deliveries of it that are not final, whatever their state. stock: those that are due, by class.
    """

    __slots__ = ("live", "name", "stock", "via")

    def __init__(self, name: str, via: str) -> None:
        self.name = name
        self.via = via
        self.live = 0
        self.stock = tuple(Stock() for _ in MessageClass)

    @property
    def stocked(self) -> int:
        return sum(map(len, self.stock))

    @property
    def aside(self) -> int:
        return sum(len(stock.aside) for stock in self.stock)

    def restore(self) -> bool:
        """Those aside are in front of all others again; whether there were any."""
        aside = self.aside
        for stock in self.stock:
            stock.restore()
        return aside > 0

    def take(self, most: int) -> list[int]:
        """Rows that are due, transactional before bulk."""
        taken: list[int] = []
        for stock in self.stock:
            if len(stock):
                taken += stock.take(most - len(taken))
        return taken

    def __str__(self) -> str:
        return f"{self.name} via {self.via}" if self.via else self.name


def live_counts(spool: Spool) -> dict[Key, int]:
    """Deliveries that are not final, by destination."""
    live: dict[Key, int] = {}
    texts = spool.texts
    for slab in spool.table.slabs:
        used = slab["state"] != State.STORING
        keys = slab["destination"][used].astype("u8") << np.uint64(16) | slab["via"][used]
        for key, count in zip(*(part.tolist() for part in np.unique(keys, return_counts=True)), strict=True):
            own = texts["destination"].text(key >> 16), texts["via"].text(key & 0xFFFF)
            live[own] = live.get(own, 0) + count
    for delivery in spool.in_hand:
        if delivery.state is not State.FINAL:
            own = delivery.destination, delivery.via
            live[own] = live.get(own, 0) + 1
    return live


async def oldest_arrival(spool: Spool) -> float | None:
    """When the oldest queued message arrived; unix seconds."""
    oldest = min((d.message.received_at for d in spool.in_hand if d.state is not State.FINAL), default=None)
    for slab in list(spool.table.slabs):
        used = slab["state"] != State.STORING
        if used.any():
            first = id_time(int(slab["id"][used].min()))
            oldest = first if oldest is None else min(oldest, first)
        await asyncio.sleep(0)
    return oldest
