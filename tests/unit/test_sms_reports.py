"""What an application is owed when no carrier took its message, and what becomes of that in the settlement."""

from pathlib import Path

import pytest

from engine.base.metrics import Metrics
from engine.base.settings import Carrier, Settings
from engine.delivery.sms_reports import SmsReports, is_asked
from engine.message.envelope import Envelope, Recipient
from engine.message.ids import IdSource
from engine.message.outcome import Outcome, Scope, Status
from engine.message.sms import Kind, Sms, decode_sms, encode_sms
from engine.protocol.receipt import parse_receipt
from engine.protocol.receipt_states import State
from engine.protocol.smpp_pdu import SubmitSmResp
from engine.protocol.smpp_tables import STATUSES
from engine.storage.events.reader import read_events
from tests.support.clock import FakeClock
from tests.support.sms_stage import play, sms_stage, until
from tests.support.smsc import Smsc

ENVELOPE = Envelope(
    "0Hs7kQpf3Za2Wq", "ACME", (Recipient("+447700900123"), Recipient("+447700900124")), 1e9, 2e9, 1, 0, user="app",
    channel="sms",
)  # fmt: skip


def outcome(index: int, status: Status, reply: str = "ESME_RINVDSTADR Invalid Destination Address") -> Outcome:
    return Outcome(index=index, status=status, scope=Scope.RECIPIENT, status_code="5.1.1", reply=reply)


def reports() -> SmsReports:
    clock = FakeClock(1_000_000_100.0)
    return SmsReports(Settings(), IdSource("n", 0, clock), clock, Metrics())


@pytest.mark.parametrize(
    ("status", "stat"),
    [
        (Status.FAILED, "REJECTD"), (Status.EXPIRED, "EXPIRED"), (Status.REMOVED, "DELETED"),
        (Status.SUPPRESSED, "REJECTD"),
    ],
)  # fmt: skip
def test_one_receipt_for_each_number(status: Status, stat: str) -> None:
    content = encode_sms(Sms(source="ACME", source_ton=5, text="Hello, wörld", registered=1))
    made = reports().reports(ENVELOPE, content, [outcome(0, status), outcome(1, status)], "failed")
    assert [report.envelope.sender for report in made] == ["+447700900123", "+447700900124"]
    assert {report.destination for report in made} == {"account:app"}
    sms = decode_sms(made[0].content)
    read = parse_receipt(sms.body, esm_class=sms.esm_class, tlvs=dict(sms.tlvs))
    assert read is not None and (read.id, read.stat, read.error) == (ENVELOPE.id, stat, "011")
    assert b"text:Hello, w?rld" in sms.body and (sms.kind, sms.dest_ton) == (Kind.RECEIPT, 5)


def test_nothing_for_those_who_did_not_ask_nor_about_receipts_nor_about_what_goes_on() -> None:
    asked = encode_sms(Sms(text="x", registered=1))
    for content, status, action in (
        (encode_sms(Sms(text="x", registered=0)), Status.FAILED, "failed"),
        (encode_sms(Sms(text="x", registered=3)), Status.FAILED, "failed"),
        (encode_sms(Sms(kind=Kind.RECEIPT, registered=1)), Status.EXPIRED, "failed"),
        (asked, Status.DELIVERED, "failed"), (asked, Status.DEFERRED, "failed"), (asked, Status.FAILED, "delayed"),
        (b"\xff", Status.FAILED, "failed"),
    ):  # fmt: skip
        assert list(reports().reports(ENVELOPE, content, [outcome(0, status)], action)) == []  # type: ignore[arg-type]


def test_who_asked_for_what() -> None:
    states = State.DELIVERED, State.UNDELIVERABLE, State.ACCEPTED
    table = {n: "".join(state.name[0] for state in states if is_asked(n, state)) for n in (0, 1, 2, 3, 0x10)}
    assert table == {0: "", 1: "DUA", 2: "U", 3: "D", 0x10: ""}
    assert is_asked(0x12, State.ENROUTE, interim=True) and not is_asked(0x2, State.ENROUTE, interim=True)


def test_a_refused_message_is_told_to_its_application(tmp_path: Path) -> None:
    """In the journal before the outcome, and without an event of its own being received."""

    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: SubmitSmResp(command_status=STATUSES["ESME_RINVDSTADR"])
        row = Carrier(name="one", host="127.0.0.1", port=smsc.port, system_id="x")
        async with sms_stage(tmp_path, row) as s:
            s.settlement._sms_notifier = SmsReports(s.settings, s.ids, s.clock, s.metrics)
            message = await s.put("Hi", "+447700900123", registered=1)
            await s.put("nobody asked", "+447700900124")
            await until(lambda: len(s.told()) == 2)
            assert {kind for kind, *_ in s.told()} == {"failed"}
            await until(lambda: len(s.spool.table) == 1)
            [owed] = await s.rows()
            envelope, content = owed.message.hot
            assert (owed.destination, envelope.envid) == ("account:app", message)
            assert decode_sms(content).kind is Kind.RECEIPT and b"err:011" in decode_sms(content).body
            received = [row for row in read_events(tmp_path / "events") if row["type"] == "received"]
            assert len(received) == 2
        await smsc.close()

    play(story)
