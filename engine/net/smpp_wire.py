"""An SMPP connection, either side: moves bytes between a transport and a protocol.smpp_session.Session, and time to it.

What is to be sent goes out once at the end of the loop's turn (net/outbox.py): a batch of responses is one write. One
lazy timer: when it wakes too early, it goes back to sleep until the session is due.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from engine.net.outbox import Outbox
from engine.protocol.smpp_events import Closed, Event
from engine.protocol.smpp_pdu import Pdu
from engine.protocol.smpp_session import Session

#: A peer that reads so little of what we write is not read from.
_MOST_UNSENT: Final = 256 << 10
NO_LIMIT: Final = 1 << 60


class Wire:
    """See above; an asyncio.Protocol in all but name.

    handle: told what happened, in order; the last event ever is Closed. pump: called after that: there may be room, or
    the end has come. peer: "address:port" of it. most_owed: with so many requests of the peer's to answer nothing more
    is read, until half of them are answered.

    After anything that was asked of `session` by itself, `send_soon` must be called; `request` and `respond` do.
    """

    def __init__(self, session: Session, handle: Callable[[Sequence[Event]], None], outbox: Outbox) -> None:
        self.session = session
        self.handle = handle
        self.pump: Callable[[], None] | None = None
        self.peer = ""
        self.local = ""
        self.most_owed = NO_LIMIT
        self._unsent = self._owing = False  #: why nothing is read
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    # ---- asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's
        transport.set_write_buffer_limits(_MOST_UNSENT)
        self.peer = _name(transport.get_extra_info("peername"))
        self.local = _name(transport.get_extra_info("sockname"))
        self._sleep()

    def data_received(self, data: bytes) -> None:
        self.session.receive(data, self._loop.time())
        self._turn()
        if self.session.owed >= self.most_owed and not self._owing:
            self._owing = True
            self._read_or_not()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.session.lost()
        self._turn()

    def eof_received(self) -> None:
        """Nothing more will come; the transport closes by itself."""

    def pause_writing(self) -> None:
        self._unsent = True
        self._read_or_not()

    def resume_writing(self) -> None:
        self._unsent = False
        self._read_or_not()

    # ---- for its owner

    @property
    def protocol(self) -> asyncio.Protocol:
        """Itself, as asyncio's functions want it: what is compiled cannot have a base that is not."""
        return cast(asyncio.Protocol, cast(Any, self))

    def request(self, pdu: Pdu, context: object = None) -> None:
        """Send what `session.may_send` allows. Raises InvalidField."""
        self.session.request(pdu, self._loop.time(), context)
        self.send_soon()

    def respond(self, request: Pdu, response: Pdu) -> None:
        """Answer a request of the peer's. Raises InvalidField."""
        self.session.respond(request, response)
        self.send_soon()
        if self._owing and self.session.owed <= self.most_owed // 2:
            self._owing = False
            self._read_or_not()

    def send_soon(self) -> None:
        """Write what the session has at the end of this turn."""
        self._outbox.add(self)

    def send(self) -> None:
        """Write it now."""
        data = self.session.data_to_send()
        transport = self._transport
        if transport is not None:
            if data:
                transport.write(data)
            if self.session.closed and not transport.is_closing():
                transport.close()  # once: after a second time asyncio's TLS (3.11) cannot be aborted
        events = self.session.events()  # what a request that closed it has told
        if events:
            self._handle(events)
        if self._timer is not None and self.session.due_at < self._timer_at:
            self._timer.cancel()
            self._timer = None
            self._sleep()

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def detach(self) -> asyncio.Transport | None:
        """Give the connection away, to another protocol; for this one it is lost. None: it is gone already."""
        transport = self._transport
        if transport is not None:
            self.connection_lost(None)
        return transport

    @property
    def transport(self) -> asyncio.Transport | None:
        """None once it is gone."""
        return self._transport

    # ---- inside

    def _read_or_not(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._unsent or self._owing:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _turn(self) -> None:
        events = self.session.events()
        if events:
            self._handle(events)
        self.send_soon()
        self._sleep()

    def _handle(self, events: Sequence[Event]) -> None:
        if isinstance(events[-1], Closed) and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.handle(events)
        if self.pump is not None:
            self.pump()

    def _sleep(self) -> None:
        if self._timer is None and not self.session.closed:
            self._timer_at = self.session.due_at
            self._timer = self._loop.call_at(self._timer_at, self._wake)  # of uvloop no TimerHandle, if it is due

    def _wake(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self.session.due_at <= now:
            self.session.tick(now)
            self._turn()
        else:
            self._sleep()


def _name(address: object) -> str:
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return ""
