"""Compresses the files of a journal that nothing is appended to any more, in a thread that does nothing else.

    NNN.log -> NNN.tmp, synced -> renamed to NNN.zst, the directory synced -> NNN.log removed

Whenever it is killed, the one or the other is there and whole; readers take either for the same file. The newest file
with events is left alone: after a crash its end is looked at again (journal.py).
"""

import asyncio
import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.base.settings import Events
from engine.storage.directories import sync_directory
from engine.storage.events.retention import expire
from engine.storage.events.segments import (
    compressed_name,
    compressed_pieces,
    log_name,
    open_segment,
    segment_numbers,
)

log = logging.getLogger(__name__)

#: zstd's default: a twelfth of the size, at a rate of a disk.
_LEVEL = 3
#: After a fault of the disk.
_PAUSE_S = 60.0


class Compactor:
    """See above. directories: of the journals it looks after. left: those among them that nobody writes any more, and
    so nobody else deletes old files of."""

    def __init__(self, directories: Iterable[Path], clock: Clock, left: Iterable[Path] = ()) -> None:
        self._directories, self._left = tuple(directories), tuple(left)
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "compact")
        self._stopped = False
        self._rest_until = 0.0

    async def work(self, limits: Events) -> None:
        """Compress what there is to compress now. Raises StorageError, once in a while."""
        if self._clock.monotonic() < self._rest_until:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._work, limits)
        except StorageError:
            self._rest_until = self._clock.monotonic() + _PAUSE_S
            raise

    def close(self) -> None:
        """What is half done is begun again at the next start."""
        self._stopped = True
        self._thread.shutdown()

    def _work(self, limits: Events) -> None:
        for directory in self._left:
            expire(directory, self._clock.time() - limits.keep, limits.keep_bytes)
        for directory in self._directories:
            try:
                for half_done in directory.glob("[0-9]*.tmp"):  # by one that was killed
                    half_done.unlink()
                for number in due(directory):
                    if self._stopped or not self._compress(directory, number):
                        return
            except OSError as exc:
                raise StorageError(f"events cannot be compressed: {directory}: {exc.strerror}") from exc

    def _compress(self, directory: Path, number: int) -> bool:
        """False: it was told to stop in the middle."""
        source = open_segment(directory, number)
        if source is None:
            return True
        temporary = directory / f"{number:012}.tmp"
        old, new = directory / log_name(number), directory / compressed_name(number)
        try:
            if not new.exists():
                times = old.stat()
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                with open(fd, "wb") as file:
                    for piece in compressed_pieces(source, source.summary(), _LEVEL):
                        if self._stopped:
                            return False
                        file.write(piece)
                    file.flush()
                    # Retention goes by when it was last written to.
                    os.utime(fd, ns=(times.st_atime_ns, times.st_mtime_ns))
                    os.fsync(fd)
                temporary.rename(new)
                sync_directory(directory)
            old.unlink(missing_ok=True)
        except FileNotFoundError:  # it was too old to be kept, meanwhile
            return True
        finally:
            source.close()
            temporary.unlink(missing_ok=True)
        log.debug("%s: compressed", old)
        return True


def due(directory: Path) -> list[int]:
    """Numbers of files that are not compressed and have a successor with events. Raises StorageError, OSError."""
    numbers = segment_numbers(directory)
    while numbers and not _has_events(directory, numbers[-1]):
        numbers.pop()
    return [number for number in numbers[:-1] if (directory / log_name(number)).exists()]


def _has_events(directory: Path, number: int) -> bool:
    if (directory / compressed_name(number)).exists():
        return True
    try:
        return (directory / log_name(number)).stat().st_size > 0
    except FileNotFoundError:
        return False
