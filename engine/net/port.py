"""A port that is handed from one listening socket to another: for a moment both have it, and nobody finds it closed.

The kernel refuses 0.0.0.0:25 while 127.0.0.1:25 listens, unless both sockets allow it (SO_REUSEPORT). A permission
that is there from the start would let a second daemon of the same user, with settings that were copied, take its share
of our connections without a word; so it is given for the hand-over only.
"""

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator

from engine.base.hostport import parse_host_port


def overlap(one: str, other: str) -> bool:
    """Whether the kernel may refuse to listen on both of these "host:port": the ports are the same."""
    return parse_host_port(one)[1] == parse_host_port(other)[1]


@contextlib.contextmanager
def shared(filenos: Iterable[int]) -> Iterator[None]:
    """Meanwhile sockets with SO_REUSEPORT may be bound to the ports that these listening sockets have."""
    with contextlib.ExitStack() as stack:
        for fileno in filenos:
            stack.callback(_set_shared, fileno, False)
            _set_shared(fileno, True)
        yield


def _set_shared(fileno: int, on: bool) -> None:
    with socket.socket(fileno=os.dup(fileno)) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, on)
