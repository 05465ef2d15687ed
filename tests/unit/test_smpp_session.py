"""Sessions of SMPP: what may come when, who answers what, the window, late answers, and every way to the end."""

import math
from collections.abc import Callable

import pytest

from engine.protocol.smpp_codec import AnyPdu, encode
from engine.protocol.smpp_events import (
    Answered,
    Closed,
    End,
    LateAnswer,
    Received,
    Refused,
    Request,
    Unanswered,
    Unsolicited,
)
from engine.protocol.smpp_fields import InvalidField
from engine.protocol.smpp_frames import PduParser
from engine.protocol.smpp_pdu import (
    PDU_TYPES,
    AlertNotification,
    BindReceiver,
    BindReceiverResp,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    BindTransmitterResp,
    DataSm,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    MalformedPdu,
    Outbind,
    Pdu,
    QuerySm,
    SubmitSm,
    SubmitSmResp,
    Unbind,
    UnbindResp,
    UnknownPdu,
    response_type,
)
from engine.protocol.smpp_session import Session
from engine.protocol.smpp_states import REQUESTS, Role, State, Timers
from engine.protocol.smpp_tables import (
    ESME_RALYBND,
    ESME_RINVBNDSTS,
    ESME_RINVCMDID,
    ESME_RINVCMDLEN,
    ESME_RINVMSGLEN,
    ESME_RTHROTTLED,
    ESME_RX_T_APPN,
    RESPONSE,
)

TIMERS = Timers(session_init=5, response=60, enquire_link=30, enquire_link_resp=15)
BINDS: dict[State, tuple[type[Pdu], type[Pdu]]] = {
    State.BOUND_TX: (BindTransmitter, BindTransmitterResp),
    State.BOUND_RX: (BindReceiver, BindReceiverResp),
    State.BOUND_TRX: (BindTransceiver, BindTransceiverResp),
}


def sent(session: Session) -> list[AnyPdu]:
    """What it sends now."""
    parser = PduParser()
    parser.feed(session.data_to_send())
    return list(iter(parser.next_pdu, None))


def told(session: Session, *pdus: Pdu, now: float = 0) -> list[object]:
    """The events after these came from the peer."""
    session.receive(b"".join(map(encode, pdus)), now)
    return list(session.events())


def esme(state: State = State.BOUND_TRX, **limits: int) -> Session:
    """A client in this state; its first request has the number 2."""
    session = Session(Role.ESME, TIMERS, 0, **limits)
    bind, answer = BINDS[state]
    session.request(bind(), 0)
    told(session, answer(1))
    session.data_to_send()
    assert session.state is state
    return session


def smsc(state: State = State.BOUND_TRX, **limits: int) -> Session:
    """A server in this state."""
    session = Session(Role.SMSC, TIMERS, 0, **limits)
    bind, answer = BINDS[state]
    told(session, bind(1))
    session.respond(bind(1), answer())
    session.data_to_send()
    assert session.state is state
    return session


# ---- binding


@pytest.mark.parametrize("state", BINDS)
def test_a_bind_binds_both_sides_for_what_it_asked(state: State) -> None:
    bind, answer = BINDS[state]
    client, server = Session(Role.ESME, TIMERS, 0), Session(Role.SMSC, TIMERS, 0)
    request = client.request(bind(system_id=b"acme"), 0)  # type: ignore[call-arg]  # each of these has one
    server.receive(client.data_to_send(), 0)
    [received] = server.events()
    assert isinstance(received, Received) and received.pdu == bind(1, system_id=b"acme")  # type: ignore[call-arg]
    assert client.state is server.state is State.BINDING
    server.respond(received.pdu, answer())
    client.receive(server.data_to_send(), 0)
    assert client.events() == [Answered(request, answer(1))]
    assert client.state is server.state is state


@pytest.mark.parametrize("answer", [BindTransceiverResp(1, 14), GenericNack(1, 3), GenericNack(1)])
def test_a_refused_bind_leaves_the_session_open(answer: Pdu) -> None:
    session = Session(Role.ESME, TIMERS, 0)
    request = session.request(BindTransceiver(), 0)
    [event] = told(session, answer)
    assert event == Answered(request, answer) and isinstance(event, Answered) and not event.accepted
    assert session.state is State.OPEN and session.may_send(BindTransceiver)


def test_a_server_that_refuses_a_bind_takes_another() -> None:
    session = Session(Role.SMSC, TIMERS, 0)
    told(session, BindTransceiver(1))
    session.respond(BindTransceiver(1), BindTransceiverResp(command_status=14))
    assert session.state is State.OPEN
    assert told(session, BindTransceiver(2)) == [Received(BindTransceiver(2))]


