"""Receipts: where each value comes from, what is a receipt and what is not. Shapes: test_receipt_shapes.py."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.protocol.receipt import (
    MESSAGE_PAYLOAD,
    MESSAGE_STATE,
    NETWORK_ERROR_CODE,
    RECEIPTED_MESSAGE_ID,
    Receipt,
    claims_receipt,
    parse_receipt,
)
from engine.protocol.receipt_states import State

_SAMPLE_FILE = Path(__file__).parents[1] / "support" / "receipts.jsonl"
SAMPLES = [json.loads(line) for line in _SAMPLE_FILE.read_text().splitlines()]
TEXT = b"id:7 sub:001 dlvrd:000 submit date:2503141015 done date:2503141016 stat:UNDELIV err:034 text:Hello"
TEN_FIFTEEN = datetime(2025, 3, 14, 10, 15, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["case"])
def test_the_samples_are_read_as_they_say(sample: dict[str, str | None]) -> None:
    message = str(sample["short_message_latin1"])
    receipt = parse_receipt(message.encode("latin-1"))
    assert receipt is not None
    assert (receipt.id, receipt.stat, receipt.error) == (sample["want_id"], sample["want_stat"], sample["want_err"])
    assert receipt.final and receipt.state is not State.UNKNOWN
    assert (receipt.state is State.DELIVERED) == (sample["want_stat"] == "DELIVRD")
    assert (receipt.submitted_at is None) == ("submit" not in message)


def test_everything_is_read() -> None:
    assert parse_receipt(TEXT, esm_class=0x04) == Receipt(
        id="7",
        id_source="text",
        state=State.UNDELIVERABLE,
        state_source="text",
        stat="UNDELIV",
        error="034",
        error_source="text",
        submitted_at=TEN_FIFTEEN,
        done_at=TEN_FIFTEEN + 60,
        sub=1,
        dlvrd=0,
        text="Hello",
        claimed=True,
        raw=TEXT,
    )


def test_tlvs_come_first_and_the_text_fills_in() -> None:
    tlvs = {RECEIPTED_MESSAGE_ID: b"A7\0", MESSAGE_STATE: b"\x03", NETWORK_ERROR_CODE: b"\x03\x00\x05"}
    receipt = parse_receipt(TEXT, tlvs=tlvs)
    assert receipt is not None
    assert (receipt.id, receipt.state, receipt.error) == ("A7", State.EXPIRED, "005")
    assert (receipt.id_source, receipt.state_source, receipt.error_source) == ("tlv", "tlv", "tlv")
    assert (receipt.stat, receipt.submitted_at, receipt.text) == ("UNDELIV", TEN_FIFTEEN, "Hello")

    half = parse_receipt(b"stat:DELIVRD err:7", tlvs={RECEIPTED_MESSAGE_ID: b"A7"})
    assert half is not None
    assert (half.id, half.id_source, half.state, half.state_source) == ("A7", "tlv", State.DELIVERED, "text")


def test_tlvs_alone_make_a_receipt() -> None:
    receipt = parse_receipt(b"", tlvs={RECEIPTED_MESSAGE_ID: b"A7\0\0", MESSAGE_STATE: b"\x02"})
    assert receipt == Receipt(id="A7", id_source="tlv", state=State.DELIVERED, state_source="tlv")


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (b"\x08", State.REJECTED), (b"\0\0\0\x05", State.UNDELIVERABLE), (b"\x05\0\0\0", State.UNDELIVERABLE),
        (b"\x02\0", State.DELIVERED), (b"2", State.DELIVERED), (b"DELIVRD\0", State.DELIVERED),
        (b"\x09", State.SKIPPED),
        # What says nothing, or cannot be, leaves it to the text.
        (b"", State.EXPIRED), (b"\0", State.EXPIRED), (b"\x0a", State.EXPIRED), (b"\xff\xff", State.EXPIRED),
    ],
)  # fmt: skip
def test_message_state_has_any_length(value: bytes, state: State) -> None:
    receipt = parse_receipt(b"id:7 stat:EXPIRED", tlvs={MESSAGE_STATE: value})
    assert receipt is not None and receipt.state is state


@pytest.mark.parametrize(
    ("value", "error"), [(b"\x03\x04\x00", "1024"), (b"\x00\x22", "034"), (b"\x03", "034"), (b"", "034")]
)
def test_network_error_code_is_a_decimal_number(value: bytes, error: str) -> None:
    receipt = parse_receipt(TEXT, tlvs={NETWORK_ERROR_CODE: value})
    assert receipt is not None and receipt.error == error


def test_a_receipt_may_be_in_message_payload() -> None:
    receipt = parse_receipt(b"", tlvs={MESSAGE_PAYLOAD: TEXT})
    assert receipt is not None and (receipt.id, receipt.raw) == ("7", TEXT)


UDH_8 = b"\x05\x00\x03\x41\x02\x01"
UDH_16 = b"\x06\x08\x04\x41\x42\x02\x01"
WIDE = TEXT.decode().encode("utf-16-be")


@pytest.mark.parametrize(
    ("message", "data_coding", "esm_class"),
    [
        (WIDE, 8, 0x04), (b"\xfe\xff" + WIDE, 8, 0x04), (WIDE + b"\0", 8, 0x04), (WIDE, 0, 0),
        (TEXT.decode().encode("utf-16-le"), 8, 0x04), (TEXT.decode().encode("utf-16"), 8, 0x04),
        (TEXT, 8, 0x04), (TEXT, 3, 0x04), (TEXT, 4, 0x04), (TEXT, 0xF5, 0x04),
        (UDH_8 + TEXT, 0, 0x44), (UDH_16 + TEXT, 0, 0x44), (UDH_8 + WIDE, 8, 0x44), (UDH_16 + WIDE, 8, 0x44),
        (UDH_8 + TEXT, 0, 0), (UDH_16 + WIDE + b"\0", 8, 0), (TEXT, 0, 0x44), (TEXT + b"\0", 0, 0),
        (TEXT + b"\r\n", 0, 0),
    ],
)  # fmt: skip
def test_wrong_marks_do_not_matter(message: bytes, data_coding: int, esm_class: int) -> None:
    """UCS-2 marked ASCII and the reverse, a header with and without its flag, a flag without a header."""
    receipt = parse_receipt(message, data_coding=data_coding, esm_class=esm_class)
    assert receipt is not None
    assert (receipt.id, receipt.state, receipt.error, receipt.text) == ("7", State.UNDELIVERABLE, "034", "Hello")


def test_marks_do_not_matter_beside_tlvs_either() -> None:
    receipt = parse_receipt(TEXT, data_coding=8, tlvs={RECEIPTED_MESSAGE_ID: b"7", MESSAGE_STATE: b"\x05"})
    assert receipt is not None and receipt.done_at == TEN_FIFTEEN + 60


@pytest.mark.parametrize(
    "message",
    [
        b"", b"\0", b"Hello", b"id:", b"id: stat:", b"id:7", b"stat:DELIVRD", b"id:7 err:000", b"stat:DELIVRD id:",
        b"id: your cat ate my hamster", b"Paid:7 estate:DELIVRD", b"sub-id:7 stat:DELIVRD", b"id:7 un_stat:DELIVRD",
        b"id:\xa0stat:\xa0",
        b"text:see id:7 stat:DELIVRD", b"id:7 Text : stat:DELIVRD", b"id:7 sub:001 dlvrd:001 submit date:25031",
    ],
)  # fmt: skip
def test_no_id_or_no_state_is_no_receipt(message: bytes) -> None:
    assert parse_receipt(message, esm_class=0x04) is None


def test_a_person_who_writes_like_a_receipt_is_told_apart_by_the_claim_and_the_id() -> None:
    said = parse_receipt(b"id:bob stat:great, thanks", esm_class=0)
    assert said is not None
    assert (said.id, said.state, said.final, said.claimed) == ("bob", State.UNKNOWN, False, False)


@pytest.mark.parametrize(
    ("esm_class", "claimed"), [(0, False), (0x04, True), (0x20, True), (0x44, True), (0x03, False), (0x40, False),
                               (0x08, False), (0x10, False)]
)  # fmt: skip
def test_esm_class_claims_a_receipt(esm_class: int, claimed: bool) -> None:
    assert claims_receipt(esm_class) == claimed


def test_labels_in_the_text_are_text() -> None:
    receipt = parse_receipt(b"id:1 stat:DELIVRD err:000 text:id:2 stat:UNDELIV err:9 text:x, ")
    assert receipt is not None
    assert (receipt.id, receipt.state, receipt.error) == ("1", State.DELIVERED, "000")
    assert receipt.text == "id:2 stat:UNDELIV err:9 text:x,"


def test_a_binary_tail_does_not_hurt() -> None:
    receipt = parse_receipt(b"id:1 stat:DELIVRD text:\x04\x1f\xd8\x00\xff")
    assert receipt is not None and (receipt.id, receipt.state) == ("1", State.DELIVERED)


def test_a_receipt_may_be_cut_anywhere() -> None:
    """What is left of it is right or missing, never different, apart from the value that is cut itself."""
    for length in range(len(TEXT)):
        receipt = parse_receipt(TEXT[:length])
        if receipt is None:
            assert b"stat:U" not in TEXT[:length]
        else:
            assert receipt.id == "7"
            assert (receipt.submitted_at, receipt.done_at) == (TEN_FIFTEEN, TEN_FIFTEEN + 60)
            assert receipt.state is (State.UNDELIVERABLE if b"stat:UNDEL" in TEXT[:length] else State.UNKNOWN)


def test_dates_are_of_the_carriers_zone() -> None:
    receipt = parse_receipt(TEXT, zone=timezone(timedelta(hours=3)))
    assert receipt is not None and receipt.submitted_at == TEN_FIFTEEN - 3 * 3600


@given(
    st.from_regex(rb"(?:id|x|[0-9A-F.:-]){1,12}", fullmatch=True),
    st.sampled_from([b"0000000000", b"2503141015", b"250314101559", b"9999999999"]),
    st.sampled_from([b"DELIVRD", b"UNDELIV", b"MADEUP", b"ID", b"TEXT"]),
    st.from_regex(rb"(?:id:| |stat:|[a-z,;]){0,12}", fullmatch=True),
)
def test_the_usual_form_is_read_as_any_other(id: bytes, date: bytes, stat: bytes, text: bytes) -> None:
    """It has a quick way of its own; a space more, and it goes the long way."""
    quick = b"id:%b sub:001 dlvrd:000 submit date:%b done date:%b stat:%b err:0A1 text:%b" % (
        id,
        date,
        date,
        stat,
        text,
    )
    slow = quick.replace(b" sub:", b"  sub:", 1) if b" sub:" not in id else quick
    one, other = parse_receipt(quick), parse_receipt(slow)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert replace(one, raw=b"") == replace(other, raw=b"")
