"""P1 and P2 of SMPP: any bytes, cut anywhere, at either side of a session."""

from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.smpp_codec import encode
from engine.protocol.smpp_events import Closed, Event, Received
from engine.protocol.smpp_frames import FrameError, PduParser
from engine.protocol.smpp_pdu import PDU_TYPES, BindTransceiver, BindTransceiverResp, Pdu, SubmitSm, response_type
from engine.protocol.smpp_session import Session
from engine.protocol.smpp_states import Role, State, Timers
from tests.support.smpp import cuts, pdus

commands = st.sampled_from([*PDU_TYPES, 0x10203, 0x80010203]) | st.integers(0, 0xFFFFFFFF)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A right length, and anything else."""
    body = draw(st.binary(max_size=60) | st.text("\0\1\2a", max_size=40).map(str.encode))
    status, number = draw(st.sampled_from([0, 0, 8]) | st.integers(0, 0xFFFFFFFF)), draw(st.integers(0, 5))
    return b"".join(value.to_bytes(4) for value in (16 + len(body), draw(commands), status, number)) + body


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A PDU with one octet that is another."""
    wire = bytearray(encode(draw(pdus)))
    wire[draw(st.integers(0, len(wire) - 1))] = draw(st.integers(0, 255))
    return bytes(wire)


said = st.lists(frames() | damaged() | pdus.map(encode) | st.binary(max_size=20), max_size=8).map(b"".join)


def parsed(chunks: list[bytes]) -> tuple[list[object], object]:
    """The PDUs, and the nack it ended with."""
    parser = PduParser()
    found: list[object] = []
    try:
        for chunk in chunks:
            parser.feed(chunk)
            while (pdu := parser.next_pdu()) is not None:
                found.append(pdu)
    except FrameError as fault:
        return found, fault.nack
    return found, None


@given(cuts(said))
def test_pdus_do_not_depend_on_the_cuts(cut: tuple[bytes, list[bytes]]) -> None:
    data, chunks = cut
    assert parsed([data]) == parsed(chunks) == parsed([data[i : i + 1] for i in range(len(data))])


@given(said)
def test_what_was_read_can_be_sent_again_if_it_keeps_the_limits(data: bytes) -> None:
    """Lenient in, strict out: the two differ by what was forgiven, never by what was meant."""
    for pdu in parsed([data])[0]:
        if isinstance(pdu, Pdu) and not pdu.rest:
            try:
                wire = encode(pdu)
            except ValueError:
                continue
            assert parsed([wire]) == ([pdu], None)


def session(role: Role, state: State) -> Session:
    """One of ours in this state, with two requests out where it may send."""
    ours = Session(role, Timers(), 0, peer_window=3)
    if state is State.OPEN:
        return ours
    if role is Role.ESME:
        ours.request(BindTransceiver(), 0)
        if state >= State.BOUND_TX:
            ours.receive(encode(BindTransceiverResp(1)), 0)
            ours.request(SubmitSm(), 0)
    else:
        ours.receive(encode(BindTransceiver(1)), 0)
        if state >= State.BOUND_TX:
            ours.respond(BindTransceiver(1), BindTransceiverResp())
    if state is State.UNBINDING:
        ours.request(PDU_TYPES[6](), 0)
    ours.events()
    ours.data_to_send()
    return ours


def lived(role: Role, state: State, chunks: list[bytes]) -> tuple[list[Event], bytes, State]:
    """All that a session tells and sends; half of what it is asked is answered at the end."""
    ours = session(role, state)
    for chunk in chunks:
        ours.receive(chunk, 1)
    events = ours.events()
    for event in events:
        if isinstance(event, Received) and event.pdu.sequence_number % 2:
            answer = response_type(type(event.pdu))
            if answer is not None:
                ours.respond(event.pdu, answer())
    return events + ours.events(), ours.data_to_send(), ours.state


@given(
    st.sampled_from(Role), st.sampled_from([State.OPEN, State.BINDING, State.BOUND_TRX, State.UNBINDING]), cuts(said)
)
def test_a_session_does_not_depend_on_the_cuts(role: Role, state: State, cut: tuple[bytes, list[bytes]]) -> None:
    data, chunks = cut
    whole = lived(role, state, [data])
    for pieces in (chunks, [data[i : i + 1] for i in range(len(data))]):
        assert [repr(event) for event in lived(role, state, pieces)[0]] == [repr(event) for event in whole[0]]
        assert lived(role, state, pieces)[1:] == whole[1:]
    assert sum(isinstance(event, Closed) for event in whole[0]) == (whole[2] is State.CLOSED)


@given(st.sampled_from(Role), said)
def test_what_a_session_sends_is_smpp_whatever_it_was_sent(role: Role, data: bytes) -> None:
    _, sent, _ = lived(role, State.BOUND_TRX, [data])
    pdus, fault = parsed([sent])
    assert fault is None and all(isinstance(pdu, Pdu) and not pdu.rest for pdu in pdus)
