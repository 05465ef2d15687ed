"""The frame: the one record of every file of the spool.

     0  magic "PsF1"      4  type u8, zero u8, zero u16      8  header length u32     12  body length u32
    16  number u64       24  CRC-32C of the header u32      28  CRC-32C of the body u32
    32  CRC-32C of bytes 4..32 u32                          36  header, then body

Little-endian. The header is a msgpack array, the body raw bytes (a message's content, or the head of a large one,
whose rest has a file of its own; empty elsewhere). Three checksums, so that lengths are known to be right before they
are believed, and so that an index can be read without the bodies. Each starts from the salt of its file, a random
number in the file's name: a content that happens, or was made, to look like a frame is not taken for one when a reader
looks for the next after damage.

The number grows by one with every frame of a worker, over all files: it names the events the frame gives.
"""

import enum
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped]  # ships no types
from crc32c import crc32c
from mypy_extensions import mypyc_attr

from engine.base.errors import StorageError

MAGIC: Final = b"PsF1"
#: First field of every header. A reader that finds another refuses the file: it is of a later program.
VERSION: Final = 1
_PREFIX: Final = struct.Struct("<4sBBHIIQII")
_CRC: Final = struct.Struct("<I")
PREFIX_BYTES: Final = _PREFIX.size + _CRC.size
MAX_BODY_BYTES: Final = (1 << 32) - 1

_pack: Final[Callable[[list[Any]], bytes]] = msgpack.Packer(autoreset=True).pack


class FrameType(enum.IntEnum):
    """Values are on disk: never renumber."""

    SEGMENT = 1  #: first frame of a file: whose, which tails of older ones were abandoned (S4), which events are safe
    MESSAGE = 2  #: a message with its deliveries and their states; a later one of the same id replaces it
    OUTCOME = 3  #: what happened to recipients of one delivery, and when it is due again
    STORED = 4  #: a message for one destination, in the segment of that destination
    STATE = 5  #: a newer state of a STORED message, in the side file
    DEAD = 6  #: STORED messages that are final, in the side file
    CONTENT = 7  #: a content that several STORED messages share
    INDEX = 8  #: what a start must know of a segment
    TAKEN_IN = 9  #: deliveries of one message that came from another spool, in the journal
    JOURNAL = 10  #: second frame of a file of the journal: which older ones there are, and how long they are
    RETIRED = 11  #: a file of the journal that goes once this is durable
    NOTED = 12  #: events that are of no delivery here, in the journal
    # Of a stream to another node (export.py), which is in no file of the spool:
    STREAM = 32  #: its first frame
    EXPORTED = 33  #: a message with its whole content and those of its deliveries that are exported
    END = 34  #: its last frame


class Frame(NamedTuple):
    """One whole frame. offset: of its first byte in the file; end: of the byte after its last."""

    type: int
    number: int
    header: list[Any]
    body: "memoryview"  # a string: mypyc does not find the class
    offset: int
    end: int


class Damage(NamedTuple):
    """Bytes that are no frame. torn: they end in the middle of one, as after a crash in the middle of a write."""

    offset: int
    end: int
    torn: bool


@mypyc_attr(native_class=False)
class RecordDamaged(StorageError):
    """What the disk gave is not what was written."""


def encode(salt: int, kind: FrameType, number: int, header: list[Any], body: bytes | memoryview = b"") -> bytes:
    """Everything of a frame but its body, which is written right behind: no copy of a large content."""
    packed = _pack(header)
    body_crc = crc32c(body, salt) if body else salt
    prefix = _PREFIX.pack(MAGIC, kind, 0, 0, len(packed), len(body), number, crc32c(packed, salt), body_crc)
    return prefix + _CRC.pack(crc32c(prefix[4:], salt)) + packed


def decode(data: memoryview, offset: int, salt: int, *, head: bool = False) -> Frame | None:
    """The frame that starts at `offset`, or None if there is no whole and valid one.

    head: its first part is enough, up to the end of the header. The body is then unread and empty.
    """
    prefix = _prefix(data, offset, salt)
    if prefix is None:
        return None
    kind, header_bytes, body_bytes, number, header_crc, body_crc = prefix
    start = offset + PREFIX_BYTES
    middle = start + header_bytes
    end = middle + body_bytes
    if (middle if head else end) > len(data) or crc32c(data[start:middle], salt) != header_crc:
        return None
    if not head and crc32c(data[middle:end], salt) != body_crc:
        return None
    header = _header(data[start:middle])
    return None if header is None else Frame(kind, number, header, data[middle : middle if head else end], offset, end)


def frame_bytes(data: memoryview, salt: int) -> int | None:
    """How long the frame is that begins here, by its prefix; None if there is no valid one."""
    prefix = _prefix(data, 0, salt)
    return None if prefix is None else PREFIX_BYTES + prefix[1] + prefix[2]


def _header(packed: memoryview) -> list[Any] | None:
    try:
        header = msgpack.unpackb(packed)
    except (ValueError, msgpack.UnpackException):
        return None
    return header if isinstance(header, list) else None


def _prefix(data: memoryview, offset: int, salt: int) -> tuple[int, int, int, int, int, int] | None:
    """Type, header length, body length, number and the checksums of both, if there is a valid prefix."""
    start = offset + PREFIX_BYTES
    if start > len(data):
        return None
    magic, kind, _, _, header_bytes, body_bytes, number, header_crc, body_crc = _PREFIX.unpack_from(data, offset)
    (prefix_crc,) = _CRC.unpack_from(data, start - _CRC.size)
    if magic != MAGIC or crc32c(data[offset + 4 : start - _CRC.size], salt) != prefix_crc:
        return None
    return kind, header_bytes, body_bytes, number, header_crc, body_crc


def _is_all_there(data: memoryview, offset: int, salt: int) -> bool:
    """Whether the file is as long as the prefix at `offset` says."""
    prefix = _prefix(data, offset, salt)
    return prefix is not None and offset + PREFIX_BYTES + prefix[1] + prefix[2] <= len(data)


def scan(data: bytes, salt: int) -> Iterator[Frame | Damage]:
    """Every frame of a file in order, with the damage between them (S3, S5). Any bytes give a result.

    data: bytes, or an mmap of the file.
    """
    view, offset = memoryview(data), 0
    while offset < len(view):
        frame = decode(view, offset, salt)
        if frame is not None:
            yield frame
            offset = frame.end
            continue
        end = _next_frame(data, view, offset + 1, salt)
        # A frame that is all there and yet not valid was no torn write: it may have been acknowledged.
        yield Damage(offset, end, torn=end == len(view) and not _is_all_there(view, offset, salt))
        offset = end


def _next_frame(data: bytes, view: memoryview, offset: int, salt: int) -> int:
    """Where the next whole frame starts after damage, or the end."""
    while (offset := data.find(MAGIC, offset)) >= 0:
        if decode(view, offset, salt) is not None:
            return offset
        offset += 1
    return len(view)
