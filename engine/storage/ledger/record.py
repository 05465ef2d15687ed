"""The record: what every file of the ledger consists of.

     0  magic "Pl1"      3  kind u8      4  payload length u32
     8  key u64         16  node u32    20  other u64           28  CRC-32C of bytes 0..28 and the payload u32

Little-endian. What a record is found by stands in front, so that an index is made without reading payloads:

    SENT        key, node: the message id (message/ids.py)    other: hash of the Message-ID      payload: sent.Sent
    TABLE       key: the first bytes of its hash              node, other: 0                     payload: hash, links
    DELIVERED   key, node: the message id                     other: the recipient's index       payload: unix seconds
    SHORT       key: the number of short links                other, node: the message id        payload: its index u32

The checksum starts from the salt of its file, a random number in the file's name: a URL that was made to look like a
record is not taken for one when a reader looks for the next after damage.
"""

import enum
import struct
from collections.abc import Iterator
from hashlib import blake2b
from mmap import mmap
from typing import Final, NamedTuple

from crc32c import crc32c

MAGIC: Final = b"Pl1"
_FRONT: Final = struct.Struct("<3sBIQIQ")
_CRC: Final = struct.Struct("<I")
_WHOLE: Final = struct.Struct("<3sBIQIQI")
HEAD_BYTES: Final = _WHOLE.size
#: A message of 1,000 recipients has 256 KiB at most, a table of links what a message may have.
MAX_PAYLOAD_BYTES: Final = 64 << 20
_TIME: Final = struct.Struct("<d")
_INDEX: Final = struct.Struct("<I")


class Kind(enum.IntEnum):
    """Values are on disk: never renumber."""

    SENT = 1
    TABLE = 2
    DELIVERED = 3
    SHORT = 4


class Item(NamedTuple):
    """A record that is not in a file yet."""

    kind: int
    key: int
    node: int
    other: int
    payload: bytes


class Record(NamedTuple):
    """One whole record. end: of the byte after its last."""

    kind: int
    key: int
    node: int
    other: int
    payload: bytes
    offset: int
    end: int


class Damage(NamedTuple):
    """Bytes that are no record. torn: the file ends in them, as after a crash in a write, or in the middle of one."""

    offset: int
    end: int
    torn: bool


def message_id_hash(message_id: str) -> int:
    """What a Message-ID is looked up by. message_id: without <>."""
    return int.from_bytes(blake2b(message_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def table_key(table: bytes) -> int:
    """What a table of links is looked up by."""
    return int.from_bytes(table[:8], "little")


def encode(salt: int, item: Item) -> bytes:
    kind, key, node, other, payload = item
    front = _FRONT.pack(MAGIC, kind, len(payload), key, node, other)
    return front + _CRC.pack(crc32c(payload, crc32c(front, salt))) + payload


def payload_bytes(head: bytes) -> int:
    """How long the payload is that follows, as this beginning of a record says; -1: it is none."""
    if len(head) < HEAD_BYTES or head[:3] != MAGIC:
        return -1
    (length,) = struct.unpack_from("<I", head, 4)
    return int(length) if length <= MAX_PAYLOAD_BYTES else -1


def decode(data: bytes | mmap, offset: int, salt: int, base: int = 0) -> Record | None:
    """The record at `offset`; None if there is no whole and valid one. base: where in the file the data begin."""
    start = offset + HEAD_BYTES
    if start > len(data):
        return None
    magic, kind, length, key, node, other, crc = _WHOLE.unpack_from(data, offset)
    end = start + length
    if magic != MAGIC or end > len(data):
        return None
    payload = data[start:end]
    if crc32c(payload, crc32c(data[offset : start - _CRC.size], salt)) != crc:
        return None
    return Record(kind, key, node, other, payload, base + offset, base + end)


def scan(data: bytes | mmap, salt: int, base: int = 0) -> Iterator[Record | Damage]:
    """Every record of some bytes in order, with the damage between them (S5). Any bytes give a result."""
    offset = 0
    while offset < len(data):
        record = decode(data, offset, salt, base)
        if record is not None:
            yield record
            offset = record.end - base
            continue
        end = _next(data, offset + 1, salt)
        yield Damage(base + offset, base + end, torn=end == len(data))
        offset = end


def _next(data: bytes | mmap, offset: int, salt: int) -> int:
    """Where the next whole record begins, or the end."""
    while (offset := data.find(MAGIC, offset)) >= 0:
        if decode(data, offset, salt) is not None:
            return offset
        offset += 1
    return len(data)


def time_payload(at: float) -> bytes:
    return _TIME.pack(at)


def time_in(payload: bytes) -> float | None:
    """None: it is none."""
    return float(_TIME.unpack(payload)[0]) if len(payload) == _TIME.size else None


def index_payload(index: int) -> bytes:
    return _INDEX.pack(index)


def index_in(payload: bytes) -> int | None:
    """None: it is none."""
    return int(_INDEX.unpack(payload)[0]) if len(payload) == _INDEX.size else None
