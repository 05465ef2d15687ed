"""A scripted SMTP server on loopback: says exactly what a test wants said, when it wants it.

    async def server(peer):
        await peer.greet("PIPELINING")
        ...
    async with scripted(server) as endpoint:

Each connection gets the next script; the last one serves all further ones. A script that fails fails the test.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from engine.base.settings import Delivery, TlsLevel
from engine.delivery.smtp_session import SmtpSession
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome
from engine.net.stream import TlsContexts
from engine.routing.plan import Endpoint

GREETING = b"220 scripted.example.test ESMTP\r\n"


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.heard: list[bytes] = []

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def line(self) -> bytes:
        """The next command, without CRLF; b"" at the end."""
        line = (await self._reader.readline()).removesuffix(b"\r\n")
        self.heard.append(line)
        return line

    async def exactly(self, count: int) -> bytes:
        return await self._reader.readexactly(count)

    async def content(self) -> bytes:
        """What DATA carries, final dot included."""
        return await self._reader.readuntil(b"\r\n.\r\n")

    async def some(self) -> bytes:
        """What is there, or comes next; nothing at the end. Raises ConnectionResetError."""
        return await self._reader.read(65536)

    async def rest(self) -> bytes:
        """Everything until the client hangs up."""
        return await self._reader.read()

    async def greet(self, *keywords: str) -> None:
        """Greeting and the reply to EHLO."""
        await self.send(GREETING)
        await self.hello(*keywords)

    async def hello(self, *keywords: str) -> None:
        assert (await self.line()).startswith(b"EHLO ")
        lines = ["scripted.example.test", *keywords]
        text = "".join(f"250{'-' if n < len(lines) - 1 else ' '}{line}\r\n" for n, line in enumerate(lines))
        await self.send(text.encode())

    async def answer(self, *replies: bytes) -> None:
        """One line read for each reply; then all replies in one write."""
        for _ in replies:
            await self.line()
        await self.send(b"".join(replies))

    async def start_tls(self, context: ssl.SSLContext) -> None:
        await self._writer.start_tls(context)

    def reset(self) -> None:
        """Drop the connection without a goodbye."""
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def scripted(*scripts: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
    """The server; gives where it listens. On leaving, every script must have come to its end."""
    connections: list[asyncio.Task[None]] = []
    count = 0

    async def run(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(Peer(reader, writer))
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        script = scripts[min(count, len(scripts) - 1)]
        count += 1
        connections.append(asyncio.ensure_future(run(script, reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=64 << 20, ssl=tls)
    try:
        yield Endpoint("mx.example.test", "127.0.0.1", server.sockets[0].getsockname()[1])
        await asyncio.gather(*connections)
    finally:
        server.close()
        for connection in connections:
            connection.cancel()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The test on a loop of its own, of the kind the engine runs on; sixty seconds, and it hangs."""

    async def bounded() -> None:
        try:
            async with asyncio.timeout(60):
                await test()
        finally:
            # A test that failed leaves its sessions open, and the loop would wait for their peers to hang up.
            while _opened:
                _opened.pop().abort()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


CONTEXTS = TlsContexts()
_opened: list[SmtpSession] = []
CONTENT = b"Subject: x\r\n\r\nHello\r\n"
#: `fates` of a recipient who has the message.
DELIVERED = ("DELIVERED", "RECIPIENT", "2.0.0", "end-of-data")


async def open_session(
    endpoint: Endpoint,
    *,
    tls: TlsLevel = "none",
    credentials: tuple[str, str] | None = None,
    limits: Delivery | None = None,
    contexts: TlsContexts = CONTEXTS,
    ehlo: str = "client.example.test",
    source: str = "",
) -> SmtpSession:
    session = await SmtpSession.connect(
        endpoint,
        source_address=source,
        ehlo=ehlo,
        tls=tls,
        credentials=credentials,
        limits=limits or Delivery(),
        contexts=contexts,
    )
    _opened.append(session)
    return session


def envelope(*recipients: str | Recipient, sender: str = "ada@sender.test", **fields: Any) -> Envelope:
    """An envelope for these recipients; without any, for bob@example.test."""
    to = tuple(r if isinstance(r, Recipient) else Recipient(r) for r in recipients or ("bob@example.test",))
    return Envelope("0Test", sender, to, 0.0, 0.0, 0, **fields)


async def send(
    session: SmtpSession,
    mail: Envelope | None = None,
    content: bytes = b"Subject: x\r\n\r\nHello\r\n",
    prefix: bytes = b"",
) -> list[Outcome]:
    """One transaction for all recipients of the envelope, by index."""
    mail = mail or envelope()
    outcomes = await session.transact(mail, range(len(mail.recipients)), prefix, content)
    return sorted(outcomes, key=lambda outcome: outcome.index)


def fates(outcomes: list[Outcome]) -> list[tuple[str, str, str, str]]:
    """What a test looks at: status, scope, code and phase of each."""
    return [(o.status.name, o.scope.name, o.status_code, o.phase) for o in outcomes]


async def take(peer: Peer, last: bytes = b"250 2.0.0 queued\r\n", rcpts: int = 1) -> bytes:
    """One pipelined transaction with DATA."""
    await peer.answer(*[b"250 ok\r\n"] * (rcpts + 1), b"354 go\r\n")
    content = await peer.content()
    await peer.send(last)
    return content


async def take_chunk(peer: Peer) -> None:
    """One transaction with BDAT whose content waits for the envelope's replies."""
    await peer.answer(b"250 ok\r\n", b"250 ok\r\n")
    assert (await peer.line()).startswith(b"BDAT")
    await peer.exactly(len(CONTENT))
    await peer.send(b"250 2.0.0 queued\r\n")
