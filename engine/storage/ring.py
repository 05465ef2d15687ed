"""Records in shared memory that a killed process leaves behind, in a ring: written without any call to the disk.

    append    behind the last; from then on it survives the process
    drop      the first ones, when they are safe elsewhere
    records   what was not dropped when the file was opened

After a power cut the file says what it said some seconds earlier, and what is torn ends it; the log says so.
"""

import logging
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.base.errors import StorageError

log = logging.getLogger(__name__)

#: Before each record: its position, its length, its checksum. A position counts the bytes since the file was new, so it
#: tells a record from what an earlier lap left in the same place.
_HEAD: Final = struct.Struct("<QII")
#: The file begins with the position of the first record.
_FIRST: Final = struct.Struct("<Q")
_BEGIN: Final = 4096
_LAST: Final = 1 << 62


class Ring:
    """See above."""

    def __init__(self, path: Path, size: int) -> None:
        """size: bytes for records and their heads; of a file that is there, always the same. Raises StorageError."""
        self._size = size
        self._path = path
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                # Not a file with holes: a full disk would kill the process that writes into one.
                os.posix_fallocate(descriptor, 0, _BEGIN + size)
                self._map = mmap.mmap(descriptor, _BEGIN + size)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise StorageError(f"cannot use {path}: {exc.strerror}") from exc
        [first] = _FIRST.unpack_from(self._map)
        self._first: int = first if first <= _LAST else 0  # or somebody else has written it
        self._end = self._first
        self._found = list(self._read())

    @property
    def end(self) -> int:
        """The position behind the last record."""
        return self._end

    def records(self) -> Iterator[bytes]:
        """What was in it when it was opened, oldest first; once."""
        found, self._found = self._found, []
        return iter(found)

    def append(self, record: bytes) -> bool:
        """False: there is no room for it now. An empty one is none."""
        size, end = self._size, self._end
        length = _HEAD.size + len(record)
        at = end % size
        if at + length > size:  # on the next lap
            end += size - at
            at = 0
        if end + length - self._first > size:
            return False
        at += _BEGIN
        self._map[at + _HEAD.size : at + length] = record
        _HEAD.pack_into(self._map, at, end, len(record), zlib.crc32(record))
        self._end = end + length
        return True

    def drop(self, end: int) -> None:
        """Everything before this position, which `end` was once."""
        self._first = max(self._first, end)
        _FIRST.pack_into(self._map, 0, self._first)

    def close(self) -> None:
        self._map.close()

    def _read(self) -> Iterator[bytes]:
        while True:
            at = self._end % self._size
            record = self._record(self._end)
            if record is None and at:
                record = self._record(self._end - at + self._size)
                if record is not None:
                    self._end += self._size - at
            if record is None:
                return
            self._end += _HEAD.size + len(record)
            yield record

    def _record(self, position: int) -> bytes | None:
        """What was written at this position, if it was, and is whole."""
        start = position % self._size
        if start + _HEAD.size > self._size:
            return None
        written, length, checksum = _HEAD.unpack_from(self._map, _BEGIN + start)
        if written != position or not length or start + _HEAD.size + length > self._size:
            return None
        data = _BEGIN + start + _HEAD.size
        record = bytes(self._map[data : data + length])
        if zlib.crc32(record) != checksum:
            log.warning("%s: the record at %d is damaged; it and what follows it are not read", self._path, position)
            return None
        return record
