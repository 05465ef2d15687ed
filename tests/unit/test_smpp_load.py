"""The load generator over SMPP: what it sends, how it counts answers and receipts, and against the test SMSC."""

import io
import math
import random

import pytest
import uvloop

from engine.base.errors import UsageError
from engine.protocol.receipt_states import State
from engine.protocol.receipt_values import Receipt
from engine.protocol.smpp_codec import AnyPdu, encode
from engine.protocol.smpp_frames import PduParser
from engine.protocol.smpp_pdu import (
    BindTransceiver,
    BindTransceiverResp,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    Pdu,
    SubmitSm,
    SubmitSmResp,
    Unbind,
    UnbindResp,
)
from engine.protocol.smpp_tables import ESME_RMSGQFUL, ESME_RTHROTTLED
from engine.protocol.sms_data_coding import decode
from engine.tools.latency import Latency, latency_of
from engine.tools.smpp_load import SmppLoad
from engine.tools.smpp_load_ledger import Ledger
from engine.tools.smpp_load_link import BindRefused, LoadLink
from engine.tools.smpp_load_message import SubmitMaker
from engine.tools.smpp_load_options import SmppLoadOptions
from engine.tools.smpp_load_report import SmppLoadReport
from engine.tools.smpp_sink import SmppSink
from engine.tools.smpp_sink_options import SmscOptions
from engine.tools.smpp_sink_rules import Prefixes, parse_receipts, parse_silent_rule, parse_status_rule
from engine.tools.smpp_sink_tally import SmppTally


def options(messages: int = 10, **more: object) -> SmppLoadOptions:
    return SmppLoadOptions(host="127.0.0.1", port=0, messages=messages, **more)  # type: ignore[arg-type]


def read(data: bytes) -> list[AnyPdu]:
    parser = PduParser()
    parser.feed(data)
    return list(iter(parser.next_pdu, None))


class Server:
    """The server's end of one link, which is bound."""

    def __init__(self, messages: int = 10, accepted: io.StringIO | None = None, **more: object) -> None:
        given = options(messages, **more)
        maker = SubmitMaker(given)
        self.ledger = Ledger(given, maker, 0, accepted)
        self.link = LoadLink(given, maker, self.ledger)

    def bind(self) -> list[AnyPdu]:
        self.hears()
        return self.says(BindTransceiverResp(1))

    def says(self, *pdus: Pdu, now: float = 0) -> list[AnyPdu]:
        self.link.receive(b"".join(map(encode, pdus)), now)
        return self.hears()

    def hears(self) -> list[AnyPdu]:
        data = b"".join(self.link.out)
        self.link.out.clear()
        return read(data)


def told(id: str, state: State = State.DELIVERED) -> Receipt:
    return Receipt(id=id, id_source="text", state=state, state_source="text")


# ---- what is sent


def test_submits_are_what_was_asked_for() -> None:
    maker = SubmitMaker(options(100, text="Grüße", source="+4912345", destination="+4477##00", registered_delivery=1))
    [pdu] = read(maker.wire(42, 0x01020304))
    assert pdu == SubmitSm(
        0x01020304, source_addr_ton=1, source_addr_npi=1, source_addr=b"4912345", dest_addr_ton=1, dest_addr_npi=1,
        destination_addr=b"44774200", registered_delivery=1, short_message=b"Gr\x7e\x1ee",
    )  # fmt: skip
    [named] = read(SubmitMaker(options(source="Acme")).wire(0, 1))
    assert isinstance(named, SubmitSm) and (named.source_addr, named.source_addr_ton) == (b"Acme", 5)


def test_a_long_text_has_parts_with_one_number() -> None:
    maker = SubmitMaker(options(3, text="0123456789" * 40))
    assert (maker.parts, maker.submits) == (3, 9)
    pdus = [pdu for submit in range(9) for pdu in read(maker.wire(submit, 1)) if isinstance(pdu, SubmitSm)]
    assert [pdu.destination_addr[-1:] for pdu in pdus] == [b"0"] * 3 + [b"1"] * 3 + [b"2"] * 3
    assert {pdu.esm_class for pdu in pdus} == {0x40}
    assert "".join(decode(pdu.short_message[6:], 0).text or "" for pdu in pdus[:3]) == "0123456789" * 40


