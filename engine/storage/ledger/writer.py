"""The writer of a worker's ledger: notes are taken in memory, and made durable together (group commit).

    note, delivered -> buffer -> one write and one fdatasync, in a thread -> whoever waits for `keep`

Who must be sure waits: a tracked link leads somewhere only if its note is on disk before the message is sent. Other
notes are written a moment later, and a crash may lose the last of them.

S4  after a failed write or sync the file is left for good, and what was not safe goes to another. Until a disk takes it
    again notes stay in memory, up to a bound; whoever waits is told each time.
"""

import asyncio
import logging
import os
import secrets
import sys
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine.base.clock import Clock, SystemClock
from engine.base.errors import StorageError
from engine.base.settings_tracking import LedgerSettings
from engine.message.ids import node_number, split_id
from engine.storage.directories import sync_directory
from engine.storage.ledger.index import Columns, read_head, write_index
from engine.storage.ledger.record import (
    HEAD_BYTES,
    Item,
    Kind,
    encode,
    index_payload,
    message_id_hash,
    table_key,
    time_payload,
)  # fmt: skip
from engine.storage.ledger.segments import Name, expire, ledger_directory, seal, segment_names
from engine.storage.ledger.sent import Sent, encode_sent, encode_table

log = logging.getLogger(__name__)

#: What nobody waits for is written after so long, or when it is so much.
_WRITE_EVERY_S, _WRITE_BYTES = 0.25, 256 << 10
#: Notes in memory while the disk takes none; then the oldest go.
MAX_WAITING_BYTES = 16 << 20
#: Messages whose notes are remembered, so that a retry, or another destination, notes nothing twice.
_RECENT = 20_000
#: A file is closed when it is so old a part of the time it is kept.
_AGES = 8
_TIDY_EVERY_S = 600.0


class _Batch:
    """Records that are written together. fresh: they begin a file. size: of their bytes."""

    __slots__ = ("fresh", "items", "size")

    def __init__(self, fresh: bool) -> None:
        self.fresh = fresh
        self.items: list[Item] = []
        self.size = 0


class _File:
    """The one that is appended to. Touched by the writing thread only."""

    def __init__(self, name: Name, fd: int) -> None:
        self.name, self.fd = name, fd
        self.size = 0
        self.columns = Columns()