def test_an_outbind_asks_for_a_bind() -> None:
    client, server = Session(Role.ESME, TIMERS, 0), Session(Role.SMSC, TIMERS, 0)
    server.request(Outbind(system_id=b"smsc"), 0)
    client.receive(server.data_to_send(), 0)
    assert client.events() == [Received(Outbind(1, system_id=b"smsc"))]
    assert client.state is server.state is State.OUTBOUND
    assert client.owed == 0 and client.may_send(BindReceiver)
    assert told(server, BindReceiver(1)) == [Received(BindReceiver(1))]


def test_a_second_bind_is_refused_as_one_too_many() -> None:
    for session in (smsc(), smsc(State.BOUND_TX)):
        assert told(session, BindReceiver(5)) == [Refused(BindReceiver(5), ESME_RALYBND)]
        assert sent(session) == [BindReceiverResp(5, ESME_RALYBND)]


# ---- what may come when


def in_state(role: Role, state: State) -> Session:
    """A session of ours, led into this state."""
    session = Session(role, TIMERS, 0)
    if state is State.OUTBOUND:
        session.request(Outbind(), 0) if role is Role.SMSC else told(session, Outbind(1))
    elif state is State.BINDING:
        session.request(BindTransceiver(), 0) if role is Role.ESME else told(session, BindTransceiver(1))
    elif state is not State.OPEN:
        session = (esme if role is Role.ESME else smsc)(state if state in BINDS else State.BOUND_TRX)
        if state is State.UNBINDING:
            session.request(Unbind(), 0)
        elif state is State.LEAVING:
            told(session, DeliverSm(3) if role is Role.ESME else SubmitSm(3), Unbind(4))
    session.events()
    session.data_to_send()
    assert session.state is state
    return session


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", list(State)[:-1])
def test_every_request_in_every_state_is_served_or_refused_by_the_table(role: Role, state: State) -> None:
    theirs = REQUESTS[Role.SMSC if role is Role.ESME else Role.ESME]
    for command_id, kind in PDU_TYPES.items():
        if command_id & RESPONSE:
            continue
        session = in_state(role, state)
        mark = theirs.get(command_id, "-" * 9)[state]
        events, answers = told(session, kind(7)), sent(session)
        if mark == "+":
            assert not any(isinstance(event, Refused) for event in events)
            continue
        status = {"-": ESME_RINVBNDSTS, "b": ESME_RALYBND}[mark]
        answer = response_type(kind)
        assert events == [Refused(kind(7), status)]
        assert answers == ([answer(7, status)] if answer else [])
        assert session.state is state


def test_the_table_in_words() -> None:
    """So that a slip in a column is seen."""
    assert Refused(SubmitSm(7), ESME_RINVBNDSTS) in told(smsc(State.BOUND_RX), SubmitSm(7))
    assert told(smsc(State.BOUND_TX), SubmitSm(7), QuerySm(8)) == [Received(SubmitSm(7)), Received(QuerySm(8))]
    assert Refused(DeliverSm(7), ESME_RINVBNDSTS) in told(esme(State.BOUND_TX), DeliverSm(7))
    assert told(esme(State.BOUND_RX), DataSm(7)) == [Received(DataSm(7))]
    assert told(esme(), SubmitSm(7)) == [Refused(SubmitSm(7), ESME_RINVBNDSTS)]
    assert not esme(State.BOUND_RX).may_send(SubmitSm) and not smsc(State.BOUND_TX).may_send(DeliverSm)
    assert esme(State.BOUND_TX).may_send(SubmitSm) and smsc(State.BOUND_RX).may_send(DeliverSm)
    assert not in_state(Role.ESME, State.BINDING).may_send(SubmitSm)


def test_a_delivery_or_an_enquiry_may_come_before_the_bind_resp() -> None:
    session = in_state(Role.ESME, State.BINDING)
    delivery = DeliverSm(1, source_addr=b"4477")
    assert told(session, delivery, EnquireLink(2)) == [Received(delivery)]
    session.respond(delivery, DeliverSmResp())
    assert sent(session) == [EnquireLinkResp(2), DeliverSmResp(1)]
    told(session, BindTransceiverResp(1))
    assert session.state is State.BOUND_TRX


def test_an_enquiry_before_the_bind_is_answered() -> None:
    session = Session(Role.SMSC, TIMERS, 0)
    assert told(session, EnquireLink(0)) == []
    assert sent(session) == [EnquireLinkResp(0)]


