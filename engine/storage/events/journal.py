"""The event journal on disk: numbered files of JSON lines, appended by one owner, read by anyone.

    <data_dir>/events/<worker>/000000000001.log      mode 0600 in directories of mode 0700; symbolic links are refused

A file is closed when it reaches its size or an eighth of the time events are kept, synced, compressed by others
(compact.py), and deleted when it is old or all of them are too large (retention.py). The newest file with events in it
always stays: it says how far the projection got.

The journal follows the spool, it is not the truth: after a crash, frames from `last_seq` on are projected again, and
`missing` drops what is there. After a failed write or sync the file is left for good (S4) and the next write opens
another; the owner writes again what it wrote since the last sync that returned (E1: at least once, stable ids). One
that is still empty then is removed and its number used again: a number that is not there is a file that is missing.
"""

import contextlib
import logging
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine.base.clock import Clock, SystemClock
from engine.base.errors import StorageError
from engine.storage.directories import sync_directory
from engine.storage.events.event import NO_ID, event_id, parse_id
from engine.storage.events.retention import expire
from engine.storage.events.segments import CHUNK, log_name, open_segment, segment_numbers

log = logging.getLogger(__name__)

#: The number of the journal of `postrider redirect`, above that of every worker: it needs no daemon.
REDIRECT: Final = 1000


def events_directory(data_dir: str | Path, worker: int = 0) -> Path:
    """Where a worker's events are."""
    return Path(data_dir) / "events" / str(worker)


