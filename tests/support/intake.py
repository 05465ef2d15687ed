"""A real SmtpListener on loopback with an in-memory store, and a client that sends raw bytes."""

import asyncio
import contextlib
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop
from crc32c import crc32c

from engine.base.clock import SystemClock
from engine.base.metrics import Metrics
from engine.base.settings import Intake, Listener, Node, Retry, Settings, SpoolSettings, TlsFiles
from engine.base.units import Size
from engine.intake import reader, smtp
from engine.intake.admission import Admission
from engine.intake.listener import SmtpListener
from engine.intake.reverse import ReverseNames
from engine.message.content import Content, LargeContent, LargeFile
from engine.message.envelope import Envelope
from engine.message.ids import IdSource
from engine.tools.certificate import self_signed, trusting_context

GUARD_S = 20.0  #: no test waits so long; a hanging one ends
LOOPS = {"asyncio": asyncio.run, "uvloop": uvloop.run}
both_loops = pytest.mark.parametrize("loop", sorted(LOOPS))
LOOPBACK = ("127.0.0.0/8", "::1/128")
HELLO = b"EHLO client.example\r\n"
ENVELOPE = b"MAIL FROM:<ada@example.org>\r\nRCPT TO:<bob@example.net>\r\n"
DATA = ENVELOPE + b"DATA\r\n"
MESSAGE = b"From: ada@example.org\r\nSubject: hello\r\n\r\nworld\r\n"


_large_bytes = 1 << 20


@pytest.fixture(params=[1 << 20, 20, 1], ids=["small", "growing", "large"])
def every_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The test's messages once as small ones, once such that they turn out large on their way, once from the start."""
    for module in (reader, smtp):
        monkeypatch.setattr(module, "PIECE_BYTES", 16)
    monkeypatch.setattr(sys.modules[__name__], "_large_bytes", request.param)
    return request.param


@dataclass
class Stored:
    envelope: Envelope
    content: bytes
    splits: list[tuple[str, tuple[int, ...]]]
    unwanted: int = 0

    @property
    def body(self) -> bytes:
        return self.content.partition(b"\r\n\r\n")[2]

    @property
    def header(self) -> bytes:
        return self.content.partition(b"\r\n\r\n")[0] + b"\r\n"


class MemoryWriter:
    """A large content as a file would have it. fault: raised at the next piece. gate: no room before it is set."""

    def __init__(self, fault: Exception | None, gate: asyncio.Event | None) -> None:
        self.gate = gate
        self.pieces: list[bytes] = []
        self.fault = fault
        self.aborted = self.finished = False

    def feed(self, piece: bytes) -> None:
        assert not self.finished
        self.pieces.append(piece)

    async def room(self) -> None:
        await (asyncio.sleep(0) if self.gate is None else self.gate.wait())
        if self.fault is not None:
            raise self.fault

    async def beginning(self, most: int) -> tuple[bytes, bool]:
        data = b"".join(self.pieces)
        return data[:most], len(data) <= most

    async def finish(self, head: bytes) -> Content:
        self.finished = True
        data = b"".join(self.pieces)
        file = LargeFile("name", len(data), crc32c(data))
        return LargeContent(head, file, lambda offset, length: data[offset : offset + length]) if data else head

    def abort(self) -> None:
        self.aborted = not self.finished


@dataclass
class MemoryStore:
    """Keeps messages in a list.

    hold: acceptance waits until it is set. waiting: is set when a message came, and again when it is kept.
    fault: raised instead. writers: of large contents, with this fault and gate; writing: is set at the first.
    """

    messages: list[Stored] = field(default_factory=list)
    refused: str | None = None
    fault: Exception | None = None
    hold: asyncio.Event | None = None
    waiting: asyncio.Event | None = None
    writers: list[MemoryWriter] = field(default_factory=list)
    large_fault: Exception | None = None
    gate: asyncio.Event | None = None
    writing: asyncio.Event = field(default_factory=asyncio.Event)

    def large(self) -> MemoryWriter:
        self.writers.append(MemoryWriter(self.large_fault, self.gate))
        self.writing.set()
        return self.writers[-1]

    async def accept(
        self, envelope: Envelope, content: Content, splits: Sequence[tuple[str, tuple[int, ...]]], unwanted: int = 0
    ) -> None:
        if self.hold is not None:
            assert self.waiting is not None
            self.waiting.set()
            await self.hold.wait()
        if self.fault is not None:
            raise self.fault
        if self.waiting is not None:
            self.waiting.set()
        whole = content if isinstance(content, bytes) else b"".join([content.head, *content.rest()])
        self.messages.append(Stored(envelope, whole, list(splits), unwanted))

    def refusal(self) -> str | None:
        return self.refused


class Passwords:
    """Credentials without argon2: login -> password."""

    def __init__(self, **passwords: str) -> None:
        self.passwords = passwords
        self.asked = 0

    async def verify(self, login: str, password: str) -> bool:
        self.asked += 1
        return self.passwords.get(login) == password


