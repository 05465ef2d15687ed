"""Large contents: a file for each, written while it arrives and read while it is sent.

    spool/<worker>/large/<number>.<salt>.dat    the content but its head; name, length and CRC-32C stand in the frame

S1  the file is synced, and its directory entry durable, before the frame that names it goes to the journal.
S4  a file whose write or sync failed is removed; nothing ever names it.
S5  a file that is missing, or not of the length or checksum its frame tells, is reported; its message waits.

What no live message names goes with the mover's work, the first after a start included: it was never acknowledged, or
all of its deliveries are final. Nothing here touches the disk on the event loop.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from crc32c import crc32c

from engine.base.errors import StorageError
from engine.base.stored import Stored
from engine.message.content import SLICE_BYTES, Content, LargeContent, LargeFile
from engine.storage.spool.entry import Delivery
from engine.storage.spool.files import Files
from engine.storage.spool.segment import Segment, Segments, segment_path

log = logging.getLogger(__name__)

#: Threads for all writers of a worker: enough that an fsync of one file does not hold up the others.
_THREADS = 4
#: Bytes of one file that may wait for the disk; then its client is not read from.
_MAX_WAITING = 2 * SLICE_BYTES


class LargeFiles:
    """The folder of large contents of one worker; methods run on the event loop.

    new_number: for a new file. segments: of the spool. spend: told in the threads how many bytes are to be written;
    raises StorageError where they are too many.
    """

    def __init__(
        self,
        directory: Path,
        files: Files,
        new_number: Callable[[], int],
        segments: Segments,
        spend: Callable[[int], None],
    ) -> None:
        self.spend = spend
        self.directory = directory
        self._files = files
        self._new_number = new_number
        self._segments = segments
        self._salt = secrets.randbits(32)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="large")
        self.closed = False

    def writer(self) -> "LargeWriter":
        """For a new content. It has no file, and no number, before its first slice is full."""
        return LargeWriter(self, self._files, self._pool)

    def new_path(self) -> Path:
        """For a new file. In any thread. Raises StorageError."""
        return segment_path(self.directory, self._new_number(), self._salt, ".dat")

    async def store(self, content: bytes, above: int) -> Content:
        """A content that is all there: in a file if it has more bytes than `above`, durably. Raises StorageError."""
        empty_line = -2 if content.startswith(b"\r\n") else content.find(b"\r\n\r\n")
        body = empty_line + 4
        if len(content) <= above or empty_line == -1 or body == len(content):
            return content
        writer = self.writer()
        try:
            for start in range(body, len(content), SLICE_BYTES):
                writer.feed(content[start : start + SLICE_BYTES])
                await writer.room()
            return await writer.finish(content[:body])
        finally:
            writer.abort()

    def content(self, head: bytes, file: LargeFile) -> LargeContent:
        """The content that was stored under this reference. The file is looked at when it is read."""
        return LargeContent(head, file, partial(self._files.read, self.directory / file.name))

    def keep(self, file: LargeFile, deliveries: Sequence[Delivery], stored: Stored) -> None:
        """A large content's file lives as long as its deliveries; of a message that is not stored, no longer."""
        segment = Segment(self.directory / file.name, file.length)
        segment.refs = len(deliveries)
        self._segments[segment.number] = segment
        for delivery in deliveries:
            delivery.content_file = segment.number

        def done(stored: Stored) -> None:
            if stored.exception() is not None:
                del self._segments[segment.number]
                self.remove(file)

        stored.add_done_callback(done)

    def remove(self, file: LargeFile) -> None:
        """Remove a file that no live message names, some time soon."""
        if not self.closed:
            self._pool.submit(self._remove, self.directory / file.name)

    def _remove(self, path: Path) -> None:
        try:
            self._files.unlink(path)
        except StorageError as exc:
            log.warning("spool: %s; it is removed at the next start", exc)

    async def close(self) -> None:
        """End the threads when they have done what they were asked. What is not removed by now is at the next start."""
        self.closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)


