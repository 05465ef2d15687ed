"""How far each consumer of a journal has come: a table beside it, <journal>/cursors.db."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from engine.storage.events.event import NO_ID, Id
from engine.storage.tables.grouped import Grouped

_TABLE = """
create table if not exists cursors (
    consumer text primary key, frame integer not null, n integer not null, number integer not null,
    line integer not null, paused text not null, missed integer not null
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """after: the last event that was taken. number, line: its file, and how many lines of it were read.

    paused: why nothing is sent, or "". missed: events that retention had deleted before they were taken, in all.
    """

    after: Id = NO_ID
    number: int = 0
    line: int = 0
    paused: str = ""
    missed: int = 0


class Cursors:
    """The table of one journal, for the one process that serves it. Raises StorageError, or its futures do."""

    def __init__(self, directory: Path) -> None:
        self._db = Grouped(directory / "cursors.db")
        self._db.change(_TABLE)

    async def get(self, consumer: str) -> Cursor | None:
        rows = await self._db.rows(
            "select frame, n, number, line, paused, missed from cursors where consumer = ?", consumer
        )
        for frame, n, number, line, paused, missed in rows:
            return Cursor(after=(frame, n), number=number, line=line, paused=paused, missed=missed)
        return None

    def put(self, consumer: str, cursor: Cursor) -> asyncio.Future[None]:
        """Done when it is durable."""
        values = (consumer, *cursor.after, cursor.number, cursor.line, cursor.paused, cursor.missed)
        return self._db.write(("insert or replace into cursors values (?, ?, ?, ?, ?, ?, ?)", values))

    async def close(self) -> None:
        await self._db.close()
