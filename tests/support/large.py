"""Large contents: one whose file is a test's memory, and those of a spool on disk."""

from pathlib import Path

from crc32c import crc32c

from engine.base.errors import StorageError
from engine.message.content import SLICE_BYTES, Content, LargeContent, LargeFile
from engine.storage.spool.spool import Spool

HEAD = b"Subject: x\r\n\r\n"
#: A little more than three slices, framed as intake frames it; no two lines are the same.
REST = b"".join(b"%08d line of a large message\r\n" % n for n in range(3 * SLICE_BYTES // 36 + 2))


async def written(spool: Spool, rest: bytes = REST) -> Content:
    """A content of HEAD and `rest`, streamed to the spool as intake does; nothing names it yet."""
    writer = spool.large()
    for start in range(0, len(rest), 100_000):
        writer.feed(rest[start : start + 100_000])
        await writer.room()
    return await writer.finish(HEAD)


def large_files(spool_directory: Path) -> list[Path]:
    """The files of large contents, and whatever else lies there."""
    return sorted((spool_directory / "large").iterdir())


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
