"""Submits that have come and are not admitted yet: some in each turn of the loop, of one client after the other.

One with a wide window may send hundreds at once. So they hold up neither other clients nor what carriers bring, and
where the processor is the limit, what was taken goes out while it is warm, instead of piling up.
"""

import asyncio
from collections import deque
from typing import Protocol

#: In one turn, and of one client before the next has its share.
_AT_ONCE, _SHARE = 64, 8


class Client(Protocol):
    def admit(self, most: int) -> bool:
        """Some of what waits, oldest first; whether there is more. Raises nothing."""


class Submits:
    """Of all clients of a gate. Make it in the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._clients: deque[Client] = deque()

    def join(self, client: Client) -> None:
        """Something of it waits, and nothing did before."""
        if not self._clients:
            self._loop.call_soon(self._serve)
        self._clients.append(client)

    def _serve(self) -> None:
        clients = self._clients
        for _ in range(_AT_ONCE // _SHARE):
            client = clients.popleft()
            if client.admit(_SHARE):
                clients.append(client)
            elif not clients:
                return
        self._loop.call_soon(self._serve)
