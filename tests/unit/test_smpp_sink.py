"""The test SMSC: what it answers, how it misbehaves on request, what it counts."""

import asyncio
import io
import random
from unittest.mock import Mock

import pytest
import uvloop

from engine.protocol.receipt import parse_receipt
from engine.protocol.receipt_states import State
from engine.protocol.smpp_codec import AnyPdu, encode
from engine.protocol.smpp_frames import PduParser
from engine.protocol.smpp_multi import DistributionList, SmeAddress, UnsuccessSme
from engine.protocol.smpp_pdu import (
    BindReceiver,
    BindReceiverResp,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    CancelSm,
    CancelSmResp,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    Pdu,
    QuerySm,
    QuerySmResp,
    ReplaceSm,
    ReplaceSmResp,
    SubmitMulti,
    SubmitMultiResp,
    SubmitSm,
    SubmitSmResp,
    Unbind,
    UnbindResp,
)
from engine.protocol.smpp_tables import (
    ESME_RALYBND,
    ESME_RINVBNDSTS,
    ESME_RINVCMDID,
    ESME_RINVCMDLEN,
    ESME_RTHROTTLED,
    ESME_RX_T_APPN,
    STATUSES,
)
from engine.protocol.sms_data_coding import decode
from engine.tools.sink_rules import Pace
from engine.tools.smpp_sink import SmppSink, SmppSinkSession
from engine.tools.smpp_sink_link import Link
from engine.tools.smpp_sink_options import SmscOptions
from engine.tools.smpp_sink_rules import (
    Prefixes,
    parse_answer_rule,
    parse_ids,
    parse_receipts,
    parse_silent_rule,
    parse_state_rule,
    parse_status_rule,
)
from engine.tools.smpp_sink_smsc import Smsc
from engine.tools.smpp_sink_tally import SmppTally

ASKED = 1


class Client:
    """A client of an SMSC, bound."""

    def __init__(self, smsc: Smsc, bind: type[Pdu] | None = BindTransceiver, system_id: bytes = b"acme") -> None:
        self.link = Link(smsc, set())
        if bind is not None:
            self.says(bind(1, system_id=system_id), EnquireLink(2))  # type: ignore[call-arg]  # each bind has one

    def says(self, *pdus: Pdu, now: float = 0) -> list[AnyPdu]:
        """What is sent back to it."""
        self.link.receive(b"".join(map(encode, pdus)), now)
        return self.hears()

    def hears(self) -> list[AnyPdu]:
        parser = PduParser()
        parser.feed(b"".join(self.link.out))
        self.link.out.clear()
        return list(iter(parser.next_pdu, None))


def smsc(**options: object) -> Smsc:
    return Smsc(SmscOptions(**options), SmppTally())  # type: ignore[arg-type]


def sms(number: int = 5, to: bytes = b"447700", text: bytes = b"hello", asked: int = 0, **more: object) -> SubmitSm:
    return SubmitSm(
        number, source_addr=b"Acme", destination_addr=to, short_message=text, registered_delivery=asked, **more
    )  # type: ignore[arg-type]


def receipt_in(pdu: AnyPdu) -> tuple[str, State]:
    """The id and state that a deliver_sm tells, by its text and by its TLVs."""
    assert isinstance(pdu, DeliverSm)
    by_text = parse_receipt(pdu.short_message, esm_class=pdu.esm_class)
    by_tlvs = parse_receipt(b"", esm_class=pdu.esm_class, tlvs=dict(pdu.tlvs))
    assert by_text is not None and by_tlvs is not None
    assert (by_text.id, by_text.state, by_text.claimed) == (by_tlvs.id, by_tlvs.state, True)
    return by_text.id, by_text.state


def names(pdus: list[AnyPdu]) -> list[str]:
    return [type(pdu).__name__ for pdu in pdus]


# ---- sessions


def test_binds_and_answers_what_comes_before_and_after() -> None:
    client = Client(smsc(name="sink.example"), None)
    assert client.says(EnquireLink(1), sms(2)) == [EnquireLinkResp(1), SubmitSmResp(2, ESME_RINVBNDSTS)]
    bound, again = client.says(BindTransceiver(3), BindReceiver(4))
    assert isinstance(bound, BindTransceiverResp) and (bound.system_id, bound.command_status) == (b"sink.example", 0)
    assert again == BindReceiverResp(4, ESME_RALYBND)
    assert client.says(Unbind(9)) == [UnbindResp(9)]
    assert client.link.closing