class EventJournal:
    """Appends to the journal; one owner, one thread at a time, calls block. Every fault is a StorageError.

    last_id: (seq, n) of the newest event found at open, (0, -1) of an empty journal; last_seq: its frame.
    written: called after each write, in the thread that writes; it must not block.
    """

    def __init__(
        self,
        directory: Path,
        segment_bytes: int,
        keep_s: float,
        clock: Clock | None = None,
        *,
        keep_bytes: int = 1 << 62,
    ) -> None:
        self.directory = directory
        self._segment_bytes = segment_bytes
        self._keep_s = keep_s
        self._keep_bytes = keep_bytes
        self.written: Callable[[], None] | None = None
        self._clock: Clock = clock or SystemClock()
        self._fd = -1
        self._size = 0
        self._rotate_at = 0.0
        self._expire_at = 0.0
        self._number = 0
        self._newest = 0  #: the newest file with events at open, if it can still be distrusted
        self.last_id = NO_ID
        try:
            self._directory_fd = _open_directory(directory)
            self._resume()
            self._forget()
        except OSError as exc:
            raise self._fault(exc) from exc

    def reload(self, segment_bytes: int, keep_s: float, keep_bytes: int) -> None:
        """Use other limits from now on; from any thread."""
        self._segment_bytes, self._keep_s, self._keep_bytes = segment_bytes, keep_s, keep_bytes
        self._expire_at = 0.0

    @property
    def last_seq(self) -> int:
        return self.last_id[0]

    def missing(self, data: bytes) -> bytes:
        """The lines of `data` that come after the newest event found at open. For projecting frames again."""
        return b"".join(line for line in data.splitlines(keepends=True) if event_id(line) > self.last_id)

    def distrust(self, safe: int) -> None:
        """After a crash: cut the newest file where, behind the events of frame `safe`, something is missing.

        Blocks of a file reach the disk in any order: lines after a hole are cut, too, and written again in order (E1).
        What is left is on disk when this returns: who wrote it may have been killed before its sync.
        """
        if not self._newest:
            return
        try:
            fd = self._open(log_name(self._newest), 0)
            try:
                size = os.fstat(fd).st_size
                whole = trusted_bytes(os.pread(fd, size, 0), safe)
                if whole < size:
                    os.ftruncate(fd, whole)
                    self.last_id = max(_newest_id(fd, whole), (safe, -1))
                    self._size = min(self._size, whole)
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as exc:
            raise self._fault(exc) from exc

    def write(self, data: bytes) -> None:
        """Append whole lines; on disk only after `sync`."""
        now = self._clock.time()
        full = self._size > 0 and self._size + len(data) > self._segment_bytes
        if full or self._fd < 0 or now >= self._rotate_at:
            self._rotate(now)
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:])
        except OSError as exc:
            self._abandon(useless=True)
            raise self._fault(exc) from exc
        self._size += len(data)
        tell = self.written
        if tell is not None:
            tell()

    def sync(self) -> None:
        """All that was written is on disk when this returns. Now and then it also deletes what is old."""
        if self._fd >= 0:
            try:
                os.fdatasync(self._fd)
            except OSError as exc:
                self._abandon()
                raise self._fault(exc) from exc
        if self._clock.time() >= self._expire_at:
            self._forget()

    def expire(self) -> None:
        """Delete what is older than `keep_s`, or more than `keep_bytes`, but not the newest file that has events."""
        now = self._clock.time()
        self._expire_at = now + self._keep_s / 8
        expire(self.directory, now - self._keep_s, self._keep_bytes)

    def close(self) -> None:
        """Sync and close. The journal is not used again."""
        try:
            self.sync()
        finally:
            self._abandon()
            if self._directory_fd >= 0:
                os.close(self._directory_fd)
                self._directory_fd = -1

    def _resume(self) -> None:
        """Find the newest event; go on in its file, cut to the last whole line."""
        numbers = segment_numbers(self._directory_fd)
        self._number = numbers[-1] if numbers else 0
        for number in reversed(numbers):
            try:
                fd = self._open(log_name(number), 0)
            except FileNotFoundError:  # compressed; what came after it is lost
                if self._resume_behind(number):
                    return
                continue
            size = os.fstat(fd).st_size
            whole = _whole_lines(fd, size)
            if whole == 0:
                os.close(fd)
                continue
            self.last_id = _newest_id(fd, whole)
            self._newest = number
            if number != numbers[-1]:
                os.close(fd)
                return
            if whole < size:
                os.ftruncate(fd, whole)
                os.fsync(fd)
            self._fd, self._size = fd, whole
            self._rotate_at = min(self._clock.time(), _first_at(fd)) + self._keep_s / 8
            return

    def _resume_behind(self, number: int) -> bool:
        """False: this compressed file names no event."""
        segment = open_segment(self.directory, number)
        if segment is None:
            return False
        try:
            last = segment.summary().last
        finally:
            segment.close()
        self.last_id = parse_id(last) if last else NO_ID
        return bool(last)

    def _rotate(self, now: float) -> None:
        self.sync()
        self._abandon()
        self._number += 1
        try:
            self._fd = self._open(log_name(self._number), os.O_CREAT | os.O_EXCL)
            os.fsync(self._directory_fd)
        except FileExistsError as exc:
            raise self._fault(exc) from exc
        except OSError as exc:
            if self._fd < 0:
                self._number -= 1
            self._abandon(useless=True)
            raise self._fault(exc) from exc
        self._size = 0
        self._rotate_at = now + self._keep_s / 8
        self._forget()

    def _forget(self) -> None:
        """Expire; what cannot be deleted is no reason to stop writing."""
        try:
            self.expire()
        except StorageError as exc:
            log.warning("old files stay: %s", exc)

    def _open(self, name: str, flags: int) -> int:
        flags |= os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._directory_fd)

    def _abandon(self, useless: bool = False) -> None:
        """Never touch this file again. useless: remove it if it is empty, or a full disk gets a new one every time."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            if useless and os.fstat(self._fd).st_size == 0:
                os.unlink(log_name(self._number), dir_fd=self._directory_fd)
                self._number -= 1
        os.close(self._fd)
        self._fd = -1

    def _fault(self, exc: OSError) -> StorageError:
        return StorageError(f"event journal {self.directory}: {exc.strerror}")


def _open_directory(directory: Path) -> int:
    """A descriptor of the directory, made if it is not there. Raises OSError: a symbolic link, or not ours."""
    for path in (directory.parent, directory):
        path.mkdir(mode=0o700, parents=path is not directory, exist_ok=True)
        sync_directory(path.parent)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if stat.S_IMODE(os.fstat(fd).st_mode) & 0o077:
        os.fchmod(fd, 0o700)
    return fd


def trusted_bytes(data: bytes, safe: int) -> int:
    """Up to the first line behind the events of frame `safe` that is none: before it, damage is damage (S5)."""
    offset, hole = 0, -1
    for line in data.splitlines(keepends=True):
        try:
            known: int | None = event_id(line)[0]
        except ValueError:
            known = None
        if known is None and hole < 0:
            hole = offset
        elif known is not None and known <= safe:
            hole = -1
        offset += len(line)
    return len(data) if hole < 0 else hole


def _whole_lines(fd: int, size: int) -> int:
    """Length up to and with the last newline; what is after it was torn off by a crash."""
    end = size
    while end:
        start = max(0, end - CHUNK)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _newest_id(fd: int, end: int) -> tuple[int, int]:
    """The highest id in the tail. A damaged line there is passed over (S5)."""
    start = max(0, end - CHUNK)
    newest = (0, -1)
    for line in reversed(os.pread(fd, end - start, start).splitlines()):
        try:
            return event_id(line)
        except ValueError:
            continue
    return newest


def _first_at(fd: int) -> float:
    """When the file was begun, as its first line says; 0.0 if that cannot be read."""
    match = re.match(rb'\{"id":"[0-9.]*","at":([0-9.]+)', os.pread(fd, 200, 0))
    return float(match[1]) if match else 0.0