# ---- requests and answers


def test_both_sides_may_use_the_same_numbers_and_zero() -> None:
    """M3: an answer goes by our numbers, a request by the peer's."""
    session = esme()
    ours = session.request(SubmitSm(), 0, "context")
    theirs = [DeliverSm(ours.sequence_number), DeliverSm(0), DeliverSm(0)]
    assert told(session, *theirs) == list(map(Received, theirs))
    session.respond(theirs[1], DeliverSmResp())
    session.respond(theirs[0], DeliverSmResp())
    assert [pdu.sequence_number for pdu in sent(session)] == [2, 0, 2]
    [answered] = told(session, SubmitSmResp(2, message_id=b"id"))
    assert answered == Answered(ours, SubmitSmResp(2, message_id=b"id"))
    assert (ours.context, session.owed, session.room) == ("context", 1, 10)


def test_answers_may_come_in_any_order() -> None:
    session = esme()
    requests = [session.request(SubmitSm(), 0) for _ in range(3)]
    answers = [SubmitSmResp(request.sequence_number) for request in reversed(requests)]
    assert told(session, *answers) == list(map(Answered, reversed(requests), answers))


def test_the_window_holds_so_many_and_an_answer_makes_room() -> None:
    """M1."""
    session = esme(window=2)
    session.request(SubmitSm(), 0)
    assert session.room == 1
    session.request(SubmitSm(), 0)
    assert session.room == 0 and not session.may_send(SubmitSm) and session.may_send(Unbind)
    with pytest.raises(AssertionError):
        session.request(SubmitSm(), 0)
    told(session, SubmitSmResp(2, 0x58))
    assert session.room == 1 and session.may_send(SubmitSm)


@pytest.mark.parametrize(
    ("make", "kind", "answer", "status"),
    [(smsc, SubmitSm, SubmitSmResp, ESME_RTHROTTLED), (esme, DeliverSm, DeliverSmResp, ESME_RX_T_APPN)],
)
def test_a_peer_with_an_absurd_window_is_slowed_and_loses_nothing(
    make: Callable[..., Session], kind: type[Pdu], answer: type[Pdu], status: int
) -> None:
    session = make(peer_window=2)
    requests = [kind(number) for number in range(1, 4)]
    assert told(session, *requests, EnquireLink(9)) == [*map(Received, requests[:2]), Refused(requests[2], status)]
    assert sent(session) == [answer(3, status), EnquireLinkResp(9)]
    session.respond(requests[0], answer())
    assert told(session, kind(4)) == [Received(kind(4))]


def test_a_generic_nack_answers_the_request_it_names() -> None:
    session = esme()
    request = session.request(SubmitSm(), 0)
    nack = GenericNack(request.sequence_number, ESME_RINVCMDLEN)
    [event] = told(session, nack)
    assert event == Answered(request, nack) and isinstance(event, Answered) and not event.accepted
    assert session.room == 10


def test_a_response_of_another_kind_answers_nothing() -> None:
    session = esme()
    request = session.request(SubmitSm(), 0)
    wrong = DeliverSmResp(request.sequence_number)
    assert told(session, wrong, SubmitSmResp(99), GenericNack(0, 3)) == [
        Unsolicited(wrong), Unsolicited(SubmitSmResp(99)), Unsolicited(GenericNack(0, 3)),
    ]  # fmt: skip
    assert (session.unsolicited, session.late, session.room) == (3, 0, 9)


def test_an_accepted_message_whose_id_cannot_be_read_is_answered() -> None:
    session = esme()
    request = session.request(SubmitSm(), 0)
    body = b"x" * 300
    session.receive((316).to_bytes(4) + SubmitSmResp.command_id.to_bytes(4) + bytes(4) + (2).to_bytes(4) + body, 0)
    [event] = session.events()
    assert isinstance(event, Answered) and event.accepted and event.request is request
    assert event.response == MalformedPdu(SubmitSmResp.command_id, 0, 2, body, ESME_RINVCMDLEN)


def test_what_cannot_be_read_is_answered_and_the_session_goes_on() -> None:
    session = smsc()
    short = encode(SubmitSm(5))[16:-1] + b"\x09abc"
    session.receive((16 + len(short)).to_bytes(4) + b"\0\0\0\4\0\0\0\0\0\0\0\5" + short, 0)
    session.receive(b"\0\0\0\x12\0\1\2\3\0\0\0\0\0\0\0\6hi", 0)
    assert session.events() == [
        Refused(MalformedPdu(4, 0, 5, short, ESME_RINVMSGLEN), ESME_RINVMSGLEN),
        Refused(UnknownPdu(0x10203, 0, 6, b"hi"), ESME_RINVCMDID),
    ]
    assert sent(session) == [SubmitSmResp(5, ESME_RINVMSGLEN), GenericNack(6, ESME_RINVCMDID)]
    assert told(session, SubmitSm(7)) == [Received(SubmitSm(7))]


