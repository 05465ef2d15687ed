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
from typing import Final

import phonenumbers
from mypy_extensions import mypyc_attr
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumberDesc, PhoneNumberFormat

from engine.base.errors import EngineError
from engine.protocol.sms_alphabets import encode_septets

#: Types of number (SMPP 3.4 5.2.5); with plans (5.2.6), as sender ids have them.
TON_INTERNATIONAL: Final = 1
TON_NATIONAL: Final = 2
INTERNATIONAL: Final = (1, 1)
NATIONAL: Final = (2, 1)
SHORT_CODE: Final = (3, 0)
ALPHANUMERIC: Final = (5, 0)
#: Unknown, and alphanumeric, which is no type of digits: by how they look.
_PLAIN: Final = frozenset((0, 5))
#: Network specific, subscriber, abbreviated: nothing that we could understand.
_SHORT_TONS: Final = frozenset((3, 4, 6))
#: Digits of a short code that does not say it is one: subscribers have seven or more, their country's code included.
_SHORT: Final = range(3, 7)
#: Of one that is a sender: Australia and India have eight.
_MAX_SHORT_SENDER: Final = 8
_MAX_DIGITS: Final = 15  #: E.164
_MAX_NAME: Final = 11  #: septets in ten octets (3GPP TS 23.040 9.1.2.5)
_MAX_TEXT: Final = 40  #: the longest number anybody writes, with spaces
_BETWEEN: Final = str.maketrans("", "", " -.()/\u00a0\t")
_NON_GEOGRAPHIC: Final = "001"
#: Main countries of codes of which even the last five digits decide nothing.
_LARGE: Final = ("GB", "RU")
#: North America: one country code for many countries, told apart by the next three digits.
_NANP: Final = "1"


@mypyc_attr(native_class=False)
class NotANumber(EngineError, ValueError):
    """What was given is no number, or no sender id; the text says why, without repeating it."""


@dataclass(frozen=True, slots=True)
class _Code:
    """A country code. regions: that have it, the main one first. general: any number behind it. mobile: those of
    mobile phones, where they can be told. prefix: what is dialled
    before a number inside the country, None if nothing is."""

    regions: tuple[str, ...]
    general: re.Pattern[str]
    mobile: re.Pattern[str]
    prefix: re.Pattern[str] | None


def normalise(text: str, ton: int = 0, npi: int = 0, country: str = "") -> str:
    """The number as it is kept: "+447700900123", or a short code. ton: 0: by how it looks; npi says nothing.

    country: of numbers without the code of one, as "GB"; "": there are none. Raises NotANumber.
    """
    if text[:1] == "+" and _is_plain(text[1:]):
        return text
    if ton == TON_INTERNATIONAL and _is_plain(text):
        return f"+{text}"
    international, digits = _cleaned(text)
    if not international and digits.startswith("00") and (ton in _PLAIN or ton == TON_INTERNATIONAL):
        international, digits = True, digits[2:]
    if international or ton == TON_INTERNATIONAL:
        return _international(digits)
    if ton == TON_NATIONAL:
        if not country:
            raise NotANumber("a national number, and [sms] country does not say of which country")
        return _parsed(digits, country)
    if ton in _SHORT_TONS:
        if len(digits) > _MAX_DIGITS:
            raise NotANumber(f"{len(digits)} digits are too many")
        return digits
    if ton not in _PLAIN:
        raise NotANumber(f"there is no type of number {ton}")
    if len(digits) in _SHORT:
        return digits
    return _by_look(digits, country) if country else _international(digits)


def _by_look(digits: str, country: str) -> str:
    """A number of this country, or one that has the code of another without a "+"."""
    home = str(phonenumbers.country_code_for_region(country))
    own = _code_of(home)
    assert own is not None
    dialled = own.prefix.match(digits) if own.prefix is not None else None
    if not (dialled and dialled.end()) and _is_plain(digits):
        if own.general.fullmatch(digits) is None:
            return f"+{digits}"
        return _more_likely(digits, home)
    try:
        return _parsed(digits, country)
    except NotANumber as national:
        try:
            return _international(digits)
        except NotANumber:
            raise national from None


def _more_likely(digits: str, home: str) -> str:
    """Of what may be both: the one that is a mobile's; if both are, or none is, the national one."""
    code, own = _code_of(digits), _code_of(home)
    assert code is not None and own is not None
    abroad = own.mobile.fullmatch(digits) is None and code.mobile.fullmatch(digits[_code_length(digits) :])
    return f"+{digits}" if abroad else f"+{home}{digits}"


def sender_fields(sender: str) -> tuple[int, int, bytes]:
    """TON, NPI and octets of a sender id, as it is kept. Raises NotANumber: it can be none.

    Short codes go as network specific (3, 0): what most carriers ask for, and the others look at the digits alone.
    Names are ASCII on the wire, and Latin-1 where they are not.
    """
    digits = sender[1:] if sender[:1] == "+" else sender
    if not (digits.isascii() and digits.isdecimal()):
        return *ALPHANUMERIC, _name(sender)
    if len(digits) > _MAX_DIGITS:
        raise NotANumber(f"{len(digits)} digits are too many for a sender")
    ton, npi = SHORT_CODE if digits is sender and len(digits) <= _MAX_SHORT_SENDER else INTERNATIONAL
    return ton, npi, digits.encode()


