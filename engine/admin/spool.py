"""`postrider spool`, of a running daemon: figures, compaction, taking in the backlog of another node."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from engine.admin.parts import Parts
from engine.base.errors import EngineError
from engine.message.envelope import MessageClass
from engine.storage.spool.export import Exported
from engine.storage.spool.importer import Importer
from engine.storage.spool.survey import NEEDED, Survey

log = logging.getLogger(__name__)

_PIECE_BYTES = 256 << 10
#: The stream may come over a slow line from another node.
_PIECE_TIMEOUT_S = 300.0

Row = dict[str, Any]


async def spool_status(parts: Parts, most: int = 10) -> AsyncIterator[Row]:
    """One row; see survey.py."""
    spool = parts.spool
    survey = Survey(spool.segments)
    survey.add_in_hand(spool.in_hand)
    for rows in spool.table.select():
        survey.add(spool.table.columns(rows, NEEDED))
        await asyncio.sleep(0)
    survey.unindexed = sum(not s.sealed and s.path.suffix == ".seg" for s in spool.segments.values())
    yield {"running": True, "loading": spool.loading, **survey.row(parts.clock.time(), most)}


async def spool_compact(parts: Parts) -> AsyncIterator[Row]:
    """Do now, and at once, what upkeep would do at leisure."""
    spool = parts.spool
    if spool.loading:
        raise EngineError("the spool is still being read; try again in a moment")
    before = spool.size
    await spool.work(at_once=True)
    yield {"bytes_before": before, "bytes_after": spool.size}


async def spool_import(parts: Parts, body: asyncio.StreamReader) -> AsyncIterator[Row]:
    """Take in a stream (storage/spool/export.py); the row comes when all of it is durable."""
    if parts.importing.locked():
        raise EngineError("another import is under way")

    def count(exported: Exported) -> None:
        provider = parts.router.provider_of(exported.snapshot[0])
        name = MessageClass(exported.envelope.message_class).name.lower()
        parts.metrics.accepted_recipients.labels(provider, name).inc(len(exported.snapshot[1]))

    async with parts.importing:
        importer = Importer(parts.spool, count)
        try:
            while True:
                async with asyncio.timeout(_PIECE_TIMEOUT_S):
                    piece = await body.read(_PIECE_BYTES)
                if not piece:
                    break
                await importer.feed(piece)
            await importer.end()
        finally:
            log.info("%d deliveries taken in from %s, %d left out", importer.taken, importer.owner, importer.left_out)
        yield {"owner": importer.owner, "taken": importer.taken, "left_out": importer.left_out}
