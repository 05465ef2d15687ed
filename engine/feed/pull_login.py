"""Who asks for events: a login of the credential table, by HTTP Basic, and which events are his.

His are those of the tenant of that name, to the letter, as mail that he submits has it; a login in [events] readers
reads all. Basic only under TLS or from loopback. Wrong passwords are counted by address, with those of SMTP AUTH, and
blocked like them; a wrong one is answered late.
"""

import asyncio
import logging
from typing import Protocol

from engine.base.errors import StorageError
from engine.base.settings import Settings
from engine.feed.pull_query import parse_basic
from engine.intake.guesses import Guesses
from engine.intake.http_asgi import Scope
from engine.intake.policy import parse_address

log = logging.getLogger(__name__)


class Verifier(Protocol):
    """The credential table."""

    async def verify(self, login: str, password: str) -> bool:
        """Whether the password is that of the login. Raises StorageError."""


class Refused(Exception):
    """result: for metrics."""

    def __init__(self, status: int, result: str, line: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(line)
        self.status, self.result, self.headers = status, result, headers


_CHALLENGE = (b"www-authenticate", b'Basic realm="postrider", charset="UTF-8"')


class Logins:
    """delay_s: before a wrong password is answered."""

    def __init__(self, credentials: Verifier, guesses: Guesses, delay_s: float = 1.0) -> None:
        self._credentials, self._guesses, self._delay_s = credentials, guesses, delay_s

    async def login(self, scope: Scope, settings: Settings) -> str:
        """Whose request this is. Raises Refused."""
        peer = scope.get("client")
        address = parse_address(peer[0]) if peer else None
        if address is None or not (scope["scheme"] == "https" or address.is_loopback):
            raise Refused(403, "clear", "a password needs TLS")
        if self._guesses.blocked(str(address), settings.intake):
            again = b"%d" % max(int(settings.intake.failed_login_window), 1)
            raise Refused(429, "blocked", "too many failed logins from your address", (b"retry-after", again))
        fields = [value for name, value in scope["headers"] if name == b"authorization"]
        given = parse_basic(fields[0]) if len(fields) == 1 else None
        if given is None:
            raise Refused(401, "login", "who are you?", _CHALLENGE)
        try:
            verified = await self._credentials.verify(*given)
        except StorageError as exc:
            log.error("events: the credential table cannot be read: %s", exc)
            raise Refused(503, "failed", "logins cannot be checked now", (b"retry-after", b"10")) from exc
        if not verified:
            self._guesses.failed(str(address), settings.intake)
            await asyncio.sleep(self._delay_s)
            raise Refused(401, "login", "login or password is wrong", _CHALLENGE)
        return given[0]


def tenant_of(login: str, settings: Settings) -> str | None:
    """Whose events a login reads; None: everybody's."""
    return None if login in settings.events.readers else login
