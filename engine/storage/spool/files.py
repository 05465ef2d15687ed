"""The file operations of the spool: one of the four seams that tests replace.

Everything the spool does to a disk goes through `Files`; OSError becomes StorageError here and nowhere else.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from engine.base.errors import StorageError

#: IOV_MAX of Linux: more pieces than that go in several calls.
_MAX_PIECES = 1024


class Files(Protocol):
    """What the spool asks of a disk. Every call raises StorageError and nothing else."""

    def create(self, path: Path) -> int:
        """A new file (it must not exist), its directory entry durable; its descriptor."""

    def write(self, descriptor: int, pieces: Sequence[bytes]) -> None:
        """Append all pieces; a short write is carried on with."""

    def sync(self, descriptor: int) -> None:
        """fdatasync."""

    def truncate(self, descriptor: int, length: int) -> None: ...

    def close(self, descriptor: int) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Exactly `length` bytes."""

    def size(self, path: Path) -> int:
        """Bytes of a file."""

    def names(self, directory: Path) -> list[str]:
        """What lies in a directory."""

    def make_directory(self, path: Path) -> None:
        """Make a directory, and those above it, unless it is there: its owner's alone, its entry durable."""

    def free(self, path: Path) -> tuple[float, float]:
        """Fractions of free bytes and inodes, as an unprivileged process sees them."""


class DiskFiles:
    """The real disk."""

    def create(self, path: Path) -> int:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
            sync_directory(path.parent)
        except OSError as exc:
            raise StorageError(f"cannot create {path}: {exc.strerror}") from exc
        return descriptor

    def write(self, descriptor: int, pieces: Sequence[bytes]) -> None:
        try:
            for start in range(0, len(pieces), _MAX_PIECES):
                _write_all(descriptor, pieces[start : start + _MAX_PIECES])
        except OSError as exc:
            raise StorageError(f"cannot write to the spool: {exc.strerror}") from exc

    def sync(self, descriptor: int) -> None:
        try:
            os.fdatasync(descriptor)
        except OSError as exc:
            raise StorageError(f"cannot sync the spool: {exc.strerror}") from exc

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
            path.unlink()
        except OSError as exc:
            raise StorageError(f"cannot remove {path}: {exc.strerror}") from exc

    def read(self, path: Path, offset: int, length: int) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                data = os.pread(descriptor, length, offset)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise StorageError(f"cannot read {path}: {exc.strerror}") from exc
        if len(data) != length:
            raise StorageError(f"{path} is shorter than its index says")
        return data

    def size(self, path: Path) -> int:
        try:
            return path.lstat().st_size
        except OSError as exc:
            raise StorageError(f"cannot look at {path}: {exc.strerror}") from exc

    def names(self, directory: Path) -> list[str]:
        try:
            return os.listdir(directory)
        except OSError as exc:
            raise StorageError(f"cannot list {directory}: {exc.strerror}") from exc

    def make_directory(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(path.parent)
        except OSError as exc:
            raise StorageError(f"cannot make {path}: {exc.strerror}") from exc

    def free(self, path: Path) -> tuple[float, float]:
        try:
            stat = os.statvfs(path)
        except OSError as exc:
            raise StorageError(f"cannot look at the disk of {path}: {exc.strerror}") from exc
        inodes = stat.f_favail / stat.f_files if stat.f_files else 1.0
        return stat.f_bavail / max(stat.f_blocks, 1), inodes


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, pieces: Sequence[bytes]) -> None:
    left = sum(map(len, pieces)) - os.writev(descriptor, pieces)
    if left:
        rest = memoryview(b"".join(pieces))[-left:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
