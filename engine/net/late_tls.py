"""TLS of a connection that is there already, and of which something may have been read."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any


async def start_tls(
    plain: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    early: Callable[[], bytes],
    timeout_s: float,
) -> asyncio.Transport | None:
    """As a server: what `protocol` goes on with, which is to be told by `connection_made`; None: it has gone.

    early: gives up what was read too soon. Raises OSError, TimeoutError.
    """
    loop = asyncio.get_running_loop()
    # uvloop chooses how to read when reading starts, which it does as soon as the connection is made; the TLS
    # protocol wants another way than ours, and what has come until now.
    plain.pause_reading()
    loop.call_soon(loop.call_soon, _feed, plain, early)
    return await loop.start_tls(plain, protocol, context, server_side=True, ssl_handshake_timeout=timeout_s)


def _feed(plain: asyncio.Transport, early: Callable[[], bytes]) -> None:
    feed(plain.get_protocol(), early())  # that of TLS, of one loop or the other


def feed(protocol: Any, data: bytes) -> None:
    """Give a protocol with buffers of its own, that of TLS, what was read before it."""
    while data:
        room = protocol.get_buffer(len(data))
        count = min(len(room), len(data))
        room[:count] = data[:count]
        protocol.buffer_updated(count)
        data = data[count:]
