"""A listening socket of the redirector: it opens when links are known, and clients behind a proxy are not counted."""

import asyncio
from collections.abc import Sequence
from socket import socket

from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.intake.clients import Clients
from engine.intake.http_asgi import Application
from engine.intake.http_listener import HttpListener
from engine.intake.policy import Address
from engine.tracking.clients import Peers


class TrackingListener(HttpListener):
    """One [[listener]] of kind tracking. app: what answers. clients: of all listeners together."""

    def __init__(
        self,
        listener: Listener,
        settings: Settings,
        app: Application,
        ready: asyncio.Event,
        metrics: Metrics,
        clients: Clients | None = None,
    ) -> None:
        """ready: before it nothing can be answered. Raises ConfigError: the certificate cannot be used."""
        HttpListener.__init__(self, listener, settings, app, metrics, clients)
        self._ready = ready

    def reload(self, listener: Listener, settings: Settings) -> None:
        super().reload(listener, settings)
        self._peers = Peers(settings.tracking.proxies)

    async def start(self, sockets: Sequence[socket] = (), *, reuse_port: bool = False) -> None:
        await self._ready.wait()
        await super().start(sockets, reuse_port=reuse_port)

    def _counted(self, address: Address) -> Address | None:
        """Behind a proxy are many clients, whom it has counted."""
        return None if self._peers.is_proxy(str(address)) else address
