"""One file of the ledger as a reader has it: closed and with an index, or still growing.

What grows is followed record by record, as far as it is whole; its last records are in dictionaries, those before in
tables like an index.
"""

import logging
import os
from typing import Final

from engine.base.errors import StorageError
from engine.storage.ledger.index import Columns, Head, Part, open_index, read_head
from engine.storage.ledger.record import HEAD_BYTES, Damage, Record, decode, payload_bytes, scan
from engine.storage.ledger.segments import Name

log = logging.getLogger(__name__)

#: Read at once of a record: most are shorter.
_GUESS_BYTES: Final = 512
#: So many entries are in dictionaries, or this part of all; then they become tables.
_RECENT: Final = 8192
_RECENT_PART: Final = 8
#: Read at once of a file whose index is damaged.
_CHUNK: Final = 1 << 20


class Segment:
    """See above. least, most: ids of its messages, as numbers. Methods raise StorageError: it cannot be read."""

    def __init__(self, name: Name) -> None:
        self.name = name
        self.least, self.most = 0, 0
        self.closed = False
        self._head: Head | None = None
        self._fd = -1
        self._part: Part | None = None
        self._checked = self._distrusted = False
        self._grown = _Growing(name)
        self.settle()

    def settle(self) -> None:
        """Take the index, if there is one by now."""
        if self.closed or self._distrusted:
            return
        self._head = read_head(self.name.index_path)
        if self._head is not None:
            self.closed = True
            self.least, self.most = self._head.least, self._head.most
            self._grown = _Growing(self.name)
            self.release()

    def follow(self, limit: int) -> bool:
        """Take in what was appended; True: there is more. limit: bytes that are read, or those of one record."""
        if self.closed:
            return False
        grown, fd = self._grown, self._open()
        before, left = grown.position, os.fstat(fd).st_size - grown.position
        if left <= 0:
            return False
        data = self._read(fd, min(limit, left), before)
        grown.take(data, more=left > limit)
        if grown.position == before and left > limit:
            length = HEAD_BYTES + payload_bytes(data[:HEAD_BYTES])
            if limit < length <= left:
                grown.take(self._read(fd, length, before), more=left > length)
        return before < grown.position < before + left

    def records(self, table: int, number: int) -> list[Record]:
        """Those that a table of the index leads to, the newest first; a damaged one is passed over (S5)."""
        offsets = (self._part or self._tables()).offsets(table, number)
        return [record for offset in offsets if (record := self._record(offset)) is not None]

    def release(self) -> None:
        """Let go of descriptors and maps; they are opened again when they are needed."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._part = -1, None

    def _tables(self) -> "Part | _Growing":
        if self._head is None:
            return self._grown
        if self._part is None:
            try:
                self._part = open_index(self.name.index_path, self._head, check=not self._checked)
                self._checked = True
            except StorageError as exc:
                return self._without(exc)
        return self._part

    def _without(self, error: StorageError) -> "_Growing":
        """An index that is damaged is none. Raises StorageError: the file is gone as well."""
        log.error("%s: the file is read without it", error)
        self._head, self.closed, self._distrusted = None, False, True
        while self.follow(_CHUNK):
            pass
        return self._grown

    def _record(self, offset: int) -> Record | None:
        fd = self._open()
        data = self._read(fd, _GUESS_BYTES, offset)
        length = HEAD_BYTES + payload_bytes(data[:HEAD_BYTES])
        if length > len(data):
            data = self._read(fd, length, offset)
        return decode(data, 0, self.name.salt, offset)

    def _open(self) -> int:
        if self._fd < 0:
            try:
                self._fd = os.open(self.name.log_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as exc:
                raise StorageError(f"{self.name.log_path}: {exc.strerror}") from exc
        return self._fd

    def _read(self, fd: int, size: int, offset: int) -> bytes:
        try:
            return os.pread(fd, size, offset)
        except OSError as exc:
            raise StorageError(f"{self.name.log_path}: {exc.strerror}") from exc


class _Growing:
    """What is known of a file that has no index. position: of the byte behind the last record that was taken."""

    def __init__(self, name: Name) -> None:
        self.position = 0
        self._name = name
        self._columns = Columns()
        self._part: Part | None = None
        self._recent: list[dict[int, list[int]]] = [{} for _ in self._columns.numbers]
        self._read = [0 for _ in self._columns.numbers]  #: how much of each column is in a dictionary or in tables
        self._count = 0  #: in the dictionaries

    def take(self, data: bytes, *, more: bool) -> None:
        """What comes at `position`. more: the file goes on behind it."""
        start, add = self.position, self._columns.add
        for found in scan(data, self._name.salt, start):
            if isinstance(found, Record):
                add(found.kind, found.key, found.other, found.offset)
                self.position = found.end
            elif not found.torn:
                self._tell(found)
                self.position = found.end
            elif more:
                self._pass_over(found, data[found.offset - start :])
        self._note()

    def offsets(self, table: int, number: int) -> list[int]:
        """As `Part.offsets`."""
        found = self._recent[table].get(number, [])[::-1]
        return found + self._part.offsets(table, number) if self._part is not None else found

    def _pass_over(self, damage: Damage, rest: bytes) -> None:
        """Unless it may be a record that goes on behind what was read. rest: from it on."""
        payload = payload_bytes(rest[:HEAD_BYTES])
        if len(rest) >= HEAD_BYTES and not 0 <= len(rest) - HEAD_BYTES < payload:
            self._tell(damage)
            self.position = damage.end - HEAD_BYTES + 1

    def _tell(self, damage: Damage) -> None:
        log.error("%s: damaged from byte %d to %d; the rest goes on", self._name.log_path, damage.offset, damage.end)

    def _note(self) -> None:
        """What is new in the columns goes to the dictionaries; when these are large, all goes to tables."""
        columns = self._columns
        whole = sum(map(len, columns.numbers))
        new = whole - sum(self._read)
        self._count += new
        if self._count > _RECENT and self._count > whole // _RECENT_PART:
            self._part = columns.part()
            self._recent = [{} for _ in columns.numbers]
            self._count = 0
        elif new:
            for recent, numbers, offsets, start in zip(
                self._recent, columns.numbers, columns.offsets, self._read, strict=True
            ):
                for at in range(start, len(numbers)):
                    recent.setdefault(numbers[at], []).append(offsets[at])
        self._read = list(map(len, columns.numbers))