def test_an_unknown_response_is_never_answered() -> None:
    """Two programs that answer each other's answers do not stop."""
    session = smsc()
    session.receive(b"\0\0\0\x10\x80\1\2\3\0\0\0\0\0\0\0\6", 0)
    assert session.events() == [Unsolicited(UnknownPdu(0x80010203, 0, 6, b""))]
    assert session.data_to_send() == b""


def test_an_alert_needs_no_answer_either_way() -> None:
    client, server = esme(), smsc()
    server.request(AlertNotification(), 0)
    client.receive(server.data_to_send(), 0)
    assert client.events() == [Received(AlertNotification(1))]
    assert (client.owed, server.room) == (0, 10)
    server.lost()
    assert server.events() == [Closed(End.LOST)]


def test_what_must_not_be_sent_leaves_the_session_as_it_was() -> None:
    session = smsc()
    told(session, SubmitSm(5))
    with pytest.raises(InvalidField):
        session.request(DeliverSm(source_addr=b"1" * 30), 0)
    with pytest.raises(InvalidField):
        session.respond(SubmitSm(5), SubmitSmResp(message_id=b"1" * 70))
    assert (session.room, session.owed, session.data_to_send()) == (10, 1, b"")
    with pytest.raises(AssertionError):
        session.respond(SubmitSm(5), DeliverSmResp())


def test_numbers_begin_again_after_the_last_and_skip_those_in_use() -> None:
    session = esme()
    first = session.request(SubmitSm(), 0)
    session._number = 0x7FFFFFFE  # two thousand million requests later
    numbers = [session.request(SubmitSm(), 0).sequence_number for _ in range(3)]
    assert first.sequence_number == 2 and numbers == [0x7FFFFFFF, 1, 3]


# ---- time


def test_without_a_bind_in_time_it_is_over() -> None:
    for session in (Session(Role.SMSC, TIMERS, 0), in_state(Role.ESME, State.BINDING)):
        told(session, EnquireLink(1), now=4)
        assert session.due_at == 5
        session.tick(4.9)
        assert session.events() == []
        session.tick(5)
        assert session.events()[-1] == Closed(End.NOT_BOUND)
        assert session.due_at == math.inf


def test_a_request_without_answer_is_unknown_and_its_answer_late() -> None:
    """M2, D3."""
    session = esme()
    told(session, EnquireLink(1), now=39)
    request, younger = session.request(SubmitSm(), 0, "a"), session.request(SubmitSm(), 1)
    session.tick(60)
    assert session.events() == [Unanswered(request)]
    assert session.room == 9
    answer = SubmitSmResp(request.sequence_number, message_id=b"x")
    assert told(session, answer, answer, now=60.5) == [LateAnswer(request, answer), Unsolicited(answer)]
    assert (session.late, session.unsolicited) == (1, 1)
    assert session.due_at == younger.due_at == 61


def test_a_bounded_number_of_late_answers_is_known() -> None:
    session = esme(window=1001)
    oldest, next_oldest, *_ = [session.request(SubmitSm(), 0) for _ in range(1001)]
    session.tick(60)
    session.events()
    answers = SubmitSmResp(oldest.sequence_number), SubmitSmResp(next_oldest.sequence_number)
    assert told(session, *answers, now=60) == [Unsolicited(answers[0]), LateAnswer(next_oldest, answers[1])]


def test_silence_is_asked_about_and_then_the_end() -> None:
    session = esme()
    request = session.request(SubmitSm(), 20)
    assert session.due_at == 30
    session.tick(29)
    assert sent(session)[1:] == []
    session.tick(30)
    assert sent(session) == [EnquireLink(3)] and session.due_at == 45
    session.tick(44)
    assert session.events() == [] and sent(session) == []
    session.tick(45)
    assert session.events() == [Unanswered(request), Closed(End.SILENT)]


@pytest.mark.parametrize("sign", [EnquireLinkResp(2), GenericNack(2, 3), DeliverSm(1), SubmitSmResp(77)])
def test_any_pdu_is_a_sign_of_life(sign: Pdu) -> None:
    """Some peers never answer enquire_link; as long as they speak, they live."""
    session = esme()
    session.tick(30)
    told(session, sign, now=40)
    session.tick(45)
    session.tick(69)
    assert not session.closed
    session.tick(70)
    assert sent(session)[-1] == EnquireLink(3)


