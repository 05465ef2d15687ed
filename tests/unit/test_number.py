"""Numbers and sender ids: one form, whatever a client writes; and what is none."""

import random

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.message.number import (
    NotANumber,
    country_of,
    network_of,
    normalise,
    read_sender,
    sender_fields,
    unknown_countries,
    unknown_networks,
)

UK = "+447700900123"


@pytest.mark.parametrize(
    ("text", "ton", "country", "number"),
    [
        ("+447700900123", 0, "", UK),
        ("+447700900123", 1, "", UK),
        ("447700900123", 1, "", UK),
        ("447700900123", 0, "", UK),
        ("447700900123", 0, "GB", UK),
        ("447700900123", 0, "FR", UK),
        ("00447700900123", 0, "", UK),
        ("00447700900123", 1, "GB", UK),
        ("+44 (0)7700 900-123", 0, "", UK),
        ("+4407700900123", 1, "", UK),
        ("44.7700.900.123", 1, "", UK),
        ("07700 900123", 0, "GB", UK),
        ("07700900123", 2, "GB", UK),
        ("7700900123", 2, "GB", UK),
        ("447700900123", 5, "", UK),
        ("60999", 0, "", "60999"),
        ("60999", 0, "GB", "60999"),
        ("112", 0, "", "112"),
        ("60999", 3, "", "60999"),
        ("19123456", 3, "", "19123456"),
        ("12", 6, "", "12"),
        ("447911123456", 0, "DE", "+447911123456"),  # is of the form of a German number, too
        ("4917612345678", 0, "DE", "+4917612345678"),
        ("17612345678", 0, "DE", "+4917612345678"),
        ("3931234567", 0, "IT", "+393931234567"),
        ("20123456", 0, "DK", "+4520123456"),
        ("91234567", 0, "SG", "+6591234567"),
        ("89161234567", 0, "RU", "+79161234567"),
        ("(202) 555-0123", 0, "US", "+12025550123"),
        ("+390612345678", 0, "", "+390612345678"),  # its zero stays
        ("0612345678", 0, "IT", "+390612345678"),
        ("+5491123456789", 0, "", "+5491123456789"),
        ("+54 11 15 2345 6789", 0, "", "+5491123456789"),  # as it is dialled there
        ("+80012345678", 0, "", "+80012345678"),
        ("+882161234567", 0, "", "+882161234567"),
    ],
)
def test_one_form(text: str, ton: int, country: str, number: str) -> None:
    assert normalise(text, ton, 1, country) == number
    assert number[0] != "+" or normalise(number, 0, 0, country) == number


@pytest.mark.parametrize(
    ("text", "ton", "country", "why"),
    [
        ("", 0, "", "no number"),
        ("+", 1, "", "no number"),
        (" - ", 0, "", "no number"),
        ("Shop", 0, "", "not digits, after a + where they are international"),
        ("٤٤٧٧٠٠", 0, "", "not digits, after a + where they are international"),
        ("44\x0077", 1, "", "not digits, after a + where they are international"),
        ("++447700900123", 1, "", "not digits, after a + where they are international"),
        ("4" * 41, 1, "", "41 characters are too many"),
        ("1" * 16, 3, "", "16 digits are too many"),
        ("12", 0, "", "too short"),
        ("60999", 1, "", "no number behind +60 has this form"),
        ("+10000000000", 0, "", "no number behind +1 has this form"),
        ("+4477009001", 0, "", "no number behind +44 has this form"),
        ("+44770090012345", 0, "", "no number behind +44 has this form"),
        ("+447700900123456789012", 0, "", "too long"),
        ("+999123456789", 0, "", "no country has that code"),
        ("0" * 12, 0, "", "no country has that code"),
        ("07700900123", 2, "", "a national number, and [sms] country does not say of which country"),
        ("07700900123", 1, "", "no country has that code"),
        ("23456789", 0, "GB", "no number behind +44 has this form"),
        ("447700900123", 9, "", "there is no type of number 9"),
    ],
)
def test_no_number(text: str, ton: int, country: str, why: str) -> None:
    with pytest.raises(NotANumber) as caught:
        normalise(text, ton, 1, country)
    assert str(caught.value) == why


@given(st.text(max_size=45), st.integers(0, 255), st.sampled_from(("", "GB", "US", "IT", "AR")))
def test_any_text_gives_a_number_or_says_why(text: str, ton: int, country: str) -> None:
    try:
        number = normalise(text, ton, 0, country)
    except NotANumber:
        return
    assert number.removeprefix("+").isascii()
    assert number.removeprefix("+").isdecimal()
    assert len(number) <= 18


@given(st.from_regex(r"[1-9][0-9]{5,15}", fullmatch=True))
def test_the_quick_way_is_that_of_phonenumbers(digits: str) -> None:
    try:
        number = normalise(digits, 1)
    except NotANumber:
        return
    parsed = phonenumbers.parse(f"+{digits}")
    assert number == phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    assert phonenumbers.is_possible_number(parsed)


