"""TLVs, the optional parameters of a PDU: bytes to (tag, value) and back (SMPP 3.4 3.2.4, 5.0 4.8).

Nothing is known here of any tag: unknown ones, duplicates and those that do not belong are kept, in their order.
"""

import struct
from collections.abc import Iterable
from typing import Final

#: tag 0..0xFFFF, value of at most 0xFFFF octets.
Tlv = tuple[int, bytes]

_HEAD: Final = struct.Struct(">HH")
_HEAD_BYTES: Final = _HEAD.size


def read_tlvs(data: bytes, at: int, end: int) -> tuple[tuple[Tlv, ...], bytes]:
    """The TLVs of data[at:end], and what at its end is no whole one; NULs there mean nothing."""
    found = []
    while at + _HEAD_BYTES <= end:
        tag, length = _HEAD.unpack_from(data, at)
        start = at + _HEAD_BYTES
        if start + length > end:
            break
        at = start + length
        found.append((tag, data[start:at]))
    rest = data[at:end]
    return tuple(found), rest if rest.strip(b"\0") else b""


def write_tlvs(tlvs: Iterable[Tlv]) -> bytes:
    """Raises struct.error: a tag or a length that two octets do not hold."""
    return b"".join([_HEAD.pack(tag, len(value)) + value for tag, value in tlvs])
