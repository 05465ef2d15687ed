"""Pulled events as a part of a worker: there as soon as it has a listener."""

from pathlib import Path
from typing import TYPE_CHECKING

from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.daemon.commons import Commons
from engine.feed.feed import Feed
from engine.intake.clients import Clients
from engine.storage.tables.credentials import Credentials

if TYPE_CHECKING:
    from engine.feed.pull_desk import Desk
    from engine.feed.pull_listener import PullListener

#: More than may read at a time: the others are told so.
_CONNECTIONS = 256


class Pulling:
    """Of one worker; nothing until it listens."""

    def __init__(self, feed: Feed, credentials: Credentials, commons: Commons, metrics: Metrics) -> None:
        self._feed, self._credentials = feed, credentials
        self._guesses, self._metrics = commons.guesses, metrics
        self._clients = Clients(most=_CONNECTIONS)  # places of its own: who floods it keeps no mail out
        self._desk: Desk | None = None

    def make_listener(self, row: Listener, settings: Settings) -> "PullListener":
        """Raises ConfigError."""
        from engine.feed.pull_desk import Desk
        from engine.feed.pull_listener import PullListener  # and with it a web server, where there is one
        from engine.feed.pull_login import Logins

        if self._desk is None:
            self._desk = Desk(Path(settings.node.data_dir), self._feed.arm, self._metrics)
            self._feed.woken.append(self._desk.wake)
        logins = Logins(self._credentials, self._guesses)
        return PullListener(row, settings, self._desk, logins, self._metrics, self._clients)

    async def stop(self) -> None:
        """When nobody asks any more."""
        if self._desk is not None:
            self._feed.woken.remove(self._desk.wake)
            await self._desk.stop()

    def collect(self) -> None:
        """Set the gauges; from any thread."""
        if self._desk is not None:
            self._metrics.event_readers.set(self._desk.readers)
