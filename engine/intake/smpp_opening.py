"""The first bytes of an application's connection, before SMPP: a proxy's header, then TLS, as the listener wants them.

It is counted before it says anything, and what is not said in time ends it.
"""

import asyncio
import logging
import ssl
from collections.abc import Coroutine
from typing import Any, Protocol, cast

from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.intake.policy import Address, parse_address
from engine.intake.proxy import Header, client_of
from engine.intake.smpp_binds import Bind
from engine.net.late_tls import start_tls

_log = logging.getLogger(__name__)


class Doorkeeper(Protocol):
    """What the listener decides of a connection that begins."""

    metrics: Metrics
    settings: Settings
    tls: ssl.SSLContext | None

    def speaks_proxy(self, peer: Address) -> bool:
        """Whether the peer is a proxy, which must send a PROXY header first."""

    def enter(self, connection: Any, descriptor: int, address: Address, counted: bool) -> bool:
        """Let a connection in, or not. counted: it takes one of the places of its address."""

    async def count(self, connection: Any, address: Address) -> bool:
        """Count a connection that came through a proxy to its client's address, if there is a place left."""

    def leave(self, connection: Any) -> None:
        """The connection is over; may be said twice."""

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Have it done by a task of the listener's."""


class Opening(Bind):
    """See above. address: the client's; origin: the same, None if the proxy does not know it. client: for the log."""

    _door: Doorkeeper
    address: Address
    origin: Address | None
    client = ""
    _begun = False  #: what comes is SMPP
    _leaving = False
    _plain: asyncio.Transport | None = None  #: while it begins
    _header: Header | None = None
    _early = b""  #: behind the header, or of TLS
    _by_proxy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        if not peer:
            transport.close()
            return
        if self.client:  # through TLS
            self._begin(transport)
            return
        door = self._door
        self._meet(parse_address(peer[0]))
        proxied = door.speaks_proxy(self.address)
        descriptor = transport.get_extra_info("socket").fileno()
        if not door.enter(self, descriptor, self.address, not proxied):
            transport.close()
        elif proxied or door.tls is not None:
            self._plain = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's
            self._header = Header() if proxied else None
            door.spawn(self._open(self._plain))
        else:
            self._begin(transport)

    def data_received(self, data: bytes) -> None:
        if self._begun:
            super().data_received(data)
        elif self._header is not None:
            self._header.feed(data)
        else:
            self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        if self._header is not None:
            self._header.end()
        super().connection_lost(exc)
        self._door.leave(self)

    def abort(self) -> None:
        if self._plain is not None:
            self._plain.abort()
        super().abort()

    @property
    def secure(self) -> bool:
        """It goes through TLS."""
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is not None

    # ---- inside

    def _meet(self, address: Address, known: bool = True) -> None:
        """This is who the client is."""
        self.address, self.origin = address, address if known else None
        self.client = f"unknown[{address}]"

    def _begin(self, transport: asyncio.BaseTransport) -> None:
        self._begun, self._plain = True, None
        super().connection_made(transport)
        if self._by_proxy:
            self.peer = str(self.address)
        if self._leaving:
            self.abort()

    async def _open(self, plain: asyncio.Transport) -> None:
        try:
            if self._header is not None and not await self._meet_client(self._header, plain):
                return
            if self._door.tls is not None:
                await self._start_tls(plain, self._door.tls)
            else:
                self._begin(plain)
                plain.resume_reading()
                early = self._take_early()
                super().data_received(early)
        finally:
            if not self._begun:
                self._plain = None
                plain.abort()
                self._door.leave(self)

    async def _meet_client(self, header: Header, plain: asyncio.Transport) -> bool:
        """By a proxy's header; False: there was none, or its client may not come in."""
        door, proxy_address = self._door, self.address
        proxy = await header.read(door.settings.intake.proxy_timeout)
        if proxy is None:
            _log.warning("intake: %s: no valid PROXY header", proxy_address)
            return False
        plain.pause_reading()
        self._header, self._early = None, await header.rest()
        self._meet(*client_of(proxy, proxy_address))
        self._by_proxy = True
        return await door.count(self, self.address)

    async def _start_tls(self, plain: asyncio.Transport, context: ssl.SSLContext) -> None:
        door = self._door
        secured = None
        try:
            secured = await start_tls(
                plain, self.protocol, context, self._take_early, door.settings.intake.handshake_timeout
            )
        except (OSError, TimeoutError) as exc:
            _log.debug("intake: %s: TLS: %s", self.client, exc)
        if secured is None:
            door.metrics.rejected.labels("tls").inc()
        else:
            self.connection_made(secured)

    def _take_early(self) -> bytes:
        data, self._early = self._early, b""
        return data
