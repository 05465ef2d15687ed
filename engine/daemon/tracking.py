"""The redirector as a part of a worker: there as soon as it has a listener; its hits go to the worker's journal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.base.clock import Clock
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.intake.clients import Clients
from engine.intake.doors import client_limit
from engine.storage.events.event import Event
from engine.storage.events.lines import noted_lines
from engine.storage.spool.spool import Spool

if TYPE_CHECKING:
    from engine.tracking.listener import TrackingListener
    from engine.tracking.node import TrackingNode


class SpoolRecorder:
    """A worker's journal, whose ids are those of frames of its spool (tracking.ports.Recorder)."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    async def record(self, events: Sequence[Event]) -> int:
        frame = 0

        def lines(number: int) -> bytes:
            nonlocal frame
            frame = number
            return noted_lines(number, events)

        await self._spool.note(lines)
        return frame


class Tracking:
    """Of one worker; nothing until it listens."""

    def __init__(self, spool: Spool, metrics: Metrics, clock: Clock) -> None:
        self._spool, self._metrics, self._clock = spool, metrics, clock
        self._clients = Clients()  # places of its own: who floods it keeps no mail out
        self._node: TrackingNode | None = None

    def make_listener(self, row: Listener, settings: Settings) -> "TrackingListener":
        """Raises EngineError."""
        from engine.tracking.node import TrackingNode  # and with it a web server, where there is one

        if self._node is None:
            self._clients.most = _places(settings)
            self._node = TrackingNode(settings, SpoolRecorder(self._spool), self._metrics, self._clock)
            self._node.start()
        return self._node.make_listener(row, settings, self._clients)

    def reload(self, settings: Settings) -> None:
        """Raises EngineError, and nothing changes."""
        if self._node is not None:
            self._node.reload(settings)
            self._clients.most = _places(settings)

    async def stop(self) -> None:
        """Before the spool is closed."""
        if self._node is not None:
            await self._node.stop()

    def collect(self) -> None:
        """Set the gauges; from any thread."""
        if self._node is not None:
            self._node.collect()


def _places(settings: Settings) -> int:
    """Half of the descriptors that are for clients are for others."""
    return min(settings.tracking.max_connections, client_limit() // 2)
