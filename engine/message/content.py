"""The content of a message: plain bytes, or a head in memory and the rest in a file of its own.

Most contents are small and stay what they are, `bytes`. One above `[spool] large_bytes` is a LargeContent: nobody
ever holds all of it, whoever needs its bytes goes through its slices. `len` is the size of either; what concerns the
header alone looks at `head_of`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from crc32c import crc32c

from engine.base.errors import StorageError

SLICE_BYTES: Final = 256 << 10  #: the most of a large content that is handled at a time


class LargeFile(NamedTuple):
    """Where the rest of a large content lies, as a MESSAGE frame names it. crc: CRC-32C of all of it."""

    name: str
    length: int
    crc: int


@dataclass(frozen=True, slots=True)
class LargeContent:
    """head: the header with its empty line, perhaps the start of the body. read: bytes of the file at (offset, length).

    `read` blocks and raises StorageError; so do the slices, which are for a thread.
    """

    head: bytes = field(repr=False)
    file: LargeFile
    read: Callable[[int, int], bytes] = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.head) + self.file.length

    def rest(self) -> Iterator[bytes]:
        """What lies in the file, in slices.

        Raises StorageError: it cannot be read, or is not what was written. That is known before the last slice is
        given, so whoever passes the slices on never completes a damaged message.
        """
        offset, crc, length = 0, 0, self.file.length
        while offset < length:
            data = self.read(offset, min(SLICE_BYTES, length - offset))
            crc = crc32c(data, crc)
            offset += len(data)
            if offset == length and crc != self.file.crc:
                raise StorageError(f"large content {self.file.name} is damaged: its checksum is wrong")
            yield data


Content = bytes | LargeContent


def head_of(content: Content) -> bytes:
    """Bytes that hold the whole header; of a small content all of it."""
    return content.head if isinstance(content, LargeContent) else content


def file_of_large(content: Content) -> LargeFile | None:
    """Where the rest of a large content lies; None: it is not large."""
    return content.file if isinstance(content, LargeContent) else None


def whole(content: Content) -> bytes:
    """All of it, for who cannot do with less. Blocks. Raises StorageError."""
    return content if isinstance(content, bytes) else b"".join((content.head, *content.rest()))