def test_a_receiver_may_not_submit() -> None:
    assert Client(smsc(), BindReceiver).says(sms(5)) == [SubmitSmResp(5, ESME_RINVBNDSTS)]


@pytest.mark.parametrize(
    ("system_id", "password", "status"),
    [
        (b"acme", b"secret", 0), (b"acme", b"guess", STATUSES["ESME_RINVPASWD"]),
        (b"x", b"secret", STATUSES["ESME_RINVSYSID"]),
    ],
)  # fmt: skip
def test_lets_in_whom_it_knows(system_id: bytes, password: bytes, status: int) -> None:
    engine = smsc(login="acme:secret")
    [answer] = Client(engine, None).says(BindTransceiver(1, system_id=system_id, password=password))
    assert isinstance(answer, BindTransceiverResp) and answer.command_status == status
    assert (engine.tally.binds, engine.tally.refused_binds) == ((1, 0) if not status else (0, 1))


def test_what_it_cannot_serve_is_answered() -> None:
    client = Client(smsc())
    client.link.receive(b"\0\0\0\x12\0\1\2\3\0\0\0\0\0\0\0\6hi", 0)
    client.link.receive(b"\0\0\0\x12\0\0\0\4\0\0\0\0\0\0\0\7hi", 0)
    assert client.hears() == [GenericNack(6, ESME_RINVCMDID), SubmitSmResp(7, ESME_RINVCMDLEN)]
    client.link.receive(b"GET / HTTP/1.1\r\n\r\n", 0)
    assert names(client.hears()) == ["GenericNack"] and client.link.closing


def test_same_answers_however_the_bytes_are_cut() -> None:
    """P2."""
    stream = b"".join(map(encode, [BindTransceiver(1), sms(2), sms(3, asked=ASKED), DeliverSmResp(1), Unbind(4)]))

    def answers(cuts: list[int]) -> list[tuple[str, int]]:
        client = Client(smsc(), None)
        for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            client.link.receive(stream[start:stop], 0)
        return [(type(pdu).__name__, pdu.sequence_number) for pdu in client.hears()]

    whole = [("BindTransceiverResp", 1), ("SubmitSmResp", 2), ("SubmitSmResp", 3), ("DeliverSm", 1), ("UnbindResp", 4)]
    assert answers([]) == answers(list(range(1, len(stream)))) == whole


def test_any_bytes_give_answers_or_the_end() -> None:
    """P1: addresses too long for a deliver_sm, lists, TLVs of the wrong kind among them."""
    chance = random.Random(13)
    wires = [encode(pdu) for pdu in (
        sms(asked=ASKED, esm_class=0x40, text=b"\x05\0\3\1\2\1x"), QuerySm(1, message_id=b"1"),
        CancelSm(message_id=b"1"), ReplaceSm(message_id=b"2"), DeliverSmResp(1), DeliverSmResp(2, ESME_RX_T_APPN),
        Unbind(), BindReceiver(),
        DataSm(source_addr=b"1" * 60, destination_addr=b"2" * 60, registered_delivery=1),
        SubmitMulti(dest_addresses=(DistributionList(b"all"),)), SubmitMulti(registered_delivery=1),
    )]  # fmt: skip
    for _ in range(300):
        client = Client(smsc(answers=Prefixes([parse_answer_rule("*=hi")])))
        for _ in range(20):
            wire = bytearray(chance.choice(wires))
            for _ in range(chance.choice((0, 0, 1, 3))):
                wire[chance.randrange(16, len(wire)) if len(wire) > 16 else 15] = chance.randrange(256)
            client.link.receive(bytes(wire), 0)
        client.hears()


