"""What an application is sent of an answer: the octets as they came if it reads the same text from them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.settings import Account
from engine.feedback.answer import Answer, for_account, number_of, read_pdu, text_of, udh_of
from engine.message.sms import Sms
from engine.protocol.smpp_pdu import DeliverSm
from engine.protocol.sms_data_coding import Charset, decode
from engine.protocol.sms_udh import MESSAGE_PAYLOAD, UDHI, Segment
from tests.support.sms import texts


def account(**more: Any) -> Account:
    return Account(system_id="shop", **more)


def answer(pdu: DeliverSm, default: Charset = Charset.GSM) -> Answer:
    sms, to, _ = read_pdu(pdu)
    return Answer(id="1", carrier="one", number=sms.source, to=to, at=1.0, text=text_of(sms, default), sms=sms)


def octets(sms: Sms) -> bytes:
    return sms.udh + sms.body or dict(sms.tlvs).get(MESSAGE_PAYLOAD, b"")


@pytest.mark.parametrize(
    ("address", "ton", "country", "number"),
    [
        (b"447700900123", 1, "", "+447700900123"), (b"+447700900123", 0, "", "+447700900123"),
        (b"447700900123", 0, "", "+447700900123"), (b"447700900123", 0, "GB", "+447700900123"),
        (b"07700900123", 0, "GB", "+447700900123"), (b"07700900123", 2, "GB", "+447700900123"),
        (b"07700900123", 2, "", "07700900123"), (b"60999", 0, "", "60999"), (b"60999", 3, "GB", "60999"),
        (b"60999", 1, "", "60999"), (b"Acme", 5, "", "Acme"), (b"2020", 5, "", "2020"), (b"", 0, "", ""),
        (b"+", 1, "", "+"), (b"\xff1", 1, "", "\ufffd1"), (b"44*7#", 1, "", "44*7#"),
    ],
)  # fmt: skip
def test_numbers(address: bytes, ton: int, country: str, number: str) -> None:
    assert number_of(address, ton, 1, country) == number


@pytest.mark.parametrize(
    ("body", "data_coding", "alphabet"),
    [
        (b"Hello", 0, "gsm"), (b"\x00 5$", 0, "gsm"), (b"Hello", 0, "utf-8"), ("Привет".encode("utf-16-be"), 8, "gsm"),
        ("Привет".encode("utf-16-be"), 8, "utf-8"), (b"caf\xe9", 3, "gsm"), ("Привет".encode(), 0, "utf-8"),
        (b"\x01\x02\xff", 4, "gsm"), (b"Hello", 0, "latin-1"),
    ],
)  # fmt: skip
def test_octets_that_mean_the_same_are_left_alone(body: bytes, data_coding: int, alphabet: Any) -> None:
    pdu = DeliverSm(short_message=body, data_coding=data_coding)
    [sms] = for_account(answer(pdu), account(alphabet=alphabet))
    assert (sms.body, sms.data_coding, sms.tlvs) == (body, data_coding, ())


@pytest.mark.parametrize(
    ("body", "default", "alphabet", "expected", "data_coding"),
    [
        (b"\x00", Charset.GSM, "latin-1", b"@", 0), (b"@", Charset.LATIN1, "gsm", b"\x00", 0),
        (b"\x00 \x05", Charset.GSM, "utf-8", "@ é".encode(), 0),
        ("Привет".encode(), Charset.GSM, "gsm", "Привет".encode("utf-16-be"), 8),
        (b"\x10", Charset.GSM, "ascii", "Δ".encode("utf-16-be"), 8),
    ],
)  # fmt: skip
def test_octets_that_would_be_misread_are_written_anew(
    body: bytes, default: Charset, alphabet: Any, expected: bytes, data_coding: int
) -> None:
    [sms] = for_account(answer(DeliverSm(short_message=body), default), account(alphabet=alphabet))
    assert (sms.body, sms.data_coding) == (expected, data_coding)


@pytest.mark.parametrize("body", [b"\xfe\xff\x04\x36", b"\xff\xfe\x36\x04", b"\x04\x36\x00"])
def test_a_byte_order_mark_and_half_a_character_do_not_reach_an_application(body: bytes) -> None:
    [sms] = for_account(answer(DeliverSm(source_addr=b"1", short_message=body, data_coding=8)), account())
    assert (sms.body, sms.data_coding) == (b"\x04\x36", 8)


def test_a_header_that_joins_nothing_stays_where_it_is() -> None:
    """Ports, and a table that the text is written in."""
    udh = bytes([6, 5, 4, 0x23, 0xF4, 0, 0])
    sms, _, segment = read_pdu(DeliverSm(short_message=udh + b"data", esm_class=UDHI, data_coding=4))
    assert (sms.udh, sms.body, segment) == (udh, b"data", None)
    assert udh_of(sms).ports is not None
    [out] = for_account(answer(DeliverSm(short_message=udh + b"data", esm_class=UDHI, data_coding=4)), account())
    assert (octets(out), out.esm_class) == (udh + b"data", UDHI)


def test_parts_by_tlvs() -> None:
    tlvs = ((0x20C, b"\0\1"), (0x20E, b"\2"), (0x20F, b"\1"), (0x1400, b"x"))
    sms, _, segment = read_pdu(DeliverSm(short_message=b"a", tlvs=tlvs))
    assert segment == Segment(1, 2, 1) and sms.tlvs == ((0x1400, b"x"),)


def test_long_ones_in_the_payload_or_in_parts() -> None:
    text = b"x" * 300
    whole = answer(DeliverSm(tlvs=((MESSAGE_PAYLOAD, text),)))
    [one] = for_account(whole, account())
    assert (one.body, one.tlvs) == (b"", ((MESSAGE_PAYLOAD, text),))
    parts = for_account(whole, account(long_answers="parts"), 9)
    assert [octets(part)[:6] for part in parts] == [bytes([5, 0, 3, 9, 2, 1]), bytes([5, 0, 3, 9, 2, 2])]
    assert b"".join(octets(part)[6:] for part in parts) == text
    assert {part.esm_class for part in parts} == {UDHI}


def test_what_has_no_place_in_parts_is_passed_on_as_it_came() -> None:
    text = b"x" * 60_000
    [one] = for_account(answer(DeliverSm(tlvs=((MESSAGE_PAYLOAD, text),))), account(long_answers="parts"))
    assert octets(one) == text


@given(texts(60), st.sampled_from(["gsm", "latin-1", "ascii", "utf-8"]), st.sampled_from([0, 3, 8]))
def test_the_text_an_application_reads_is_the_text(text: str, alphabet: Any, data_coding: int) -> None:
    """Whatever the two alphabets are."""
    codec = {0: "utf-8", 3: "latin-1", 8: "utf-16-be"}[data_coding]
    body = text.encode(codec, "replace")[:60_000]
    whole = answer(DeliverSm(tlvs=((MESSAGE_PAYLOAD, body),), data_coding=data_coding))
    [sms] = for_account(whole, account(alphabet=alphabet))
    if sms.data_coding == 0 and alphabet == "utf-8":
        read: str | None = octets(sms).decode()
    elif sms.data_coding == 0 and alphabet != "gsm":
        read = octets(sms).decode(alphabet)
    else:
        read = decode(octets(sms), sms.data_coding).text
    assert whole.text is not None and read is not None
    assert read.lstrip("\ufeff\ufffe") == whole.text.lstrip("\ufeff\ufffe")
