"""The files of a ledger, and how long they are kept.

    <data_dir>/ledger/<worker>/000000000001.5f3a91c2.log      records, appended by one writer; read by anyone
    <data_dir>/ledger/<worker>/000000000001.5f3a91c2.index    once nothing is appended any more

The second part of a name is the salt of the records' checksums. A start opens another file, and never goes on with an
old one: where a crash left that without an index, it gets one, and what is torn at its end is cut off.
"""

import logging
import mmap
import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from engine.base.errors import StorageError
from engine.storage.ledger.index import Columns, read_head, write_index
from engine.storage.ledger.record import Damage, scan

log = logging.getLogger(__name__)

_NAME: Final = re.compile(r"([0-9]{12})\.([0-9a-f]{8})\.log")
_WORKER: Final = re.compile(r"[0-9]{1,4}")


class Name(NamedTuple):
    """A file of a ledger."""

    directory: Path
    number: int
    salt: int

    @property
    def log_path(self) -> Path:
        return self.directory / f"{self.number:012}.{self.salt:08x}.log"

    @property
    def index_path(self) -> Path:
        return self.log_path.with_suffix(".index")


def ledger_directory(data_dir: str | Path, worker: int = 0) -> Path:
    """Where a worker's ledger is."""
    return Path(data_dir) / "ledger" / str(worker)


def ledgers(data_dir: str | Path) -> list[int]:
    """The workers that have a ledger, of now and of before. Raises StorageError."""
    parent = ledger_directory(data_dir).parent
    try:
        return sorted(int(name) for name in os.listdir(parent) if _WORKER.fullmatch(name))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StorageError(f"{parent}: {exc.strerror}") from exc


def segment_names(directory: Path) -> list[Name]:
    """The files of a ledger, the oldest first; of a directory that is not there, none. Raises StorageError."""
    try:
        found = [match for name in os.listdir(directory) if (match := _NAME.fullmatch(name))]
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StorageError(f"{directory}: {exc.strerror}") from exc
    return sorted(Name(directory, int(match[1]), int(match[2], 16)) for match in found)


def seal(name: Name) -> None:
    """Make the index of a file that nothing is appended to any more, and cut off what is torn. Raises StorageError."""
    try:
        fd = os.open(name.log_path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            info = os.fstat(fd)
            columns, end = _read(name, fd, info.st_size)
            if not end:
                name.log_path.unlink()
                return
            if end < info.st_size:
                log.warning("%s: torn at its end: %d bytes are cut off", name.log_path, info.st_size - end)
                os.ftruncate(fd, end)
            # Before the index says so: what it leads to is on disk.
            os.fsync(fd)
        finally:
            os.close(fd)
        write_index(name.index_path, columns, info.st_mtime, end)
    except OSError as exc:
        raise StorageError(f"{name.log_path}: no index can be made: {exc.strerror}") from exc


def expire(directory: Path, before: float) -> None:
    """Delete the files that were last written to before this time (unix seconds). Raises StorageError.

    A file that is appended to is never so old: another is opened long before.
    """
    for name in segment_names(directory):
        head = read_head(name.index_path)
        try:
            if (head.newest if head is not None else name.log_path.stat().st_mtime) < before:
                name.index_path.unlink(missing_ok=True)
                name.log_path.unlink()
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise StorageError(f"{name.log_path}: {exc.strerror}") from exc


def _read(name: Name, fd: int, size: int) -> tuple[Columns, int]:
    """Its tables, and where its last whole record ends."""
    columns, end = Columns(), 0
    if not size:
        return columns, 0
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as data:
        for found in scan(data, name.salt):
            if not isinstance(found, Damage):
                columns.add(found.kind, found.key, found.other, found.offset)
                end = found.end
            elif not found.torn:
                log.error("%s: damaged from byte %d to %d; the rest goes on", name.log_path, found.offset, found.end)
    return columns, end
