"""A large content whose file is a test's memory."""

from crc32c import crc32c

from engine.base.errors import StorageError
from engine.message.content import SLICE_BYTES, LargeContent, LargeFile


class Readable:
    """`content` after its head; counts the slices that were read. damaged: its checksum is wrong. fails_at: slice."""

    def __init__(self, content: bytes, *, damaged: bool = False, fails_at: int | None = None) -> None:
        cut = content.find(b"\r\n\r\n") + 4
        self.head, self.rest = content[:cut], content[cut:]
        self.reads = 0
        self._fails_at = fails_at
        file = LargeFile("f1", len(self.rest), crc32c(self.rest) ^ damaged)
        self.content = LargeContent(self.head, file, self._read)

    def _read(self, offset: int, length: int) -> bytes:
        assert length <= SLICE_BYTES
        if self.reads == self._fails_at:
            raise StorageError("cannot read f1: Input/output error")
        self.reads += 1
        return self.rest[offset : offset + length]