class Ledger:
    """See above. One per worker; methods are for its loop. Nothing is on disk before there is something to note.

    left: directories of workers that are no more, in which what is old is deleted, too.
    """

    def __init__(
        self, data_dir: Path, worker: int, settings: LedgerSettings, keep_s: float, clock: Clock | None = None,
        left: Sequence[Path] = (),
    ) -> None:  # fmt: skip
        """keep_s: how long files are kept: what the settings say, or as long as links live."""
        self._directory = ledger_directory(data_dir, worker)
        self._left = left
        self._clock: Clock = clock or SystemClock()
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._sealer = ThreadPoolExecutor(1, "ledger-index")
        self._batches: list[_Batch] = []
        self._waiting_bytes = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._writing: asyncio.Future[StorageError | None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False
        self._file: _File | None = None
        self._live = 0  #: number of the file that is appended to, before it is there
        self._planned_bytes = 0  #: of the file that notes go to now
        self._opened_at = 0.0
        self._tables: set[bytes] = set()  #: that are in it
        self._recent: OrderedDict[str, tuple[int, str, bytes]] = OrderedDict()
        self._keeping: asyncio.Future[None] | None = None
        self.reload(settings, keep_s)

    def reload(self, settings: LedgerSettings, keep_s: float) -> None:
        """Use other limits from now on."""
        self._segment_bytes = settings.segment_bytes
        self._keep_s = keep_s
        self._tidy_at = 0.0

    def note(self, sent: Sent, links: Sequence[str] = ()) -> None:
        """A message that is about to be sent. What is known of it already is not written twice.

        links: of its table, which `sent.table` names. Raises ValueError: the id is none.
        """
        mask = _mask(sent.recipients)
        known = self._recent.get(sent.id)
        if known is not None:
            if not mask & ~known[0] and known[1:] == (sent.level, sent.table):
                return
            mask |= known[0]
        packed, node = split_id(sent.id)
        self._remember(sent, mask)
        self._turn()
        if links and sent.table not in self._tables:
            self._tables.add(sent.table)
            self._put(Item(Kind.TABLE, table_key(sent.table), 0, 0, encode_table(sent.table, links)))
        said = message_id_hash(sent.message_id) if sent.message_id else 0
        self._put(Item(Kind.SENT, packed, node_number(node), said, encode_sent(sent)))

    def delivered(self, message: str, index: int, at: float) -> None:
        """A receiver took it for a recipient, at this time (unix seconds). Raises ValueError: the id is none."""
        packed, node = split_id(message)
        self._turn()
        self._put(Item(Kind.DELIVERED, packed, node_number(node), index, time_payload(at)))

    def short(self, number: int, message: str, index: int) -> None:
        """Short links of this number are those of a recipient. Raises ValueError: the id is none."""
        packed, node = split_id(message)
        self._turn()
        self._put(Item(Kind.SHORT, number, node_number(node), packed, index_payload(index)))

    async def keep(self) -> None:
        """Returns when everything that was noted is on disk. Raises StorageError: it is not, and is tried again."""
        if not self._batches and self._writing is None:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._begin()
        await waiter

    async def upkeep(self) -> None:
        """Now and then: an index for files that a crash left without one, and an end to what is old."""
        now = self._clock.time()
        if now < self._tidy_at or (self._keeping is not None and not self._keeping.done()):
            return
        self._tidy_at = now + _TIDY_EVERY_S
        self._keeping = asyncio.get_running_loop().run_in_executor(self._sealer, self._tidy, now - self._keep_s)
        await self._keeping

    async def close(self) -> None:
        """Write the rest, and its index. Raises StorageError."""
        failure: StorageError | None = None
        try:
            await self.keep()
        except StorageError as exc:
            failure = exc
        if self._timer is not None:
            self._timer.cancel()
        self._thread.shutdown()
        file, self._file = self._file, None
        if file is not None:
            self._sealer.submit(self._finish, file)
        await asyncio.to_thread(self._sealer.shutdown)
        if failure is not None:
            raise failure

    # ---- on the loop

    def _remember(self, sent: Sent, mask: int) -> None:
        recent = self._recent
        recent.pop(sent.id, None)
        recent[sent.id] = mask, sent.level, sent.table
        if len(recent) > _RECENT:
            recent.popitem(last=False)

    def _turn(self) -> None:
        """Begin another file, where the last one is full or old."""
        now = self._clock.time()
        if self._planned_bytes >= self._segment_bytes or now >= self._opened_at + self._keep_s / _AGES:
            self._batches.append(_Batch(fresh=True))
            self._planned_bytes = 0
            self._opened_at = now
            self._tables.clear()

    def _put(self, item: Item) -> None:
        if not self._batches:
            self._batches.append(_Batch(fresh=False))
        batch, size = self._batches[-1], HEAD_BYTES + len(item.payload)
        batch.items.append(item)
        batch.size += size
        self._planned_bytes += size
        self._waiting_bytes += size
        if self._waiting_bytes >= _WRITE_BYTES and not self._failing:
            self._begin()
        elif self._timer is None and self._writing is None:
            self._later()

    def _later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_WRITE_EVERY_S, self._begin)

    def _begin(self) -> None:
        """Write what there is, unless something is being written: then what came meanwhile is next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None or not self._batches:
            return
        batches, self._batches = self._batches, []
        waiters, self._waiters = self._waiters, []
        self._waiting_bytes = 0
        self._writing = asyncio.get_running_loop().run_in_executor(self._thread, self._write, batches)
        self._writing.add_done_callback(lambda done: self._written(done.result(), batches, waiters))

    def _written(
        self, error: StorageError | None, batches: Sequence[_Batch], waiters: Sequence[asyncio.Future[None]]
    ) -> None:
        self._writing = None
        if error is not None:
            self._take_back(batches, error)
        else:
            if self._failing:
                log.info("%s: notes are written again", self._directory)
            self._failing = False
            if not self._batches:  # what others have asked for since was written, too
                waiters, self._waiters = [*waiters, *self._waiters], []
        for waiter in waiters:
            if waiter.done():
                continue  # whoever waited was cancelled
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
        if self._waiters or (self._waiting_bytes >= _WRITE_BYTES and not self._failing):
            self._begin()
        elif self._batches and self._timer is None:
            self._later()

    def _take_back(self, batches: Sequence[_Batch], error: StorageError) -> None:
        """What was not written goes before what came meanwhile, in another file; too much of it is lost."""
        if not self._failing:
            log.error("%s", error)
        self._failing = True
        self._batches = [*batches, *self._batches]
        self._batches[0].fresh = True
        self._tables.clear()
        self._waiting_bytes = sum(batch.size for batch in self._batches)
        while self._waiting_bytes > MAX_WAITING_BYTES:
            lost = self._batches.pop(0)
            self._waiting_bytes -= lost.size
            self._recent.clear()
            log.error("%s: %d notes are lost, as the disk took none for too long", self._directory, len(lost.items))

    # ---- in the threads

    def _write(self, batches: Sequence[_Batch]) -> StorageError | None:
        try:
            for batch in batches:
                if batch.fresh or self._file is None:
                    self._open()
                assert self._file is not None
                self._append(self._file, batch.items)
        except (OSError, StorageError) as exc:
            self._abandon()
            return StorageError(f"{self._directory}: notes of what is sent cannot be written: {exc}")
        return None

    def _open(self) -> None:
        """Another file; the last one gets its index. Raises OSError, StorageError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._live = max((name.number for name in segment_names(self._directory)), default=0) + 1
        name = Name(self._directory, self._live, secrets.randbits(32))
        fd = os.open(name.log_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        last, self._file = self._file, _File(name, fd)
        if last is not None:
            self._sealer.submit(self._finish, last)
        sync_directory(self._directory)

    @staticmethod
    def _append(file: _File, items: Sequence[Item]) -> None:
        """Raises OSError."""
        salt = file.name.salt
        pieces = [encode(salt, item) for item in items]
        data = memoryview(b"".join(pieces))
        while data:
            data = data[os.write(file.fd, data) :]
        os.fdatasync(file.fd)
        for item, piece in zip(items, pieces, strict=True):
            file.columns.add(item.kind, item.key, item.other, file.size)
            file.size += len(piece)

    def _abandon(self) -> None:
        """S4. What is whole in it gets its index later."""
        file, self._file, self._live = self._file, None, 0
        if file is not None:
            os.close(file.fd)
        self._tidy_at = 0.0

    def _finish(self, file: _File) -> None:
        """The index of a file that is closed; `_tidy` tries again if it cannot be written."""
        try:
            os.close(file.fd)
            write_index(file.name.index_path, file.columns, self._clock.time(), file.size)
        except OSError as exc:
            log.error("%s: %s", file.name.index_path, exc.strerror)

    def _tidy(self, before: float) -> None:
        try:
            # In this order: a file that is found and has been opened since is known as live.
            names = segment_names(self._directory)
            live = self._live or sys.maxsize
            for name in names:
                if name.number < live and read_head(name.index_path) is None:
                    seal(name)
            for directory in (self._directory, *self._left):
                expire(directory, before)
        except StorageError as exc:
            log.error("%s", exc)


def _mask(recipients: Sequence[str]) -> int:
    """Which addresses there are, a bit for each."""
    if len(recipients) == 1:
        return 1 if recipients[0] else 0
    return sum(1 << index for index, address in enumerate(recipients) if address)
