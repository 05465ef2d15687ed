"""A listening SMTP socket: its connections and their limits, TLS, reload, drain.

The socket itself speaks no TLS: implicit TLS begins in a connection that is counted already (secure.py), so that
peers that never finish a handshake are within the limits, and so that new settings hold for the next connection.

The order at shutdown: `close` (nobody new), `drain` (idle sessions get a 421 at once, transactions first the reply
to their message), and what is left at the deadline is cut off.
"""

import asyncio
import logging
import os
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Sequence

from engine.base.clock import Clock
from engine.base.errors import ConfigError, NetworkError
from engine.base.hostport import parse_host_port
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings, TlsFiles
from engine.intake.acceptor import BACKLOG, Acceptor
from engine.intake.admission import Admission
from engine.intake.client import Client
from engine.intake.connection import Connection
from engine.intake.hooks import Hooks, Verifier
from engine.intake.policy import Address, Policy
from engine.intake.reverse import ReverseNames
from engine.intake.smtp import SmtpServer
from engine.net.outbox import Outbox


class SmtpListener:
    """One [[listener]] of kind smtp. credentials: None, and nobody can authenticate."""

    def __init__(
        self,
        listener: Listener,
        settings: Settings,
        admission: Admission,
        credentials: Verifier | None,
        metrics: Metrics,
        clock: Clock,
        outbox: Outbox | None = None,
        auth_delay_s: float = 1.0,
        reverse: ReverseNames | None = None,
    ) -> None:
        """reverse: finds clients' names where the settings ask for them."""
        self.outbox = outbox or Outbox(asyncio.get_running_loop())
        self.admission = admission
        self.metrics = metrics
        self._accepted = metrics.connections.labels("accepted")
        self._refused = metrics.connections.labels("refused")
        self.policy = Policy(listener, settings, has_credentials=credentials is not None)
        self._listener = listener
        self._has_credentials = credentials is not None
        self._hooks = Hooks(credentials, clock, auth_delay_s)
        self._tls = tls_context(listener.tls) if listener.tls else None
        self._connections: dict[Connection, Address | None] = {}  # and the address each is counted to
        self._per_address: Counter[Address] = Counter()
        self._reverse = reverse
        self._draining = False
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()
        self._address = parse_host_port(listener.address)
        self._servers: list[asyncio.Server | Acceptor] = []
        self._model: SmtpServer | None = None

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
        """Listen. sockets: bound ones that others accept from, too; ours from now on. reuse_port: as net.port wants it.

        Raises NetworkError.
        """
        # Every command of every session would be a record of aiosmtpd's; ours says what is worth a line.
        for name in ("mail.log", "mail.debug"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        loop = asyncio.get_running_loop()
        self._model = SmtpServer(self, self._hooks, loop)
        try:
            for sock in sockets:
                self._servers.append(Acceptor(self._connection, sock))
            if not sockets:
                host, port = self._address
                self._servers.append(
                    await loop.create_server(
                        self._connection, host, port, backlog=BACKLOG, reuse_address=True, reuse_port=reuse_port
                    )
                )
        except OSError as exc:
            raise NetworkError(f"cannot listen on {self._listener.address}: {reason_of(exc)}") from exc
        self._address = self._servers[0].sockets[0].getsockname()[:2]

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

    async def close(self) -> None:
        """Accept no more connections; those there are go on."""
        for server in self._servers:
            server.close()

    async def drain(self, deadline: float) -> None:
        """End all sessions: idle ones now, others after the reply to their message, all by deadline (loop time)."""
        self._draining = True
        for connection in list(self._connections):
            if connection.idle:
                connection.shut_down()
        try:
            async with asyncio.timeout_at(deadline):
                await self._empty.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.shut_down()
                if connection.transport is not None:
                    connection.transport.abort()
            await self._empty.wait()

    def _connection(self) -> asyncio.BaseProtocol:
        assert self._model is not None
        return self._model.fork(self._tls)

    # What connections ask (Gate).

    @property
    def draining(self) -> bool:
        return self._draining

    def enter(self, connection: Connection, descriptor: int, address: Address, counted: bool) -> bool:
        intake = self.policy.intake
        full = (
            len(self._connections) >= intake.max_connections or descriptor >= client_limit()
        )  # the lowest that was free
        if full or self._draining or (counted and self._per_address[address] >= intake.max_connections_per_address):
            self._refused.inc()
            return False
        self._connections[connection] = address if counted else None
        if counted:
            self._per_address[address] += 1
        self._empty.clear()
        self._accepted.inc()
        return True

    def count(self, connection: Connection, address: Address) -> bool:
        self._uncount(connection)
        if self._per_address[address] >= self.policy.intake.max_connections_per_address:
            self._refused.inc()
            return False
        self._connections[connection] = address
        self._per_address[address] += 1
        return True

    def name_client(self, client: Client) -> None:
        if self._reverse is not None:
            self._reverse.name(client)

    def leave(self, connection: Connection) -> None:
        if connection in self._connections:
            self._uncount(connection)
            del self._connections[connection]
            if not self._connections:
                self._empty.set()

    def _uncount(self, connection: Connection) -> None:
        address = self._connections.get(connection)
        if address is not None:
            self._connections[connection] = None
            self._per_address[address] -= 1
            if self._per_address[address] <= 0:
                del self._per_address[address]


def client_limit() -> int:
    """How many files this process may have open, clients included, before it takes no more clients.

    The rest is for spool and delivery.
    """
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """A server context, TLS 1.2 or later. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(files.cert, files.key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError([f"listener: tls: cannot use {files.cert} and {files.key}: {exc}"]) from exc
    return context


def reason_of(error: OSError) -> str:
    """asyncio's own words name the address once more."""
    return os.strerror(error.errno) if error.errno else str(error)
