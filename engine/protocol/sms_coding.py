"""In which encodings a text can go to a carrier, the preferred first.

The default alphabet; the default alphabet with national tables; Latin-1; UCS-2, which has everything.
Sources: 3GPP TS 23.038 4, 6.2.1; SMPP 3.4 5.2.19.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.protocol.sms_alphabets import DEFAULT_TABLES, Tables, encode_septets, septet_costs
from engine.protocol.sms_data_coding import Charset
from engine.protocol.sms_rules import TextRules
from engine.protocol.sms_shifts import Language


@dataclass(frozen=True, slots=True)
class Coding:
    """How characters become octets, and what they cost. unit_bits: 7 (septets), 8 (octets), 16 (units of UCS-2)."""

    charset: Charset
    data_coding: int
    unit_bits: int
    tables: Tables = DEFAULT_TABLES

    def has(self, text: str) -> bool:
        """Every character can be sent."""
        if self.unit_bits == 7 and encode_septets(text, self.tables) is None:
            return False
        return self.charset is Charset.GSM or self._octets(text) is not None

    def encode(self, text: str) -> bytes:
        """The octets of short_message, of a text that the coding has."""
        octets = self._octets(text)
        assert octets is not None
        return octets

    def cost(self, text: str) -> int:
        """Units of such a text: septets also where we write Latin-1 and the carrier makes septets of it."""
        if self.unit_bits == 7:
            return len(encode_septets(text, self.tables) or b"")
        return len(self.encode(text)) * 8 // self.unit_bits

    def costs(self, text: str) -> list[int]:
        """The same of each character."""
        match self.unit_bits:
            case 7:
                return septet_costs(text, self.tables)
            case 8:
                return [1] * len(text)
            case _:
                return [1 if char <= "\uffff" else 2 for char in text]

    def _octets(self, text: str) -> bytes | None:
        if self.charset is Charset.GSM:
            return encode_septets(text, self.tables)
        try:
            return text.encode("utf-16-be" if self.charset is Charset.UCS2 else self.charset)
        except UnicodeEncodeError:
            return None


_FLASH: Final = Coding(Charset.GSM, 0xF0, 7)
_DEFAULTS: Final = {charset: Coding(charset, 0, 7) for charset in Charset}


def default_coding(rules: TextRules, *, flash: bool = False) -> Coding:
    """Message class 0 has numbers of its own, and they name the GSM alphabet whatever 0 means to the carrier."""
    return _FLASH if flash else _DEFAULTS[rules.default_alphabet]


def codings(text: str, rules: TextRules, *, flash: bool = False) -> Iterator[Coding]:
    """Those that have every character. Where the default alphabet does, the others are not looked at."""
    default = default_coding(rules, flash=flash)
    if default.has(text):
        yield default
        return
    if default.charset is Charset.GSM and rules.join.by_header:
        national = (Coding(Charset.GSM, default.data_coding, 7, tables) for tables in _national(rules.languages))
        yield from (coding for coding in national if coding.has(text))
    latin1 = Coding(Charset.LATIN1, 3, 8)
    if rules.latin1 and not flash and latin1.has(text):
        yield latin1
    yield Coding(Charset.UCS2, 0x18 if flash else 8, 16)


def _national(languages: tuple[Language, ...]) -> Iterator[Tables]:
    """One table before two: it takes less of the header."""
    for language in languages:
        yield Tables(single=language)
    for language in languages:
        if language is not Language.SPANISH:
            yield Tables(locking=language)
            yield Tables(locking=language, single=language)
