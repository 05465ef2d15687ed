"""A listening socket where events are pulled: who may come, and the end of those who wait."""

import asyncio

from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.feed.pull import Pull
from engine.feed.pull_desk import Desk
from engine.feed.pull_login import Logins
from engine.feed.pull_query import LONGEST_WAIT_S
from engine.intake.clients import Clients
from engine.intake.http_connection import Connection
from engine.intake.http_listener import HttpListener
from engine.intake.policy import Address, in_networks, parse_networks

#: For the largest answer, after the longest wait: a client that reads less than 140 KB a second is cut off.
_READ_S = 30.0
#: At a stop every answer ends where it is.
_STOP_S = 5.0
_LOOPBACK = ("127.0.0.0/8", "::1/128")


class PullListener(HttpListener):
    """One [[listener]] of kind events."""

    answer_s = LONGEST_WAIT_S + _READ_S

    def __init__(
        self,
        listener: Listener,
        settings: Settings,
        desk: Desk,
        logins: Logins,
        metrics: Metrics,
        clients: Clients | None = None,
    ) -> None:
        """Raises ConfigError: the certificate cannot be used."""
        app = Pull(desk, logins, lambda: self._settings, lambda: self.draining)
        HttpListener.__init__(self, listener, settings, app, metrics, clients)
        self._desk = desk

    def reload(self, listener: Listener, settings: Settings) -> None:
        super().reload(listener, settings)
        self._settings = settings
        self._networks = parse_networks(listener.networks or _LOOPBACK)

    def enter(self, connection: Connection, descriptor: int, address: Address) -> bool:
        """Others than those of `networks` are closed without a word."""
        if not in_networks(address, self._networks):
            self._refused.inc()
            return False
        return super().enter(connection, descriptor, address)

    async def drain(self, deadline: float) -> None:
        self.draining = True
        self._desk.send_home()
        await super().drain(min(deadline, asyncio.get_running_loop().time() + _STOP_S))
