"""What is done with a spool without a daemon: looking, exporting; and, where none runs, taking in and compacting.

The last two work under the data directory's lock; the others only read, and care for no lock.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.daemon.lock import lock_data_dir
from engine.queue.scope import Scope
from engine.storage.events.journal import EventJournal, events_directory
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.extract import Extract
from engine.storage.spool.importer import Importer
from engine.storage.spool.segment import spool_directory, spool_owner
from engine.storage.spool.snapshot import SnapshotFiles
from engine.storage.spool.spool import Spool
from engine.storage.spool.survey import NEEDED, Survey
from engine.storage.spool.verify import Verification
from engine.storage.spool.view import SpoolView

T = TypeVar("T")
Row = dict[str, Any]

#: After so many pieces of a stream the spool's files are looked at, so that the journal stays short.
_PIECES_BETWEEN_WORK = 64


def survey(settings: Settings, most: int) -> Row:
    """The figures of survey.py. Raises StorageError."""
    directory = _directory(settings)
    with SnapshotFiles(directory) as files:
        view = SpoolView(directory, files)
        found = Survey(view.segments)
        for part in view.parts():
            found.unindexed += len(part.unindexed)
            for rows in part.table.select():
                found.add(part.table.columns(rows, NEEDED))
    return {"running": False, **found.row(time.time(), most)}


def verify(settings: Settings) -> Verification:
    """Whether it is whole. Raises StorageError."""
    directory = _directory(settings)
    with SnapshotFiles(directory) as files:
        return Verification(directory, files)


@contextmanager
def exporting(settings: Settings, scope_text: str) -> Iterator[tuple[Extract, Iterator[bytes]]]:
    """The stream of a scope, and what is known of it once it was read to its end. Raises EngineError."""
    directory, scope = _directory(settings), Scope.parse(scope_text, None)
    with SnapshotFiles(directory) as files:
        extract = Extract(SpoolView(directory, files), scope.rows)
        yield extract, extract.pieces(spool_owner(settings.node.name), time.time(), str(scope))


def take_in(settings: Settings, pieces: Iterable[bytes]) -> Row:
    """Take in a stream. Raises EngineError: a daemon runs, or there is a fault in it; what came before is taken."""

    async def work(spool: Spool) -> Row:
        importer = Importer(spool)
        for number, piece in enumerate(pieces, 1):
            await importer.feed(piece)
            if number % _PIECES_BETWEEN_WORK == 0:
                await spool.work(at_once=True)
        await importer.end()
        await spool.work(at_once=True)
        return {"owner": importer.owner, "taken": importer.taken, "left_out": importer.left_out}

    return _with_spool(settings, work)


def compact(settings: Settings) -> Row:
    """Move and compact what is worth it. Raises EngineError."""
    directory = _directory(settings)
    if not directory.is_dir():
        raise StorageError(f"there is no spool at {directory}")

    async def work(spool: Spool) -> Row:
        before = spool.size
        await spool.work(at_once=True)
        return {"bytes_before": before, "bytes_after": spool.size}

    return _with_spool(settings, work)


def _with_spool(settings: Settings, work: Callable[[Spool], Awaitable[T]]) -> T:
    """Do this with the whole spool, as its only user."""
    os.umask(0o077)
    lock = lock_data_dir(Path(settings.node.data_dir))
    try:
        return asyncio.run(_work(settings, work))
    finally:
        os.close(lock)


async def _work(settings: Settings, work: Callable[[Spool], Awaitable[T]]) -> T:
    events = EventJournal(events_directory(settings.node.data_dir), settings.events.segment_bytes, settings.events.keep)
    spool = Spool(_directory(settings), settings.spool, events, Metrics(), owner=spool_owner(settings.node.name))

    def put_down(deliveries: Sequence[Delivery]) -> None:
        """Nobody delivers: whatever is taken in goes to the table."""
        for delivery in deliveries:
            spool.cool(delivery, State.WAITING)

    spool.accepted = put_down
    try:
        spool.start()
        await spool.load_backlog()
        return await work(spool)
    finally:
        try:
            await spool.close()
        finally:
            events.close()


def _directory(settings: Settings) -> Path:
    return spool_directory(Path(settings.node.data_dir))
