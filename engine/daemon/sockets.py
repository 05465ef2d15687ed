"""The SMTP sockets of a node with several workers: one for each address, which all workers accept from.

The supervisor binds them and keeps them, so that clients find somebody there whichever worker is being started again.
They reach a worker over a socket pair of their own, each with its address, before the message on the channel that
needs them.
"""

import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from engine.base.errors import NetworkError
from engine.base.hostport import parse_host_port
from engine.intake.acceptor import BACKLOG
from engine.net.port import shared

#: Addresses are short; a socket is one descriptor.
_MAX_ADDRESS_BYTES = 512
#: The sockets were sent before they were announced: they are there.
_TIMEOUT_S = 10.0

#: Sockets by the address of the listener; a host name may mean several.
Sockets = dict[str, list[socket.socket]]


def bind(address: str, leaving: Iterable[int] = ()) -> list[socket.socket]:
    """Sockets bound to this address, not listening yet. Raises NetworkError: it cannot be had.

    leaving: descriptors of sockets of ours that are about to be closed and may have the port. Then these listen, too,
    as the kernel looks for others at the port again when a socket begins to.
    """
    found: list[socket.socket] = []
    host, port = parse_host_port(address)
    handed_over = list(leaving)
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        with shared(handed_over):
            for family, _, _, _, place in dict.fromkeys(places):
                found.append(_bound(family, place, bool(handed_over)))
    except OSError as exc:
        close(found)
        reason = os.strerror(exc.errno) if exc.errno and not isinstance(exc, socket.gaierror) else exc.strerror
        raise NetworkError(f"cannot listen on {address}: {reason}") from exc
    return found


def _bound(family: int, place: Any, handed_over: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, handed_over)
        sock.bind(place)
        if handed_over:
            sock.listen(BACKLOG)  # while it may
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    except BaseException:
        sock.close()
        raise
    return sock


def close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def send(pair: socket.socket, sockets: Sockets) -> int:
    """Send these to a worker; how many. Raises OSError: it is gone."""
    count = 0
    for address, own in sockets.items():
        for sock in own:
            socket.send_fds(pair, [address.encode()], [sock.fileno()])
            count += 1
    return count


def receive(pair: socket.socket, count: int) -> Sockets:
    """The sockets that were sent and announced. Raises OSError."""
    pair.settimeout(_TIMEOUT_S)
    sockets: Sockets = {}
    for _ in range(count):
        address, descriptors, _, _ = socket.recv_fds(pair, _MAX_ADDRESS_BYTES, 1)
        sockets.setdefault(address.decode(), []).extend(socket.socket(fileno=number) for number in descriptors)
    return sockets


class HeldSockets:
    """A worker's own sockets, by the address of the listener. They stay open however often a listener is opened."""

    def __init__(self) -> None:
        self._sockets: Sockets = {}

    def add(self, sockets: Sockets) -> None:
        self.drop(sockets)
        self._sockets.update(sockets)

    def at(self, address: str) -> Sequence[socket.socket]:
        """Sockets to listen on, each the caller's. Raises NetworkError: there are none for this address."""
        if address not in self._sockets:
            raise NetworkError(f"cannot listen on {address}: the supervisor sent no socket for it")
        return [sock.dup() for sock in self._sockets[address]]

    def keep(self, addresses: Iterable[str]) -> None:
        """Close those of all other addresses."""
        self.drop(self._sockets.keys() - set(addresses))

    def drop(self, addresses: Iterable[str]) -> None:
        for address in list(addresses):
            close(self._sockets.pop(address, []))
