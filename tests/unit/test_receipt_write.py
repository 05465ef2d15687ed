"""Receipts that we send upstream: the exact form, and that our own parser reads them back."""

from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.receipt import claims_receipt, parse_receipt
from engine.protocol.receipt_states import State
from engine.protocol.receipt_write import write_receipt

AT = 1741947300.0  # 2025-03-14 10:15 UTC
MINUTES = st.integers(946_684_800 // 60, 4_102_444_799 // 60).map(lambda minutes: minutes * 60.0)
WORDS = st.text(alphabet=[chr(c) for c in range(33, 127) if chr(c) not in ":,;|"], min_size=1, max_size=64)


def test_the_form_of_appendix_b() -> None:
    written = write_receipt(
        "0Hs7kQ", State.DELIVERED, submitted_at=AT, done_at=AT + 60, text="Grüße, and more than twenty"
    )
    assert written.short_message == (
        b"id:0Hs7kQ sub:001 dlvrd:001 submit date:2503141015 done date:2503141016 stat:DELIVRD err:000 "
        b"text:Gr??e, and more than"
    )
    assert written.tlvs == ((0x001E, b"0Hs7kQ\0"), (0x0427, b"\x02"))
    assert written.esm_class == 0x04


def test_an_error_is_a_tlv_too_and_an_intermediate_state_a_notification() -> None:
    failed = write_receipt("7", State.UNDELIVERABLE, submitted_at=AT, done_at=AT, error="027")
    assert (0x0423, b"\x03\x00\x1b") in failed.tlvs
    assert b" dlvrd:000 " in failed.short_message
    for state in State:
        written = write_receipt("7", state, submitted_at=AT, done_at=AT, error="0x1B")
        assert [tag for tag, _ in written.tlvs] == [0x001E, 0x0427]
        assert written.esm_class == (0x20 if state.intermediate else 0x04)


@given(WORDS, st.sampled_from(State), MINUTES, MINUTES, st.integers(0, 0xFFFF), st.text(), st.integers(-12, 14))
def test_what_is_written_is_read(
    id: str, state: State, submitted_at: float, done_at: float, error: int, text: str, hours: int
) -> None:
    zone = timezone(timedelta(hours=hours))
    submitted_at, done_at = (min(at + 24 * 3600, 4_102_358_400.0) for at in (submitted_at, done_at))
    written = write_receipt(
        id, state, submitted_at=submitted_at, done_at=done_at, error=f"{error:03}", text=text, zone=zone
    )
    for message, tlvs in (
        (written.short_message, {}),
        (written.short_message, dict(written.tlvs)),
        (b"", dict(written.tlvs)),
    ):
        receipt = parse_receipt(message, esm_class=written.esm_class, tlvs=tlvs, zone=zone)
        assert receipt is not None
        assert receipt.claimed and claims_receipt(written.esm_class)
        assert (receipt.id, receipt.state) == (id, state)
        if message:
            assert (receipt.submitted_at, receipt.done_at) == (submitted_at, done_at)
            assert (receipt.sub, receipt.dlvrd, receipt.error) == (1, state is State.DELIVERED, f"{error:03}")
            assert len(receipt.text) <= 20


@pytest.mark.parametrize("word", ["", "a b", "a:b", "a,b", "ä", "a\0", "a\n"])
def test_what_could_not_be_read_again_is_not_written(word: str) -> None:
    for id, error in ((word, "000"), ("7", word), ("7" * 65, "000")):
        with pytest.raises(ValueError, match="not the id and error"):
            write_receipt(id, State.DELIVERED, submitted_at=AT, done_at=AT, error=error)