def test_a_number_is_that_of_one_message() -> None:
    maker = SubmitMaker(options(50, destination="4477##00"))
    assert [maker.message_of(maker.destination(n)) for n in (0, 7, 49)] == [0, 7, 49]
    strangers = (b"44775000", b"44770001", b"4477000", b"447700000", b"44770a00", b"33770000", b"")
    assert [maker.message_of(number) for number in strangers] == [None] * 7
    assert maker.message_of(b"+44770700") == 7


@pytest.mark.parametrize(
    "more", [{"destination": "4477"}, {"destination": "44#a#"}, {"destination": "44#", "messages": 11},
             {"source": "x" * 21}, {"source": "Привет"}, {"text": "x" * 50_000}],
)  # fmt: skip
def test_what_cannot_be_sent_is_an_error(more: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        SubmitMaker(options(**more))  # type: ignore[arg-type]


# ---- sessions


def test_it_binds_then_fills_its_window() -> None:
    server = Server(window=3, system_id="acme", password="secret")
    [bind] = server.hears()
    assert bind == BindTransceiver(1, system_id=b"acme", password=b"secret")
    server.link.fill(0)
    assert server.hears() == []
    sent = server.says(BindTransceiverResp(1))
    assert [pdu.sequence_number for pdu in sent] == [2, 3, 4]
    assert [type(pdu) for pdu in server.says(SubmitSmResp(3, message_id=b"x"))] == [SubmitSm]
    assert server.ledger.report.accepted == 1
    server.says(SubmitSmResp(3, message_id=b"x"), SubmitSmResp(99))
    assert (server.ledger.report.accepted, server.ledger.report.unsolicited) == (1, 2)


def test_it_answers_the_server() -> None:
    server = Server(messages=1)
    server.bind()
    assert server.says(EnquireLink(7), DeliverSm(8), Unbind(9)) == [EnquireLinkResp(7), DeliverSmResp(8), UnbindResp(9)]
    assert server.link.ended and server.ledger.report.received == 1


def test_a_refused_bind_ends_it() -> None:
    server = Server()
    server.says(BindTransceiverResp(1, 0x0E))
    assert (server.link.ended, server.link.hopeless) == ("bind refused: ESME_RINVPASWD", True)
    other = Server()
    other.says(BindTransceiverResp(1, 0x05))
    assert other.link.ended and not other.link.hopeless


def test_garbage_ends_it() -> None:
    server = Server()
    server.link.receive(b"220 mx.example ESMTP\r\n", 0)
    assert "command_length" in server.link.ended


def test_any_bytes_give_answers_or_the_end() -> None:
    """P1."""
    chance = random.Random(17)
    wires = [encode(pdu) for pdu in (
        SubmitSmResp(2, message_id=b"a1"), SubmitSmResp(3, 0x58), GenericNack(4), BindTransceiverResp(1),
        EnquireLink(1), DeliverSm(1, source_addr=b"447700000000", esm_class=4, short_message=b"id:a1 stat:DELIVRD"),
        Unbind(9),
    )]  # fmt: skip
    for _ in range(300):
        server = Server(receipts_s=1.0)
        server.bind()
        for _ in range(20):
            wire = bytearray(chance.choice(wires))
            for _ in range(chance.choice((0, 0, 1, 3))):
                wire[chance.randrange(8, len(wire))] = chance.randrange(256)
            server.link.receive(bytes(wire), 0)
        server.ledger.close()


@pytest.mark.parametrize("status", [ESME_RTHROTTLED, ESME_RMSGQFUL])
def test_what_is_throttled_is_sent_again_after_a_pause_that_grows(status: int) -> None:
    server = Server(messages=1)
    [first] = server.bind()
    assert server.says(SubmitSmResp(first.sequence_number, status), now=10) == []
    pause = server.link.due_at - 10
    server.link.fill(10 + pause / 2)
    assert server.hears() == []
    server.link.fill(10 + pause)
    [again] = server.hears()
    assert isinstance(first, SubmitSm) and isinstance(again, SubmitSm)
    assert again.destination_addr == first.destination_addr
    server.says(SubmitSmResp(again.sequence_number, status), now=20)
    assert server.link.due_at - 20 > pause
    report = server.ledger.report
    assert (report.submitted, report.throttled, report.refused, server.ledger.all_answered) == (2, 2, 0, False)


def test_an_accepted_submit_ends_the_growth_of_the_pause() -> None:
    """Also one that is answered during the pause: where each tenth is throttled, a load must not come to a stop."""
    server = Server(messages=9, window=2)
    pauses = []
    throttled, taken = server.bind()
    for now in (10, 20, 30):
        server.says(SubmitSmResp(throttled.sequence_number, ESME_RTHROTTLED), now=now)
        pauses.append(server.link.due_at - now)
        server.says(SubmitSmResp(taken.sequence_number, message_id=b"x"), now=now)
        server.link.fill(now + 5)
        throttled, taken = server.hears()
    assert pauses == pytest.approx(pauses[:1] * 3)


def test_refusals_are_counted_not_repeated() -> None:
    server = Server(messages=2)
    first, second = server.bind()
    assert server.says(SubmitSmResp(first.sequence_number, 0x0B), GenericNack(second.sequence_number)) == []
    report = server.ledger.close()
    assert (report.refused, report.accepted, report.unanswered, report.complete) == (2, 0, 0, False)
    assert report.statuses == {"ESME_RINVDSTADR": 1, "ESME_RINVCMDID": 1}


def test_a_rate_spreads_new_submits() -> None:
    server = Server(messages=5, rate=2.0)
    assert len(server.bind()) == 1
    assert server.link.due_at == 0.5
    server.link.fill(1.1)
    assert len(server.hears()) == 2
    assert server.link.due_at == 1.5
    server.link.fill(100)
    assert len(server.hears()) == 2 and server.link.due_at == math.inf


def test_what_a_lost_connection_held_is_sent_again() -> None:
    server = Server(messages=3)
    sent = server.bind()
    server.says(SubmitSmResp(sent[1].sequence_number, message_id=b"x"))
    server.ledger.lost(list(server.link.in_flight.values()), "gone")
    assert [server.ledger.take(5) for _ in range(3)] == [0, 2, None]
    assert (server.ledger.report.sent_again, server.ledger.report.submitted) == (2, 5)


# ---- receipts


def test_receipts_are_matched_whatever_their_notation_and_order() -> None:
    accepted = io.StringIO()
    server = Server(messages=5, receipts_s=1.0, accepted=accepted)
    server.bind()
    ledger, to = server.ledger, SubmitMaker(options()).destination
    ledger.received(to(1), told("A1B"), 0.5)  # before its response
    for submit, id in enumerate(("10", "2587", "0000ff", "777", "888")):
        ledger.answered(submit, 0, id, 1.0)
    ledger.received(to(0), told("10", State.ENROUTE), 2)
    ledger.received(to(0), told("10", State.UNDELIVERABLE), 3)
    ledger.received(to(0), told("10"), 3)  # the first word holds
    ledger.received(to(2), told("255"), 4)
    ledger.received(to(3), told("778"), 4)  # no id of ours
    ledger.received(b"4999", told("888"), 4)  # no number of ours
    assert not ledger.all_received
    report = ledger.close()
    assert report.receipts == {"UNDELIV": 1, "DELIVRD": 2}
    assert (report.missing_receipts, report.unmatched_receipts, report.repeated_receipts) == (2, 2, 1)
    assert (report.intermediate_receipts, report.complete) == (1, False)
    assert report.receipt == Latency(3000, 4000, 4000)
    assert accepted.getvalue().splitlines()[0] == "10 447700000000"


def test_each_part_has_its_receipt() -> None:
    server = Server(messages=1, text="0123456789" * 20, receipts_s=1.0)
    first, second = server.bind()
    number = first.destination_addr if isinstance(first, SubmitSm) else b""
    server.ledger.received(number, told("b"), 0)
    server.says(
        SubmitSmResp(first.sequence_number, message_id=b"a"), SubmitSmResp(second.sequence_number, message_id=b"b")
    )
    assert server.ledger.report.receipts == {"DELIVRD": 1} and not server.ledger.all_received
    server.ledger.received(number, told("a"), 0)
    assert server.ledger.all_received and server.ledger.close().complete


def test_a_receipt_of_what_was_never_answered_is_unmatched() -> None:
    server = Server(messages=1)
    server.bind()
    server.ledger.received(SubmitMaker(options()).destination(0), told("1"), 0)
    assert server.ledger.close().unmatched_receipts == 1


def test_what_claims_to_be_a_receipt_and_is_none() -> None:
    server = Server(messages=1)
    server.bind()
    server.says(DeliverSm(1, esm_class=4, short_message=b"hello"), DeliverSm(2, short_message=b"id:1 stat:DELIVRD"))
    assert (server.ledger.report.unreadable_receipts, server.ledger.report.received) == (1, 1)


def test_latencies() -> None:
    assert latency_of([]) == Latency(0, 0, 0)
    assert latency_of([number / 1000 for number in range(200, 0, -1)]) == pytest.approx((101, 199, 200))


# ---- on the network


def run(smsc: dict[str, object], **more: object) -> tuple[SmppLoadReport, SmppTally]:
    """A load against a test SMSC in the same loop."""

    async def both() -> tuple[SmppLoadReport, SmppTally]:
        sink = SmppSink(SmscOptions(**smsc))  # type: ignore[arg-type]
        _, port = await sink.listen("127.0.0.1", 0)
        given = {"messages": 200, "sessions": 2, "port": port, "host": "127.0.0.1", **more}
        try:
            return await SmppLoad(SmppLoadOptions(**given)).run(), sink.tally  # type: ignore[arg-type]
        finally:
            await sink.close()

    return uvloop.run(both())


def test_everything_arrives_once_and_has_its_receipt() -> None:
    report, tally = run({}, receipts_s=5.0, registered_delivery=1)
    assert report.complete and report.receipts == {"DELIVRD": 200}
    assert (report.accepted, report.submitted, report.connections, report.lost_connections) == (200, 200, 2, 0)
    assert (tally.binds, tally.messages, tally.unique, tally.duplicates) == (2, 200, 200, 0)
    assert (tally.receipts_sent, tally.receipts_acknowledged) == (200, 200)
    assert 0 < report.response.p50_ms <= report.response.p99_ms <= report.response.max_ms


def test_a_closed_connection_is_opened_again_and_nothing_is_left_out() -> None:
    report, tally = run({"close_after": 50}, sessions=1)
    assert (report.accepted, report.unanswered) == (200, 0)
    assert report.connections == tally.binds == report.lost_connections + 1 == 4
    assert (tally.unique, tally.duplicates) == (200, 0)


def test_it_gives_up_when_nobody_answers() -> None:
    silent = Prefixes([parse_silent_rule("447700000007")])
    report, tally = run({"silent": silent}, patience_s=0.3)
    assert (report.accepted, report.unanswered, report.complete, tally.silent) == (199, 1, False, 1)


def test_it_gives_up_on_a_dead_link() -> None:
    report, _ = run({"dead_after": 20}, sessions=1, patience_s=0.3)
    assert (report.accepted, report.unanswered) == (20, 180)


def test_lost_receipts_are_missing() -> None:
    report, _ = run({"receipts": parse_receipts(["lost=10%"])}, receipts_s=0.3, registered_delivery=1)
    assert (report.missing_receipts, report.receipts, report.complete) == (20, {"DELIVRD": 180}, False)


def test_throttled_and_refused_submits() -> None:
    rules = Prefixes([parse_status_rule("44770000001=ESME_RINVDSTADR")])
    report, tally = run({"throttle": 0.2, "replies": rules})
    assert (report.accepted, report.refused) == (190, 10)
    assert report.throttled == tally.throttled == report.statuses["ESME_RTHROTTLED"] == 49  # of 249


def test_a_wrong_password_is_told_at_once() -> None:
    with pytest.raises(BindRefused, match="ESME_RINVPASWD"):
        run({"login": "load:secret"}, password="guess")
