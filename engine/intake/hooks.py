"""What aiosmtpd asks us during a session: EHLO, HELO, PROXY, STARTTLS and the AUTH mechanisms.

One object per listener, without state of a session; each hook gets the connection.

AUTH: only under TLS or from loopback. Passwords are checked in a thread (argon2 takes tens of milliseconds). A wrong
one is answered late, several end the session, and an address with many has to wait.
"""

import asyncio
import binascii
import logging
from base64 import b64decode
from typing import Any, Protocol

from aiosmtpd.proxy_protocol import ProxyData
from aiosmtpd.smtp import AuthResult, LoginPassword

from engine.base.errors import StorageError
from engine.intake.client import Client, valid_helo
from engine.intake.guesses import Guesses
from engine.intake.proxy import client_of
from engine.intake.secure import SecureConnection

_log = logging.getLogger(__name__)
_USED = AuthResult(success=False, handled=True)  # the reply is out
_NO_BASE64 = b"501 5.5.2 That is not base64"
_BAD_CREDENTIALS = b"535 5.7.8 Authentication credentials invalid"


class Verifier(Protocol):
    """The credential table, as AUTH sees it."""

    async def verify(self, login: str, password: str) -> bool:
        """Whether the password is that of the login. Raises StorageError."""


class Hooks:
    """aiosmtpd's handler. delay_s: before a wrong password is answered."""

    def __init__(self, credentials: Verifier | None, guesses: Guesses, delay_s: float = 1.0) -> None:
        self._credentials = credentials
        self._delay_s = delay_s
        self._guesses = guesses

    async def handle_EHLO(
        self, server: SecureConnection, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[bytes]:
        """The whole reply; aiosmtpd's own list knows neither implicit TLS nor our extensions."""
        if not valid_helo(hostname):
            return [b"501 5.5.2 That is not a host name"]
        server.idle_command()
        session.host_name = hostname
        return [
            server.policy.ehlo(
                server.policy.starttls and not server.in_tls,
                server.may_authenticate,
                server.may_xclient,
            )
        ]

    async def handle_HELO(self, server: SecureConnection, session: Any, envelope: Any, hostname: str) -> bytes:
        if not valid_helo(hostname):
            return b"501 5.5.2 That is not a host name"
        server.idle_command()
        session.host_name = hostname
        return b"250 %b" % server.hostname.encode()

    async def handle_PROXY(self, server: SecureConnection, session: Any, envelope: Any, proxy: ProxyData) -> bool:
        """Take the client's address from a listed proxy. False: hang up."""
        address, known = client_of(proxy, server.peer)
        server.meet(Client(address))
        server.speaker = address if known else None
        server.trusted = known and server.policy.may_submit(address)
        if not await server.gate.count(server, address):
            server.end(b"421 4.7.0 %b Too many connections" % server.hostname.encode())
            return False
        return await server.start_implicit_tls()

    def handle_STARTTLS(self, server: SecureConnection, session: Any, envelope: Any) -> bool:
        return True

    async def auth_PLAIN(self, server: SecureConnection, args: list[str]) -> AuthResult:
        """RFC 4616: [authorisation] NUL login NUL password."""
        blob = await self._response(server, args, "")
        if blob is None:
            return _USED
        parts = blob.split(b"\0")
        if len(parts) != 3:
            server.reject("auth", b"501 5.5.2 PLAIN takes three fields")
            return _USED
        if parts[0] not in (b"", parts[1]):
            # RFC 4616 2: to act for somebody else is a right, and nobody has it.
            server.reject("auth", _BAD_CREDENTIALS)
            return _USED
        return await self._check(server, parts[1], parts[2])

    async def auth_LOGIN(self, server: SecureConnection, args: list[str]) -> AuthResult:
        login = await self._response(server, args, "Username:")
        if login is None:
            return _USED
        password = await self._response(server, [], "Password:")
        if password is None:
            return _USED
        return await self._check(server, login, password)

    async def _response(self, server: SecureConnection, args: list[str], challenge: str) -> bytes | None:
        """The initial response, or the answer to a challenge, decoded; None: refused already."""
        if len(args) < 2:
            answer = await server.challenge_auth(challenge)
            return answer if isinstance(answer, bytes) else None
        try:
            # RFC 4954 4: "=" is an empty initial response.
            return b"" if args[1] == "=" else b64decode(args[1], validate=True)
        except (binascii.Error, ValueError):
            server.reject("auth", _NO_BASE64)
            return None

    async def _check(self, server: SecureConnection, login: bytes, password: bytes) -> AuthResult:
        address = str(server.client.address)
        intake = server.policy.intake
        if self._guesses.blocked(address, intake):
            server.reject("auth", b"454 4.7.0 Too many failed logins from your address, try again later")
            return _USED
        try:
            verified = await self._verified(login, password)
        except StorageError as error:
            _log.error("intake: the credential table cannot be read: %s", error)
            server.reject("auth", b"454 4.7.0 Temporary authentication failure")
            return _USED
        if verified:
            return AuthResult(success=True, auth_data=LoginPassword(login, b""))
        server.metrics.rejected.labels("auth").inc()
        self._guesses.failed(address, intake)
        server.failed_logins += 1
        if self._delay_s:
            server.flush()
            await asyncio.sleep(self._delay_s)
        await server.push(_BAD_CREDENTIALS)
        if server.failed_logins >= intake.max_failed_logins:
            server.end(b"421 4.7.0 Too many failed logins")
        return _USED

    async def _verified(self, login: bytes, password: bytes) -> bool:
        if self._credentials is None:
            return False
        try:
            return await self._credentials.verify(login.decode(), password.decode())
        except UnicodeDecodeError:
            return False
