"""The journal: group commit.

Frames are appended on the event loop and written by one thread: one durable write for everything that arrived while
the last batch was on its way. Files are `<number>.<salt>.log`; a new one is begun at `segment_bytes` and at every
start, so that nothing is ever appended behind a torn tail.

S1  a record is done only after its frame was written and synced.
S4  after a failed write or sync the file is never written again; the next one names the offset from which it
    is void. Records that must not be lost (outcomes) go into the next file; the others fail, and intake is refused
    until a batch has been written again.

The events of a record are written once it is durable (projector.py), and a file is unlinked only after they are
synced. Each file says up to which frame they were when it was begun: a crash may have taken any of those after it.

Each file also says which older ones there are and how long they are, and before one of them goes a record says so: a
file that is missing, or was cut, is noticed by the next start (S5).
"""

import asyncio
import contextlib
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.serial_thread import answer
from engine.base.stored import Stored
from engine.storage.spool.files import Files
from engine.storage.spool.frame import VERSION, FrameType, encode
from engine.storage.spool.projector import EventSink, Projector
from engine.storage.spool.segment import Segment, Segments, segment_path

log = logging.getLogger(__name__)

#: How soon a failed disk is tried again.
RETRY_S: Final = 1.0
#: Bytes of frames one batch may hold; the rest waits for the next. Bounds the delay of the first record in it.
MAX_BATCH_BYTES: Final = 8 << 20


class Record(Stored):
    """One frame on its way to the disk.

    keep: it is written to the next file if this write fails. durable: called on the loop once the frame is safe, with
    the file and offset where it lies now known, and before anybody else is told.
    """

    def __init__(self, number: int, frame: bytes, body: bytes, events: bytes, keep: bool) -> None:
        super().__init__()
        self.number = number
        self.frame = frame
        self.body = body
        self.events = events
        self.keep = keep
        self.durable: Callable[[Record], None] | None = None
        self.segment: Segment
        self.offset = 0

    @property
    def size(self) -> int:
        return len(self.frame) + len(self.body)


