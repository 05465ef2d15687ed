"""Events of what operators do to suppressions: the table owes them, the journal has them, at least once (E1)."""

import asyncio

from engine.storage.events.event import Event, noted_lines
from engine.storage.spool.spool import Spool
from engine.storage.tables.grouped import Grouped
from engine.storage.tables.suppression_table import OWED, TOLD


class SuppressionEvents:
    """Of a node, in one of its workers."""

    def __init__(self, db: Grouped, spool: Spool) -> None:
        self._db = db
        self._spool = spool
        self._telling: asyncio.Future[None] | None = None

    async def upkeep(self) -> None:
        """Tell what is owed by now. Raises StorageError."""
        if self._telling is not None and not self._telling.done():
            return  # it waits for the disk, and nobody else should
        owed = await self._db.rows(OWED)
        if owed:
            events = [
                Event("", int(at * 1000) / 1000, "admin", "", "", "", recipient, "", text=text)
                for _, at, recipient, text in owed
            ]
            self._telling = asyncio.ensure_future(self._tell(events, owed[-1][0]))

    async def close(self) -> None:
        """Before the spool is."""
        if self._telling is not None:
            await asyncio.wait([self._telling])

    async def _tell(self, events: list[Event], last: int) -> None:
        await self._spool.note(lambda frame: noted_lines(frame, events))
        await self._db.write((TOLD, (last,)))
