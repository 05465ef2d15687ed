"""A spool as it is at one moment, for reading only, whether a daemon runs on it or not.

Every file is opened and then kept open, so that what the daemon removes meanwhile stays readable. The moment is one at
which exactly these files were there: two listings around the opening agree. Files only grow, and each kind is measured
before those that were written first, so that whoever is seen has his reasons seen, too:

    an index is older than the segment's end     a death in a side file comes after the copy that made it
    an outcome comes after its message           a message in a segment comes after its shared content, or its large one
"""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from engine.base.descriptors import allow_many_files
from engine.base.errors import StorageError
from engine.storage.spool.files import Room
from engine.storage.spool.names import HOMES

#: In the order in which they are measured.
_KINDS = (".idx", ".sta", ".log", ".seg", ".con", ".dat")
#: Under the heaviest load a file comes or goes some times a second; a look takes milliseconds.
_TRIES = 200


class SnapshotFiles:
    """`Files` over what was there (files.py); nothing can be written. Use it in a `with`."""

    def __init__(self, directory: Path) -> None:
        """directory: of one worker's spool. Raises StorageError: there is none, or it cannot be read."""
        self._descriptors: dict[Path, int] = {}
        self._sizes: dict[Path, int] = {}
        self._names: dict[Path, list[str]] = {}
        if not directory.is_dir():
            raise StorageError(f"there is no spool at {directory}")
        allow_many_files()
        try:
            self._take(directory)
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """Let go of every file."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    @property
    def paths(self) -> list[Path]:
        """Every file of the spool, sorted."""
        return sorted(self._sizes)

    # ---- as Files

    def read(self, path: Path, offset: int = 0, length: int | None = None) -> bytes:
        size = self._sizes.get(path)
        if size is None:
            raise StorageError(f"cannot read {path}: it is not there")
        wanted = max(size - offset, 0) if length is None else length
        if offset + wanted > max(size, offset):
            raise StorageError(f"{path} is shorter than its index says")
        data = b""
        try:
            while len(data) < wanted:
                more = os.pread(self._descriptors[path], wanted - len(data), offset + len(data))
                if not more:
                    raise StorageError(f"{path} was cut while it was read")
                data = data + more if data else more
        except OSError as exc:
            raise StorageError(f"cannot read {path}: {exc.strerror}") from exc
        return data

    def size(self, path: Path) -> int | None:
        return self._sizes.get(path)

    def names(self, directory: Path) -> list[str]:
        return self._names.get(directory, [])

    def create(self, path: Path) -> int:
        _refuse()

    def open(self, path: Path) -> int:
        _refuse()

    def write(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        _refuse()

    def sync(self, descriptor: int) -> None:
        _refuse()

    def append(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        _refuse()

    def truncate(self, descriptor: int, length: int) -> None:
        _refuse()

    def close(self, descriptor: int) -> None:
        _refuse()

    def unlink(self, path: Path) -> None:
        _refuse()

    def make_directory(self, path: Path) -> None:
        _refuse()

    def remove_directory(self, path: Path) -> None:
        _refuse()

    def room(self, path: Path) -> Room:
        _refuse()

    # ---- inside

    def _take(self, directory: Path) -> None:
        before = _listing(directory)
        for _ in range(_TRIES):
            files = {d / name for d, names in before.items() for name in names if Path(name).suffix in _KINDS}
            for path in [path for path in self._descriptors if path not in files]:
                os.close(self._descriptors.pop(path))
            complete = all([self._opened(path) for path in files])
            self._measure()
            after = _listing(directory)
            if complete and after == before:
                self._names = after
                return
            before = after
        raise StorageError(f"{directory} changes faster than it can be looked at: hold deliveries, and try again")

    def _opened(self, path: Path) -> bool:
        """False: it is gone already."""
        if path in self._descriptors:
            return True
        try:
            self._descriptors[path] = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as exc:
            hint = "; raise the limit of open files (ulimit -n)" if exc.errno == errno.EMFILE else ""
            raise StorageError(f"cannot open {path}: {exc.strerror}{hint}") from exc
        return True

    def _measure(self) -> None:
        order = sorted(self._descriptors, key=lambda path: _KINDS.index(path.suffix))
        self._sizes = {path: os.fstat(self._descriptors[path]).st_size for path in order}


def _listing(directory: Path) -> dict[Path, list[str]]:
    """The names in every directory of a spool, sorted."""
    try:
        folders = [directory / "journal", directory / "shared", directory / "large"]
        for home in HOMES:
            with contextlib.suppress(FileNotFoundError):
                folders += [
                    directory / home,
                    *(directory / home / name for name in sorted(os.listdir(directory / home))),
                ]
        found: dict[Path, list[str]] = {}
        for folder in folders:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found[folder] = sorted(os.listdir(folder))
        return found
    except OSError as exc:
        raise StorageError(f"cannot list {directory}: {exc.strerror}") from exc


def _refuse() -> NoReturn:
    raise StorageError("a snapshot of a spool is for reading only")
