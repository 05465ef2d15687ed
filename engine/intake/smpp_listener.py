"""A listening SMPP socket: limits of its connections, TLS, reload, drain; the life of SmtpListener.

One worker of a node does SMS, so no other accepts from its sockets. TLS begins in a connection that is counted already.
"""

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Callable, Coroutine
from functools import partial

from engine.base.clock import Clock
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.intake.clients import Clients, Place
from engine.intake.doors import Door, places_for, tls_context
from engine.intake.guesses import Guesses
from engine.intake.hooks import Verifier
from engine.intake.policy import Address
from engine.intake.smpp import SmppServer
from engine.intake.smpp_binds import Binds
from engine.intake.smpp_connection import Orders, SmppConnection
from engine.intake.sms_admission import SmsAdmission
from engine.net.outbox import Outbox
from engine.protocol.smpp_pdu import Pdu
from engine.protocol.smpp_tables import status_name

_log = logging.getLogger(__name__)


class SmppListener(Door[SmppConnection]):
    """One [[listener]] of kind smpp. binds: of all such listeners. credentials: None, and no account can use one."""

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
        super().__init__(listener, metrics, clients)
        self.outbox = outbox or Outbox(asyncio.get_running_loop())
        self.admission = admission
        self.orders = orders
        self.binds = binds
        self.credentials = credentials
        self.metrics = metrics
        self.clock = clock
        self.guesses = guesses or Guesses(clock)
        self.auth_delay_s = auth_delay_s
        self.tls: ssl.SSLContext | None = None
        self._counts: dict[tuple[type[Pdu], int], Callable[[], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.reload(listener, settings)

    def reload(self, listener: Listener, settings: Settings) -> None:
        """Use other settings for connections from now on; read the certificate again.

        Raises ConfigError, and nothing changes. `binds` and `admission` are reloaded by whoever made them.
        """
        tls = tls_context(listener.tls) if listener.tls is not None else None
        networks = [ipaddress.ip_network(text, strict=False) for text in listener.networks]
        self.tls, self._networks = tls, networks
        self._listener, self.settings = listener, settings

    async def drain(self, deadline: float) -> None:
        try:
            await super().drain(deadline)
        finally:
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(list(self._tasks))

    def _factory(self) -> Callable[[], asyncio.BaseProtocol]:
        return partial(SmppServer, self)

    def _places(self, peer: Address) -> list[Place]:
        return places_for(peer, self.settings.intake)

    def _ask_to_end(self, connection: SmppConnection) -> None:
        """After the answers that it is owed."""
        connection.shut_down()

    def _cut_off(self, connection: SmppConnection) -> None:
        connection.abort()

    # What connections ask (Gate).

    def may_come_from(self, address: Address) -> bool:
        """Whether one may bind from there; without networks, from anywhere."""
        return not self._networks or any(address in network for network in self._networks)

    def enter(self, connection: SmppConnection, descriptor: int, address: Address) -> bool:
        return self._let_in(connection, descriptor, address, self.settings.intake)

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def count(self, command: type[Pdu], status: int) -> None:
        count = self._counts.get((command, status))
        if count is None:
            count = self.metrics.sms_requests.labels(command.__name__, status_name(status)).inc
            self._counts[command, status] = count
        count()
