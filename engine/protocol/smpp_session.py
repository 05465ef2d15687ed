"""One SMPP session, either side, sans-IO: bytes, time and wishes in, events and bytes out (SMPP 3.4 2, 7; 5.0 2).

The caller hands in what arrives (`receive`), what it wants (`request`, `respond`), the time when `due_at` has come
(`tick`) and the loss of the connection (`lost`). After each it takes `events` and `data_to_send`. The session answers
enquire_link, unbind, and whatever cannot be served, by itself; smpp_states says what may come when.

M1  0 <= requests in the window <= window.
M2  every request of the caller is told once as Answered or Unanswered; only after the latter, as LateAnswer (D3).
M3  numbers belong to a direction: the peer may use any, also ours, and 0.
P1  any bytes give events; after a command_length that cannot be, generic_nack and Closed.  P2  cuts do not matter.
"""

import math
from collections.abc import Mapping
from typing import Final

from engine.protocol.smpp_codec import AnyPdu, encode
from engine.protocol.smpp_events import (
    Answered,
    Closed,
    End,
    Event,
    LateAnswer,
    Received,
    Refused,
    Request,
    Unanswered,
    Unsolicited,
)
from engine.protocol.smpp_frames import FrameError, PduParser
from engine.protocol.smpp_pdu import (
    PDU_TYPES,
    AlertNotification,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    MalformedPdu,
    Outbind,
    Pdu,
    Unbind,
    UnbindResp,
    UnknownPdu,
)
from engine.protocol.smpp_states import BOUND, BOUND_BY, NEVER, REQUESTS, SENDING, STATUS_OF, Role, State, Timers
from engine.protocol.smpp_tables import ESME_RINVCMDID, ESME_ROK, ESME_RTHROTTLED, ESME_RX_T_APPN, RESPONSE

#: SMPP 3.4 3.2: 1 to 0x7FFFFFFF, then 1 again.
_LAST_NUMBER: Final = 0x7FFFFFFF
#: Unanswered requests remembered for a late answer; one that is later still is Unsolicited.
_REMEMBERED: Final = 1000
_NACK: Final = GenericNack.command_id
#: Requests that have no response.
_WITHOUT_ANSWER: Final = frozenset((Outbind, AlertNotification))
#: Requests that the window does not count.
_OUTSIDE: Final = _WITHOUT_ANSWER | {*BOUND_BY, Unbind}
#: Where a request moves the session, whichever side sends it; an unbind, ours.
_MOVES: Final[Mapping[type[Pdu], State]] = dict.fromkeys(BOUND_BY, State.BINDING) | {
    Outbind: State.OUTBOUND,
    Unbind: State.UNBINDING,
}

#: A name of the module is quicker than a member of a class.
_CLOSED: Final = State.CLOSED
_BINDING: Final = State.BINDING
_LEAVING: Final = State.LEAVING
_BOUND_TX: Final = State.BOUND_TX