def read_sender(address: bytes, ton: int = 0, npi: int = 0, country: str = "") -> str:
    """A sender id as it is kept: a name of up to 11 characters, a short code, or a number with "+".

    Whatever TON says, what has a letter is a name: half of the clients leave it at 1. Raises NotANumber.
    """
    try:
        text = address.decode().strip()
    except UnicodeDecodeError:
        text = address.decode("latin-1").strip()
    if not text:
        raise NotANumber("no sender")
    plain = text.translate(_BETWEEN).removeprefix("+")
    if not (plain.isascii() and plain.isdecimal()):
        _name(text)
        return text
    if plain == text and len(text) <= _MAX_SHORT_SENDER and (ton in _PLAIN or ton in _SHORT_TONS):
        return text
    return normalise(text, ton, npi, country)


def _name(text: str) -> bytes:
    septets = encode_septets(text) if text.isprintable() else None
    if not text or septets is None:
        raise NotANumber("a sender id is a number, or characters of the GSM alphabet")
    if len(septets) > _MAX_NAME:
        raise NotANumber(f"a sender id that is no number has {_MAX_NAME} characters at most")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as exc:
        raise NotANumber("a sender id with characters that no address on the wire can have") from exc


def country_of(number: str) -> str:
    """The country of an international number, "GB"; "": none, a satellite's or a service's, or a short code."""
    if number[:1] != "+":
        return ""
    code = _code_of(number[1:])
    if code is None or code.regions[0] == _NON_GEOGRAPHIC:
        return ""
    if len(code.regions) == 1:
        return code.regions[0]
    if number[1] == _NANP:
        return _country_among(number[1:5], "2345678")  # an exchange does not begin with 0 or 1
    return _country_among(*((number[1:-5], "00000") if code.regions[0] in _LARGE else (number[1:-3], "000")))


def network_of(number: str) -> str:
    """The network that its range was given to, "GB:Vodafone"; "": nobody knows, or it is no mobile number."""
    if number[:1] != "+":
        return ""
    names, longest = _networks()
    for end in range(longest + 1, 2, -1):
        name = names.get(number[1:end])
        if name is not None:
            return f"{country_of(number)}:{name}"
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


# ---- inside


def _cleaned(text: str) -> tuple[bool, str]:
    """Whether there is a "+", and the digits. Raises NotANumber."""
    if len(text) > _MAX_TEXT:
        raise NotANumber(f"{len(text)} characters are too many")
    plain = text.translate(_BETWEEN)
    digits = plain.removeprefix("+")
    if not digits:
        raise NotANumber("no number")
    if not (digits.isascii() and digits.isdecimal()):
        raise NotANumber("not digits, after a + where they are international")
    return digits is not plain and plain[0] == "+", digits


def _is_plain(digits: str) -> bool:
    """Country code and number, with nothing to be taken off or put in; False: phonenumbers must say."""
    code = _code_of(digits)
    if code is None:
        return False
    national = digits[_code_length(digits) :]
    if code.general.fullmatch(national) is None:  # which takes nothing but ASCII digits
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
        raise NotANumber(_WHY[exc.error_type]) from exc
    whole = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    code = _code_of(whole[1:])
    if code is None or code.general.fullmatch(whole[1 + _code_length(whole[1:]) :]) is None:
        raise NotANumber(f"no number behind +{number.country_code} has this form")
    return whole


_WHY: Final = {
    phonenumbers.NumberParseException.INVALID_COUNTRY_CODE: "no country has that code",
    phonenumbers.NumberParseException.NOT_A_NUMBER: "too short",  # digits is what it was given
    phonenumbers.NumberParseException.TOO_SHORT_NSN: "too short",
    phonenumbers.NumberParseException.TOO_SHORT_AFTER_IDD: "too short",
    phonenumbers.NumberParseException.TOO_LONG: "too long",
}


def _code_length(digits: str) -> int:
    return 1 if digits[:1] in _codes else 2 if digits[:2] in _codes else 3


def _code_of(digits: str) -> _Code | None:
    """The country code that these begin with: none is the beginning of another."""
    name = digits[: _code_length(digits)]
    code = _codes.get(name)
    if code is None and name in _codes:
        code = _codes[name] = _made(int(name))
    return code


#: None: no number had it yet. To make all of them would take a tenth of a second.
_codes: Final[dict[str, _Code | None]] = {str(code): None for code in COUNTRY_CODE_TO_REGION_CODE}


def _made(code: int) -> _Code:
    regions = COUNTRY_CODE_TO_REGION_CODE[code]
    if regions[0] == _NON_GEOGRAPHIC:
        tables = [PhoneMetadata.metadata_for_nongeo_region(code)]
    else:
        tables = [PhoneMetadata.metadata_for_region(region) for region in regions]
    general = [table.general_desc for table in tables if table is not None]
    mobile = [table.mobile for table in tables if table is not None]
    prefix = tables[0].national_prefix_for_parsing if tables[0] is not None else None
    return _Code(regions, _any_of(general), _any_of(mobile), re.compile(prefix) if prefix else None)


def _any_of(forms: Iterable[PhoneNumberDesc | None]) -> re.Pattern[str]:
    patterns = [one.national_number_pattern for one in forms if one is not None and one.national_number_pattern]
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)", re.ASCII)


@lru_cache(maxsize=16384)
def _country_among(beginning: str, rest: str) -> str:
    """Of several countries with one code: by all but the last digits, which never decide it (a test tries)."""
    digits = beginning + rest
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
