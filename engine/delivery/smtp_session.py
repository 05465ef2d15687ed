"""One SMTP connection to one host: opened, used for one message after the other, closed.

The protocol is in protocol.smtp_client, the socket in net.stream, the meaning of what happens in trouble.py; here
they are put together, and what the envelope asks for meets what the server offers.
"""

import asyncio
import ipaddress
import math
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Literal, Self

from engine.base.errors import EngineError, NetworkError, ProtocolError, StorageError
from engine.base.settings import Delivery, TlsLevel
from engine.delivery import trouble
from engine.delivery.feeder import Feeder
from engine.delivery.trouble import SessionFailed, StaleConnection
from engine.message.content import Content as MessageContent
from engine.message.content import head_of
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome
from engine.net import stream as net
from engine.protocol import smtp_commands as commands
from engine.protocol.smtp_client import SmtpClient
from engine.protocol.smtp_content import Content, StreamedContent
from engine.protocol.smtp_steps import Patience
from engine.routing.plan import Endpoint

#: On a new connection, and after this many idle seconds, the content waits for the replies to the envelope: servers
#: that hang up do it there, and with the end of data already sent the outcome would be unknown (D3). In between the
#: round trip is saved.
CAREFUL_AFTER_S: Final = 1.0
#: TLS from the first byte, unless TLS is switched off (RFC 8314).
_SUBMISSIONS: Final = 465
_QUIT_S: Final = 5.0

ProvenLevel = Literal["none", "encrypt", "verify"]


