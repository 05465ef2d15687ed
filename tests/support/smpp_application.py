"""An application that is called: it listens, takes outbind, and binds on that connection."""

import asyncio
import ssl
from collections.abc import Sequence

from engine.net.outbox import Outbox
from engine.net.smpp_wire import Wire
from engine.protocol.smpp_events import Closed, Event, Received
from engine.protocol.smpp_pdu import BindReceiver, DeliverSm, DeliverSmResp, Outbind, Pdu
from engine.protocol.smpp_session import Session
from engine.protocol.smpp_states import Role, Timers


class Application:
    """Listens for outbind. calls: what it got. bind: what it answers with; None: nothing."""

    def __init__(self) -> None:
        self.calls: list[Outbind] = []
        self.connections: list[Wire] = []
        self.received: list[Pdu] = []
        self.answers: list[int] = []
        self.bind: Pdu | None = BindReceiver(system_id=b"app", password=b"secret")
        self.port = 0
        self._server: asyncio.Server

    async def open(self, tls: ssl.SSLContext | None = None) -> "Application":
        loop = asyncio.get_running_loop()
        self._outbox = Outbox(loop)
        self._server = await loop.create_server(self._made, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def _made(self) -> Wire:
        session = Session(Role.ESME, Timers(), asyncio.get_running_loop().time())
        wire = Wire(session, lambda events: self._happened(wire, events), self._outbox)
        self.connections.append(wire)
        return wire

    def _happened(self, wire: Wire, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Received) and isinstance(event.pdu, Outbind):
                self.calls.append(event.pdu)
                if self.bind is not None:
                    wire.request(self.bind, None)
            elif isinstance(event, Received):
                self.received.append(event.pdu)
                if isinstance(event.pdu, DeliverSm):
                    wire.respond(event.pdu, DeliverSmResp())
            elif isinstance(event, Closed):
                self.connections.remove(wire)

    def close(self) -> None:
        self._server.close()
        for wire in list(self.connections):
            wire.abort()
