"""The file operations of the spool: one of the four seams that tests replace.

Everything the spool does to a disk goes through `Files`; OSError becomes StorageError here and nowhere else.
"""

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from engine.base.errors import StorageError
from engine.storage.directories import sync_directory

#: IOV_MAX of Linux: more pieces than that go in several calls.
_MAX_PIECES = 1024


class Room(NamedTuple):
    """What is free of a disk, for an unprivileged process: bytes, of so many in all, and a fraction of its inodes."""

    free: int
    total: int
    inodes: float


class Files(Protocol):
    """What the spool asks of a disk. Every call raises StorageError and nothing else."""

    def create(self, path: Path) -> int:
        """A new file (it must not exist), its directory entry durable; its descriptor, for appending."""

    def open(self, path: Path) -> int:
        """A file that exists, for appending; its descriptor."""

    def write(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        """Append all pieces; a short write is carried on with."""

    def sync(self, descriptor: int) -> None:
        """fdatasync."""

    def append(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        """`write` and `sync`: these pieces are durable when it returns."""

    def truncate(self, descriptor: int, length: int) -> None: ...

    def close(self, descriptor: int) -> None: ...

    def unlink(self, path: Path) -> None:
        """Remove a file, durably: what is removed later is not gone before it. It may be gone already."""

    def read(self, path: Path, offset: int = 0, length: int | None = None) -> bytes:
        """Exactly `length` bytes; without, all from the offset on."""

    def size(self, path: Path) -> int | None:
        """Bytes of a file; None: there is none."""

    def names(self, directory: Path) -> list[str]:
        """What is in a directory, sorted; nothing if there is none."""

    def make_directory(self, path: Path) -> None:
        """A directory, its entry durable; it may exist."""

    def remove_directory(self, path: Path) -> None:
        """An empty directory; one that is not empty stays, and there may be none."""

    def room(self, path: Path) -> Room:
        """Of the disk on which this directory is."""


class DiskFiles:
    """The real disk."""

    def create(self, path: Path) -> int:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
        except OSError as exc:
            raise StorageError(f"cannot create {path}: {exc.strerror}") from exc
        try:
            sync_directory(path.parent)
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.close(descriptor)
                path.unlink()
            raise StorageError(f"cannot create {path}: {exc.strerror}") from exc
        return descriptor

    def open(self, path: Path) -> int:
        try:
            return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as exc:
            raise StorageError(f"cannot open {path}: {exc.strerror}") from exc

    def write(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        self._write(descriptor, pieces)

    def sync(self, descriptor: int) -> None:
        try:
            os.fdatasync(descriptor)
        except OSError as exc:
            raise StorageError(f"cannot sync the spool: {exc.strerror}") from exc

    def append(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        # One call into the kernel: between two, the thread would wait for the interpreter.
        self._write(descriptor, pieces, os.RWF_DSYNC)

    @staticmethod
    def _write(descriptor: int, pieces: Sequence[bytes | memoryview], flags: int = 0) -> None:
        try:
            for start in range(0, len(pieces), _MAX_PIECES):
                _write_all(descriptor, pieces[start : start + _MAX_PIECES], flags)
        except OSError as exc:
            raise StorageError(f"cannot write to the spool: {exc.strerror}") from exc

    def truncate(self, descriptor: int, length: int) -> None:
        try:
            os.ftruncate(descriptor, length)
        except OSError as exc:
            raise StorageError(f"cannot cut a spool file: {exc.strerror}") from exc

    def close(self, descriptor: int) -> None:
        try:
            os.close(descriptor)
        except OSError as exc:
            raise StorageError(f"cannot close a spool file: {exc.strerror}") from exc

    def unlink(self, path: Path) -> None:
        try:
            # It may be gone from a try whose sync failed: then only that is left to do.
            path.unlink(missing_ok=True)
            sync_directory(path.parent)
        except OSError as exc:
            raise StorageError(f"cannot remove {path}: {exc.strerror}") from exc

    def read(self, path: Path, offset: int = 0, length: int | None = None) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                wanted = os.fstat(descriptor).st_size - offset if length is None else length
                data = os.pread(descriptor, wanted, offset) if wanted > 0 else b""
                while len(data) < wanted and (more := os.pread(descriptor, wanted - len(data), offset + len(data))):
                    data += more
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise StorageError(f"cannot read {path}: {exc.strerror}") from exc
        if len(data) != wanted:
            raise StorageError(f"{path} is shorter than its index says")
        return data

    def size(self, path: Path) -> int | None:
        try:
            return os.stat(path, follow_symlinks=False).st_size
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise StorageError(f"cannot look at {path}: {exc.strerror}") from exc

    def names(self, directory: Path) -> list[str]:
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise StorageError(f"cannot list {directory}: {exc.strerror}") from exc

    def make_directory(self, path: Path) -> None:
        try:
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise StorageError(f"cannot make {path}: something else is there")
            # Also of one that is there: whoever made it may have been killed before this.
            sync_directory(path.parent)
        except OSError as exc:
            raise StorageError(f"cannot make {path}: {exc.strerror}") from exc

    def remove_directory(self, path: Path) -> None:
        try:
            if not os.listdir(path):
                path.rmdir()
        except FileNotFoundError:
            return
        except OSError as exc:
            raise StorageError(f"cannot remove {path}: {exc.strerror}") from exc

    def room(self, path: Path) -> Room:
        try:
            disk = os.statvfs(path)
        except OSError as exc:
            raise StorageError(f"cannot look at the disk of {path}: {exc.strerror}") from exc
        inodes = disk.f_favail / disk.f_files if disk.f_files else 1.0
        return Room(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize, inodes)


def _write_all(descriptor: int, pieces: Sequence[bytes | memoryview], flags: int) -> None:
    """At the end of the file, whatever the offset says: the descriptors are for appending."""
    left = sum(map(len, pieces)) - os.pwritev(descriptor, pieces, 0, flags)
    if left:
        rest = memoryview(b"".join(pieces))[-left:]
        while rest:
            rest = rest[os.pwritev(descriptor, [rest], 0, flags) :]
