"""A listening SMPP socket: its connections and their limits, TLS, reload, drain; the life of SmtpListener.

One worker of a node does SMS, so no other accepts from its sockets. TLS begins in a connection that is counted already.
"""

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence

from engine.base.clock import Clock
from engine.base.errors import NetworkError
from engine.base.hostport import parse_host_port
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.intake.acceptor import BACKLOG
from engine.intake.guesses import Guesses
from engine.intake.hooks import Verifier
from engine.intake.listener import client_limit, reason_of, tls_context
from engine.intake.policy import Address
from engine.intake.smpp import SmppServer
from engine.intake.smpp_binds import Binds
from engine.intake.smpp_connection import Orders, SmppConnection
from engine.intake.sms_admission import SmsAdmission
from engine.net.outbox import Outbox
from engine.protocol.smpp_pdu import Pdu
from engine.protocol.smpp_tables import status_name

_log = logging.getLogger(__name__)


class SmppListener:
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
    ) -> None:
        """auth_delay_s: before a wrong password is answered. Raises ConfigError."""
        self.outbox = outbox or Outbox(asyncio.get_running_loop())
        self.admission = admission
        self.orders = orders
        self.binds = binds
        self.credentials = credentials
        self.metrics = metrics
        self.clock = clock
        self.guesses = Guesses(clock)
        self.auth_delay_s = auth_delay_s
        self.tls: ssl.SSLContext | None = None
        self._accepted = metrics.connections.labels("accepted")
        self._refused = metrics.connections.labels("refused")
        self._counts: dict[tuple[type[Pdu], int], Callable[[], None]] = {}
        self._connections: dict[SmppConnection, Address] = {}
        self._per_address: Counter[Address] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._address = parse_host_port(listener.address)
        self._servers: list[asyncio.Server] = []
        self.reload(listener, settings)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port in use; the port is known only after `start` if the settings say 0."""
        return self._address

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def filenos(self) -> list[int]:
        """The listening sockets, once started."""
        return [sock.fileno() for server in self._servers for sock in server.sockets]

    async def start(self, sockets: Sequence[socket.socket] = (), *, reuse_port: bool = False) -> None:
        """Listen. sockets: bound ones, ours from now on. reuse_port: as net.port wants it. Raises NetworkError."""
        loop = asyncio.get_running_loop()
        host, port = self._address
        try:
            for sock in sockets:
                self._servers.append(await loop.create_server(self._connection, sock=sock, backlog=BACKLOG))
            if not sockets:
                self._servers.append(
                    await loop.create_server(
                        self._connection, host, port, backlog=BACKLOG, reuse_address=True, reuse_port=reuse_port
                    )
                )
        except OSError as exc:
            raise NetworkError(f"cannot listen on {self._listener.address}: {reason_of(exc)}") from exc
        self._address = self._servers[0].sockets[0].getsockname()[:2]

    def reload(self, listener: Listener, settings: Settings) -> None:
        """Use other settings for connections from now on; read the certificate again.

        Raises ConfigError, and nothing changes. `binds` and `admission` are reloaded by whoever made them.
        """
        tls = tls_context(listener.tls) if listener.tls is not None else None
        networks = [ipaddress.ip_network(text, strict=False) for text in listener.networks]
        self.tls, self._networks = tls, networks
        self._listener, self.settings = listener, settings

    async def close(self) -> None:
        """Accept no more connections; those there are go on."""
        for server in self._servers:
            server.close()

    async def drain(self, deadline: float) -> None:
        """End all sessions: each after the answers that it is owed, all by deadline (loop time)."""
        self._draining = True
        for connection in list(self._connections):
            connection.shut_down()
        try:
            async with asyncio.timeout_at(deadline):
                await self._empty.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
            for task in list(self._tasks):
                task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        await self._empty.wait()

    def _connection(self) -> asyncio.BaseProtocol:
        return SmppServer(self)

    # What connections ask (Gate).

    @property
    def draining(self) -> bool:
        return self._draining

    def may_come_from(self, address: Address) -> bool:
        """Whether one may bind from there; without networks, from anywhere."""
        return not self._networks or any(address in network for network in self._networks)

    def enter(self, connection: SmppConnection, descriptor: int, address: Address) -> bool:
        intake = self.settings.intake
        full = len(self._connections) >= intake.max_connections or descriptor >= client_limit()
        if full or self._draining or self._per_address[address] >= intake.max_connections_per_address:
            self._refused.inc()
            return False
        self._connections[connection] = address
        self._per_address[address] += 1
        self._empty.clear()
        self._accepted.inc()
        return True

    def leave(self, connection: SmppConnection) -> None:
        address = self._connections.pop(connection, None)
        if address is None:
            return
        self._per_address[address] -= 1
        if self._per_address[address] <= 0:
            del self._per_address[address]
        if not self._connections:
            self._empty.set()

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
