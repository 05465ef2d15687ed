"""One client connection of the load generator: bare asyncio.Protocol, a group of commands in one write.

Deliberately not the engine's own SMTP client: a fault there must not hide in the tool that measures it.
"""

import asyncio
import ssl
from dataclasses import dataclass

from engine.base.errors import NetworkError
from engine.tools.load_message import LoadMessage
from engine.tools.load_options import LoadOptions

_CONNECT_S = 10.0
_MAX_REPLY = 65536
_MAX_LINES = 1000


class SessionLost(NetworkError):
    """The connection ended, or the server broke the protocol; the message in flight was not answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How one message ended. reply: the last or the refusing reply, as "250 2.0.0 ok"."""

    accepted: bool
    reply: str
    refused_recipients: int = 0


class LoadSession(asyncio.Protocol):
    """Replies are awaited one future at a time, however many arrive together."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._replies: list[tuple[int, str]] = []
        self._wanted = 1
        self._waiter: asyncio.Future[None] | None = None
        self._lost: str | None = None
        self._lines: list[str] = []
        self._ended = True
        self.pipelining = False

    @classmethod
    async def connect(cls, options: LoadOptions) -> "LoadSession":
        """Connected, greeted, EHLO said, STARTTLS done if asked for. Raises SessionLost or OSError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, session = await loop.create_connection(cls, options.host, options.port)
        except TimeoutError as error:
            raise SessionLost("connecting took too long") from error
        try:
            code, text = (await session._expect(1))[0]
            if code != 220:
                raise SessionLost(f"greeting: {text}")
            extensions = await session._hello(options.ehlo)
            if options.tls is not None:
                extensions = await session._secure(options.tls, options.ehlo)
            session.pipelining = options.pipelining and "PIPELINING" in extensions
        except BaseException:
            session.abort()
            raise
        return session

    async def send(self, message: LoadMessage) -> Answer:
        """One transaction. Raises SessionLost when it has no answer."""
        commands = [f"MAIL FROM:<{message.sender}>\r\n"]
        commands += [f"RCPT TO:<{recipient}>\r\n" for recipient in message.recipients]
        commands.append("DATA\r\n")
        if self.pipelining:
            replies = await self._ask("".join(commands).encode(), len(commands))
        else:
            replies = await self._ask_in_turn(commands)
        refusals = [text for code, text in replies[1 : 1 + len(message.recipients)] if code >= 400]
        if replies[-1][0] != 354:
            reason = next((text for code, text in replies if code >= 400), replies[-1][1])
            await self._ask(b"RSET\r\n", 1)
            return Answer(False, reason, len(refusals))
        if len(refusals) == len(message.recipients):
            # 354 with nobody to send to (RFC 2920 3.1): an empty message, whose reply does not count.
            await self._ask(b".\r\n", 1)
            return Answer(False, refusals[0], len(refusals))
        code, text = (await self._ask(message.content + b".\r\n", 1))[0]
        return Answer(code == 250, text, len(refusals))

    async def quit(self) -> None:
        """Say QUIT, as a polite client; the answer is awaited so that the server sees no reset."""
        await self._ask(b"QUIT\r\n", 1)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _ask_in_turn(self, commands: list[str]) -> list[tuple[int, str]]:
        """MAIL, RCPT.., DATA one by one; stops where going on makes no sense."""
        replies: list[tuple[int, str]] = []
        for command in commands:
            refused = bool(replies) and (replies[0][0] >= 400 or all(code >= 400 for code, _ in replies[1:]))
            if refused and (replies[0][0] >= 400 or command == commands[-1]):
                break
            replies += await self._ask(command.encode(), 1)
        return replies

    async def _hello(self, name: str) -> set[str]:
        code, text = (await self._ask(f"EHLO {name}\r\n".encode(), 1))[0]
        if code != 250:
            raise SessionLost(f"EHLO: {text}")
        return {line.split()[0].upper() for line in self._lines[1:] if line.strip()}

    async def _secure(self, context: ssl.SSLContext, name: str) -> set[str]:
        code, text = (await self._ask(b"STARTTLS\r\n", 1))[0]
        if code != 220:
            raise SessionLost(f"STARTTLS: {text}")
        assert self._transport is not None
        try:
            self._transport = await asyncio.get_running_loop().start_tls(
                self._transport, self, context, ssl_handshake_timeout=_CONNECT_S
            )
        except ssl.SSLError as error:
            raise SessionLost(f"TLS: {error}") from error
        return await self._hello(name)

    async def _ask(self, data: bytes, replies: int) -> list[tuple[int, str]]:
        if self._lost is not None or self._transport is None:
            raise SessionLost(self._lost or "not connected")
        self._transport.write(data)
        return await self._expect(replies)

    async def _expect(self, replies: int) -> list[tuple[int, str]]:
        """That many replies. 421 in place of one: the server closes, nothing was answered. Raises SessionLost."""
        self._wanted = replies
        if len(self._replies) < replies and self._lost is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if len(self._replies) < replies:
            raise SessionLost(self._lost)
        got, self._replies = self._replies[:replies], self._replies[replies:]
        return got

    # -- asyncio.Protocol --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's TCP transport is no asyncio.Transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection lost: {exc}" if exc else "connection closed by the server")

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        start = 0
        while (stop := data.find(b"\n", start)) >= 0 and self._lost is None:
            self._line(data[start:stop].rstrip(b"\r"))
            start = stop + 1
        self._buffer = data[start:]
        if len(self._buffer) > _MAX_REPLY or len(self._lines) > _MAX_LINES:
            self._fail("a reply without end")
        if self._waiter is not None and len(self._replies) >= self._wanted:
            waiter, self._waiter = self._waiter, None
            if not waiter.done():
                waiter.set_result(None)

    def _line(self, line: bytes) -> None:
        """One line of a reply."""
        text = line.decode("utf-8", "replace")
        if self._ended:
            self._lines.clear()
        self._lines.append(text[4:])
        self._ended = line[3:4] != b"-"
        if not self._ended:
            return
        code = int(line[:3]) if line[:3].isdigit() else 0
        if code < 200 or code == 421:
            self._fail(text if code else f"not a reply: {text[:80]!r}")
        else:
            self._replies.append((code, text))

    def _fail(self, why: str) -> None:
        """The end of this connection; whoever waits for a reply that did not come learns why."""
        if self._lost is None:
            self._lost = why
        self.abort()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
