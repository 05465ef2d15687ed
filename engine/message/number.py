"""Numbers of phones, and sender ids: from what a client writes to the one form that everything behind intake sees.

    "+447700900123"   international (E.164), however it came: "+44 7700 900123", "00447700900123", TON 1 "447700900123",
                      and, where there is a country, "07700 900123"
    "60999"           a short code: digits without "+"
    "Shop"            a sender id that is a name (senders only)

What is *possible* passes, by phonenumbers: the lengths and the general form that a country has. Whether a range is in
use is not looked at: ranges are newer than tables, and the carrier knows. A number in international form costs some
2 us; phonenumbers itself, for the others, some 20, and is remembered.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumberFormat

from engine.base.errors import EngineError
from engine.protocol.sms_alphabets import encode_septets

#: Types of number (SMPP 3.4 5.2.5).
_UNKNOWN, _INTERNATIONAL, _NATIONAL, _NETWORK, _SUBSCRIBER, _ALPHANUMERIC, _ABBREVIATED = range(7)
#: Digits of a short code that does not say it is one: subscribers have seven or more, their country's code included.
_SHORT = range(3, 7)
#: Of one that a sender is: eight digits are short codes in Australia and India.
_MAX_SHORT_SENDER = 8
_MAX_DIGITS = 15  #: E.164
_MAX_NAME = 11  #: septets in ten octets (3GPP TS 23.040 9.1.2.5)
_MAX_TEXT = 40  #: the longest number anybody writes, with spaces
_BETWEEN = str.maketrans("", "", " -.()/\u00a0\t")
_NON_GEOGRAPHIC = "001"
#: North America: one country code for many countries, told apart by the next three digits.
_NANP = "1"


class InvalidNumber(EngineError, ValueError):
    """What was given is no number, or no sender id; the text says why."""


@dataclass(frozen=True, slots=True)
class _Code:
    """A country code. regions: that have it, the main one first. general: any number behind it. prefix: what is dialled
    before a number inside the country, None if nothing is."""

    regions: tuple[str, ...]
    general: re.Pattern[str]
    prefix: re.Pattern[str] | None


class Numbers:
    """Reads what clients write. country: of numbers without a country code, "GB"; "": there are none."""

    def __init__(self, country: str = "") -> None:
        self._country = country
        self._home = str(phonenumbers.country_code_for_region(country)) if country else ""

    def normalise(self, text: str, ton: int = 0, npi: int = 0) -> str:
        """The number as it is sent: "+447700900123", or a short code. ton: 0: by how it looks. npi says nothing.

        Raises InvalidNumber: it is none.
        """
        if ton == _INTERNATIONAL and text.isascii() and text.isdecimal() and text[0] != "0" and _is_plain(text):
            return f"+{text}"
        plus = text[:1] == "+"
        digits = text[1:] if plus else text
        if not (digits.isascii() and digits.isdecimal()):
            plus, digits = _cleaned(text)
        if not plus and digits.startswith("00") and ton in (_UNKNOWN, _INTERNATIONAL, _ALPHANUMERIC):
            plus, digits = True, digits[2:]
        if plus or ton == _INTERNATIONAL:
            return f"+{digits}" if _is_plain(digits) else _international(digits)
        if ton == _NATIONAL:
            return self._national(digits)
        if ton in (_NETWORK, _SUBSCRIBER, _ABBREVIATED):
            if len(digits) > _MAX_DIGITS:
                raise InvalidNumber(f"{len(digits)} digits are too many for a number")
            return digits
        if ton not in (_UNKNOWN, _ALPHANUMERIC):
            raise InvalidNumber(f"there is no type of number {ton}")
        if len(digits) in _SHORT:
            return digits
        if not self._country:
            return f"+{digits}" if _is_plain(digits) else _international(digits)
        return self._by_look(digits)

    def sender(self, text: str, ton: int = 0, npi: int = 0) -> str:
        """A sender id: a name of up to 11 characters of the GSM alphabet, a short code, or a number with "+".

        Whatever TON says, what has a letter is a name: half of the clients leave TON at 1. Raises InvalidNumber.
        """
        text = text.strip()
        plain = text.removeprefix("+").translate(_BETWEEN)
        if not (plain.isascii() and plain.isdecimal()):
            return _name(text)
        if ton in (_UNKNOWN, _ALPHANUMERIC, _NETWORK, _SUBSCRIBER, _ABBREVIATED) and plain == text:
            if len(text) <= _MAX_SHORT_SENDER or ton in (_NETWORK, _SUBSCRIBER, _ABBREVIATED):
                if len(text) > _MAX_DIGITS:
                    raise InvalidNumber(f"{len(text)} digits are too many for a sender")
                return text
        return self.normalise(text, ton, npi)

    def _national(self, digits: str) -> str:
        if not self._country:
            raise InvalidNumber("a national number, and [sms] country does not say of which country")
        return _parsed(digits, self._country)

    def _by_look(self, digits: str) -> str:
        """Of this country, or with the code of any."""
        own = _codes()[self._home]
        dialled = own.prefix.match(digits) if own.prefix is not None else None
        if own.general.fullmatch(digits) is None and not (dialled and dialled.end()) and _is_plain(digits):
            return f"+{digits}"
        try:
            return _parsed(digits, self._country)
        except InvalidNumber as national:
            try:
                return _international(digits)
            except InvalidNumber:
                raise national from None


def country_of(number: str) -> str:
    """The country of an international number, "GB"; "": none, a satellite's or a service's, or a short code."""
    if number[:1] != "+":
        return ""
    code = _code_of(number[1:])
    if code is None or code.regions[0] == _NON_GEOGRAPHIC:
        return ""
    if len(code.regions) == 1:
        return code.regions[0]
    return _country_among(number[1:5] if number[1] == _NANP else number[1:-3])


def network_of(number: str) -> str:
    """The network that its range was given to, "Vodafone"; "": nobody knows, or it is no mobile number."""
    if number[:1] != "+":
        return ""
    names, longest = _networks()
    for end in range(longest + 1, 2, -1):
        name = names.get(number[1:end])
        if name is not None:
            return name
    return ""


def unknown_countries(codes: Iterable[str]) -> list[str]:
    """Those of which phonenumbers knows no numbers."""
    return sorted({code for code in codes if code not in phonenumbers.SUPPORTED_REGIONS})


def unknown_networks(names: Iterable[str]) -> list[str]:
    """Those ("GB:Vodafone") that no range of their country was given to."""
    known = {(digits[:length], name.lower()) for digits, name in _networks()[0].items() for length in (1, 2, 3)}
    wrong = set()
    for text in names:
        country, _, name = text.partition(":")
        if (str(phonenumbers.country_code_for_region(country)), name.lower()) not in known:
            wrong.add(text)
    return sorted(wrong)


def address_of(sender: str) -> tuple[int, int, bytes]:
    """A sender id, or a number, as SMPP has it: TON, NPI and octets.

    Short codes go as network specific (3, 0): what most carriers ask for, and those that do not look at the digits.
    Names are ASCII on the wire, and Latin-1 where they are not. Raises InvalidNumber: it cannot be written so.
    """
    if sender[:1] == "+":
        return 1, 1, sender[1:].encode("ascii", "replace")
    if sender.isascii():
        return (3, 0, sender.encode()) if sender.isdecimal() else (5, 0, sender.encode())
    try:
        return 5, 0, sender.encode("latin-1")
    except UnicodeEncodeError as exc:
        raise InvalidNumber(f"{_shown(sender)} has characters that a sender on the wire cannot have") from exc


def text_of(address: bytes) -> str:
    """The octets of an address as text: ASCII, else UTF-8 where they are, else Latin-1."""
    try:
        return address.decode()
    except UnicodeDecodeError:
        return address.decode("latin-1")


# ---- inside


def _cleaned(text: str) -> tuple[bool, str]:
    """Whether there is a "+", and the digits. Raises InvalidNumber."""
    if len(text) > _MAX_TEXT:
        raise InvalidNumber(f"{len(text)} characters are too many for a number")
    plain = text.translate(_BETWEEN)
    digits = plain.removeprefix("+")
    if not digits:
        raise InvalidNumber("no number")
    if not (digits.isascii() and digits.isdecimal()):
        raise InvalidNumber(f"{_shown(text)} is no number: digits, after a + where they are international")
    return plain[0] == "+", digits


def _name(text: str) -> str:
    septets = encode_septets(text) if text.isprintable() else None
    if not text or septets is None:
        raise InvalidNumber(f"{_shown(text)} is no sender: it has characters that are not in the GSM alphabet")
    if len(septets) > _MAX_NAME:
        raise InvalidNumber(f"{_shown(text)} is too long for a sender: {_MAX_NAME} characters, or a number")
    address_of(text)
    return text


def _shown(text: str) -> str:
    """Of a stranger's text as much as an error needs, on one line."""
    return ascii(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}...")


