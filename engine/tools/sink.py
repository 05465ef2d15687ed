"""The test MX on the network: listens, and gives each connection a dialogue.

A bare asyncio.Protocol; the replies of one read go out in one write, so that the sink is never the bottleneck.
"""

import asyncio
import ssl

from engine.tools.sink_dialogue import Dialogue
from engine.tools.sink_options import SinkOptions
from engine.tools.sink_tally import Shelf, Tally

_BACKLOG = 1024
_HANDSHAKE_S = 30.0


class Sink:
    """The listening side. `tally` and `shelf` are shared by all its connections."""

    def __init__(self, options: SinkOptions, tally: Tally | None = None, shelf: Shelf | None = None) -> None:
        self.options = options
        self.tally = tally or Tally()
        self.shelf = shelf
        self.addresses: list[tuple[str, int]] = []
        self.sessions: set[SinkSession] = set()
        self.upgrades: dict[SinkSession, asyncio.Task[None]] = {}
        self._servers: list[asyncio.Server] = []

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Start to listen; the address in use (a port of 0 becomes a free one). Raises OSError."""
        options = self.options
        server = await asyncio.get_running_loop().create_server(
            lambda: SinkSession(self), host, port, ssl=options.tls if options.implicit else None, backlog=_BACKLOG
        )
        self._servers.append(server)
        address: tuple[str, int] = server.sockets[0].getsockname()[:2]
        self.addresses.append(address)
        return address

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        for server in self._servers:
            server.close()
        for session in list(self.sessions):
            session.abort()
        if self.upgrades:
            await asyncio.wait(list(self.upgrades.values()))
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def reached(self, unique: int) -> bool:
        """Whether so many unique messages are there."""
        return self.tally.unique >= unique


class SinkSession(asyncio.Protocol):
    """One connection: bytes to the dialogue and back, its waits and its TLS."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._transport: asyncio.Transport | None = None
        self._dialogue: Dialogue | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's TCP transport is no asyncio.Transport
        if self._dialogue is not None:
            return  # the same connection again, now with TLS
        sink = self._sink
        sink.sessions.add(self)
        sink.tally.connected()
        sink.tally.tls += sink.options.implicit
        peer = transport.get_extra_info("peername")
        self._dialogue = Dialogue(sink.options, sink.tally, sink.shelf, str(peer[0]) if peer else "")
        self._dialogue.greet()
        self._act(self._dialogue)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sink.tally.open -= 1
        self._sink.sessions.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        dialogue = self._dialogue
        assert dialogue is not None
        dialogue.receive(data)
        self._act(dialogue)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _act(self, dialogue: Dialogue) -> None:
        """Do what the dialogue asks for."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if dialogue.out:
            transport.write(b"".join(dialogue.out))
            dialogue.out.clear()
        if dialogue.closing:
            transport.close()
        elif dialogue.wait_s:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(dialogue.wait_s, self._resume, dialogue)
        elif dialogue.wants_tls and self not in self._sink.upgrades:
            transport.pause_reading()
            self._sink.upgrades[self] = asyncio.get_running_loop().create_task(self._upgrade(dialogue))

    def _resume(self, dialogue: Dialogue) -> None:
        self._timer = None
        dialogue.resume()
        self._act(dialogue)

    async def _upgrade(self, dialogue: Dialogue) -> None:
        options, transport = self._sink.options, self._transport
        assert transport is not None
        assert options.tls is not None
        try:
            self._transport = await asyncio.get_running_loop().start_tls(
                transport, self, options.tls, server_side=True, ssl_handshake_timeout=_HANDSHAKE_S
            )
            dialogue.secured()
            self._act(dialogue)
        except (OSError, ssl.SSLError):
            transport.abort()
        finally:
            self._sink.upgrades.pop(self, None)
