"""A listening SMPP socket: limits of its connections, TLS, reload, drain; the life of SmtpListener.

One worker of a node does SMS, so no other accepts from its sockets. TLS begins in a connection that is counted already.
"""

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Callable

from engine.base.clock import Clock
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.intake.clients import Clients, Place
from engine.intake.doors import Door, places_for, tls_context
from engine.intake.guesses import Guesses
from engine.intake.hooks import Verifier
from engine.intake.policy import Address
from engine.intake.proxy import hush
from engine.intake.smpp import SmppServer
from engine.intake.smpp_binds import Binds, is_in
from engine.intake.smpp_connection import Orders, SmppConnection
from engine.intake.smpp_gate import SmppGate
from engine.intake.sms_admission import SmsAdmission
from engine.net.outbox import Outbox

_log = logging.getLogger(__name__)


class SmppListener(SmppGate, Door[SmppConnection]):
    """One [[listener]] of kind smpp."""

    def __init__(
        self,
        listener: Listener,
        settings: Settings,
        admission: SmsAdmission,
        orders: Orders,
        binds: Binds,
        credentials: Verifier | None,
        metrics: Metrics,
        clock: Clock,
        outbox: Outbox | None = None,
        auth_delay_s: float = 1.0,
        clients: Clients | None = None,
        guesses: Guesses | None = None,
    ) -> None:
        """auth_delay_s: before a wrong password is answered. clients, guesses: as for mail. Raises ConfigError."""
        Door.__init__(self, listener, metrics, clients)
        outbox, guesses = outbox or Outbox(asyncio.get_running_loop()), guesses or Guesses(clock)
        SmppGate.__init__(
            self, settings, admission, orders, binds, credentials, metrics, clock, outbox, guesses, auth_delay_s
        )
        self.tls: ssl.SSLContext | None = None
        self.reload(listener, settings)

    def reload(self, listener: Listener, settings: Settings) -> None:
        """Use other settings for connections from now on; read the certificate again.

        Raises ConfigError, and nothing changes. `binds` and `admission` are reloaded by whoever made them.
        """
        tls = tls_context(listener.tls) if listener.tls is not None else None
        networks = [ipaddress.ip_network(text, strict=False) for text in listener.networks]
        proxies = [ipaddress.ip_network(text, strict=False) for text in listener.proxy_from]
        self.tls, self._networks, self._proxies = tls, networks, proxies
        self._listener, self.settings = listener, settings

    async def drain(self, deadline: float) -> None:
        try:
            await super().drain(deadline)
        finally:
            await self.end_tasks()

    def _factory(self) -> Callable[[], asyncio.BaseProtocol]:
        hush()
        return lambda: SmppServer(self).protocol

    def _places(self, peer: Address) -> list[Place]:
        return places_for(peer, self.settings.intake)

    def _ask_to_end(self, connection: SmppConnection) -> None:
        """After the answers that it is owed."""
        connection.shut_down()

    def _cut_off(self, connection: SmppConnection) -> None:
        connection.abort()

    # What connections ask (Gate).

    def may_come_from(self, address: Address | None) -> bool:
        return is_in(address, self._networks)

    def speaks_proxy(self, peer: Address) -> bool:
        return any(peer in network for network in self._proxies)

    def enter(self, connection: SmppConnection, descriptor: int, address: Address, counted: bool) -> bool:
        return self._let_in(connection, descriptor, address if counted else None, self.settings.intake)

    async def count(self, connection: SmppConnection, address: Address) -> bool:
        return await self._count_to(connection, address, self.settings.intake)
