"""P1 of receipts: any bytes, any marks, any TLVs give a receipt or none."""

import json
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from engine.protocol.receipt import (
    MESSAGE_PAYLOAD,
    MESSAGE_STATE,
    NETWORK_ERROR_CODE,
    RECEIPTED_MESSAGE_ID,
    Receipt,
    parse_receipt,
)
from engine.protocol.receipt_ids import forms, lookups
from engine.protocol.receipt_states import State

_SAMPLE_FILE = Path(__file__).parents[1] / "support" / "receipts.jsonl"
SAMPLES = [json.loads(line)["short_message_latin1"].encode("latin-1") for line in _SAMPLE_FILE.read_text().splitlines()]
_PIECES = [
    b"id:", b"ID :", b"msg_id:", b"sub:", b"dlvrd:", b"submit date:", b"donedate:", b"stat:", b"Status:", b"err:",
    b"text:", b" ", b"\0", b"\xa0", b"\x1c", b",", b":", b"\n", b"7", b"0a1B", b"DELIVRD", b"UNDELIV", b"DND_REJECTED",
    b"MK:0001", b"2503141015", b"250314070003912+", b"20250314101553", b"2025-03-14 10:15", b"9999-12-31",
    b"0001-01-01", b"00", b"99999999999999R", "é".encode(), b"\xff", b"\xfe\xff", b"\xd8\x00",
    b"\x05\x00\x03\x01\x02\x01", b"9" * 5000,
]  # fmt: skip
pieces = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=6), max_size=24).map(b"".join)
tlvs = st.dictionaries(
    st.sampled_from([RECEIPTED_MESSAGE_ID, MESSAGE_STATE, NETWORK_ERROR_CODE, MESSAGE_PAYLOAD]),
    st.binary(max_size=6) | st.sampled_from([b"A7\0", b"\x02", b"\0\0\0\x05", b"DELIVRD", *SAMPLES]),
    max_size=4,
)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A sample with some bytes replaced, taken out or put in, perhaps as UCS-2."""
    message = draw(st.sampled_from(SAMPLES))
    if draw(st.booleans()):
        message = message.decode("latin-1").encode("utf-16-be")
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(message)))
        message = message[:at] + draw(st.binary(max_size=4)) + message[at + draw(st.integers(0, 4)) :]
    return message


def check(receipt: Receipt | None) -> None:
    """What holds of every receipt: callers look it up, show its times and write it to a journal."""
    if receipt is None:
        return
    assert (receipt.id and receipt.id.split() == [receipt.id]) or receipt.id_source == "tlv"
    assert isinstance(receipt.state, State)
    assert receipt.final == (receipt.state.final and not receipt.state.intermediate)
    for at in (receipt.submitted_at, receipt.done_at):
        assert at is None or 1899 <= datetime.fromtimestamp(at, UTC).year <= 2100
    assert forms(receipt.id)[0][1] == lookups(receipt.id)[0] == receipt.id
    json.dumps([receipt.id, receipt.stat, receipt.error, receipt.text]).encode("ascii")


@given(pieces | st.binary() | mutations(), st.integers(0, 255), st.integers(0, 255), tlvs)
@example(b"id:7 stat:\xa0 stat:\x1c", 0, 0, {})
@example(b"id:7 stat:DELIVRD done date:0001-01-01 00:00", 0, 0, {})
def test_any_bytes_give_a_receipt_or_none(
    message: bytes, data_coding: int, esm_class: int, values: dict[int, bytes]
) -> None:
    check(parse_receipt(message, data_coding=data_coding, esm_class=esm_class, tlvs=values))


@given(st.sampled_from(SAMPLES), st.binary(max_size=40) | pieces)
def test_no_tail_changes_what_stands_before_it(sample: bytes, tail: bytes) -> None:
    head = sample.replace(b"\0", b"").partition(b"ext:")[0]
    head = head[:-1] if head.endswith((b"t", b"T")) else head + b" "
    clean, dirty = parse_receipt(head + b"text:"), parse_receipt(head + b"text:" + tail)
    assert clean is not None and dirty is not None
    for name in ("id", "state", "stat", "error", "submitted_at", "done_at", "sub", "dlvrd"):
        assert getattr(clean, name) == getattr(dirty, name)