def _is_plain(digits: str) -> bool:
    """Country code and number, with nothing to be taken off or put in; False: phonenumbers must say."""
    code = _code_of(digits)
    if code is None:
        return False
    national = digits[_code_length(digits) :]
    if code.general.fullmatch(national) is None:
        return False
    if code.prefix is None:
        return True
    dialled = code.prefix.match(national)
    return dialled is None or not dialled.end()


@lru_cache(maxsize=8192)
def _international(digits: str) -> str:
    return _parsed(f"+{digits}", None)


@lru_cache(maxsize=8192)
def _parsed(text: str, country: str | None) -> str:
    """What phonenumbers makes of it. Raises InvalidNumber."""
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException as exc:
        raise InvalidNumber(f"{_shown(text)} is no number: {_WHY[exc.error_type]}") from exc
    whole = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    code = _code_of(whole[1:])
    if code is None or code.general.fullmatch(whole[1 + _code_length(whole[1:]) :]) is None:
        where = (
            code.regions[0] if code is not None and code.regions[0] != _NON_GEOGRAPHIC else f"+{number.country_code}"
        )
        raise InvalidNumber(f"{_shown(text)} is no number: {where} has none of that form")
    return whole


_WHY = {
    phonenumbers.NumberParseException.INVALID_COUNTRY_CODE: "no country has that code",
    phonenumbers.NumberParseException.NOT_A_NUMBER: "too short",  # digits is what it was given
    phonenumbers.NumberParseException.TOO_SHORT_NSN: "too short",
    phonenumbers.NumberParseException.TOO_SHORT_AFTER_IDD: "too short",
    phonenumbers.NumberParseException.TOO_LONG: "too long",
}