def test_everything_is_sent_in_pieces_of_the_lengths_asked_for() -> None:
    """One for each turn of the loop; what comes to be sent meanwhile waits behind them, and so does the end."""

    async def run() -> tuple[list[bytes], list[str]]:
        ended = asyncio.Event()
        transport = Mock()
        transport.is_closing.return_value = False
        transport.write_eof.side_effect = ended.set
        session = SmppSinkSession(SmppSink(SmscOptions(split=(1, 3, 7))))
        session.connection_made(transport)
        session.data_received(encode(BindTransceiver(1)) + encode(sms(2)))
        assert transport.write.call_count == 1
        session.data_received(encode(Unbind(3)))
        await ended.wait()
        session.connection_lost(None)
        calls = [call[0] for call in transport.method_calls]
        return [call.args[0] for call in transport.write.call_args_list], [name for name in calls if "write" in name]

    pieces, calls = uvloop.run(run())
    assert {len(piece) for piece in pieces[:-1:3]} == {1} and [len(piece) for piece in pieces[:5]] == [1, 3, 7, 1, 3]
    parser = PduParser()
    parser.feed(b"".join(pieces))
    assert names(list(iter(parser.next_pdu, None))) == ["BindTransceiverResp", "SubmitSmResp", "UnbindResp"]
    assert calls == ["write"] * len(pieces) + ["can_write_eof", "write_eof"]


def test_the_end_waits_until_receipts_are_acknowledged() -> None:
    """`--until`: else the client would see a lost connection in place of its last receipts."""

    async def run() -> list[bool]:
        sink = SmppSink(SmscOptions(window=1))
        session = SmppSinkSession(sink)
        session.connection_made(Mock())
        for pdu in (BindTransceiver(1), sms(2, asked=ASKED), sms(3, b"447701", asked=ASKED)):
            session.data_received(encode(pdu))
        reached = [sink.reached(2)]
        for number in (1, 2):
            session.data_received(encode(DeliverSmResp(number)))
            reached.append(sink.reached(2))
        return [*reached, sink.reached(3)]

    assert uvloop.run(run()) == [False, False, True, False]


# ---- submits


def test_every_message_has_its_own_id() -> None:
    engine = smsc(first_id=41)
    client = Client(engine)
    assert client.says(sms(5), sms(6), DataSm(7, destination_addr=b"447700", tlvs=((0x0424, b"hello"),))) == [
        SubmitSmResp(5, message_id=b"41"), SubmitSmResp(6, message_id=b"42"), DataSmResp(7, message_id=b"43"),
    ]  # fmt: skip
    assert (engine.tally.submits, engine.tally.messages) == (3, 3)


def test_what_is_sent_twice_is_a_duplicate() -> None:
    ids = io.StringIO()
    engine = Smsc(SmscOptions(), SmppTally(ids))
    part = b"\x05\0\3\x07\2\1hello"
    client = Client(engine)
    client.says(sms(), sms(to=b"447701"), sms(text=b"other"), sms(esm_class=0x40, text=part))
    client.says(sms(tlvs=((0x020C, b"\0\7"), (0x020E, b"\2"), (0x020F, b"\1"))))
    assert (engine.tally.unique, engine.tally.duplicates, engine.tally.parts) == (5, 0, 2)
    client.says(sms(), sms(esm_class=0x40, text=part), sms(esm_class=0x40, text=b"\x05\0\3\x07\2\2hello"))
    assert (engine.tally.unique, engine.tally.duplicates, engine.tally.parts) == (6, 2, 4)
    client.says(SubmitSm(source_addr=b"Other", destination_addr=b"447700", short_message=b"hello"))
    assert (engine.tally.unique, engine.tally.duplicates) == (7, 3)
    assert ids.getvalue().splitlines()[:2] == ["1 447700", "2 447701"] and len(ids.getvalue().splitlines()) == 7


def test_refuses_by_the_beginning_of_the_number() -> None:
    rules = [parse_status_rule("4499=ESME_RINVDSTADR"), parse_status_rule("4498=0x14 x2")]
    engine = smsc(replies=Prefixes(rules))
    numbers = [b"4499", b"44981", b"44981", b"44982", b"44981", b"449"]
    answers = Client(engine).says(*(sms(to=number) for number in numbers))
    assert [pdu.command_status for pdu in answers] == [0x0B, 0x14, 0x14, 0x14, 0, 0]
    assert engine.tally.refused == {"ESME_RINVDSTADR": 1, "ESME_RMSGQFUL": 3}
    assert (engine.tally.submits, engine.tally.messages, engine.tally.duplicates) == (6, 2, 0)


def test_throttles_a_share_evenly() -> None:
    engine = smsc(throttle=0.25)
    answers = Client(engine).says(*(sms() for _ in range(8)))
    assert [pdu.command_status for pdu in answers] == [0, 0, 0, ESME_RTHROTTLED] * 2
    assert (engine.tally.throttled, engine.tally.messages) == (2, 6)