def test_half_a_pdu_is_no_sign_of_life() -> None:
    session = esme()
    for second in range(45):
        session.tick(second)
        session.receive(b"\0" if second else b"\0\0\1\0", second)
    session.tick(45)
    assert session.events() == [Closed(End.SILENT)]


# ---- the end


def test_our_unbind_ends_it_when_it_is_answered_and_serves_what_comes_before() -> None:
    session = esme()
    answered, unanswered = session.request(SubmitSm(), 0), session.request(SubmitSm(), 0)
    unbind = session.request(Unbind(), 0)
    assert not session.may_send(SubmitSm) and not session.may_send(EnquireLink)
    session.data_to_send()
    assert told(session, DeliverSm(5), SubmitSmResp(2)) == [Received(DeliverSm(5)), Answered(answered, SubmitSmResp(2))]
    session.respond(DeliverSm(5), DeliverSmResp())
    assert sent(session) == [DeliverSmResp(5)]
    assert told(session, UnbindResp(4), DeliverSm(6)) == [
        Answered(unbind, UnbindResp(4)), Unanswered(unanswered), Closed(End.UNBOUND),
    ]  # fmt: skip


def test_our_unbind_ends_it_also_without_an_answer() -> None:
    session = esme()
    unbind = session.request(Unbind(), 0)
    assert session.due_at == 60
    session.tick(60)
    assert session.events() == [Unanswered(unbind), Closed(End.UNBOUND)]


def test_the_peers_unbind_is_answered_after_what_it_sent_before() -> None:
    """Else a client never learns what became of its last messages, and sends them again."""
    session = smsc()
    assert told(session, SubmitSm(5), SubmitSm(6), Unbind(7), SubmitSm(8)) == [
        Received(SubmitSm(5)), Received(SubmitSm(6)), Refused(SubmitSm(8), ESME_RINVBNDSTS),
    ]  # fmt: skip
    session.respond(SubmitSm(6), SubmitSmResp())
    assert not session.closed
    session.respond(SubmitSm(5), SubmitSmResp())
    assert session.events() == [Closed(End.UNBOUND)]
    assert sent(session) == [SubmitSmResp(8, ESME_RINVBNDSTS), SubmitSmResp(6), SubmitSmResp(5), UnbindResp(7)]


def test_the_peers_unbind_does_not_wait_for_us_for_ever() -> None:
    session = in_state(Role.SMSC, State.LEAVING)
    session.tick(60)
    assert session.events() == [Closed(End.UNBOUND)]
    session.respond(SubmitSm(3), SubmitSmResp())
    assert session.data_to_send() == b""


def test_two_unbinds_that_cross_end_it_once() -> None:
    session = in_state(Role.ESME, State.UNBINDING)
    assert told(session, Unbind(9)) == [] and sent(session) == [UnbindResp(9)]
    assert told(session, UnbindResp(2))[-1] == Closed(End.UNBOUND)


def test_an_enquiry_of_the_sessions_own_is_nobodys_business() -> None:
    session = esme()
    session.tick(30)
    session.lost()
    assert session.events() == [Closed(End.LOST)]


def test_a_lost_connection_leaves_every_request_unknown() -> None:
    """D3."""
    session = esme()
    requests = [session.request(SubmitSm(), 0, number) for number in range(3)]
    session.lost()
    session.lost()
    assert session.events() == [*map(Unanswered, requests), Closed(End.LOST)]
    session.receive(encode(SubmitSmResp(2)), 1)
    session.tick(100)
    assert session.events() == [] and not session.may_send(SubmitSm)


def test_a_length_that_cannot_be_closes_with_a_nack_after_what_came_before() -> None:
    session = smsc()
    session.receive(encode(SubmitSm(5)) + b"GET / HTTP/1.1\r\n", 0)
    assert session.events() == [Received(SubmitSm(5)), Closed(End.GARBLED, "command_length 1195725856")]
    [nack] = sent(session)
    assert isinstance(nack, GenericNack) and nack.command_status == ESME_RINVCMDLEN


def test_a_request_remembers_when_it_was_sent() -> None:
    request = esme().request(SubmitSm(short_message=b"hi"), 3.5)
    assert (request.sent_at, request.due_at, request.pdu) == (3.5, 63.5, SubmitSm(short_message=b"hi"))
    assert isinstance(request, Request) and request.context is None
