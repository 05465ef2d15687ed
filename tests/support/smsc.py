"""An SMSC in the test's own process, on a real socket: it does what the test says, and keeps what it was sent."""

import asyncio
from collections.abc import Callable, Sequence

from engine.net.outbox import Outbox
from engine.net.smpp_wire import Wire
from engine.protocol.smpp_events import Event, Received
from engine.protocol.smpp_pdu import (
    BindReceiver,
    BindReceiverResp,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    BindTransmitterResp,
    Pdu,
    SubmitSm,
    SubmitSmResp,
)
from engine.protocol.smpp_session import Session
from engine.protocol.smpp_states import BOUND, Role, Timers
from engine.protocol.smpp_tables import STATUSES

_RESPONSES = {
    BindTransceiver: BindTransceiverResp, BindTransmitter: BindTransmitterResp, BindReceiver: BindReceiverResp,
}  # fmt: skip
#: What to answer a submit with; None: nothing.
Answer = Callable[[SubmitSm], Pdu | None]


class Smsc:
    """See above. submits: what came, in order. answer: may be set at any time. bind_status: of every bind_resp."""

    def __init__(self) -> None:
        self.submits: list[SubmitSm] = []
        self.wires: list[Wire] = []
        self.binds: list[Pdu] = []
        self.answer: Answer = self.take
        self.bind_status = 0
        self.port = 0
        self._server: asyncio.Server
        self._outbox: Outbox

    def take(self, pdu: SubmitSm) -> Pdu:
        """Every message is good."""
        return SubmitSmResp(message_id=b"%d" % len(self.submits))

    async def open(self) -> "Smsc":
        loop = asyncio.get_running_loop()
        self._outbox = Outbox(loop)
        self._server = await loop.create_server(self._made, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        self._server.close()
        for wire in self.wires:
            wire.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)

    @property
    def bound(self) -> list[Wire]:
        return [wire for wire in self.wires if wire.session.state in BOUND]

    def _made(self) -> Wire:
        wire = Wire(Session(Role.SMSC, Timers(), asyncio.get_running_loop().time()), lambda events: None, self._outbox)
        wire.handle = lambda events: self._handle(wire, events)
        self.wires.append(wire)
        return wire

    def _handle(self, wire: Wire, events: Sequence[Event]) -> None:
        for event in events:
            if not isinstance(event, Received):
                continue
            pdu = event.pdu
            if isinstance(pdu, SubmitSm):
                self.submits.append(pdu)
                response = self.answer(pdu)
                if response is not None:
                    wire.respond(pdu, response)
            elif type(pdu) in _RESPONSES:
                self.binds.append(pdu)
                wire.respond(pdu, _RESPONSES[type(pdu)](command_status=self.bind_status, system_id=b"smsc"))


class Refusing:
    """Refuses so many submits with this status, then takes them. taken: their texts."""

    def __init__(self, status: str, times: int = 1 << 30) -> None:
        self._status = STATUSES[status]
        self._left = times
        self.taken: list[bytes] = []

    def __call__(self, pdu: SubmitSm) -> SubmitSmResp:
        if self._left:
            self._left -= 1
            return SubmitSmResp(command_status=self._status)
        self.taken.append(pdu.short_message)
        return SubmitSmResp(message_id=b"id-" + pdu.destination_addr)