def test_an_example_of_every_country() -> None:
    """Also as it is dialled inside."""
    for region in phonenumbers.SUPPORTED_REGIONS:
        example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        if example is None:
            continue
        whole = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
        inside = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.NATIONAL)
        assert normalise(whole) == normalise(whole[1:], 1) == normalise(inside, 2, 1, region) == whole
        assert country_of(whole) == phonenumbers.region_code_for_number(example)


def test_the_last_digits_never_decide_a_country() -> None:
    """What `country_of` remembers is without them."""
    rng = random.Random(3)
    shared = [code for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items() if len(regions) > 1]
    checked = 0
    for code in shared:
        for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[code]:
            example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
            if example is None:
                continue
            whole = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
            for _ in range(20):
                last = 5 if code in (1, 7, 44) else 3
                number = whole[:-last] + str(rng.randrange(10**last)).zfill(last)
                parsed = phonenumbers.parse(number)
                if phonenumbers.is_valid_number(parsed):
                    assert country_of(number) == phonenumbers.region_code_for_number(parsed), number
                    checked += 1
    assert checked > 500


@pytest.mark.parametrize(
    ("number", "country", "network"),
    [
        ("+447775123456", "GB", "GB:Vodafone"),
        ("+447781123456", "GG", "GG:Sure"),
        ("+447700900123", "GB", "GB:O2"),  # of no range that is in use: the main country of the code
        ("+12025550123", "US", ""),
        ("+14165550123", "CA", ""),
        ("+18765550123", "JM", ""),
        ("+77011234567", "KZ", "KZ:Kcell/Activ"),
        ("+79161234567", "RU", ""),
        ("+882161234567", "", ""),
        ("60999", "", ""),
        ("", "", ""),
        ("+", "", ""),
        ("+999", "", ""),
    ],
)
def test_country_and_network(number: str, country: str, network: str) -> None:
    assert (country_of(number), network_of(number).lower()) == (country, network.lower())


def test_what_is_not_known() -> None:
    assert unknown_countries(["GB", "UK", "001", "FR"]) == ["001", "UK"]
    assert unknown_networks(["GB:vodafone", "GB:Vodafon", "UK:Vodafone", "GG:Sure"]) == ["GB:Vodafon", "UK:Vodafone"]


@pytest.mark.parametrize(
    ("address", "ton", "country", "sender", "fields"),
    [
        (b"Shop", 5, "", "Shop", (5, 0, b"Shop")),
        (b"Shop", 1, "", "Shop", (5, 0, b"Shop")),
        (b" My Shop 24 ", 0, "", "My Shop 24", (5, 0, b"My Shop 24")),
        (b"H&M", 5, "", "H&M", (5, 0, b"H&M")),
        ("Größe".encode("latin-1"), 5, "", "Größe", (5, 0, "Größe".encode("latin-1"))),
        ("Größe".encode(), 5, "", "Größe", (5, 0, "Größe".encode("latin-1"))),
        (b"60999", 0, "", "60999", (3, 0, b"60999")),
        (b"60999", 3, "", "60999", (3, 0, b"60999")),
        (b"60999", 5, "GB", "60999", (3, 0, b"60999")),
        (b"19123456", 0, "", "19123456", (3, 0, b"19123456")),
        (b"447700900123", 1, "", UK, (1, 1, b"447700900123")),
        (b"+447700900123", 5, "", UK, (1, 1, b"447700900123")),
        (b"447700900123", 0, "", UK, (1, 1, b"447700900123")),
        (b"07700 900123", 0, "GB", UK, (1, 1, b"447700900123")),
    ],
)
def test_a_sender(address: bytes, ton: int, country: str, sender: str, fields: tuple[int, int, bytes]) -> None:
    assert read_sender(address, ton, 0, country) == sender
    assert sender_fields(sender) == fields
    assert read_sender(fields[2], fields[0], fields[1]) == sender


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (b"", "no sender"),
        (b"  ", "no sender"),
        (b"twelve chars", "a sender id that is no number has 11 characters at most"),
        (b"[[shop]]", "a sender id that is no number has 11 characters at most"),  # brackets cost two
        (b"Shop`s", "a sender id is a number, or characters of the GSM alphabet"),
        (b"a\tb", "a sender id is a number, or characters of the GSM alphabet"),
        ("Магазин".encode(), "a sender id is a number, or characters of the GSM alphabet"),
        ("ΔΣ".encode(), "a sender id with characters that no address on the wire can have"),
        (b"1234567890123456", "no number behind +1 has this form"),
        (b"+0", "too short"),
    ],
)
def test_no_sender(address: bytes, why: str) -> None:
    with pytest.raises(NotANumber) as caught:
        read_sender(address)
    assert str(caught.value) == why


def test_a_sender_that_was_kept_from_elsewhere() -> None:
    with pytest.raises(NotANumber):
        sender_fields("1234567890123456")
    with pytest.raises(NotANumber):
        sender_fields("")
    assert sender_fields("447700900123") == (1, 1, b"447700900123")


@given(st.binary(max_size=21), st.integers(0, 8))
def test_any_octets_give_a_sender_or_say_why(address: bytes, ton: int) -> None:
    try:
        sender = read_sender(address, ton)
    except NotANumber:
        return
    assert 0 < len(sender_fields(sender)[2]) <= 20
