"""Accepting from a socket that other workers accept from, too.

One client in each turn of the loop, and no more: a worker that is busy comes round less often and takes fewer, so that
the clients of a node are spread by load, and those of one that died are the others'.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

log = logging.getLogger(__name__)

#: Clients that may wait to be accepted.
BACKLOG: Final = 1024
#: What a machine runs out of for a while: descriptors and memory.
_SHORT_OF: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S: Final = 1.0


class Acceptor:
    """Gives each client a protocol of the factory, from now on until `close`. Made inside the running loop.

    sock: bound; its descriptor is ours from now on. room: given the address of a client, what to do while it comes in.
    Raises OSError: one cannot listen there.
    """

    def __init__(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        room: Callable[[str], AbstractAsyncContextManager[None]],
    ) -> None:
        self._factory = factory
        self._room = room
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._beginning: set[asyncio.Task[object]] = set()
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._loop.add_reader(sock.fileno(), self._accept)

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """As an asyncio.Server has them."""
        return (self._sock,)

    def close(self) -> None:
        """Accept nobody more; may be said twice."""
        if self._sock.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        else:
            self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _accept(self) -> None:
        try:
            client, peer = self._sock.accept()
        except OSError as exc:
            # Else another worker was quicker, or the client has gone.
            if exc.errno in _SHORT_OF:
                log.error("no client can be accepted: %s", exc.strerror)
                self._loop.remove_reader(self._sock.fileno())
                self._pause = self._loop.call_later(_PAUSE_S, self._go_on)
            return
        client.setblocking(False)
        task: asyncio.Task[object] = self._loop.create_task(self._begin(client, str(peer[0])))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    async def _begin(self, client: socket.socket, peer: str) -> None:
        try:
            async with self._room(peer):
                await self._loop.connect_accepted_socket(self._factory, client)
        except OSError as exc:
            log.debug("a client was lost as it was accepted: %s", exc)
            client.close()
