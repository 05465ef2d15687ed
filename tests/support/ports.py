"""Ports for servers that tests and benchmarks start."""

import itertools
import random
import socket
from pathlib import Path

#: Below the ports that the system gives to connections: none of these is taken between the choice and its use.
_LOWEST, _HIGHEST = 10_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]) - 1
#: From anywhere, so that runs side by side do not meet; onwards, so that none is given twice.
_next = itertools.count(random.randrange(_LOWEST, _HIGHEST))


def free_port() -> int:
    """A loopback port that nobody listens on, and that this process was not given before."""
    for number in _next:
        port = _LOWEST + number % (_HIGHEST - _LOWEST)
        with socket.socket() as probe:
            # As servers do: what is left of a connection that is over does not keep anybody from listening.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("count() ended")