class LargeWriter:
    """Takes a content as it arrives. At most one piece of work of it is with the threads.

    Ends with `finish`, or with `abort`, which may come at any time and more than once.
    """

    def __init__(self, large: LargeFiles, files: Files, pool: ThreadPoolExecutor) -> None:
        self._large = large
        self._files = files
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()  #: not pieces: a client may send them a byte long
        self._work: asyncio.Future[None] | None = None  #: what the threads do now
        self._fault: StorageError | None = None
        self._over = False  #: finished or aborted
        self._created = False  #: there is a file; of whichever thread works, as the four below
        self._path = Path()
        self._descriptor: int | None = None
        self._length = 0
        self._crc = 0

    def feed(self, piece: bytes) -> None:
        """Add bytes. Raises StorageError: an earlier write failed."""
        if self._fault is not None:
            raise self._fault
        self._waiting += piece
        if self._work is None and len(self._waiting) >= SLICE_BYTES:
            self._write()

    async def room(self) -> None:
        """Return when not too much waits for the disk. Raises StorageError: a write failed."""
        while len(self._waiting) > _MAX_WAITING and self._work is not None:
            await asyncio.wait([self._work])
        if self._fault is not None:
            raise self._fault

    async def beginning(self, most: int) -> tuple[bytes, bool]:
        """The first of the bytes that were fed, `most` at most, and whether they are all. Raises StorageError."""
        while self._work is not None:
            await asyncio.wait([self._work])
        length = self._length + len(self._waiting)
        found = [bytes(self._waiting[: max(0, most - self._length)])]
        if self._fault is None and not self._over and self._created:
            written = min(most, self._length)
            await asyncio.wait([self._start(lambda: found.insert(0, self._files.read(self._path, 0, written)))])
        if self._fault is not None:
            raise self._fault
        if self._over:
            raise StorageError("the client gave up")
        return b"".join(found), length <= most

    async def finish(self, head: bytes) -> Content:
        """The content that begins with `head`, once all that was fed is durable; `head` if nothing was.

        Raises StorageError.
        """
        while self._work is not None:
            await asyncio.wait([self._work])
        if self._fault is None and not self._over and (self._waiting or self._created):
            data = self._taken()
            await asyncio.wait([self._start(lambda: self._complete(data))])
        if self._fault is not None:
            raise self._fault
        if self._over:
            raise StorageError("the client gave up")
        self._over = True
        if not self._created:
            return head
        return self._large.content(head, LargeFile(self._path.name, self._length, self._crc))

    def abort(self) -> None:
        """The content is not wanted any more, unless it was finished."""
        if not self._over:
            self._over = True
            if self._work is None:
                self._clear()

    # On the loop.

    def _taken(self) -> bytes:
        data = bytes(self._waiting)
        self._waiting.clear()
        return data

    def _write(self) -> None:
        data = self._taken()
        self._start(lambda: self._append(data))

    def _start(self, work: Callable[[], None]) -> asyncio.Future[None]:
        self._work = future = self._loop.run_in_executor(self._pool, work)
        future.add_done_callback(self._done)
        return future

    def _done(self, future: asyncio.Future[None]) -> None:
        self._work = None
        error = None if future.cancelled() else future.exception()
        if isinstance(error, StorageError):
            self._fault = error
        elif error is not None:
            log.error("writing a large content", exc_info=error)
            self._fault = StorageError(f"internal error: {error!r}")
        if self._over or self._fault is not None:
            self._clear()
        elif len(self._waiting) >= SLICE_BYTES:
            self._write()

    def _clear(self) -> None:
        """Nothing is at work, and nothing of it is to stay."""
        self._waiting.clear()
        if self._created and not self._large.closed:
            self._start(self._discard)

    # In a thread.

    def _append(self, data: bytes) -> None:
        self._large.spend(len(data))
        if self._descriptor is None:
            self._path = self._large.new_path()
            self._created = True  # whatever becomes of it
            self._descriptor = self._files.create(self._path)
        self._files.write(self._descriptor, [data])
        self._crc = crc32c(data, self._crc)
        self._length += len(data)

    def _complete(self, data: bytes) -> None:
        self._append(data)
        assert self._descriptor is not None
        self._files.sync(self._descriptor)
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._files.close(descriptor)

    def _discard(self) -> None:
        self._created = False
        with contextlib.suppress(StorageError):
            self._close()
        with contextlib.suppress(StorageError):  # it may never have come to be; else the next start removes it
            self._files.unlink(self._path)
