"""How a file of the ledger is searched: sorted numbers, and where in the file the record of each begins.

Five tables, as there are five things to look for:

    SENT         the number of a message id                MESSAGE_ID   the hash of a Message-ID
    TABLE        the first bytes of a table's hash         DELIVERED    a message id and a recipient's index, mixed
    SHORT        the number of short links

A number may be there several times, and may be that of something else: who looks reads the record and compares. Of a
file that is closed they lie beside it:

     0  magic "PsLi0001"     8  entries of each table, 5 x u64    48  least, most message id u64, bytes of the file u64
    72  newest f64          80  CRC-32C of what stands behind 88 u32, of bytes 0..84 u32
    88  numbers of each table u64, ascending; then offsets of each u32

`newest` is when the file was last written to, in unix seconds. Little-endian, as everything that runs this is.
"""

import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from engine.base.errors import StorageError
from engine.storage.directories import sync_directory
from engine.storage.ledger.record import Kind

SENT, MESSAGE_ID, TABLE, DELIVERED, SHORT = range(5)
_TABLES: Final = range(5)
#: As plain numbers: a member of an enum is looked up in its class, for twenty times the time.
_SENT, _TABLE, _DELIVERED, _SHORT = map(int, Kind)
_MAGIC: Final = b"PsLi0001"
_HEAD: Final = struct.Struct("<8s8QdII")
_CRC_AT: Final = 84
_MASK: Final = (1 << 64) - 1
#: Spreads the recipients of one message; odd, so that no two come together. 2**64 over the golden ratio.
_STEP: Final = 0x9E37_79B9_7F4A_7C15
_NEVER: Final = _MASK
#: Records of one number: notes of a message, or messages with the same Message-ID.
MOST_FOUND: Final = 1000

Numbers = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.uint32]


class Head(NamedTuple):
    """What stands on top of an index. counts: of the tables. least, most: message ids, as numbers."""

    counts: tuple[int, ...]
    least: int
    most: int
    log_bytes: int
    newest: float
    crc: int


def delivered_key(message: int, index: int) -> int:
    """What a delivery to a recipient is looked up by."""
    return (message + index * _STEP) & _MASK


class Part:
    """The tables, sorted. numbers, offsets: of each, what bisect and an index take."""

    def __init__(self, numbers: Sequence[memoryview], offsets: Sequence[memoryview], least: int, most: int) -> None:
        self._numbers, self._offsets = numbers, offsets
        self.least, self.most = least, most

    def offsets(self, table: int, number: int) -> list[int]:
        """Where the records of a number begin, the newest first; of very many, the newest."""
        numbers, found = self._numbers[table], list[int]()
        at = bisect_right(numbers, number) - 1
        while at >= 0 and numbers[at] == number and len(found) < MOST_FOUND:
            found.append(self._offsets[table][at])
            at -= 1
        return found


class Columns:
    """Tables that grow, in the order of the file."""

    def __init__(self) -> None:
        self.numbers = [array("Q") for _ in _TABLES]
        self.offsets = [array("I") for _ in _TABLES]
        self.least, self.most = _NEVER, 0

    def add(self, kind: int, key: int, other: int, offset: int) -> None:
        """A record, and where it begins. key, other: as it has them."""
        numbers, offsets = self.numbers, self.offsets
        if kind == _TABLE:
            numbers[TABLE].append(key)
            offsets[TABLE].append(offset)
            return
        if kind == _SHORT:
            numbers[SHORT].append(key)
            offsets[SHORT].append(offset)
            return
        if kind == _SENT:
            numbers[SENT].append(key)
            offsets[SENT].append(offset)
            if other:
                numbers[MESSAGE_ID].append(other)
                offsets[MESSAGE_ID].append(offset)
        elif kind == _DELIVERED:
            numbers[DELIVERED].append(delivered_key(key, other))
            offsets[DELIVERED].append(offset)
        if key < self.least:
            self.least = key
        if key > self.most:
            self.most = key

    def sorted(self) -> "tuple[list[Numbers], list[Offsets]]":
        numbers, offsets = [], []
        for table in _TABLES:
            own = np.frombuffer(self.numbers[table], np.uint64)
            order = np.argsort(own, kind="stable")
            numbers.append(own[order])
            offsets.append(np.frombuffer(self.offsets[table], np.uint32)[order])
        return numbers, offsets

    def part(self) -> Part:
        numbers, offsets = self.sorted()
        return Part([each.data for each in numbers], [each.data for each in offsets], self.least, self.most)


def write_index(path: Path, columns: Columns, newest: float, log_bytes: int) -> None:
    """Whole or not at all. newest: unix seconds. Raises OSError."""
    numbers, offsets = columns.sorted()
    counts = [len(each) for each in numbers]
    body = b"".join([*(each.tobytes() for each in numbers), *(each.tobytes() for each in offsets)])
    head = _HEAD.pack(_MAGIC, *counts, columns.least, columns.most, log_bytes, newest, crc32c(body), 0)[:_CRC_AT]
    head += crc32c(head).to_bytes(4, "little")
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(head)
        file.write(body)
        file.flush()
        os.fsync(fd)
    temporary.rename(path)
    sync_directory(path.parent)


def read_head(path: Path) -> Head | None:
    """None: there is no index, or it is damaged."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            data, size = os.pread(fd, _HEAD.size, 0), os.fstat(fd).st_size
        finally:
            os.close(fd)
    except OSError:
        return None
    if len(data) < _HEAD.size or data[:8] != _MAGIC:
        return None
    _, *counts, least, most, log_bytes, newest, crc, head_crc = _HEAD.unpack(data)
    if crc32c(data[:_CRC_AT]) != head_crc:
        return None
    head = Head(tuple(counts), least, most, log_bytes, newest, crc)
    return head if size == _HEAD.size + 12 * sum(counts) else None


def open_index(path: Path, head: Head, *, check: bool) -> Part:
    """The tables of an index. check: its checksum, too; once is enough. Raises StorageError: it is damaged, or gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            view = memoryview(mmap(fd, 0, access=ACCESS_READ))
        finally:
            os.close(fd)
    except (OSError, ValueError) as exc:
        raise StorageError(f"{path}: {exc}") from exc
    if len(view) != _HEAD.size + 12 * sum(head.counts) or (check and crc32c(view[_HEAD.size :]) != head.crc):
        raise StorageError(f"{path} is damaged")
    numbers, offsets, start = [], [], _HEAD.size
    for count in head.counts:
        numbers.append(view[start : start + 8 * count].cast("Q"))
        start += 8 * count
    for count in head.counts:
        offsets.append(view[start : start + 4 * count].cast("I"))
        start += 4 * count
    return Part(numbers, offsets, head.least, head.most)