def test_throttles_above_a_rate() -> None:
    client = Client(smsc(pace=Pace(2.0)))
    assert [pdu.command_status for pdu in client.says(sms(), sms(), sms(), now=0)] == [0, 0, ESME_RTHROTTLED]
    assert [pdu.command_status for pdu in client.says(sms(), sms(), now=0.5)] == [0, ESME_RTHROTTLED]


def test_a_submit_to_many_has_one_id_and_a_list_of_refusals() -> None:
    engine = smsc(replies=Prefixes([parse_status_rule("4499=ESME_RINVDSTADR")]))
    client = Client(engine)
    several = tuple(SmeAddress(1, 1, number) for number in (b"4477", b"4499", b"4478"))
    answer, *told = client.says(SubmitMulti(5, dest_addresses=several, registered_delivery=ASKED))
    assert answer == SubmitMultiResp(5, message_id=b"1", unsuccess_smes=(UnsuccessSme(1, 1, b"4499", 0x0B),))
    assert [pdu.source_addr for pdu in told if isinstance(pdu, DeliverSm)] == [b"4477", b"4478"]
    assert client.says(SubmitMulti(6, dest_addresses=several[1:2])) == [SubmitMultiResp(6, 0x0B)]
    refused = SubmitMultiResp(7, STATUSES["ESME_RINVDLNAME"])
    assert client.says(SubmitMulti(7, dest_addresses=(several[0], DistributionList(b"all")))) == [refused]
    assert (engine.tally.submits, engine.tally.messages) == (4, 2)


def test_a_silent_number_is_taken_and_not_answered() -> None:
    engine = smsc(silent=Prefixes([parse_silent_rule("4466 x1")]))
    client = Client(engine)
    assert client.says(sms(5, to=b"4466"), sms(6)) == [SubmitSmResp(6, message_id=b"2")]
    assert client.says(sms(7, to=b"4466")) == [SubmitSmResp(7, message_id=b"3")]
    assert (engine.tally.silent, engine.tally.messages, engine.tally.duplicates) == (1, 3, 1)


def test_a_dead_link_says_nothing_more_and_stays_open() -> None:
    engine = smsc(dead_after=2)
    client = Client(engine)
    answers = client.says(sms(5), sms(6, asked=ASKED), sms(7), EnquireLink(8))
    assert [pdu.sequence_number for pdu in answers if isinstance(pdu, SubmitSmResp)] == [5, 6]
    assert client.says(EnquireLink(9), Unbind(10)) == []
    assert not client.link.closing and engine.tally.submits == 2


def test_a_connection_is_closed_after_so_many_submits() -> None:
    client = Client(smsc(close_after=2))
    assert names(client.says(sms(5), sms(6), sms(7))) == ["SubmitSmResp", "SubmitSmResp"]
    assert client.link.closing


# ---- receipts


def test_a_receipt_follows_the_response_if_it_is_asked_for() -> None:
    client = Client(smsc(states=Prefixes([parse_state_rule("4488=UNDELIV")])))
    assert names(client.says(sms())) == ["SubmitSmResp"]
    answer, told = client.says(sms(asked=ASKED))
    assert isinstance(answer, SubmitSmResp) and isinstance(told, DeliverSm)
    assert receipt_in(told) == ("2", State.DELIVERED)
    assert (told.source_addr, told.destination_addr) == (b"447700", b"Acme")
    assert told.short_message.endswith(b"err:000 text:hello")
    assert receipt_in(client.says(sms(to=b"4488", asked=ASKED))[1]) == ("3", State.UNDELIVERABLE)


@pytest.mark.parametrize(
    ("asked", "to", "receipts"),
    [(0, b"44", 0), (1, b"44", 1), (1, b"88", 1), (2, b"44", 0), (2, b"88", 1), (3, b"44", 1), (3, b"88", 0),
     (0x10, b"44", 0)],
)  # fmt: skip
def test_what_registered_delivery_asks_for(asked: int, to: bytes, receipts: int) -> None:
    client = Client(smsc(states=Prefixes([parse_state_rule("88=EXPIRED")])))
    assert names(client.says(sms(to=to, asked=asked))).count("DeliverSm") == receipts


