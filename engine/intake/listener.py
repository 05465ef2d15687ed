"""A listening SMTP socket: limits of its connections, TLS, reload, drain (doors.py has the sockets).

The socket itself speaks no TLS: implicit TLS begins in a connection that is counted already (secure.py), so that
peers that never finish a handshake are within the limits, and so that new settings hold for the next connection.

The order at shutdown: `close` (nobody new), `drain` (idle sessions get a 421 at once, transactions first the reply
to their message), and what is left at the deadline is cut off.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from engine.base.clock import Clock
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.intake.admission import Admits
from engine.intake.client import Client
from engine.intake.clients import Clients, Place
from engine.intake.connection import Connection
from engine.intake.doors import Door, places_for, tls_context
from engine.intake.guesses import Guesses
from engine.intake.hooks import Hooks, Verifier
from engine.intake.policy import Address, Policy
from engine.intake.proxy import hush
from engine.intake.reverse import ReverseNames
from engine.intake.smtp import SmtpServer
from engine.net.outbox import Outbox


class SmtpListener(Door[Connection]):
    """One [[listener]] of kind smtp or inbound. credentials: None, and nobody can authenticate."""

    def __init__(
        self,
        listener: Listener,
        settings: Settings,
        admission: Admits,
        credentials: Verifier | None,
        metrics: Metrics,
        clock: Clock,
        outbox: Outbox | None = None,
        auth_delay_s: float = 1.0,
        reverse: ReverseNames | None = None,
        clients: Clients | None = None,
        guesses: Guesses | None = None,
    ) -> None:
        """reverse: finds clients' names where the settings ask for them. clients, guesses: of all listeners together;
        None: this is the only one."""
        super().__init__(listener, metrics, clients)
        self.outbox = outbox or Outbox(asyncio.get_running_loop())
        self.admission = admission
        self.metrics = metrics
        self.policy = Policy(listener, settings, has_credentials=credentials is not None)
        self._has_credentials = credentials is not None
        self._hooks = Hooks(credentials, guesses or Guesses(clock), auth_delay_s)
        self._tls = tls_context(listener.tls) if listener.tls else None
        self._reverse = reverse

    def reload(self, listener: Listener, settings: Settings) -> None:
        """Use other settings for sessions that begin from now on; read the certificate again.

        The address, and whether TLS is implicit, stay as they were. Raises ConfigError, and nothing changes.
        """
        if listener.tls is not None:
            fresh = tls_context(listener.tls)
            if self._tls is None:
                self._tls = fresh
            else:
                # The context itself stays, because the connections hold it. The files were just tried.
                self._tls.load_cert_chain(listener.tls.cert, listener.tls.key)
        self.policy = Policy(listener, settings, has_credentials=self._has_credentials)

    def _factory(self) -> Callable[[], asyncio.BaseProtocol]:
        hush()
        return partial(self._fork, SmtpServer(self, self._hooks, asyncio.get_running_loop()))

    def _fork(self, model: SmtpServer) -> asyncio.BaseProtocol:
        return model.fork(self._tls)

    def _places(self, peer: Address) -> list[Place]:
        return places_for(None if self.policy.speaks_proxy(peer) else peer, self.policy.intake)

    def _ask_to_end(self, connection: Connection) -> None:
        if connection.idle:
            connection.shut_down()

    def _cut_off(self, connection: Connection) -> None:
        connection.shut_down()
        if connection.transport is not None:
            connection.transport.abort()

    # What connections ask (Gate).

    def enter(self, connection: Connection, descriptor: int, address: Address, counted: bool) -> bool:
        return self._let_in(connection, descriptor, address if counted else None, self.policy.intake)

    async def count(self, connection: Connection, address: Address) -> bool:
        return await self._count_to(connection, address, self.policy.intake)

    def name_client(self, client: Client) -> None:
        if self._reverse is not None:
            self._reverse.name(client)
