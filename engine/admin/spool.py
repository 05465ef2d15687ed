"""`postrider spool`, of a running daemon: figures, compaction, taking in another node's backlog, letting go of ours."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from engine.admin.colleagues import ask_worker
from engine.admin.parts import Parts
from engine.base.errors import EngineError, NetworkError
from engine.message.envelope import MessageClass
from engine.queue.orders import check_import
from engine.storage.spool.entry import State
from engine.storage.spool.export import Exported, StreamReader
from engine.storage.spool.importer import Importer, find_queued
from engine.storage.spool.keys import Key
from engine.storage.spool.segment import spool_owner
from engine.storage.spool.survey import NEEDED, Survey

log = logging.getLogger(__name__)

_PIECE_BYTES = 256 << 10
#: The stream may come over a slow line from another node.
_PIECE_TIMEOUT_S = 300.0
#: A look through ten million rows takes a second; a worker that is stuck is ended after 20 s.
_ANSWER_TIMEOUT_S = 60.0

#: Rows in these states are in nobody's hands.
_FREE = (State.WAITING, State.DUE, State.HELD)

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
    await parts.spool.all_there()
    before = spool.size
    await spool.work(at_once=True)
    yield {"bytes_before": before, "bytes_after": spool.size}


async def spool_import(parts: Parts, body: asyncio.StreamReader, others: Sequence[int] = ()) -> AsyncIterator[Row]:
    """Take in a stream (storage/spool/export.py); the row comes when all of it is durable.

    others: the node's other workers. What is queued at one of them is left out; one that cannot say ends it. So does
    an order that removes or returns mail and is not done, here, or where something of the stream is queued.
    """
    if parts.importing.locked():
        raise EngineError("another import is under way")

    def count(exported: Exported) -> None:
        name = MessageClass(exported.envelope.message_class).name.lower()
        for destination, indexes, *_ in exported.deliveries.values():
            provider = parts.router.provider_of(destination)
            parts.metrics.accepted_recipients.labels(provider, name).inc(len(indexes))

    async def queued_there(wanted: Set[Key]) -> Set[Key]:
        return await _queued_at(Path(parts.settings.node.data_dir), others, wanted)

    async with parts.importing:
        importer = Importer(parts.spool, count, queued_there, parts.orders.taking_in)
        try:
            async for piece in _pieces(body):
                await importer.feed(piece)
            await importer.end()
        finally:
            log.info("%d deliveries taken in from %s, %d left out", importer.taken, importer.owner, importer.left_out)
        yield {"owner": importer.owner, "taken": importer.taken, "left_out": importer.left_out}


async def spool_queued(parts: Parts, body: asyncio.StreamReader) -> AsyncIterator[Row]:
    """Those that are queued here of the deliveries that the body names: [[message id, number], ...].

    Raises EngineError: there are some, and an order may be about to remove them.
    """
    await parts.spool.all_there()
    names = json.loads(b"".join([piece async for piece in _pieces(body)]))
    wanted = {(message_id, number) for message_id, number in names}
    queued = {own for own, _ in find_queued(parts.spool, wanted)} if wanted else set()
    if queued:
        check_import(parts.state.orders)
    for message_id, number in queued:
        yield {"id": message_id, "number": number}


async def _queued_at(data_dir: Path, others: Sequence[int], wanted: Set[Key]) -> Set[Key]:
    """Those of these deliveries that are queued at other workers. Raises EngineError: one of them does not say."""
    body = json.dumps(sorted(wanted)).encode()
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            answers = await asyncio.gather(
                *(ask_worker(data_dir, number, "spool_queued", body=body) for number in others)
            )
    except TimeoutError as exc:
        raise NetworkError("another worker does not say what it has") from exc
    return {(row["id"], row["number"]) for rows in answers for row in rows}


async def spool_purge(parts: Parts, body: asyncio.StreamReader) -> AsyncIterator[Row]:
    """Remove exactly what a stream has, and nothing that came since; the event journal is told."""
    await parts.spool.all_there()
    reader, owner, done, left = StreamReader(), spool_owner(parts.settings.node.name), 0, 0
    try:
        async for piece in _pieces(body):
            wanted = set[Key]().union(*(exported.keys for exported in reader.feed(piece)))
            if reader.owner not in ("", owner):
                raise EngineError(f"this is an export of {reader.owner}, and here is {owner}: nothing was removed")
            if wanted:
                removed, busy = await _remove(parts, wanted)
                done, left = done + removed, left + busy
        reader.end()
    except EngineError as exc:
        raise EngineError(f"{exc}; {done} deliveries were removed before" if done else str(exc)) from exc
    yield {"deliveries": done, "in_attempt": left}


async def _remove(parts: Parts, wanted: Set[Key]) -> tuple[int, int]:
    """How many were removed, and how many could not be because they are in an attempt."""
    table, rows, done, left = parts.spool.table, list[int](), 0, 0
    for _, found in list(find_queued(parts.spool, wanted)):
        if isinstance(found, int):
            free = State(table.get(found, "state")) in _FREE
            rows += [found] * free
            left += not free
        elif parts.manager.seize(found):
            parts.courier.purge(found, "")
            done += 1
        else:
            left += found.state is State.ATTEMPT
    if rows:
        numbers = np.array(rows, dtype=np.uint32)
        parts.manager.errands.seize(numbers)
        visit = parts.manager.errands.visit(numbers, lambda delivery: parts.courier.purge(delivery, ""), by_hand=True)
        await asyncio.wait([parts.manager.errands.run(visit)])
    return done + len(rows), left


async def _pieces(body: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(_PIECE_TIMEOUT_S):
            piece = await body.read(_PIECE_BYTES)
        if not piece:
            return
        yield piece
