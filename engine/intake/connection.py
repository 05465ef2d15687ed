"""One client connection: life, replies and deadlines. The commands are in smtp.py, the hooks in hooks.py.

Sessions, the command loop, EHLO, AUTH, STARTTLS and PROXY are aiosmtpd's. What differs from it here:

- The input is our Reader (strict lines, messages found as they arrive).
- Replies gather and go out in one write when the client has nothing more to say, or a hundred of them wait.
- What needs no waiting is said by plain functions (`say`, `reject`), so that commands can be served where they arrive.
- One timer a connection, moved rarely; deadlines do not start again for every byte.
- aiosmtpd's constructor inspects class and hooks, 150 us a time; a listener does that once and forks a connection.
- The task that waits for the store is not cancelled when the client leaves: the message is being accepted.
- A session that we end for what the client did lingers: to close a socket with input unread, or still coming, sends a
  RST, which destroys the last reply before the client has read it. So only our side is closed, and what comes is
  dropped until the client closes its own or linger_timeout is over.
"""

import asyncio
import logging
import re
import ssl
from abc import abstractmethod
from typing import Any, Protocol, Self

from aiosmtpd.smtp import SMTP, TLSSetupException

from engine.base.metrics import Metrics
from engine.intake.admission import Admits, Submission
from engine.intake.client import UNKNOWN, Client
from engine.intake.policy import Address, Policy, parse_address
from engine.intake.reader import BareLineEnd, Express, LineTooLong, Reader, Writer
from engine.intake.standins import Commands, Deaf, Session, Spared, Unlimited
from engine.net.outbox import Outbox

_log = logging.getLogger(__name__)
_MAX_GATHERED = 100  # replies
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3} ")
#: For the replies that aiosmtpd words itself, and without an enhanced code (RFC 2034).
_CODES = {"454": "4.7.0", "500": "5.5.2", "501": "5.5.4", "502": "5.5.1", "503": "5.5.1", "504": "5.5.4"}
#: Errors of syntax, of sequence, and for want of a login: what max_bad_commands counts.
_BAD = frozenset((b"500", b"501", b"502", b"503", b"504", b"530", b"534", b"535", b"538", b"553", b"555"))


class Gate(Protocol):
    """What a connection asks its listener."""

    policy: Policy
    metrics: Metrics
    admission: Admits
    outbox: Outbox
    draining: bool  #: the listener is going away: sessions end as soon as they are idle

    def enter(self, connection: "Connection", descriptor: int, address: Address, counted: bool) -> bool:
        """Let a connection in, or not. counted: it takes one of the places of its address."""

    async def count(self, connection: "Connection", address: Address) -> bool:
        """Count a connection that came through a proxy to its client's address, if there is a place left."""

    def name_client(self, client: Client) -> None:
        """Find its name in the DNS, some time."""

    def leave(self, connection: "Connection") -> None:
        """The connection is over; may be said twice."""


