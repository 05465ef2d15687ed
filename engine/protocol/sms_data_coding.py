"""What a message's octets say: data_coding to a character set, octets to text.

Total: any data_coding and any octets give text, or the octets where they are no text (P1). The octets overrule the
label where they leave no doubt, since labels in the field are wrong: a byte order mark, or UTF-8 under the number 0.
Sources: SMPP 3.4 5.2.19; 3GPP TS 23.038 4, whose numbers carriers use beside those of SMPP from 16 on.
"""

import enum
from dataclasses import dataclass
from typing import Final

from engine.protocol.sms_alphabets import DEFAULT_TABLES, Fault, Tables, decode_septets


class Charset(enum.StrEnum):
    """How octets become characters. The values that are no words of ours are Python's names."""

    DEFAULT = "default"  #: whatever the carrier has under data_coding 0
    GSM = "gsm"
    ASCII = "ascii"
    LATIN1 = "latin-1"
    UCS2 = "ucs-2"
    BINARY = "binary"
    SHIFT_JIS = "shift_jis"
    CYRILLIC = "iso8859_5"
    HEBREW = "iso8859_8"
    ISO2022_JP = "iso2022_jp"
    EUC_JP = "euc_jp"
    EUC_KR = "euc_kr"


_SMPP: Final = {
    0: Charset.DEFAULT, 1: Charset.ASCII, 2: Charset.BINARY, 3: Charset.LATIN1, 4: Charset.BINARY,
    5: Charset.SHIFT_JIS, 6: Charset.CYRILLIC, 7: Charset.HEBREW, 8: Charset.UCS2, 10: Charset.ISO2022_JP,
    13: Charset.EUC_JP, 14: Charset.EUC_KR,
}  # fmt: skip

#: By the two bits of a general data coding (TS 23.038 4); the fourth is reserved and read as the default alphabet.
_GENERAL: Final = (Charset.GSM, Charset.BINARY, Charset.UCS2, Charset.GSM)
_COMPRESSED: Final = 0x20

_UTF16_MARKS: Final = (b"\xfe\xff", b"\xff\xfe")


@dataclass(frozen=True, slots=True)
class Decoded:
    """text: None of what is binary."""

    text: str | None
    faults: Fault = Fault.NONE


def charset_of(data_coding: int) -> Charset:
    """The character set that a data_coding of 0..255 names; a reserved one is binary."""
    if data_coding < 0x10:
        return _SMPP.get(data_coding, Charset.BINARY)
    if data_coding < 0x80:  # general, and the same to be deleted after reading
        return Charset.BINARY if data_coding & _COMPRESSED else _GENERAL[data_coding >> 2 & 3]
    match data_coding >> 4:
        case 0xC | 0xD:  # message waiting
            return Charset.GSM
        case 0xE:
            return Charset.UCS2
        case 0xF:  # message class
            return Charset.BINARY if data_coding & 4 else Charset.GSM
        case _:
            return Charset.BINARY


def is_flash(data_coding: int) -> bool:
    """To be shown at once and not kept: message class 0 (TS 23.038 4)."""
    return data_coding & 0x93 == 0x10 or data_coding & 0xF3 == 0xF0


def decode(
    data: bytes, data_coding: int, *, default: Charset = Charset.GSM, tables: Tables = DEFAULT_TABLES
) -> Decoded:
    """The text of a whole message: its parts joined, without their headers.

    default: what this carrier's data_coding 0 is. tables: named in the header, for GSM text.
    """
    charset = charset_of(data_coding)
    if charset in (Charset.DEFAULT, Charset.ASCII) and not data.isascii():
        if data.startswith(_UTF16_MARKS):
            return _decode_ucs2(data)
        if _is_utf8(data):
            return Decoded(data.decode("utf-8-sig"))
    match default if charset is Charset.DEFAULT else charset:
        case Charset.GSM | Charset.DEFAULT:
            return Decoded(*decode_septets(data, tables))
        case Charset.UCS2:
            return _decode_ucs2(data)
        case Charset.BINARY:
            return Decoded(None)
        case codec:
            return _decode_python(data, codec)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decode_ucs2(data: bytes) -> Decoded:
    """Big-endian, unless a byte order mark says otherwise."""
    codec = "utf-16-le" if data.startswith(_UTF16_MARKS[1]) else "utf-16-be"
    whole = data[: len(data) & ~1]
    faults = Fault.NONE if whole == data else Fault.ODD_OCTET
    try:
        text = whole.decode(codec)
    except UnicodeDecodeError:
        text = whole.decode(codec, "replace")
        faults |= Fault.SURROGATE
    return Decoded(text.removeprefix("\ufeff"), faults)


def _decode_python(data: bytes, codec: str) -> Decoded:
    try:
        return Decoded(data.decode(codec))
    except UnicodeDecodeError:
        return Decoded(data.decode(codec, "replace"), Fault.UNDEFINED)
