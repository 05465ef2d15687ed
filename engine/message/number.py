"""Numbers and sender ids, as people and SMPP write them (E.164; SMPP 3.4 5.2.5, 5.2.6; phonenumbers' metadata).

An international number is kept as "+" and digits; a short code as digits. Whether a number is one is asked of its
country code and length only: what ranges a country has given out changes faster than any table.
"""

import re
from functools import lru_cache

import phonenumbers
from phonenumbers import carrier as networks
from phonenumbers.phonemetadata import PhoneMetadata

#: TON and NPI.
INTERNATIONAL, NATIONAL, SHORT_CODE, ALPHANUMERIC = (1, 1), (2, 1), (3, 0), (5, 0)
_TON_INTERNATIONAL, _TON_NATIONAL, _TON_ALPHANUMERIC = 1, 2, 5
_SEPARATORS = str.maketrans("", "", " -.()/\u00a0")
#: Digits at most of a short code; more are a number of a subscriber.
_SHORT_DIGITS = 8
_MOST_DIGITS = 15
_MOST_LETTERS = 11
_DIGITS = re.compile("[0-9]+")


class NotANumber(ValueError):
    """What was given is no number, or no sender id."""


def normalise(text: str, ton: int = 0, npi: int = 0, country: str = "") -> str:
    """The number as it is kept. country: of national numbers, as "GB"; "": there are none. Raises NotANumber."""
    digits = text.translate(_SEPARATORS)
    international = ton == _TON_INTERNATIONAL
    if digits.startswith("+"):
        digits, international = digits[1:], True
    elif digits.startswith("00"):
        digits, international = digits[2:], True
    if not _DIGITS.fullmatch(digits):
        raise NotANumber("not a number" if digits else "no number")
    if international or (len(digits) > _SHORT_DIGITS and not country and ton != _TON_NATIONAL):
        return _international(digits)
    if len(digits) <= _SHORT_DIGITS and ton != _TON_NATIONAL:
        return digits
    if not country:
        raise NotANumber("a national number, and [sms] country is not set")
    try:
        parsed = phonenumbers.parse(digits, country)
    except phonenumbers.NumberParseException as exc:
        raise NotANumber(str(exc).lower()) from exc
    return _international(f"{parsed.country_code}{phonenumbers.national_significant_number(parsed)}")


def _international(digits: str) -> str:
    for length in (1, 2, 3):
        least, most = _lengths(digits[:length])
        if most:
            if not least <= len(digits) - length <= most:
                raise NotANumber(f"a number of +{digits[:length]} has {least} to {most} more digits")
            return f"+{digits}"
    raise NotANumber(f"no country has +{digits[:3]}")


@lru_cache(2000)
def _lengths(code: str) -> tuple[int, int]:
    """The least and the most digits behind a country code; (0, 0): there is no such country."""
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code)) if code and code[0] != "0" else None
    if regions is None:
        return 0, 0
    found: list[int] = []
    for region in regions:
        metadata = (
            PhoneMetadata.metadata_for_nongeo_region(int(code))
            if region == phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY
            else PhoneMetadata.metadata_for_region(region)
        )
        if metadata is not None and metadata.general_desc is not None:
            found += [length for length in metadata.general_desc.possible_length if length > 0]
    return (min(found), max(found)) if found else (1, _MOST_DIGITS)


@lru_cache(100_000)
def country_of(number: str) -> str:
    """As "GB"; "" of a short code, or if no country has it."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return ""
    by_number = phonenumbers.region_code_for_number(parsed)
    return by_number or phonenumbers.region_code_for_country_code(parsed.country_code or 0)


@lru_cache(100_000)
def network_of(number: str) -> str:
    """The network that the number was given to, as "GB:Vodafone"; it may have been taken to another since."""
    try:
        name = networks.name_for_number(phonenumbers.parse(number), "en")
    except phonenumbers.NumberParseException:
        return ""
    return f"{country_of(number)}:{name}" if name else ""


def sender_fields(text: str) -> tuple[int, int, bytes]:
    """TON, NPI and address of a sender id. Raises NotANumber: it can be none."""
    digits = text.removeprefix("+")
    if _DIGITS.fullmatch(digits):
        if len(digits) > _MOST_DIGITS:
            raise NotANumber(f"a sender of {len(digits)} digits")
        ton, npi = INTERNATIONAL if text != digits or len(digits) > _SHORT_DIGITS else SHORT_CODE
        return ton, npi, digits.encode()
    if not text.isascii() or not text.isprintable() or not 1 <= len(text) <= _MOST_LETTERS:
        raise NotANumber(f"a sender id is a number, or 1 to {_MOST_LETTERS} letters")
    return *ALPHANUMERIC, text.encode()
