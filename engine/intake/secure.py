"""The commands that change who the client is or how it is connected: STARTTLS, AUTH, XCLIENT.

RFC 3207: what the client sent in the clear behind STARTTLS is dropped, and so is the session. XCLIENT (Postfix's
XCLIENT_README) comes from listed peers only and begins a new session as the client it names.
"""

import asyncio
import logging
import re

from aiosmtpd.smtp import TLSSetupException

from engine.intake.client import Client, valid_helo
from engine.intake.connection import Connection
from engine.intake.policy import parse_address
from engine.net.late_tls import feed

_log = logging.getLogger(__name__)
_XCLIENT_NAMES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}")
_ESCAPED = re.compile(r"\+([0-9A-Fa-f]{2})")
_UNKNOWN = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")


class SecureConnection(Connection):
    """A connection with STARTTLS, AUTH and XCLIENT."""

    @property
    def may_authenticate(self) -> bool:
        """AUTH only where nobody can listen: under TLS, or if every address on the way is this machine's."""
        return self.policy.auth and (self.in_tls or self._all_on_this_machine)

    @property
    def _all_on_this_machine(self) -> bool:
        speaker = self.speaker
        return self.peer.is_loopback and speaker is not None and speaker.is_loopback and self.client.address.is_loopback

    @property
    def may_xclient(self) -> bool:
        """A right of who speaks: never of the proxy in front, nor of the client that XCLIENT named before."""
        return self.speaker is not None and self.policy.may_xclient(self.speaker)

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        if not self.policy.starttls:
            self.reject("sequence", b"502 5.5.1 TLS is not offered")
        elif arg:
            self.reject("syntax", b"501 5.5.4 STARTTLS takes no argument")
        elif self.in_tls:
            self.reject("sequence", b"503 5.5.1 TLS is already on")
        elif self.envelope.sender is not None:
            self.reject("sequence", b"503 5.5.1 STARTTLS inside a transaction")
        else:
            self._reader.drop()
            await self._upgrade()

    async def _upgrade(self) -> None:
        """aiosmtpd's STARTTLS, which replaces the transport's protocol. Raises TLSSetupException."""
        transport = self.transport
        # uvloop chooses how to read when reading starts; the TLS protocol wants another way than ours.
        transport.pause_reading()
        self.loop.call_soon(_resume, transport)
        self._handshaking = True
        try:
            await super().smtp_STARTTLS("")
        finally:
            self._handshaking = False
        if not self.in_tls:
            # The connection was cut off before; asyncio reports that as if the handshake were done.
            raise TLSSetupException

    async def start_implicit_tls(self) -> bool:
        """On a listener of implicit TLS: TLS begins now, with what the client sent already.

        True: go on, on this or any other listener. False: the handshake failed, the connection is closed.
        """
        if self.in_tls or not self.policy.implicit_tls:
            return True
        self._reset_timeout(min(self.policy.intake.handshake_timeout, self._timeout_duration))
        if self._reader._eof:
            self.hang_up()
            return False
        hello = bytes(self._reader._buffer)
        self._reader.drop()
        self.loop.call_soon(self._feed_tls, hello)
        self._silent = True
        try:
            await self._upgrade()
        except TLSSetupException:
            self.metrics.rejected.labels("tls").inc()
            self.hang_up()
            self.gate.leave(self)  # asyncio tells nobody that a connection without finished handshake is lost
            return False
        finally:
            self._silent = False
        self._reset_timeout()
        return True

    def _feed_tls(self, data: bytes) -> None:
        feed(self._tls_protocol, data)

    async def _handle_client(self) -> None:
        if self._proxy_timeout is None and not await self.start_implicit_tls():
            return
        proxied = self._proxy_timeout is not None
        await super()._handle_client()
        if proxied and self.session is not None and not self.session.proxy_data:
            _log.warning("intake: %s: no valid PROXY header", self.peer)

    async def smtp_AUTH(self, arg: str) -> None:
        if not self.policy.auth:
            self.reject("command", b"502 5.5.1 AUTH is not offered")
        elif not self.may_authenticate:
            self.reject("auth", b"538 5.7.11 AUTH needs TLS")
        elif self.envelope.sender is not None:
            self.reject("sequence", b"503 5.5.1 AUTH inside a transaction")
        else:
            self._auth_require_tls = False  # decided above
            mechanism, _, initial = (arg or "").partition(" ")
            await super().smtp_AUTH(f"{mechanism.upper()} {initial}".strip())

    async def smtp_XCLIENT(self, arg: str | None) -> None:
        if not self.may_xclient:
            self.reject("command", b"550 5.7.0 XCLIENT is not for you")
            return
        if self.envelope.sender is not None:
            self.reject("sequence", b"503 5.5.1 XCLIENT inside a transaction")
            return
        try:
            client = _client_of(arg or "", self.client)
        except ValueError:
            self.reject("syntax", b"501 5.5.4 Bad XCLIENT attribute")
            return
        if not await self.gate.count(self, client.address):
            self.end(b"421 4.7.0 %b Too many connections" % self.hostname.encode())
            return
        self.meet(client)
        self.trusted = self.policy.may_submit(client.address)
        self.forget()
        self.session = session = self._create_session()
        session.peer = str(client)
        session.host_name = client.helo or None
        session.extended_smtp = client.esmtp
        if client.login:
            session.authenticated = True
            session.auth_data = None
        await self.push(b"220 %b ESMTP Postrider" % self.hostname.encode())


def _resume(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.resume_reading()


def _client_of(text: str, before: Client) -> Client:
    """The client these attributes describe; what they leave out stays. Raises ValueError."""
    attributes: dict[str, str] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if name.upper() not in _XCLIENT_NAMES or not equals:
            raise ValueError(name)
        attributes[name.upper()] = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value)
    if not attributes:
        raise ValueError("none")
    address = attributes.get("ADDR", "[UNAVAILABLE]")
    if address.lower().startswith("ipv6:"):
        address = address[5:]
    client = Client(before.address if address in _UNKNOWN else parse_address(address))
    # A name is that of an address: another address has another name.
    name = attributes.get("NAME", _UNKNOWN[0] if "ADDR" in attributes else before.name)
    if name not in _UNKNOWN:
        if not _HOST.fullmatch(name):
            raise ValueError(name)
        client.name = name
    helo = attributes.get("HELO", before.helo)
    if helo and helo not in _UNKNOWN:
        if not valid_helo(helo):
            raise ValueError(helo)
        client.helo = helo
    login = attributes.get("LOGIN", before.login)
    if login not in _UNKNOWN:
        if not login.isprintable():
            raise ValueError("LOGIN")
        client.login = login
    client.esmtp = attributes.get("PROTO", "ESMTP").upper() != "SMTP"
    return client
