"""Events of what operators do to suppressions and links: tables owe them, the journal has them, at least once (E1)."""

import asyncio
from pathlib import Path

from engine.storage.events.event import Event
from engine.storage.events.lines import noted_lines
from engine.storage.spool.spool import Spool
from engine.storage.tables.grouped import Grouped
from engine.storage.tables.owed import OWED, TABLE, TOLD


class OwedEvents:
    """Of a node, in one of its workers."""

    def __init__(self, suppressions: Grouped, tables: Path, spool: Spool) -> None:
        """tables: the database of withdrawn links. Raises StorageError."""
        self._tables = Grouped(tables)
        self._tables.change(TABLE)
        self._dbs = (suppressions, self._tables)
        self._spool = spool
        self._telling: dict[Grouped, asyncio.Future[None]] = {}

    async def upkeep(self) -> None:
        """Tell what is owed by now. Raises StorageError."""
        for db in self._dbs:
            telling = self._telling.get(db)
            if telling is not None and not telling.done():
                continue  # it waits for the disk, and nobody else should
            owed = await db.rows(OWED)
            if owed:
                events = [
                    Event("", int(at * 1000) / 1000, "admin", "", "", "", recipient, "", text=text)
                    for _, at, recipient, text in owed
                ]
                self._telling[db] = asyncio.ensure_future(self._tell(db, events, owed[-1][0]))

    async def close(self) -> None:
        """Before the spool and the suppressions are."""
        if self._telling:
            await asyncio.wait(self._telling.values())
        await self._tables.close()

    async def _tell(self, db: Grouped, events: list[Event], last: int) -> None:
        await self._spool.note(lambda frame: noted_lines(frame, events))
        await db.write((TOLD, (last,)))
