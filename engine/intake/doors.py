"""What listeners of sessions share: their sockets, who came in by them and how many may, the end of it."""

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from engine.base.errors import ConfigError, NetworkError
from engine.base.hostport import parse_host_port
from engine.base.metrics import Metrics
from engine.base.settings import Intake, Listener, TlsFiles
from engine.intake.acceptor import BACKLOG, Acceptor
from engine.intake.clients import ALL, Clients, Place
from engine.intake.policy import Address, parse_address

C = TypeVar("C")  #: a connection


class Door(Generic[C]):
    """The base of a listener. draining: it is going away, and sessions end as soon as they can."""

    def __init__(self, listener: Listener, metrics: Metrics, clients: Clients | None = None) -> None:
        """clients: of all listeners together; None: this is the only one."""
        self.draining = False
        self._listener = listener
        self._address = parse_host_port(listener.address)
        self._accepted = metrics.connections.labels("accepted")
        self._refused = metrics.connections.labels("refused")
        self._connections: dict[C, Address | None] = {}  #: and the address each is counted to
        self._clients = clients or Clients()
        self._empty = asyncio.Event()
        self._empty.set()
        self._servers: list[asyncio.Server | Acceptor] = []

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
        make = self._factory()
        try:
            self._servers += [Acceptor(make, sock, self._room) for sock in sockets]
            if not sockets:
                host, port = self._address
                server = await asyncio.get_running_loop().create_server(
                    make, host, port, backlog=BACKLOG, reuse_address=True, reuse_port=reuse_port
                )
                self._servers.append(server)
        except OSError as exc:
            raise NetworkError(f"cannot listen on {self._listener.address}: {_reason_of(exc)}") from exc
        self._address = self._servers[0].sockets[0].getsockname()[:2]

    async def close(self) -> None:
        """Accept no more connections; those there are go on."""
        for server in self._servers:
            server.close()

    async def drain(self, deadline: float) -> None:
        """End all sessions as each may end, all by deadline (loop time)."""
        self.draining = True
        for connection in list(self._connections):
            self._ask_to_end(connection)
        try:
            async with asyncio.timeout_at(deadline):
                await self._empty.wait()
        except TimeoutError:
            for connection in list(self._connections):
                self._cut_off(connection)
        await self._empty.wait()

    # ---- what kinds of listeners have of their own

    def _factory(self) -> Callable[[], asyncio.BaseProtocol]:
        """What makes a connection."""
        raise NotImplementedError

    def _places(self, peer: Address) -> list[Place]:
        """What a client that comes from there takes."""
        raise NotImplementedError

    def _ask_to_end(self, connection: C) -> None:
        raise NotImplementedError

    def _cut_off(self, connection: C) -> None:
        raise NotImplementedError

    # ---- coming and going

    def _let_in(self, connection: C, descriptor: int, address: Address | None, limits: Intake) -> bool:
        """Whether there is a place for it. descriptor: the lowest that was free. address: None: not counted yet."""
        if self.draining or descriptor >= client_limit() or not self._take(places_for(address, limits)):
            self._refused.inc()
            return False
        self._connections[connection] = address
        self._empty.clear()
        self._accepted.inc()
        return True

    async def _count_to(self, connection: C, address: Address, limits: Intake) -> bool:
        """It is of this address, as has turned out; False: that has no place left."""
        self._uncount(connection)
        places = places_for(address, limits)[1:]
        async with self._clients.room(places):
            # It may be over by now.
            if connection in self._connections and self._take(places):
                self._connections[connection] = address
                return True
        self._refused.inc()
        return False

    def leave(self, connection: C) -> None:
        """The connection is over; may be said twice."""
        if connection in self._connections:
            self._uncount(connection)
            del self._connections[connection]
            self._clients.free(ALL)
            if not self._connections:
                self._empty.set()

    def _room(self, peer: str) -> AbstractAsyncContextManager[None]:
        return self._clients.room(self._places(parse_address(peer)))

    def _take(self, places: Sequence[Place]) -> bool:
        """All of them, or none."""
        for number, (key, limit) in enumerate(places):
            if not self._clients.take(key, limit):
                for taken, _ in places[:number]:
                    self._clients.free(taken)
                return False
        return True

    def _uncount(self, connection: C) -> None:
        address = self._connections.get(connection)
        if address is not None:
            self._connections[connection] = None
            self._clients.free(str(address))


def places_for(address: Address | None, limits: Intake) -> list[Place]:
    """What a client takes: one of all places, and, once its address is known, one of those."""
    places = [(ALL, limits.max_connections)]
    if address is not None:
        places.append((str(address), limits.max_connections_per_address))
    return places


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


def _reason_of(error: OSError) -> str:
    """asyncio's own words name the address once more."""
    return os.strerror(error.errno) if error.errno else str(error)
