"""What query_sm can tell of a message that is over: state, time and error, as long as what was sent is remembered."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Scope, Status
from engine.message.sms import Sms, encode_sms
from engine.protocol.receipt_states import Heard, State, heard_at
from tests.support.clock import FakeClock
from tests.support.receipts import NUMBER, ReceiptStage, receipt_stage
from tests.support.sms_stage import play

OTHER = "+447700900999"


def end(s: ReceiptStage, status: Status, reply: str = "message expired", numbers: int = 1) -> str:
    """A message ends in the queue: its id."""
    s.reports.fates = s.receipts
    recipients = tuple(Recipient(number) for number in (NUMBER, OTHER)[:numbers])
    now = s.clock.time()
    envelope = Envelope(s.ids.next(), "ACME", recipients, now - 60, now, 1, 0, user="app", channel="sms")
    outcome = Outcome(index=numbers - 1, status=status, scope=Scope.MESSAGE, status_code="5.0.0", reply=reply)
    s.reports.reports(envelope, encode_sms(Sms(source="ACME", text="x")), [outcome], "failed")
    return envelope.id


@given(st.sampled_from(State), st.floats(-1e9, 1e12), st.text(max_size=12) | st.none())
def test_what_was_heard_comes_back_from_the_disk(state: State, at: float, error: str | None) -> None:
    heard = heard_at(state, at, error)
    assert Heard.unpacked(heard.packed()) == heard
    assert Heard.unpacked(int(state)) == Heard(state), "as it was written before times were kept"
    assert 0 <= heard.at < 1 << 32 and 0 <= heard.error < 256


@pytest.mark.parametrize(
    ("status", "reply", "state", "error"),
    [
        (Status.REMOVED, "cancelled by app", State.DELETED, 0),
        (Status.FAILED, "ESME_RINVDSTADR Invalid Destination Address", State.REJECTED, 11),
        (Status.EXPIRED, "message expired; last: ESME_RMSGQFUL Message Queue Full", State.EXPIRED, 20),
        (Status.SUPPRESSED, "the recipient has opted out", State.REJECTED, 0),
    ],
)
def test_what_no_carrier_took_is_known_for_as_long_as_what_was_sent(
    tmp_path: Path, status: Status, reply: str, state: State, error: int
) -> None:
    async def story() -> None:
        clock = FakeClock(1_750_000_000.0)
        async with receipt_stage(tmp_path, clock) as s:
            message = end(s, status, reply)
            want = Heard(state, 1_750_000_000, error)
            assert s.receipts.inquiries.state_of(message, "app") == want, "at once, before it is written"
            await s.rest()
            assert s.receipts.inquiries.state_of(message, "app") == want
            assert s.receipts.inquiries.state_of(message, "plain") is None
            assert s.receipts.inquiries.last_to(NUMBER) is None, "it was sent to nobody: an answer is not to it"
            assert s.owed == [] and s.receipts.parked == len(s.receipts) == 0
        async with receipt_stage(tmp_path, clock) as s:
            assert s.receipts.inquiries.state_of(message, "app") == want
            await s.pass_time(3 * 86400 - 1)
            assert s.receipts.inquiries.state_of(message, "app") == want
            await s.pass_time(2)
            assert s.receipts.inquiries.state_of(message, "app") is None

    play(story)


def test_times_and_errors_of_receipts_are_kept(tmp_path: Path) -> None:
    """The time is the carrier's own, as in the receipt that the application was sent."""

    async def story() -> None:
        clock = FakeClock(1_741_946_000.0)
        done_at = 1_741_947_360  # 2025-03-14 10:16
        async with receipt_stage(tmp_path, clock) as s:
            taken = {
                s.send("a", "b", account="app"): Heard(State.UNDELIVERABLE, done_at, 69),
                s.send("c", "d", account="app"): Heard(State.DELIVERED, done_at + 60),
                s.send("e", account="app"): Heard(State.REJECTED, 1_741_946_000, 255),
                s.send("f", account="app", carrier="mute"): Heard(State.ACCEPTED),
                s.send("g", account="app"): Heard(State.ENROUTE),
            }
            s.receipt("a")
            s.receipt("b", "UNDELIV", "069")
            s.receive("id:d done date:2503141017 stat:DELIVRD err:000")
            s.receipt("c")
            s.receive("id:e stat:REJECTD err:70000")
            await s.rest()
            assert {message: s.receipts.inquiries.state_of(message, "app") for message in taken} == taken
        async with receipt_stage(tmp_path, clock) as s:
            assert {message: s.receipts.inquiries.state_of(message, "app") for message in taken} == taken

    play(story)


def test_a_message_to_several_numbers_is_over_when_all_are(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            message = end(s, Status.FAILED, "ESME_RINVDSTADR", numbers=2)
            s.send("a", message=message, account="app")
            known = s.receipts.inquiries.state_of(message, "app")
            assert known is not None and known.state is State.ENROUTE
            s.receipt("a")
            await s.rest()
            known = s.receipts.inquiries.state_of(message, "app")
            assert known is not None and (known.state, known.error) == (State.REJECTED, 11)
            known_too = s.receipts.inquiries.state_of(message, "app", queued=(0, 1))
            assert known_too == known, "a receipt may be quicker than we are"
            assert s.receipts.inquiries.state_of(message, "app", queued=(2,)) == Heard(State.ENROUTE)
            assert s.receipts.inquiries.state_of("nothing yet", "app", queued=(0,)) == Heard(State.ENROUTE)

    play(story)