def _code_length(digits: str) -> int:
    codes = _codes()
    return 1 if digits[:1] in codes else 2 if digits[:2] in codes else 3


def _code_of(digits: str) -> _Code | None:
    """The country code that these begin with: none is the beginning of another."""
    codes = _codes()
    return codes.get(digits[:1]) or codes.get(digits[:2]) or codes.get(digits[:3])


@cache
def _codes() -> dict[str, _Code]:
    return {str(code): _made(code, regions) for code, regions in COUNTRY_CODE_TO_REGION_CODE.items()}


def _made(code: int, regions: tuple[str, ...]) -> _Code:
    if regions[0] == _NON_GEOGRAPHIC:
        tables = [PhoneMetadata.metadata_for_nongeo_region(code)]
    else:
        tables = [PhoneMetadata.metadata_for_region(region) for region in regions]
    general = "|".join(f"(?:{table.general_desc.national_number_pattern})" for table in tables if table is not None)
    prefix = tables[0].national_prefix_for_parsing if tables[0] is not None else None
    return _Code(regions, re.compile(general), re.compile(prefix) if prefix else None)


@lru_cache(maxsize=16384)
def _country_among(beginning: str) -> str:
    """Of several countries with one code: by all but the last digits, which never decide it."""
    # An exchange of North America does not begin with 0 or 1.
    digits = f"{beginning}2345678" if beginning[0] == _NANP else f"{beginning}000"
    number = phonenumbers.PhoneNumber(int(digits[: _code_length(digits)]), int(digits[_code_length(digits) :] or 0))
    code = _code_of(digits)
    assert code is not None
    return phonenumbers.region_code_for_number(number) or code.regions[0]


@cache
def _networks() -> tuple[dict[str, str], int]:
    """Name by the first digits, and how many these are at most. Seven megabytes: made when the first carrier asks."""
    from phonenumbers.carrierdata import CARRIER_DATA

    names = {digits: of.get("en") or next(iter(of.values())) for digits, of in CARRIER_DATA.items()}
    return names, max(map(len, names))
