"""What is done with a node's spools without a daemon: looking, exporting; and, where none runs, taking in, compacting.

The last two work under the data directory's lock; the others only read, and care for no lock. Each spool is looked at
as it is at one moment of its own: no delivery goes from one to another.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from engine.admin.merge import merge
from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.daemon.lock import lock_data_dir
from engine.daemon.spools import all_spools
from engine.queue.orders import check_import
from engine.queue.scope import Scope
from engine.storage.events.journal import EventJournal, events_directory
from engine.storage.events.reader import newest_frame
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.extract import Extract
from engine.storage.spool.importer import Importer
from engine.storage.spool.keys import Key, LiveKeys
from engine.storage.spool.segment import spool_directory, spool_owner
from engine.storage.spool.snapshot import SnapshotFiles
from engine.storage.spool.spool import Spool
from engine.storage.spool.survey import NEEDED, Survey
from engine.storage.spool.verify import Verification
from engine.storage.spool.view import SpoolView
from engine.storage.tables.queue_state import Order, QueueState

T = TypeVar("T")
Row = dict[str, Any]

#: After so many pieces of a stream the spool's files are looked at, so that the journal stays short.
_PIECES_BETWEEN_WORK = 64
#: The spool that takes in: every number of workers has it.
_TAKING = 0


class Findings(NamedTuple):
    """Of all spools; see verify.py. Each line begins with the spool it is about."""

    faults: list[str]
    notes: list[str]
    counts: Counter[str]


def survey(settings: Settings, most: int) -> Row:
    """The figures of survey.py, as the daemon tells them. Raises StorageError."""
    rows = []
    for directory in _spools(settings).values():
        with SnapshotFiles(directory) as files:
            view = SpoolView(directory, files)
            found = Survey(view.segments)
            for part in view.parts():
                found.unindexed += len(part.unindexed)
                for columns in part.table.select():
                    found.add(part.table.columns(columns, NEEDED))
            rows.append({"running": False, **found.row(time.time(), None)})
    [row] = merge("spool_status", [rows], {"most": most})
    return row


def verify(settings: Settings) -> Findings:
    """Whether all of it is whole. Raises StorageError."""
    found = Findings([], [], Counter())
    seen: dict[int, LiveKeys] = {}
    for number, directory in _spools(settings).items():
        newest = newest_frame(events_directory(Path(settings.node.data_dir), number))  # before the snapshot is taken
        with SnapshotFiles(directory) as files:
            one = Verification(directory, files, newest)
        found.faults.extend(f"spool {number}: {fault}" for fault in one.faults)
        found.notes.extend(f"spool {number}: {note}" for note in one.notes)
        found.counts.update({"spools": 1, **one.counts})
        live = one.live
        for other, keys in seen.items():
            twice = (f"{message_id}: delivery {n} lives in spool {other}, too" for message_id, n in live.common(keys))
            found.faults.extend(f"spool {number}: {fault}" for fault in twice)
        seen[number] = live
    return found


@contextmanager
def exporting(settings: Settings, scope_text: str) -> Iterator[tuple[Extract, Iterator[bytes]]]:
    """The stream of a scope, and what is known of it once it was read to its end. Raises EngineError."""
    directories, scope = _spools(settings), Scope.parse(scope_text, None)

    def views() -> Generator[SpoolView, None, None]:
        for directory in directories.values():
            with SnapshotFiles(directory) as files:
                yield SpoolView(directory, files)

    with closing(views()) as opened:
        extract = Extract(opened, scope.rows)
        yield extract, extract.pieces(spool_owner(settings.node.name), time.time(), str(scope))


def take_in(settings: Settings, pieces: Iterable[bytes]) -> Row:
    """Take in a stream, at the first spool, without what is queued at any.

    Raises EngineError: a daemon runs, or there is a fault in it; what came before is taken. Or one that ran has not
    carried out an order there, or where something of the stream is queued.
    """

    async def work(spool: Spool) -> Row:
        importer = Importer(spool, elsewhere=queued_elsewhere)
        for number, piece in enumerate(pieces, 1):
            await importer.feed(piece)
            if number % _PIECES_BETWEEN_WORK == 0:
                await spool.work(at_once=True)
        await importer.end()
        await spool.work(at_once=True)
        return {"owner": importer.owner, "taken": importer.taken, "left_out": importer.left_out}

    async def queued_elsewhere(wanted: Set[Key]) -> Set[Key]:
        queued = {number: keys.among(wanted) for number, keys in others.items()}
        for number in (number for number, theirs in queued.items() if theirs):
            check_import(_orders(settings, number))
        return set[Key]().union(*queued.values())

    with _alone(settings):
        check_import(_orders(settings, _TAKING))
        found = all_spools(Path(settings.node.data_dir))
        others = {number: _live_keys(settings, number) for number in found if number != _TAKING}
        return asyncio.run(_work(settings, _TAKING, work))


def compact(settings: Settings) -> Row:
    """Move and compact what is worth it. Raises EngineError."""
    _spools(settings)

    async def work(spool: Spool) -> Row:
        before = spool.size
        await spool.work(at_once=True)
        return {"bytes_before": before, "bytes_after": spool.size}

    with _alone(settings):
        rows = [asyncio.run(_work(settings, number, work)) for number in _spools(settings)]
    [row] = merge("spool_compact", [rows], {})
    return row


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """The data directory is ours meanwhile."""
    os.umask(0o077)
    lock = lock_data_dir(Path(settings.node.data_dir))
    try:
        yield
    finally:
        os.close(lock)


def _live_keys(settings: Settings, number: int) -> LiveKeys:
    directory = spool_directory(Path(settings.node.data_dir), number)
    with SnapshotFiles(directory) as files:
        return LiveKeys.of(SpoolView(directory, files))


def _orders(settings: Settings, number: int) -> list[Order]:
    """What the worker of a spool has yet to carry out."""
    path = Path(settings.node.data_dir) / "tables.db"
    if not path.exists():
        return []
    state = QueueState(path, number)
    try:
        return state.orders
    finally:
        state.close()


async def _work(settings: Settings, number: int, work: Callable[[Spool], Awaitable[T]]) -> T:
    """Do this with one whole spool, as its only user."""
    data_dir = Path(settings.node.data_dir)
    events = EventJournal(
        events_directory(data_dir, number), settings.events.segment_bytes, settings.events.keep,
        keep_bytes=settings.events.keep_bytes,
    )  # fmt: skip
    owner = spool_owner(settings.node.name, number)
    spool = Spool(spool_directory(data_dir, number), settings.spool, events, Metrics(), owner=owner)

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


def _spools(settings: Settings) -> dict[int, Path]:
    """The directory of each spool, by number. Raises StorageError: there is none."""
    data_dir = Path(settings.node.data_dir)
    found = {number: spool_directory(data_dir, number) for number in all_spools(data_dir)}
    if not found:
        raise StorageError(f"there is no spool at {data_dir}")
    return found