def test_early_receipts_come_before_the_response() -> None:
    """Although the window is full."""
    client = Client(smsc(receipts=parse_receipts(["early"]), window=1))
    assert names(client.says(sms(asked=ASKED), sms(asked=ASKED))) == ["DeliverSm", "SubmitSmResp"] * 2


def test_late_receipts_come_when_they_are_due() -> None:
    engine = smsc(receipts=parse_receipts(["delay=2s"]))
    client = Client(engine)
    assert names(client.says(sms(asked=ASKED), now=10)) == ["SubmitSmResp"]
    assert engine.post.due_at == 12
    engine.post.tick(11.9)
    assert client.hears() == []
    engine.post.tick(12)
    assert receipt_in(*client.hears()) == ("1", State.DELIVERED)


@pytest.mark.parametrize(("how", "lost", "sent"), [("none", 0, 0), ("lost", 4, 0), ("lost=25%", 1, 3)])
def test_receipts_that_do_not_come(how: str, lost: int, sent: int) -> None:
    engine = smsc(receipts=parse_receipts([how]))
    assert names(Client(engine).says(*(sms(asked=ASKED) for _ in range(4)))).count("DeliverSm") == sent
    assert (engine.tally.receipts_lost, engine.tally.receipts_sent) == (lost, sent)


@pytest.mark.parametrize(
    ("forms", "response", "receipt"),
    [
        ("decimal", b"2587", "2587"), ("hex", b"a1b", "a1b"), ("HEX:8", b"00000A1B", "00000A1B"),
        ("decimal/HEX", b"2587", "A1B"), ("hex:6/decimal", b"000a1b", "2587"),
    ],
)  # fmt: skip
def test_ids_in_response_and_receipt(forms: str, response: bytes, receipt: str) -> None:
    answer, told = Client(smsc(ids=parse_ids(forms), first_id=0xA1B)).says(sms(asked=ASKED))
    assert isinstance(answer, SubmitSmResp) and answer.message_id == response
    assert receipt_in(told)[0] == receipt


def test_mixed_ids_are_taken_in_turn() -> None:
    answers = Client(smsc(ids=parse_ids("mixed"), first_id=0xA0)).says(*(sms() for _ in range(6)))
    ids = [answer.message_id for answer in answers if isinstance(answer, SubmitSmResp)]
    assert ids == [b"160", b"a1", b"00000000000000A2", b"163", b"a4", b"165"]


def test_a_receipt_goes_to_any_bind_of_its_owner_and_waits_for_one() -> None:
    engine = smsc()
    sender, stranger = Client(engine, BindTransmitter), Client(engine, BindReceiver, b"other")
    assert names(sender.says(sms(asked=ASKED))) == ["SubmitSmResp"]
    assert (engine.post.waiting, engine.tally.receipts_sent) == (1, 0)
    receiver = Client(engine, BindReceiver)
    assert stranger.hears() == []
    sender.says(sms(asked=ASKED))
    assert len(receiver.hears()) == 1  # the other one came with the answer to its bind
    assert (engine.post.waiting, engine.tally.receipts_sent) == (0, 2)


def test_spread_receipts_go_to_the_binds_in_turn() -> None:
    engine = smsc(receipts=parse_receipts(["spread"]))
    first, second = Client(engine), Client(engine)
    assert names(first.says(*(sms(asked=ASKED) for _ in range(4)))).count("DeliverSm") == 2
    assert names(second.hears()) == ["DeliverSm"] * 2


def test_no_more_receipts_than_the_window_without_acknowledgement() -> None:
    engine = smsc(window=2)
    client = Client(engine)
    assert names(client.says(*(sms(asked=ASKED) for _ in range(4)))).count("DeliverSm") == 2
    assert names(client.says(DeliverSmResp(1))) == ["DeliverSm"]
    assert (engine.tally.receipts_sent, engine.tally.receipts_acknowledged, engine.post.waiting) == (3, 1, 1)


def test_a_receipt_that_is_refused_for_now_is_sent_again() -> None:
    engine = smsc()
    client = Client(engine)
    [_, told] = client.says(sms(asked=ASKED))
    assert client.says(DeliverSmResp(told.sequence_number, ESME_RX_T_APPN), now=5) == []
    engine.post.tick(engine.post.due_at)
    [again] = client.hears()
    assert receipt_in(again) == receipt_in(told)
    client.says(DeliverSmResp(again.sequence_number, 8))
    tally = engine.tally
    assert (tally.receipts_sent, tally.sent_again, tally.receipts_refused, tally.receipts_acknowledged) == (1, 1, 1, 0)