class Journal:
    """The writer of one worker's journal. `append` on the loop; everything on disk in its own thread."""

    def __init__(
        self,
        directory: Path,
        files: Files,
        events: EventSink,
        metrics: Metrics,
        *,
        segment_bytes: int,
        owner: str,
        new_number: Callable[[], int],
        registry: Segments,
        wrote: Callable[[int], None] = lambda size: None,
    ) -> None:
        """new_number: a number for a new file. registry: all segments of the spool; ours are entered there, too.

        wrote: told in the thread how many bytes it wrote.
        """
        self._wrote = wrote
        self._new_number = new_number
        self._registry = registry
        self._directory = directory
        self._files = files
        self._projector = Projector(events)
        self._metrics = metrics
        self.segment_bytes = segment_bytes
        self._owner = owner
        self._salt = secrets.randbits(32)
        self.next_frame = 1
        self._pending: list[Record] = []
        self._busy = False  #: a batch is with the thread, or about to be
        self._descriptor: int | None = None  #: the thread's, as the two below
        self._segment: Segment | None = None
        self._void: list[tuple[int, int]] = []  #: (file, offset): nothing from there on counts
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._serve, name="journal", daemon=True)
        self._retry: asyncio.TimerHandle | None = None
        self._lost: dict[int, int] = {}
        self._retired: set[int] = set()  #: files that a new one does not name: they go, or went and nobody noted it
        self.segments: dict[int, Segment] = {}  #: begun by us or recovered, oldest first
        self.last_id = ""  #: the highest of a message so far: told at the start of each file, or an id could come again
        self.failure: str | None = None  #: why the disk is not trusted now

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        recovered: Iterable[Segment] = (),
        last_frame: int = 0,
        void: Iterable[tuple[int, int]] = (),
        events_safe: int = 0,
        lost: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """Begin, after what recovery found. void, events_safe: as the newest file's first frame told.

        lost: files that are gone or cut, with their bytes; new files name them as if they were there.
        """
        self._loop = loop
        self._void = list(void)
        self.segments = {segment.number: segment for segment in recovered}
        self._registry.update(self.segments)
        self._lost = dict(lost)
        self.next_frame = last_frame + 1
        self._projector.told, self._projector.safe = last_frame, events_safe
        self._writer.start()

    def next_number(self) -> int:
        """The number for the next frame; the caller makes its events with it, then appends."""
        number = self.next_frame
        self.next_frame = number + 1
        return number

    def append(
        self, number: int, kind: FrameType, header: list[Any], body: bytes = b"", events: bytes = b"",
        keep: bool = False,
    ) -> Record:  # fmt: skip
        """Put a frame in the next batch. It fails only if `keep` is False."""
        record = Record(number, encode(self._salt, kind, number, header, body), body, events, keep)
        self._pending.append(record)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._hand_over)
        return record

    def run(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Run something that blocks in the journal's thread, after the batches before it."""
        future: asyncio.Future[None] = self._loop.create_future()

        def task() -> None:
            error: BaseException | None = None
            try:
                work()
            except StorageError as exc:
                error = exc
            except Exception as exc:  # top of the thread's task: the thread must live
                log.exception("in the journal's thread")
                error = StorageError(f"internal error: {exc!r}")
            self._loop.call_soon_threadsafe(answer, future, None, error)

        self._work.put(task)
        return future

    async def unlink(self, segment: Segment, thread: Executor) -> None:
        """Remove a file whose messages are all final, the events of its frames being safe. Raises StorageError.

        thread: where. A disk takes its time for it, and here every 250 would wait.
        """
        await self.run(partial(self._retire, segment))
        await self._loop.run_in_executor(thread, self._files.unlink, segment.path)
        await self.run(partial(self._forget, segment))

    def sync_events(self) -> asyncio.Future[None]:
        """Make the event journal durable."""
        return self.run(self._projector.sync)

    def forget_lost(self) -> None:
        """What was lost is dealt with; the next start need not hear of it."""
        self._lost = {}

    def oldest(self) -> Segment | None:
        """The file that may go next; None if only the one being written is there."""
        # A copy, in one step: the thread begins new ones.
        oldest = next(iter(list(self.segments.values())), None)
        return None if oldest is self._segment else oldest

    async def flush(self) -> None:
        """Return when everything appended before this call is durable. Raises StorageError: the disk takes nothing."""
        while self._pending or self._busy:
            if self.failure is not None:
                raise StorageError(self.failure)
            # Not for a record: one that is kept is not done before the disk is well, and nobody may wait so long here.
            await self.run(lambda: None)

    async def close(self) -> None:
        """Write what is pending, sync everything, end the thread."""
        with contextlib.suppress(StorageError):
            await self.flush()
        if self._writer.is_alive():
            try:
                await self.run(self._end)
            finally:
                self._work.put(None)
                self._writer.join()
        if self._retry:
            self._retry.cancel()

    # On the loop.

    def _hand_over(self) -> None:
        batch, size = self._pending, 0
        for index, record in enumerate(batch):
            size += record.size
            if size > MAX_BATCH_BYTES:
                batch = batch[: index + 1]
                break
        self._pending = self._pending[len(batch) :]
        self._work.put(lambda: self._commit(batch))

    def _committed(self, batch: list[Record], error: StorageError | None) -> None:
        self.failure = str(error) if error else self._projector.failure
        if error is None:
            for record in batch:
                if record.durable is not None:
                    try:
                        record.durable(record)
                    except (Exception, asyncio.CancelledError):  # one record's fault is not the others' (Q3)
                        log.exception("frame %d is on disk", record.number)
            for record in batch:
                record.finish()
        else:
            self._pending[:0] = [record for record in batch if record.keep]
            for record in batch:
                if not record.keep:
                    record.finish(StorageError(str(error)))
        self._busy = False
        if self.failure is not None:
            self._busy = True
            self._retry = self._loop.call_later(RETRY_S, self._hand_over)
        elif self._pending:
            self._busy = True
            self._hand_over()

    def _events_failed(self) -> None:
        """The next batch tells if they are written again."""
        self.failure = self._projector.failure
        if self.failure is not None and not self._busy:
            self._busy = True
            self._retry = self._loop.call_later(RETRY_S, self._hand_over)

    # In the thread.

    def _serve(self) -> None:
        while True:
            try:
                task = self._work.get(timeout=self._projector.wait_s)
            except queue.Empty:
                self._projector.write()
                self._look_at_events()
                continue
            if task is None:
                return
            task()

    def _commit(self, batch: list[Record]) -> None:
        error: StorageError | None = None
        try:
            self._write(batch)
        except StorageError as exc:
            error = exc
        except Exception as exc:  # top of the thread's task: the thread must live, and nobody was told yes
            log.exception("writing a batch")
            error = StorageError(f"internal error: {exc!r}")
        first = error is None and self._projector.may_wait(len(batch))  # or who waits for it waits for its events, too
        if error is None and not first:
            self._tell(batch)
        self._loop.call_soon_threadsafe(self._committed, batch, error)
        if first:
            self._tell(batch)
            self._look_at_events()

    def _look_at_events(self) -> None:
        if self._projector.failure is not None:
            self._loop.call_soon_threadsafe(self._events_failed)

    def _write(self, batch: list[Record]) -> None:
        if self._segment is None or self._segment.bytes >= self.segment_bytes:
            self._begin_file()
        segment, descriptor = self._segment, self._descriptor
        assert segment is not None and descriptor is not None
        pieces: list[bytes] = []
        offset = segment.bytes
        for record in batch:
            record.segment = segment
            record.offset = offset
            offset += record.size
            pieces.append(record.frame)
            if record.body:
                pieces.append(record.body)
        try:
            started = time.perf_counter()
            self._files.append(descriptor, pieces)
        except StorageError:
            self._abandon(segment)
            raise
        self._metrics.fsync.observe(time.perf_counter() - started)
        self._metrics.batch.observe(len(batch))
        self._wrote(offset - segment.bytes)
        segment.bytes = offset

    def _tell(self, batch: list[Record]) -> None:
        last = batch[-1].number if batch else self._projector.told  # without one, after a failure, it is only a try
        self._projector.tell([record.events for record in batch if record.events], last, len(batch))

    def _retire(self, segment: Segment) -> None:
        """The events of a file's frames are safe, and a newer file says that it goes."""
        self._projector.sync()
        if self._segment is None:
            self._begin_file()
        newest, descriptor = self._segment, self._descriptor
        assert newest is not None and descriptor is not None
        self._retired.add(segment.number)
        frame = encode(self._salt, FrameType.RETIRED, 0, [VERSION, segment.number])
        try:
            self._files.append(descriptor, [frame])
        except StorageError:
            self._abandon(newest)
            raise
        newest.bytes += len(frame)

    def _forget(self, segment: Segment) -> None:
        del self.segments[segment.number]
        del self._registry[segment.number]
        self._retired.discard(segment.number)
        self._void = [(number, offset) for number, offset in self._void if number != segment.number]

    def _begin_file(self) -> None:
        self.leave_file()
        number = self._new_number()
        path = segment_path(self._directory, number, self._salt, ".log")
        with contextlib.suppress(StorageError):
            self._projector.sync()
        older = {each.number: each.bytes for each in self.segments.values()} | self._lost
        named = [pair for pair in older.items() if pair[0] not in self._retired]
        first = [VERSION, self._owner, number, self._void, self._projector.safe, self.last_id]
        second = [VERSION, self._projector.told, named]
        frames = [encode(self._salt, FrameType.SEGMENT, 0, first), encode(self._salt, FrameType.JOURNAL, 0, second)]
        descriptor = self._files.create(path)
        segment = Segment(path)
        try:
            self._files.append(descriptor, frames)
        except StorageError:
            with contextlib.suppress(StorageError):
                self._files.close(descriptor)
                self._files.unlink(path)  # or a disk that stays full gets a file with each try
            raise
        segment.bytes = sum(map(len, frames))
        self.segments[number] = self._registry[number] = segment
        self._segment, self._descriptor = segment, descriptor

    def _abandon(self, segment: Segment) -> None:
        """S4: nothing from the end of the last good batch on counts, whatever the disk made of it.

        The next file says so; the tail is also cut off, because on a full disk there may be no next file before a
        crash, and whole records in it, whose clients were told no, would be delivered.
        """
        self._void.append((segment.number, segment.bytes))
        with contextlib.suppress(StorageError):
            if self._descriptor is not None:
                self._files.truncate(self._descriptor, segment.bytes)
        with contextlib.suppress(StorageError):
            self.leave_file()

    def leave_file(self) -> None:
        """The next record begins another; in the thread."""
        descriptor, self._segment, self._descriptor = self._descriptor, None, None
        if descriptor is not None:
            self._files.close(descriptor)

    def _end(self) -> None:
        self.leave_file()
        self._projector.sync()