class RawClient:
    """One connection; replies are (code, lines)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(GUARD_S):
            await self.writer.drain()

    async def reply(self) -> tuple[int, list[str]]:
        lines = []
        async with asyncio.timeout(GUARD_S):
            while True:
                line = await self.reader.readline()
                assert line.endswith(b"\r\n"), f"connection ended after {lines} {line!r}"
                lines.append(line[4:-2].decode())
                if line[3:4] == b" ":
                    return int(line[:3]), lines

    async def replies(self, count: int) -> list[int]:
        return [(await self.reply())[0] for _ in range(count)]

    async def ask(self, data: bytes) -> str:
        """Send, and read one reply: "250 2.0.0 Ok" (the last line of several)."""
        await self.send(data)
        code, lines = await self.reply()
        return f"{code} {lines[-1]}"

    async def hello(self) -> list[str]:
        """Read the greeting, say EHLO; the lines of its reply."""
        assert (await self.reply())[0] == 220
        await self.send(HELLO)
        code, lines = await self.reply()
        assert code == 250
        return lines

    async def starttls(self) -> None:
        assert (await self.ask(b"STARTTLS\r\n")).startswith("220")
        await self.upgrade()

    async def upgrade(self) -> None:
        async with asyncio.timeout(GUARD_S):
            await self.writer.start_tls(trusting_context(), server_hostname="localhost")

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        answer = b""
        async with asyncio.timeout(GUARD_S):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while data := await self.reader.read(65536):
                    answer += data
        return answer

    def reset(self) -> None:
        """Break the connection: a RST, not a FIN."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


@dataclass
class Running:
    """A listener at work."""

    listener: SmtpListener
    store: MemoryStore
    metrics: Metrics
    log: list[str]

    @contextlib.asynccontextmanager
    async def client(self, tls: bool = False, source: str | None = None) -> AsyncIterator[RawClient]:
        host, port = self.listener.address
        async with asyncio.timeout(GUARD_S):
            incoming, outgoing = await asyncio.open_connection(
                host,
                port,
                ssl=trusting_context() if tls else None,
                local_addr=(source, 0) if source else None,
            )
        client = RawClient(incoming, outgoing)
        try:
            yield client
        finally:
            client.close()

    @contextlib.asynccontextmanager
    async def session(self, **how: Any) -> AsyncIterator[RawClient]:
        """A client that said EHLO."""
        async with self.client(**how) as client:
            await client.hello()
            yield client

    async def sessions_end(self) -> None:
        """Return when no connection is left."""
        async with asyncio.timeout(GUARD_S):
            await self.listener._empty.wait()

    def rejected(self, reason: str) -> float:
        return self.metrics.rejected.labels(reason).value


@contextlib.asynccontextmanager
async def running(
    store: MemoryStore | None = None,
    *,
    credentials: Passwords | None = None,
    intake: Intake | None = None,
    node: str = "mx.example",
    auth_delay_s: float = 0.0,
    reverse: ReverseNames | None = None,
    large_bytes: int | None = None,
    **listener: Any,
) -> AsyncIterator[Running]:
    """A listener on a free port; loopback may submit unless `networks` says otherwise.

    large_bytes: contents above go to a writer of the store; None: what `every_size` says, if a test uses it.
    """
    store = store or MemoryStore()
    table = Listener(**{"kind": "smtp", "address": "127.0.0.1:0", "networks": LOOPBACK, **listener})
    settings = Settings(
        node=Node(name=node),
        listener=(table,),
        intake=intake or Intake(),
        spool=SpoolSettings(large_bytes=Size(large_bytes or _large_bytes)),
        retry=Retry(),
    )
    clock, metrics, log = SystemClock(), Metrics(), []
    admission = Admission(store, IdSource(node, 0, clock), clock, metrics, settings, log.append, lambda _: "other")
    server = SmtpListener(
        table, settings, admission, credentials, metrics, clock, auth_delay_s=auth_delay_s, reverse=reverse
    )
    await server.start()
    try:
        yield Running(server, store, metrics, log)
    finally:
        await server.close()
        await server.drain(asyncio.get_running_loop().time())


async def submit(client: RawClient, content: bytes = MESSAGE) -> str:
    """One message with DATA; the reply to it."""
    await client.send(DATA)
    assert await client.replies(3) == [250, 250, 354]
    return await client.ask(content + b".\r\n")


def tls_files(folder: Path, implicit: bool = False) -> TlsFiles:
    """A fresh self-signed certificate in this folder."""
    certificate, key = self_signed("localhost")
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    return TlsFiles(cert=str(folder / "cert.pem"), key=str(folder / "key.pem"), implicit=implicit)


def run(scenario: Callable[[], Coroutine[Any, Any, None]], loop: str = "asyncio") -> None:
    """Run a test's coroutine on one kind of loop; what the loop complains about fails the test."""

    async def watched() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await scenario()
        assert complaints == []

    LOOPS[loop](watched())