class Session:
    """One session. `state`: see smpp_states. `late`, `unsolicited`: responses of these kinds so far.

    `peer_window` may be changed at any time: a server learns from the bind whom it talks to.
    """

    __slots__ = (
        "_control",
        "_deadline",
        "_enquiry",
        "_events",
        "_heard_at",
        "_may_come",
        "_may_send",
        "_number",
        "_out",
        "_outstanding",
        "_owed",
        "_parser",
        "_remembered",
        "_role",
        "_timers",
        "_unbind_number",
        "_window",
        "late",
        "peer_window",
        "state",
        "unsolicited",
    )

    def __init__(self, role: Role, timers: Timers, now: float, *, window: int = 10, peer_window: int = 1000) -> None:
        """window: our requests without an answer. peer_window: the peer's; more are refused for now. now: seconds."""
        self._role = role
        self._may_send = REQUESTS[role]
        self._may_come = REQUESTS[Role.SMSC if role is Role.ESME else Role.ESME]
        self._timers = timers
        self._window = window
        self.peer_window = peer_window
        self._parser = PduParser()
        self._out: list[bytes] = []
        self._events: list[Event] = []
        self._number = 0
        self._outstanding: dict[int, Request] = {}  #: in the window, oldest first
        self._control: dict[int, Request] = {}  #: bind, enquire_link, unbind: outside of it
        self._remembered: dict[int, Request] = {}  #: told as Unanswered
        self._enquiry: Request | None = None  #: our enquire_link, while it waits
        self._unbind_number = 0
        self._owed = 0  #: requests that the caller has not answered yet
        self._heard_at = now
        self._deadline = now + timers.session_init  #: of the state; without meaning while bound
        self.state = State.OPEN
        self.late = 0
        self.unsolicited = 0

    @property
    def closed(self) -> bool:
        """It is over: nothing comes in or goes out any more, but for what `data_to_send` still holds."""
        return self.state is _CLOSED

    # ---- for whoever moves the bytes

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the peer, in any pieces; after the end they are dropped."""
        if self.closed:
            return
        parser = self._parser
        parser.feed(data)
        try:
            while not self.closed and (pdu := parser.next_pdu()) is not None:
                self._heard_at = now
                if pdu.command_id & RESPONSE:
                    self._take_response(pdu)
                else:
                    self._take_request(pdu, now)
        except FrameError as fault:
            self._out.append(encode(fault.nack))
            self._close(End.GARBLED, str(fault))

    def lost(self) -> None:
        """The connection is gone."""
        if not self.closed:
            self._close(End.LOST)

    def events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> bytes:
        """What is to be sent since the last call."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    # ---- wishes

    @property
    def room(self) -> int:
        """How many requests the window has room for."""
        return self._window - len(self._outstanding)

    @property
    def owed(self) -> int:
        """Requests of the peer that were told as Received and wait for `respond`."""
        return self._owed

    def may_send(self, pdu_type: type[Pdu]) -> bool:
        """Whether a request of this kind may be begun now, by state and window."""
        mark = self._may_send.get(pdu_type.command_id, NEVER)[self.state]
        return mark == "+" and self.state in SENDING and (pdu_type in _OUTSIDE or self.room > 0)

    def request(self, pdu: Pdu, now: float, context: object = None) -> Request:
        """Send a request that `may_send` allows; its sequence_number is given to it here. Raises InvalidField."""
        kind = type(pdu)
        assert self.may_send(kind), f"{kind.__name__} in state {self.state.name}"
        number = self._next_number()
        wire = encode(pdu, number)
        patience_s = self._timers.session_init if self.state < _BOUND_TX else self._timers.response
        request = Request(pdu, number, now, now + patience_s, context)
        if kind not in _OUTSIDE:
            self._outstanding[number] = request
        elif kind not in _WITHOUT_ANSWER:
            self._control[number] = request
        self._out.append(wire)
        if kind in _MOVES:
            self.state, self._deadline = _MOVES[kind], request.due_at
        return request

    def respond(self, request: Pdu, response: Pdu) -> None:
        """Answer a Received request, in any order; `response` gets its sequence_number.

        Raises InvalidField: it is not answered yet. Nothing happens if the session is over meanwhile.
        """
        assert response.command_id == request.command_id | RESPONSE, "the response of its request"
        if self.closed:
            return
        assert self._owed, "one response to each"
        self._out.append(encode(response, request.sequence_number))
        self._owed -= 1
        if type(request) in BOUND_BY and self.state is _BINDING:
            self.state = State.OPEN if response.command_status else BOUND_BY[type(request)]
        elif self.state is _LEAVING:
            self._leave_when_done()

    # ---- time

    @property
    def due_at(self) -> float:
        """When to call `tick`; infinity after the end."""
        if self.closed:
            return math.inf
        if self.state not in BOUND:
            own = self._deadline
        elif self._enquiry is not None:
            own = self._enquiry.due_at
        else:
            own = self._heard_at + self._timers.enquire_link
        return min(own, next(iter(self._outstanding.values())).due_at) if self._outstanding else own

    def tick(self, now: float) -> None:
        """Do what is due."""
        while self._outstanding and (oldest := next(iter(self._outstanding.values()))).due_at <= now:
            self._expire(oldest)
        if now < self.due_at:
            return
        if self.state not in BOUND:
            self._close(End.NOT_BOUND if self.state < _BOUND_TX else End.UNBOUND)
        elif self._enquiry is None:
            self._enquire(now)
        else:
            alive = self._heard_at > self._enquiry.sent_at  # busy, or one of those who never answer it
            del self._control[self._enquiry.sequence_number]
            self._enquiry = None
            if not alive:
                self._close(End.SILENT)

    def _expire(self, request: Request) -> None:
        del self._outstanding[request.sequence_number]
        self._events.append(Unanswered(request))
        self._remembered[request.sequence_number] = request
        if len(self._remembered) > _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    def _enquire(self, now: float) -> None:
        number = self._next_number()
        self._enquiry = Request(EnquireLink(), number, now, now + self._timers.enquire_link_resp, None)
        self._control[number] = self._enquiry
        self._out.append(encode(self._enquiry.pdu, number))

    # ---- responses

    def _take_response(self, pdu: AnyPdu) -> None:
        number = pdu.sequence_number
        for table in (self._outstanding, self._control, self._remembered):
            request = table.get(number)
            if request is not None and pdu.command_id in (request.pdu.command_id | RESPONSE, _NACK):
                del table[number]
                if table is self._remembered:
                    self.late += 1
                    self._events.append(LateAnswer(request, pdu))
                else:
                    self._answered(request, pdu)
                return
        self.unsolicited += 1
        self._events.append(Unsolicited(pdu))

    def _answered(self, request: Request, response: AnyPdu) -> None:
        if request is self._enquiry:
            self._enquiry = None
            return
        answer = Answered(request, response)
        self._events.append(answer)
        kind = type(request.pdu)
        if kind is Unbind:
            self._close(End.UNBOUND)
        elif kind in BOUND_BY and self.state is _BINDING:
            self.state = BOUND_BY[kind] if answer.accepted else State.OPEN

    # ---- requests of the peer

    def _take_request(self, pdu: AnyPdu, now: float) -> None:
        status = self._refusal(pdu)
        if status != ESME_ROK:
            self._refuse(pdu, status)
            return
        assert isinstance(pdu, Pdu)
        kind = type(pdu)
        if kind is EnquireLink:
            self._out.append(encode(EnquireLinkResp(pdu.sequence_number)))
        elif kind is Unbind:
            self._take_unbind(pdu, now)
        else:
            if kind not in _WITHOUT_ANSWER:
                self._owed += 1
            if kind in _MOVES:
                self.state, self._deadline = _MOVES[kind], now + self._timers.session_init
            self._events.append(Received(pdu))

    def _refusal(self, pdu: AnyPdu) -> int:
        """The status to refuse a request with; ESME_ROK: it is served."""
        if isinstance(pdu, UnknownPdu):
            return ESME_RINVCMDID
        mark = self._may_come.get(pdu.command_id, NEVER)[self.state]
        if mark != "+":
            return STATUS_OF[mark]
        if isinstance(pdu, MalformedPdu):
            return pdu.answer_status
        if self._owed >= self.peer_window and type(pdu) not in _OUTSIDE and type(pdu) is not EnquireLink:
            return ESME_RTHROTTLED if self._role is Role.SMSC else ESME_RX_T_APPN
        return ESME_ROK

    def _refuse(self, pdu: AnyPdu, status: int) -> None:
        response = PDU_TYPES.get(pdu.command_id | RESPONSE)
        if isinstance(pdu, UnknownPdu):
            response = GenericNack
        if response is not None:
            self._out.append(encode(response(pdu.sequence_number, status)))
        self._events.append(Refused(pdu, status))

    def _take_unbind(self, pdu: Pdu, now: float) -> None:
        if self.state is State.UNBINDING:  # both at once: theirs is agreed to, ours still waits
            self._out.append(encode(UnbindResp(pdu.sequence_number)))
            return
        self.state, self._deadline = _LEAVING, now + self._timers.response
        self._unbind_number = pdu.sequence_number
        self._leave_when_done()

    def _leave_when_done(self) -> None:
        """An unbind_resp ahead of a submit_sm_resp would make the client send that message again."""
        if self._owed == 0:
            self._out.append(encode(UnbindResp(self._unbind_number)))
            self._close(End.UNBOUND)

    # ---- common

    def _next_number(self) -> int:
        """One that nothing remembered has, so that no answer meets the wrong request."""
        number = self._number % _LAST_NUMBER + 1
        while number in self._outstanding or number in self._control or number in self._remembered:
            number = number % _LAST_NUMBER + 1
        self._number = number
        return number

    def _close(self, end: End, text: str = "") -> None:
        self.state = _CLOSED
        unanswered = [request for request in self._control.values() if request is not self._enquiry]
        unanswered += self._outstanding.values()
        self._events += map(Unanswered, unanswered)
        self._events.append(Closed(end, text))
        self._control.clear()
        self._outstanding.clear()
