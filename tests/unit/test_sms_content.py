"""What a client's octets become: a text, or octets that go as they are."""

import pytest

from engine.intake.sms_content import with_content
from engine.intake.sms_refusal import SmsRefused
from engine.message.sms import Sms
from engine.protocol.sms_udh import MESSAGE_PAYLOAD, SAR_SEGMENT_SEQNUM, Segment, sar_tlvs

PART = b"\x05\x00\x03\x2a\x02\x01"
SAR = sar_tlvs(Segment(7, 2, 1))


def read(
    data: bytes, coding: int = 0, esm: int = 0, tlvs: tuple[tuple[int, bytes], ...] = (), alphabet: str = "gsm"
) -> Sms:
    return with_content(Sms(), data, esm, coding, tlvs, alphabet)


@pytest.mark.parametrize(
    ("data", "coding", "alphabet", "text"),
    [
        (b"\x00 \x1b\x65", 0, "gsm", "@ €"),
        (b"caf\xe9", 0, "latin-1", "café"),
        ("Žluťoučký 😀".encode(), 0, "utf-8", "Žluťoučký 😀"),
        ("café".encode(), 0, "latin-1", "cafÃ©"),  # only where the account says so it is UTF-8
        (b"caf\xe9", 3, "gsm", "café"),
        (b"abc", 1, "gsm", "abc"),
        ("Да 😀".encode("utf-16-be"), 8, "gsm", "Да 😀"),
        ("Да".encode("utf-16-be"), 0x18, "gsm", "Да"),
        ("Да".encode("iso8859_5"), 6, "gsm", "Да"),
        (b"\x00", 0xF0, "latin-1", "@"),  # class 0 names the GSM alphabet
        (b"", 0, "gsm", ""),
    ],
)
def test_a_text_is_decoded(data: bytes, coding: int, alphabet: str, text: str) -> None:
    sms = read(data, coding, alphabet=alphabet)
    assert (sms.text, sms.data_coding, sms.body) == (text, coding, b"")


def test_a_payload_is_the_message_and_no_tlv_any_more() -> None:
    sms = read(b"", tlvs=((0x1400, b"dlt"), (MESSAGE_PAYLOAD, b"x" * 300)))
    assert (sms.text, sms.tlvs) == ("x" * 300, ((0x1400, b"dlt"),))


def test_octets_stay_octets() -> None:
    sms = read(b"\x01\x02", 4, tlvs=((0x20A, b"\0\1"),))
    assert (sms.text, sms.body, sms.data_coding, sms.tlvs) == (None, b"\x01\x02", 4, ((0x20A, b"\0\1"),))


def test_what_the_client_has_cut_is_kept_as_it_is() -> None:
    sms = read(PART + b"hello", esm=0x43)
    assert (sms.text, sms.udh, sms.body, sms.esm_class) == (None, PART, b"hello", 0)
    sms = read(b"x" * 153, tlvs=SAR)
    assert (sms.text, sms.body, sms.tlvs) == (None, b"x" * 153, SAR)


@pytest.mark.parametrize(
    ("refused", "how"),
    [
        ("ESME_RINVMSGLEN", {"data": b"abc", "coding": 8}),
        ("ESME_RINVDCS", {"data": b"\xff", "alphabet": "utf-8"}),
        ("ESME_RINVDCS", {"data": b"\xff\xff", "coding": 14}),
        ("ESME_RINVESMCLASS", {"data": b"x", "esm": 0x02}),
        ("ESME_RINVESMCLASS", {"data": b"x", "esm": 0x04}),
        ("ESME_RINVESMCLASS", {"data": b"\x20abc", "esm": 0x40}),
        ("ESME_RINVMSGLEN", {"data": PART + b"x" * 154, "esm": 0x40}),
        ("ESME_RINVMSGLEN", {"data": PART + b"x" * 135, "esm": 0x40, "coding": 4}),
        ("ESME_RINVESMCLASS", {"data": b"\x05\x00\x03\x2a\x02\x00hello", "esm": 0x40}),
        ("ESME_RINVESMCLASS", {"data": b"\x06\x08\x04\x00\x2a\x02\x03hello", "esm": 0x40}),
        ("ESME_RINVOPTPARAMVAL", {"data": b"hello", "tlvs": (*SAR[:2], (SAR_SEGMENT_SEQNUM, b"\x07"))}),
        ("ESME_RINVOPTPARAMVAL", {"data": b"hello", "tlvs": (*SAR[:2], (SAR_SEGMENT_SEQNUM, b"\x00"))}),
        ("ESME_RMISSINGOPTPARAM", {"data": b"hello", "tlvs": (SAR[0], SAR[2])}),
        ("ESME_RMISSINGOPTPARAM", {"data": b"hello", "tlvs": SAR[:1]}),
        ("ESME_RINVMSGLEN", {"data": b"hello\x1b"}),
        ("ESME_RINVMSGLEN", {"data": b"hello\x1b", "coding": 0xF0, "alphabet": "latin-1"}),
        ("ESME_ROPTPARNOTALLWD", {"data": b"x", "tlvs": ((MESSAGE_PAYLOAD, b"y"),)}),
    ],
)
def test_what_cannot_be_is_refused_by_its_own_status(refused: str, how: dict[str, object]) -> None:
    with pytest.raises(SmsRefused) as caught:
        read(**how)  # type: ignore[arg-type]  # as the rows say
    assert caught.value.name == refused
