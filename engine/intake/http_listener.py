"""A listening socket of HTTP: limits of its connections, TLS, reload, drain; the life of SmtpListener.

One process of a node answers, so no other accepts from its sockets. The server of uvicorn is not used: signals, sockets
and certificates are the daemon's.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import partial
from socket import socket

from uvicorn.config import Config
from uvicorn.server import ServerState

from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.intake.clients import Clients, Place
from engine.intake.doors import Door, places_for, tls_context
from engine.intake.http_asgi import Application
from engine.intake.http_connection import IDLE_S, Connection
from engine.intake.policy import Address

_TICK_S = 1.0


class HttpListener(Door[Connection]):
    """One [[listener]] whose requests an application answers. clients: of all listeners together."""

    answer_s = 0.0  #: see Doorkeeper

    def __init__(
        self,
        listener: Listener,
        settings: Settings,
        app: Application,
        metrics: Metrics,
        clients: Clients | None = None,
    ) -> None:
        """Raises ConfigError: the certificate cannot be used."""
        Door.__init__(self, listener, metrics, clients)
        self._config = Config(
            app=app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_S,
        )
        self._config.load()
        self._state = ServerState()
        self._ticking: asyncio.TimerHandle | None = None
        self.reload(listener, settings)

    def reload(self, listener: Listener, settings: Settings) -> None:
        """Use other settings for connections from now on; read the certificate again.

        Raises ConfigError, and nothing changes.
        """
        self.tls = tls_context(listener.tls) if listener.tls is not None else None
        self._listener, self._limits = listener, settings.intake

    async def start(self, sockets: Sequence[socket] = (), *, reuse_port: bool = False) -> None:
        await super().start(sockets, reuse_port=reuse_port)
        self._tick()

    async def drain(self, deadline: float) -> None:
        await super().drain(deadline)
        if self._ticking is not None:
            self._ticking.cancel()

    def _factory(self) -> Callable[[], asyncio.BaseProtocol]:
        return partial(Connection, self, self._config, self._state)

    def _places(self, peer: Address) -> list[Place]:
        return places_for(self._counted(peer), self._limits)

    def _ask_to_end(self, connection: Connection) -> None:
        connection.shut_down()

    def _cut_off(self, connection: Connection) -> None:
        connection.abort()

    # What connections ask (Doorkeeper).

    def enter(self, connection: Connection, descriptor: int, address: Address) -> bool:
        return self._let_in(connection, descriptor, self._counted(address), self._limits)

    # ---- inside

    def _counted(self, address: Address) -> Address | None:
        """Whom a connection from there is counted to; None: to nobody."""
        return address

    def _tick(self) -> None:
        """The date, and the end of those who take too long."""
        loop = asyncio.get_running_loop()
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
        now = loop.time()
        for connection in [each for each in self._connections if each.deadline < now]:
            connection.abort()
        self._ticking = loop.call_later(_TICK_S, self._tick)