def test_what_a_lost_connection_did_not_acknowledge_goes_to_the_next() -> None:
    engine = smsc()
    client = Client(engine)
    client.says(sms(to=b"1", asked=ASKED), sms(to=b"2", asked=ASKED), DeliverSmResp(1))
    client.link.lost()
    following = Client(engine, None)
    _, *told = following.says(BindReceiver(1, system_id=b"acme"))
    assert [receipt_in(pdu)[0] for pdu in told] == ["2"]
    assert (engine.tally.receipts_sent, engine.tally.sent_again) == (2, 1)


def test_a_number_answers_each_submit() -> None:
    engine = smsc(answers=Prefixes([parse_answer_rule("4477=STOP"), parse_answer_rule("4476=Привет " + "!" * 90)]))
    client = Client(engine)
    answers = [pdu for pdu in client.says(sms(), sms(to=b"4475"), sms(), sms(to=b"4476")) if isinstance(pdu, DeliverSm)]
    assert [(pdu.source_addr, pdu.destination_addr) for pdu in answers] == [
        (b"447700", b"Acme"), (b"447700", b"Acme"), (b"4476", b"Acme"), (b"4476", b"Acme"),
    ]  # fmt: skip
    assert [decode(pdu.short_message, pdu.data_coding).text for pdu in answers[:2]] == ["STOP", "STOP"]
    assert [pdu.esm_class for pdu in answers] == [0, 0, 0x40, 0x40]
    client.says(DeliverSmResp(1))
    assert (engine.tally.answers_sent, engine.tally.answers_acknowledged, engine.tally.receipts_sent) == (4, 1, 0)


# ---- later words about a message


def test_a_message_can_be_asked_about() -> None:
    client = Client(smsc(receipts=parse_receipts(["delay=2s"]), states=Prefixes([parse_state_rule("4488=REJECTD")])))
    client.says(sms(to=b"4488"), now=0)
    query = QuerySm(5, message_id=b"1", source_addr=b"Acme")
    assert client.says(query, now=1) == [QuerySmResp(5, message_id=b"1", message_state=State.ENROUTE)]
    [done] = client.says(query, now=2)
    assert isinstance(done, QuerySmResp) and done.message_state == State.REJECTED and len(done.final_date) == 16
    unknown = QuerySmResp(6, STATUSES["ESME_RQUERYFAIL"])
    assert client.says(QuerySm(6, message_id=b"2"), now=2) == [unknown]
    assert client.says(QuerySm(6, message_id=b"1", source_addr=b"Other"), now=2) == [unknown]


def test_a_message_can_be_cancelled_until_it_is_delivered() -> None:
    engine = smsc(receipts=parse_receipts(["delay=2s"]))
    client = Client(engine)
    client.says(sms(asked=ASKED), sms(asked=ASKED), now=0)
    told, answer = client.says(CancelSm(5, message_id=b"1", source_addr=b"Acme"), now=1)
    assert answer == CancelSmResp(5) and receipt_in(told) == ("1", State.DELETED)
    engine.post.tick(2)
    assert [receipt_in(pdu) for pdu in client.hears()] == [("2", State.DELIVERED)]
    assert client.says(CancelSm(6, message_id=b"2", source_addr=b"Acme"), now=2) == [
        CancelSmResp(6, STATUSES["ESME_RCANCELFAIL"])
    ]


def test_a_message_can_be_replaced_until_it_is_delivered() -> None:
    engine = smsc(receipts=parse_receipts(["delay=2s"]))
    client = Client(engine)
    client.says(sms(), now=0)
    other = ReplaceSm(5, message_id=b"1", source_addr=b"Acme", short_message=b"goodbye", registered_delivery=ASKED)
    assert client.says(other, now=1) == [ReplaceSmResp(5)]
    assert client.says(other, now=2) == [ReplaceSmResp(5, STATUSES["ESME_RREPLACEFAIL"])]
    assert (engine.tally.replaced, engine.tally.cancelled) == (1, 0)
