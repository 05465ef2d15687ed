"""Septets of GSM text: to characters and back, one to an octet as SMPP carries them or packed as the air does.

Pure and total: any octets give text (P1); what was wrong with them is told by flags, never by an exception.
Source: 3GPP TS 23.038 6.1.2.1 (packing), 6.2.1 (alphabets); the tables are in `sms_shifts`.
"""

import codecs
import enum
import re
from dataclasses import dataclass
from typing import Final

from engine.protocol.sms_shifts import ESCAPE, HOLE, LOCKING, SINGLE, Language

_ESC: Final = 0x1B
#: What the default alphabet has as ASCII has it: most texts are nothing else, and a tenth of the work.
_SAME: Final = r"[A-Za-z0-9 !\"#%&'()*+,\-./:;<=>?\r\n]*"
_AS_ASCII: Final = re.compile(_SAME).fullmatch
_IS_ASCII: Final = re.compile(_SAME.encode()).fullmatch
_RUNS: Final = re.compile(rb"\x1b(.?)|[^\x1b]+", re.DOTALL)


class Fault(enum.Flag):
    """What was wrong with received octets."""

    NONE = 0
    UNDEFINED = 1  #: a code to which the alphabet assigns nothing; U+FFFD stands for it
    HIGH_BIT = 2  #: an octet above 127 among septets; read as Latin-1
    LONE_ESCAPE = 4  #: an escape at the end
    ODD_OCTET = 8  #: half a unit of UCS-2 at the end; dropped
    SURROGATE = 16  #: half a surrogate pair; U+FFFD stands for it


@dataclass(frozen=True, slots=True)
class Tables:
    """The pair of tables a text is written in. Those of language 0 are the default alphabet and its extension."""

    locking: Language = Language.DEFAULT
    single: Language = Language.DEFAULT

    @property
    def elements(self) -> int:
        """How many elements of a user data header say so."""
        return bool(self.locking) + bool(self.single)


DEFAULT_TABLES: Final = Tables()

# The first of two codes for one character is the one to send.
_CODES: Final = tuple(
    {ord(char): bytes([code]) for code, char in reversed(list(enumerate(table))) if char not in (HOLE, ESCAPE)}
    for table in LOCKING
)
_ESCAPED: Final = tuple(
    {ord(char): bytes([_ESC, code]) for code, char in reversed(list(enumerate(table))) if char != HOLE}
    for table in SINGLE
)
_DEFAULT: Final = _ESCAPED[0] | _CODES[0]
#: With the upper half of Latin-1, for octets that have a bit too many.
_READABLE: Final = tuple(table + HOLE * 32 + bytes(range(0xA0, 0x100)).decode("latin-1") for table in LOCKING)


def encode_septets(text: str, tables: Tables = DEFAULT_TABLES) -> bytes | None:
    """The septets of a text, one to an octet, an escape before each character of the single shift table.

    None: some character is in neither table.
    """
    if not tables.locking and _AS_ASCII(text) is not None:
        return text.encode()
    codes = _DEFAULT if tables == DEFAULT_TABLES else _ESCAPED[tables.single] | _CODES[tables.locking]
    try:
        return codecs.charmap_encode(text, "strict", codes)[0]
    except UnicodeEncodeError:
        return None


def septet_costs(text: str, tables: Tables = DEFAULT_TABLES) -> list[int]:
    """Of each character of a text that can be written in these tables: 1, or 2 with an escape."""
    codes = _CODES[tables.locking]
    return [1 if ord(char) in codes else 2 for char in text]


def decode_septets(data: bytes, tables: Tables = DEFAULT_TABLES) -> tuple[str, Fault]:
    """The text of septets, one to an octet. Total.

    After an escape, a code that is not in the single shift table means what it means without the escape (TS 23.038
    6.2.1.1), and a second escape is a space.
    """
    if not tables.locking and _IS_ASCII(data) is not None:
        return data.decode(), Fault.NONE
    plain, single = _READABLE[tables.locking], SINGLE[tables.single]
    pieces: list[str] = []
    faults = Fault.NONE if data.isascii() else Fault.HIGH_BIT
    for run in _RUNS.finditer(data):
        code = run[1]
        if code is None:
            pieces.append(codecs.charmap_decode(run[0], "replace", plain)[0])
        elif not code:
            faults |= Fault.LONE_ESCAPE
        elif code[0] == _ESC:
            pieces.append(" ")
        elif code[0] < 128 and single[code[0]] != HOLE:
            pieces.append(single[code[0]])
        else:
            pieces.append(codecs.charmap_decode(code, "replace", plain)[0])
    text = "".join(pieces)
    return text, faults | Fault.UNDEFINED if "\ufffd" in text else faults


def pack(septets: bytes, fill_bits: int = 0) -> bytes:
    """Septets packed into octets, the first in the lowest bits. fill_bits: 0..6 zeros before them, after a header."""
    bits = 0
    for septet in reversed(septets):
        bits = bits << 7 | septet & 0x7F
    return (bits << fill_bits).to_bytes((len(septets) * 7 + fill_bits + 7) // 8, "little")


def unpack(data: bytes, count: int | None = None, fill_bits: int = 0) -> bytes:
    """The first `count` septets of packed octets, or as many as are there.

    Without a count, the eighth septet that padding makes of seven free bits is an @ too many; only a count tells.
    """
    whole = max(0, (len(data) * 8 - fill_bits) // 7)
    bits = int.from_bytes(data, "little") >> fill_bits
    return bytes(bits >> 7 * i & 0x7F for i in range(whole if count is None else max(0, min(count, whole))))
