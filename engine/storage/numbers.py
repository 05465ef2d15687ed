"""Numbers that are given out once and never again, whatever happens: a file says up to which they may be used.

They are reserved some thousands at a time; what a stop leaves of these is not used.
"""

import os
from pathlib import Path

from engine.base.errors import StorageError
from engine.storage.directories import sync_directory

RESERVED = 4096


class Numbers:
    """One process at a time. Raises StorageError: the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._next = self._end = int(path.read_text("ascii")) if path.exists() else 0
        except (OSError, ValueError) as exc:
            raise StorageError(f"{path} cannot be read: {exc}") from exc

    def take(self, count: int) -> int:
        """The first of so many, one behind the other. Raises StorageError: more could not be reserved."""
        first = self._next
        if first + count > self._end:
            self._reserve(first + max(count, RESERVED))
        self._next = first + count
        return first

    def _reserve(self, end: int) -> None:
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            descriptor = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(f"{end}\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._path)
            sync_directory(self._path.parent)
        except OSError as exc:
            raise StorageError(f"{self._path}: {exc.strerror or exc}") from exc
        self._end = end
