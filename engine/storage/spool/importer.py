"""Taking in deliveries of another spool: each once, durable before anyone is told.

Those of one message come together and are stored together, their content once (`Spool.take_in`).
One at a time per node, or two could take in the same. A node with several spools takes in at one of them, and leaves
out what is queued at any.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Set
from contextlib import AbstractAsyncContextManager, nullcontext

import numpy as np

from engine.base.errors import EngineError, StorageError
from engine.base.stored import Stored
from engine.message.ids import split_id
from engine.storage.spool.entry import Delivery
from engine.storage.spool.export import Exported, StreamReader
from engine.storage.spool.keys import Key
from engine.storage.spool.spool import Spool

#: What is stored by one group commit, and then noted as taken; the last message in it may be more.
_SLICE_DELIVERIES, _SLICE_BYTES = 2000, 8 << 20

#: Which of these deliveries are queued. Raises EngineError: that cannot be said now.
Elsewhere = Callable[[Set[Key]], Awaitable[Set[Key]]]
#: Entered while a slice is stored. Raises EngineError: nothing can be taken in now.
TakingIn = Callable[[], AbstractAsyncContextManager[None]]


async def nowhere_else(wanted: Set[Key]) -> Set[Key]:
    """There is one spool."""
    return frozenset()


class Importer:
    """Feed it the bytes of a stream, then `end`. taken, left_out: deliveries; the latter were queued already.

    noted: called with each message that is durable, and those of its deliveries that were taken. elsewhere: asked of
    the node's other spools. taking_in: entered for each slice. Errors say how many are taken.
    """

    def __init__(
        self,
        spool: Spool,
        noted: Callable[[Exported], None] = lambda exported: None,
        elsewhere: Elsewhere = nowhere_else,
        taking_in: TakingIn = nullcontext,
    ) -> None:
        self._spool = spool
        self._noted = noted
        self._elsewhere = elsewhere
        self._taking_in = taking_in
        self._reader = StreamReader()
        self._slice: list[Exported] = []
        self._slice_deliveries = self._slice_bytes = 0
        self.taken = 0
        self.left_out = 0

    @property
    def owner(self) -> str:
        """Where it comes from."""
        return self._reader.owner

    async def feed(self, data: bytes) -> None:
        """Raises EngineError: a fault in the stream, or the spool takes nothing now."""
        try:
            for exported in self._reader.feed(data):
                self._slice.append(exported)
                self._slice_deliveries += len(exported.deliveries)
                self._slice_bytes += len(exported.content)
                if self._slice_deliveries >= _SLICE_DELIVERIES or self._slice_bytes >= _SLICE_BYTES:
                    await self._store()
        except EngineError as exc:
            raise self._stopped(exc) from exc

    async def end(self) -> None:
        """There is no more. Raises EngineError."""
        try:
            await self._store()
            self._reader.end()
        except EngineError as exc:
            raise self._stopped(exc) from exc

    async def _store(self) -> None:
        told, self._slice = self._slice, []
        self._slice_deliveries = self._slice_bytes = 0
        if not told:
            return
        await self._spool.all_there()
        if (refusal := self._spool.refusal()) is not None:
            raise StorageError(f"nothing is accepted now: {refusal}")
        wanted = set[Key]().union(*(exported.keys for exported in told))
        known = set(await self._elsewhere(wanted))
        async with self._taking_in():  # for what is left out, too: it must not be about to be removed
            known |= {own for own, _ in find_queued(self._spool, wanted)}
            await self._take_in(self._without(known, told))

    def _without(self, known: set[Key], told: Iterable[Exported]) -> list[Exported]:
        """What of this is new; the rest is counted."""
        new: list[Exported] = []
        for exported in told:
            deliveries = {
                n: snapshot for n, snapshot in exported.deliveries.items() if (exported.envelope.id, n) not in known
            }
            known |= exported.keys
            self.left_out += len(exported.deliveries) - len(deliveries)
            if deliveries:
                new.append(exported._replace(deliveries=deliveries))
        return new

    async def _take_in(self, new: Iterable[Exported]) -> None:
        """Raises StorageError, when all that could be stored is."""
        storing: list[tuple[Exported, Stored]] = []
        failure: StorageError | None = None
        for exported in new:
            try:
                content = await self._spool.apart(exported.content)
            except StorageError as exc:
                failure = exc
                break
            storing.append((exported, self._spool.take_in(exported.envelope, content, exported.deliveries)))
        for exported, stored in storing:
            try:
                await stored
                self.taken += len(exported.deliveries)
                self._noted(exported)
            except StorageError as exc:
                failure = exc
        if failure is not None:
            raise failure

    def _stopped(self, exc: EngineError) -> EngineError:
        return EngineError(f"{exc}; {self.taken} deliveries were taken in before, {self.left_out} left out")


def find_queued(spool: Spool, wanted: Set[Key]) -> Iterator[tuple[Key, Delivery | int]]:
    """Those of these deliveries that are queued, as objects or as rows of the table."""
    for delivery in spool.in_hand:
        own = delivery.message.id, delivery.number
        if own in wanted:
            yield own, delivery
    table = spool.table
    ids = np.array(sorted({split_id(message_id)[0] for message_id, _ in wanted}), dtype="u8")
    for rows in table.select():
        packed = table.columns(rows, ("id",))["id"]
        # Times of one stream lie together: most slabs are passed over by two comparisons.
        near = (packed >= ids[0]) & (packed <= ids[-1])
        for row in rows[near][np.isin(packed[near], ids)].tolist():
            own = spool.id_of(row), table.get(row, "number")
            if own in wanted:
                yield own, row