class SmtpSession:
    """Made by `connect`. One transaction at a time; `usable` says whether another may be given to it.

    remote: "mx1.example.org[192.0.2.7]:25". tls_level: what was reached, whatever was asked. tls_note: why it is less
    than was tried, or "". transactions: how many were begun. dsn: the server passes DSN parameters on.
    """

    __slots__ = (
        "_client", "_idle_since", "_limits", "_loop", "_stream", "endpoint", "remote", "tls_level", "tls_note",
        "transactions",
    )  # fmt: skip

    def __init__(self, client: SmtpClient, stream: net.Stream, endpoint: Endpoint, limits: Delivery) -> None:
        self._client = client
        self._stream = stream
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._idle_since = 0.0
        self.endpoint = endpoint
        self.remote = str(endpoint)
        self.tls_level: ProvenLevel = "none"
        self.tls_note = ""
        self.transactions = 0

    @classmethod
    async def connect(
        cls,
        endpoint: Endpoint,
        *,
        source_address: str,
        ehlo: str,
        tls: TlsLevel,
        credentials: tuple[str, str] | None,
        limits: Delivery,
        contexts: net.TlsContexts,
        open_stream: net.Connect = net.connect,
    ) -> Self:
        """A session ready for its first transaction. Raises SessionFailed.

        tls "opportunistic": a handshake that fails costs a second connection, in the clear; `tls_note` says so.
        """

        attempt = partial(
            cls._open,
            endpoint,
            source_address=source_address,
            ehlo=ehlo,
            credentials=credentials,
            limits=limits,
            contexts=contexts,
            open_stream=open_stream,
        )
        try:
            return await attempt(tls)
        except SessionFailed as exc:
            if tls != "opportunistic" or not isinstance(exc.fault, net.TlsFailed):
                raise
            failure = exc
        session = await attempt("none")
        session.tls_note = f"{failure.fault}; sent in the clear"
        return session

    @classmethod
    async def _open(
        cls,
        endpoint: Endpoint,
        level: TlsLevel,
        *,
        source_address: str,
        ehlo: str,
        credentials: tuple[str, str] | None,
        limits: Delivery,
        contexts: net.TlsContexts,
        open_stream: net.Connect,
    ) -> Self:
        client = SmtpClient(_patience(limits))
        context = None if level == "none" else contexts.for_level(level)
        implicit = endpoint.port == _SUBMISSIONS and context is not None
        try:
            stream = await open_stream(
                endpoint.address,
                endpoint.port,
                client,
                source=source_address,
                timeout_s=limits.connect_timeout,
                tls=(context, endpoint.name) if implicit and context is not None else None,
            )
        except NetworkError as fault:
            phase = "starttls" if isinstance(fault, net.TlsFailed) else "connect"
            raise SessionFailed(str(endpoint), phase, fault=fault) from fault
        session = cls(client, stream, endpoint, limits)
        try:
            await session._step("banner")
            client.hello(ehlo)
            await session._step("ehlo")
            if context is not None and not implicit:
                await session._start_tls(level, context, ehlo)
            elif implicit:
                session.tls_level = "verify" if level == "verify" else "encrypt"
            if credentials is not None:
                await session._authenticate(credentials)
        except BaseException:
            stream.abort()
            raise
        session._idle_since = session._loop.time()
        return session

    async def _step(self, phase: str) -> None:
        """The exchange just started; raises SessionFailed unless its last reply is a 2xx and another may follow."""
        client = self._client
        before = client.reply
        try:
            await self._stream.exchange(self._limits.transaction_timeout)
        except EngineError as fault:
            said = None if isinstance(fault, ProtocolError) or client.reply is before else client.reply
            if said is not None and said.code >= 400:
                # A refusal of EHLO, and no word to HELO: that refusal was the last one.
                raise SessionFailed(self.remote, phase, reply=said) from fault
            raise SessionFailed(self.remote, phase, fault=fault) from fault
        if client.reply is None or client.reply.code >= 300:
            raise SessionFailed(self.remote, phase, reply=client.reply)
        self._check_in_step(phase)

    def _check_in_step(self, phase: str) -> None:
        if not self._client.usable:
            raise SessionFailed(self.remote, phase, fault=ProtocolError("a reply before the command"))

    async def _start_tls(self, level: TlsLevel, context: ssl.SSLContext, ehlo: str) -> None:
        client = self._client
        must = level != "opportunistic"
        if not client.extensions.starttls:
            if must:
                words = f"TLS is required, but was not offered by {self.remote}"
                raise SessionFailed(self.remote, "starttls", words=words, status_code="4.7.4")
            return
        client.starttls()
        try:
            await self._step("starttls")
        except SessionFailed as failure:
            # A refusal leaves the connection as it was; without a need for TLS it goes on in the clear, as Postfix's.
            if must or failure.reply is None or not client.usable:
                raise
            self.tls_note = f"STARTTLS refused: {failure.reply}"
            return
        try:
            await self._stream.start_tls(context, self.endpoint.name, self._limits.command_timeout)
        except EngineError as fault:
            raise SessionFailed(self.remote, "starttls", fault=fault) from fault
        client.secured()
        self.tls_level = "verify" if level == "verify" else "encrypt"
        client.hello(ehlo)
        try:
            await self._step("ehlo")
        except SessionFailed as failure:
            if failure.fault is None:
                raise
            # In TLS 1.3 a server refuses after the client's side of the handshake is done. It is still the handshake.
            late = net.TlsFailed(f"TLS failed after the handshake: {failure.fault}")
            raise SessionFailed(self.remote, "starttls", fault=late) from failure

    async def _authenticate(self, credentials: tuple[str, str]) -> None:
        if self.tls_level == "none" and not ipaddress.ip_address(self.endpoint.address).is_loopback:
            words = f"credentials are not sent to {self.remote} without TLS"
            raise SessionFailed(self.remote, "auth", words=words)
        if not self._client.extensions.auth & {"PLAIN", "LOGIN"}:
            words = f"{self.remote} offers neither AUTH PLAIN nor LOGIN"
            raise SessionFailed(self.remote, "auth", words=words)
        self._client.authenticate(*credentials)
        await self._step("auth")

    # ---- in use

    @property
    def usable(self) -> bool:
        """Another transaction may be given to it: idle, in step (D2), and not known to be closed."""
        return self._stream.open and self._client.usable

    @property
    def dsn(self) -> bool:
        return self._client.extensions.dsn

    def watch(self, callback: Callable[[], None] | None, idle_s: float = math.inf) -> None:
        """While idle: call this, once, when the server closes the connection, says goodbye, or after so long."""
        self._stream.watch(callback, idle_s)

    async def transact(
        self, envelope: Envelope, indexes: Sequence[int], prefix: bytes, content: MessageContent
    ) -> list[Outcome]:
        """Send the message to these recipients of the envelope; one outcome each, in no particular order.

        prefix: header fields to put before the content, each ending in CRLF. Raises nothing for what the peer does,
        but StaleConnection: the server had closed a connection used before, and nothing was taken. Cancelling
        drops the connection; `abort` does the same and lets this return (DEFERRED or UNKNOWN). And StorageError: a
        large content could not be read to its end, so that it was not ended; the connection is dropped.
        """
        if not self.usable:
            if self.transactions:
                raise StaleConnection(self.remote)
            return trouble.lost(indexes, self.remote, NetworkError("lost connection"))
        body: Content
        if isinstance(content, bytes):
            body, streamed = Content(prefix, content), None
        else:
            body = streamed = StreamedContent(prefix + content.head, content.file.length)
        outcomes, mail, asked, rcpts = self._envelope(envelope, indexes, body, prefix, content)
        if not rcpts:
            return outcomes
        client = self._client
        reused = self.transactions > 0
        self.transactions += 1
        careful = not reused or self._loop.time() - self._idle_since > CAREFUL_AFTER_S
        transaction = client.begin(mail, rcpts, body, careful=careful)
        feeder: Feeder | None = None
        if streamed is not None and not isinstance(content, bytes):
            feeder = Feeder(content.rest(), streamed, self._stream.wake, self._unreadable)
        fault: EngineError | None = None
        try:
            await self._stream.exchange(self._limits.transaction_timeout)
        except EngineError as exc:
            fault = exc
            if feeder is not None and feeder.fault is not None:
                raise feeder.fault from exc
        except BaseException:
            self._stream.abort("cancelled")
            raise
        finally:
            if feeder is not None:
                feeder.stop()
        self._idle_since = self._loop.time()
        if not client.usable:
            self._stream.abort("out of step")
            if reused and trouble.is_stale(transaction):
                raise StaleConnection(self.remote) from fault
        if outcomes:
            return outcomes + trouble.settled(transaction, asked, self.remote, fault)
        return trouble.settled(transaction, asked, self.remote, fault)

    def _unreadable(self, fault: StorageError) -> None:
        """The content cannot go on, and must not be ended."""
        self._stream.abort(str(fault))

    def _envelope(
        self, envelope: Envelope, indexes: Sequence[int], body: Content, prefix: bytes, content: MessageContent
    ) -> tuple[list[Outcome], bytes, Sequence[int], list[bytes]]:
        """Outcomes decided without asking; then MAIL, the indexes to ask for, and their RCPTs (none: nobody)."""
        offered = self._client.extensions
        if offered.size_limit and body.size > offered.size_limit:
            return trouble.too_large(indexes, self.remote, body.size, offered.size_limit), b"", (), []
        recipients = envelope.recipients
        smtputf8 = _needs_smtputf8(envelope, indexes, prefix, head_of(content))
        if smtputf8 and not offered.smtputf8:
            return trouble.needs_smtputf8(indexes, self.remote), b"", (), []
        try:
            mail = commands.mail(
                envelope.sender,
                size=body.size if offered.size else None,
                # Not offered: 8-bit content is sent as it is (a conversion would break its signatures).
                body="8BITMIME" if offered.eightbit and envelope.body != "7BIT" else "",
                smtputf8=smtputf8,
                ret=envelope.ret if offered.dsn else "",
                envid=envelope.envid if offered.dsn else "",
            )
        except commands.InvalidArgument as why:
            return trouble.unsafe_message(indexes, self.remote, why), b"", (), []
        try:
            return [], mail, indexes, [_rcpt(recipients[index], offered.dsn) for index in indexes]
        except commands.InvalidArgument:
            return self._safe_recipients(mail, recipients, indexes)

    def _safe_recipients(
        self, mail: bytes, recipients: Sequence[Recipient], indexes: Sequence[int]
    ) -> tuple[list[Outcome], bytes, Sequence[int], list[bytes]]:
        """Sort out the recipients that no command may hold."""
        outcomes, asked, rcpts = [], [], []
        for index in indexes:
            try:
                rcpts.append(_rcpt(recipients[index], self.dsn))
                asked.append(index)
            except commands.InvalidArgument as why:
                outcomes.append(trouble.unsafe_address(index, self.remote, why))
        return outcomes, mail, asked, rcpts

    # ---- the end

    async def quit(self) -> None:
        """Say goodbye and close; five seconds at most. Raises nothing."""
        if self.usable:
            self._client.quit()
            try:
                await self._stream.exchange(min(_QUIT_S, self._limits.command_timeout))
            except EngineError:
                return
        self._stream.abort("closed")

    def abort(self, why: str = "aborted") -> None:
        """Drop the connection now. A transaction under way returns its outcomes."""
        self._stream.abort(why)


def _patience(limits: Delivery) -> Patience:
    return Patience(
        greeting=limits.banner_timeout,
        command=limits.command_timeout,
        rcpt=limits.rcpt_timeout,
        data=limits.data_timeout,
        end=limits.end_of_data_timeout,
        content=limits.data_timeout,
    )


def _rcpt(recipient: Recipient, dsn: bool) -> bytes:
    if dsn:
        return commands.rcpt(recipient.address, notify=recipient.notify, orcpt=recipient.orcpt)
    return commands.rcpt(recipient.address)


def _needs_smtputf8(envelope: Envelope, indexes: Sequence[int], prefix: bytes, head: bytes) -> bool:
    """RFC 6531: an address or the header is not ASCII. A client's SMTPUTF8 alone, with neither, needs nothing."""
    if not envelope.smtputf8:
        return False
    if not envelope.sender.isascii() or not all(envelope.recipients[index].address.isascii() for index in indexes):
        return True
    end = head.find(b"\r\n\r\n")
    return not (prefix.isascii() and head[: end if end >= 0 else len(head)].isascii())