class Connection(SMTP):
    """One connection. Made once per listener by the constructor, then by `fork`."""

    command_size_limit = 1 << 30
    command_size_limits = Unlimited()
    _reader: Any = Deaf()
    # aiosmtpd's own, with annotations narrower than its Optionals.
    transport: Any
    _original_transport: Any
    session: Any
    envelope: Any
    # Of each connection; set by fork and connection_made.
    policy: Policy
    client: Client
    peer: Address
    speaker: Address | None  #: the peer, or who the proxy says is behind it; None: that does not say
    in_tls: bool
    trusted: bool  #: may submit because of its network
    committing: bool  #: the store has the message; the client waits for its reply
    failed_logins: int
    _silent = False  # what aiosmtpd says itself is not sent
    _handshaking = False  # TLS is about to begin
    _lingering = False  # the last reply is out, the client may not have read it

    def __init__(self, gate: Gate, hooks: object, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(hooks, hostname=gate.policy.node, ident="ESMTP Postrider", enable_SMTPUTF8=True, loop=loop)
        self.gate = gate
        self.metrics = gate.metrics
        self._command_names = {name: f"smtp_{name}" for name in self._smtp_methods}

    def fork(self, tls_context: ssl.SSLContext | None) -> Self:
        """A fresh connection with what inspection found, and the policy of this moment.

        tls_context: for STARTTLS.
        """
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new._begin(tls_context)
        return new

    def _begin(self, tls_context: ssl.SSLContext | None) -> None:
        self.policy = policy = self.gate.policy
        self.hostname = policy.node
        self.tls_context = tls_context
        self._timeout_duration = policy.intake.command_timeout
        self._deadline = self._timer_at = 0.0
        self._out: list[bytes] = []
        self._bad_budget = policy.intake.max_bad_commands
        self._idle_budget = policy.intake.max_idle_commands
        self._ended = False
        self._progress = False  # commands were served where they arrived
        self.in_tls = self.trusted = self.committing = False
        self.failed_logins = 0
        reader = Reader(self.loop, self, policy.intake, policy.large_bytes)
        asyncio.StreamReaderProtocol.__init__(self, reader, self._cb_client_connected, self.loop)
        self._smtp_methods = commands = Commands(self._command_names)
        commands.connection = self

    # aiosmtpd's extension points.

    def _create_session(self) -> Session:
        return Session(self.loop)

    def _create_envelope(self) -> Any:
        return Submission()

    def forget(self) -> None:
        """End the transaction."""
        self.envelope = self._create_envelope()

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._original_transport is not None:
            # STARTTLS is done. aiosmtpd makes a new session: what was said in the clear is forgotten (RFC 3207 4.2).
            self.in_tls = True
            super().connection_made(transport)
            self._reader.drop()
            return
        peer = transport.get_extra_info("peername")
        if not peer:
            self._turn_away(transport, b"")
            return
        self.peer = parse_address(peer[0])
        self.in_tls = transport.get_extra_info("sslcontext") is not None
        proxy = self.policy.speaks_proxy(self.peer)
        self.client = Client(self.peer)
        self.speaker = None if proxy else self.peer
        descriptor = transport.get_extra_info("socket").fileno()
        if not self.gate.enter(self, descriptor, self.peer, counted=not proxy):
            self._turn_away(transport, b"421 4.7.0 %b Too many connections\r\n" % self.hostname.encode())
            return
        if proxy:
            self._proxy_timeout = self.policy.intake.proxy_timeout
        else:
            self.meet(self.client)
            self.trusted = self.policy.may_submit(self.peer)
        super().connection_made(transport)

    def meet(self, client: Client) -> None:
        """This is who the client is."""
        self.client = client
        if self.policy.intake.reverse_dns and client.name == UNKNOWN:
            self.gate.name_client(client)

    def _turn_away(self, transport: Any, reply: bytes) -> None:
        self._ended = True
        if reply:
            transport.write(reply)
        transport.close()

    def _cb_client_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super()._cb_client_connected(reader, Writer(writer.transport, self, reader, self.loop))

    def data_received(self, data: bytes) -> None:
        self._reader.feed_data(data)

    def eof_received(self) -> bool | None:
        """The client has said everything; what it said is still answered, if TLS lets us."""
        self._reader.feed_eof()
        return not self.in_tls and not self._ended

    def connection_lost(self, error: Exception | None) -> None:
        self.gate.leave(self)
        if self.session is None:
            return
        self._ended = True
        if self.committing:
            self._handler_coroutine = Spared()  # type: ignore[assignment]  # aiosmtpd only calls its cancel
        super().connection_lost(error)

    # Replies.

    async def push(self, status: str | bytes) -> None:
        """Say this; bytes are a complete reply without the last CRLF, a str is aiosmtpd's wording."""
        if self._ended or not status:
            return
        if isinstance(status, str):
            if not self._silent:
                reply = self._completed(status)
                self._out.append(reply)
                self._count_bad(reply)
                self.flush()  # STARTTLS counts on it
        else:
            self.say(status)
            self._count_bad(status)
        if self.held_back:
            await self.drained()

    def say(self, reply: bytes) -> None:
        """Add a reply, without its last CRLF, to those that go out next."""
        if not self._ended:
            self._out.append(reply)
            if len(self._out) >= _MAX_GATHERED:
                self.flush()

    def reject(self, reason: str, reply: bytes) -> None:
        """Say no, and count it if it was a bad command. reason: a word for the metric."""
        self.metrics.rejected.labels(reason).inc()
        self.say(reply)
        self._count_bad(reply)

    def _count_bad(self, reply: bytes) -> None:
        """End the session after too many errors of the client; recipients and messages refused are none."""
        if reply[:3] in _BAD and not self._ended:
            self._bad_budget -= 1
            if self._bad_budget <= 0:
                self.end(b"421 4.7.0 Too many errors")

    @property
    def held_back(self) -> bool:
        """The client does not take its replies; nothing more is done for it until it does."""
        return bool(self._paused)  # type: ignore[attr-defined]  # asyncio's own

    async def drained(self) -> None:
        """Return when the client took its replies."""
        try:
            await self._drain_helper()  # type: ignore[attr-defined]
        except ConnectionResetError:
            raise asyncio.CancelledError from None

    def idle_command(self) -> None:
        """Count a command that brings no message closer; too many of them end the session."""
        self._idle_budget -= 1
        if self._idle_budget <= 0:
            self.end(b"421 4.7.0 Too many commands without a message")

    def message_accepted(self) -> None:
        self._idle_budget = self.policy.intake.max_idle_commands

    def flush(self) -> None:
        """Write the replies that have gathered."""
        out = self._out
        if out and self.transport is not None:
            out.append(b"")
            self.transport.write(b"\r\n".join(out))
            out.clear()

    def send(self) -> None:
        """The outbox's turn."""
        self.flush()

    def before_wait(self) -> None:
        if self._out:
            self.gate.outbox.add(self)
        if self._progress:
            # Once for all commands of a group; a part of a line is no progress.
            self._progress = False
            self._reset_timeout()
        if self.gate.draining and self.idle:
            self.shut_down()

    def express(self, line: bytes, last: bool) -> Express:
        """Serve a command line where it arrived."""
        return Express.NO

    @abstractmethod
    async def take_message(self) -> None:
        """Read and submit the message that DATA announced."""

    def shut_down(self) -> None:
        if self._lingering:
            self._close()
        self.end(b"421 4.3.2 %b Service shutting down" % self.hostname.encode(), linger=False)

    def end(self, reply: bytes, *, linger: bool = True) -> None:
        """Say a last word and close. The task ends when it next asks for input, or when a lingering connection is over.

        linger: the client may be in the middle of saying something.
        """
        if self._ended:
            return
        self._ended = True
        self._out.append(reply)
        self._finish(linger)

    def hang_up(self) -> None:
        """Close without another word."""
        if not self._ended:
            self._ended = True
            self._finish(linger=False)

    def _finish(self, linger: bool) -> None:
        if self._handshaking and self._original_transport is not None:
            # There is no way to say anything; and closing politely in a handshake is an error inside asyncio's TLS.
            self._out.clear()
            self._reader.stop()
            self._original_transport.abort()
            return
        self.flush()
        if not linger or self.transport is None:
            self._close()
            return
        self._lingering = True
        self._reader.ignore()
        if (
            self.transport.can_write_eof()
        ):  # TLS cannot: its client closes when it has read the reply, or is kept waiting
            self.transport.write_eof()
        self._arm(self.loop.time() + self.policy.intake.linger_timeout)

    def _close(self) -> None:
        self._lingering = False
        self._reader.stop()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
        # A client that does not read would keep a closed connection for ever.
        self._arm(self.loop.time() + self.policy.intake.linger_timeout)

    def _completed(self, status: str) -> bytes:
        code, text = status[:3], status[4:]
        if code in _CODES and status[3:4] == " " and not _ENHANCED.match(text):
            status = f"{code} {_CODES[code]} {text}"
        return status.encode("utf-8", "replace")

    # Commands of no account.

    async def unknown_command(self, arg: str | None) -> None:
        self.reject("command", b"500 5.5.1 Command not recognized")

    @property
    def idle(self) -> bool:
        """Between transactions, in a TLS handshake or over, and waiting for the client."""
        return self._handshaking or self._lingering or (self._reader.in_command and self.envelope.sender is None)

    # Deadlines.

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Close the connection so many seconds from now, unless called again. Without duration: command_timeout."""
        self._deadline = deadline = self.loop.time() + (duration or self._timeout_duration)
        if not 0 < self._timer_at <= deadline:
            self._arm(deadline)

    def _arm(self, at: float) -> None:
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self._timer_at = at
        self._timeout_handle = self.loop.call_at(at, self._timeout_cb)

    def _timeout_cb(self) -> None:
        now = self.loop.time()
        if self._lingering:
            self._close()
        elif self._ended:
            if self.transport is not None:
                self.transport.abort()
        elif self.committing:
            self._arm(now + self._timeout_duration)
        elif self._deadline > now:
            self._arm(self._deadline)
        else:
            self.end(b"421 4.4.2 %b Timeout exceeded" % self.hostname.encode())

    # Errors.

    async def handle_exception(self, error: Exception) -> str:
        """The reply to an error in a command (aiosmtpd pushes it)."""
        match error:
            case LineTooLong():
                self.reject("line-length", b"500 5.5.2 Line too long")
            case BareLineEnd():
                self.metrics.rejected.labels("framing").inc()
                self.end(b"521 5.5.2 Lines must end in CRLF and hold no other CR or LF")
            case TLSSetupException():
                self.metrics.rejected.labels("tls").inc()
            case _:
                self.metrics.internal_errors.labels("intake").inc()
                _log.error("intake: error in the session of %s", self.client, exc_info=error)
                self.forget()
                return "451 4.3.0 Internal error, try again later"
        return ""
