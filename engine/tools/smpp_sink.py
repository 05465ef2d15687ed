"""The test SMSC on the network: listens, and gives each connection a link.

A bare asyncio.Protocol, without a task for anything; what one read gives rise to goes out in one write.
"""

import asyncio
import itertools
import math
import time

from engine.tools.smpp_sink_link import Link
from engine.tools.smpp_sink_options import SmscOptions
from engine.tools.smpp_sink_smsc import Smsc
from engine.tools.smpp_sink_tally import SmppTally

_BACKLOG = 1024
_LINGER_S = 2.0  #: for a client to hang up, too


class SmppSink:
    """The listening side. `tally` counts for all its connections."""

    def __init__(self, options: SmscOptions, tally: SmppTally | None = None) -> None:
        self.options = options
        self.tally = tally or SmppTally()
        self.smsc = Smsc(options, self.tally)
        self.addresses: list[tuple[str, int]] = []
        self.sessions: dict[Link, SmppSinkSession] = {}
        self.touched: set[Link] = set()
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Start to listen; the address in use (a port of 0 becomes a free one). Raises OSError."""
        server = await asyncio.get_running_loop().create_server(
            lambda: SmppSinkSession(self), host, port, ssl=self.options.tls, backlog=_BACKLOG
        )
        self._servers.append(server)
        address: tuple[str, int] = server.sockets[0].getsockname()[:2]
        self.addresses.append(address)
        return address

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._timer is not None:
            self._timer.cancel()
        for server in self._servers:
            server.close()
        for session in list(self.sessions.values()):
            session.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def reached(self, unique: int) -> bool:
        """So many are there, and every receipt and answer about them is acknowledged."""
        told = not (self.smsc.post.waiting or any(link.unacknowledged for link in self.sessions))
        return self.tally.unique >= unique and told

    def settle(self) -> None:
        """Send what the links have to say, and come back when something is due."""
        while self.touched:
            link = self.touched.pop()
            if (session := self.sessions.get(link)) is not None:
                session.flush()
        due_at = self.smsc.post.due_at
        if due_at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due_at
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due_at - time.monotonic()), self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self.smsc.post.tick(time.monotonic())
        self.settle()


class SmppSinkSession(asyncio.Protocol):
    """One connection: bytes to the link and back, cut into pieces if that is asked for."""

    def __init__(self, sink: SmppSink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._pieces = itertools.cycle(sink.options.split) if sink.options.split else None
        self._uncut = bytearray()
        self._cutting = self._ended = False
        self.link = Link(sink.smsc, sink.touched)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's TCP transport is no asyncio.Transport
        self._sink.sessions[self.link] = self
        self._sink.tally.connected()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._sink.tally.open -= 1
        self._sink.sessions.pop(self.link, None)
        self.link.lost()
        self._sink.settle()

    def data_received(self, data: bytes) -> None:
        self.link.receive(data, time.monotonic())
        self._sink.touched.add(self.link)
        self._sink.settle()

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def flush(self) -> None:
        """Send what the link has to say, and do what it wants."""
        transport, link = self._transport, self.link
        if transport is None or transport.is_closing() or self._ended:
            return
        if self._pieces is not None:
            self._uncut += b"".join(link.out)
            link.out.clear()
            if self._uncut and not self._cutting:
                self._cut()
        elif link.out:
            transport.write(b"".join(link.out))
            link.out.clear()
        if link.closing and not self._uncut:
            self._hang_up(transport)

    def _hang_up(self, transport: asyncio.Transport) -> None:
        """Close, in a way that lets the client read to the end: with input unread, the kernel would send a reset."""
        if self._ended:
            return
        self._ended = True
        if transport.can_write_eof():
            transport.write_eof()
            self._loop.call_later(_LINGER_S, self.abort)
        else:
            transport.close()

    def _cut(self) -> None:
        """One piece for each turn of the loop, or the kernel would put them together again."""
        if self._transport is None or self._pieces is None:
            return
        length = next(self._pieces)
        self._transport.write(bytes(self._uncut[:length]))
        del self._uncut[:length]
        self._cutting = bool(self._uncut)
        if self._cutting:
            self._loop.call_soon(self._cut)
        else:
            self.flush()
