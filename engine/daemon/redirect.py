"""`postrider redirect`: the redirector as a process of its own, which answers links whether a daemon runs or not.

It reads what the workers of the data directory have noted of what was sent, and writes hits to a journal of its own,
which the first worker posts to webhooks when there is one. SIGTERM and SIGINT stop it in order, SIGHUP has settings,
keys and certificates read again.
"""

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvloop

from engine import __version__
from engine.base.clock import SystemClock
from engine.base.errors import ConfigError, EngineError
from engine.base.log import setup
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.base.settings_file import load_settings
from engine.daemon.hangup import reload_on_hangup
from engine.daemon.http import MetricsServer
from engine.daemon.listeners import Listeners
from engine.daemon.lock import lock_data_dir
from engine.daemon.moves import refuse_moves
from engine.daemon.process import tune
from engine.daemon.systemd import Notifier
from engine.intake.clients import Clients
from engine.storage.events.journal import REDIRECT, EventJournal, events_directory
from engine.tracking.journal import JournalRecorder
from engine.tracking.node import TrackingNode, tracking_rows

log = logging.getLogger(__name__)

#: What is asked at SIGTERM has so long to be answered.
_STOP_S = 10.0
#: People wait for a redirect: the collector of garbage looks often, at little.
_YOUNG = 5000


class _Places(NamedTuple):
    """Where to listen instead of where the settings say, or there as well; "": nowhere. tls: at `address`."""

    address: str
    metrics: str
    tls: bool


def redirect(path: Path, address: str = "", metrics_address: str = "", *, tls: bool = True) -> int:
    """Run until told to stop. address: to listen on instead of the listeners of kind tracking; tls: with the
    certificate of theirs, if there is one. Raises EngineError."""
    places = _Places(address, metrics_address, tls)
    settings = _own(load_settings(path), places)
    os.umask(0o077)
    data_dir = Path(settings.node.data_dir)
    lock = lock_data_dir(data_dir / "redirect")
    setup(settings.log.level)
    tune(_YOUNG)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Process(path, settings, places).run())
    finally:
        os.close(lock)
    return 0


def _own(settings: Settings, places: _Places) -> Settings:
    """With the listeners of this process and no others. Raises ConfigError."""
    rows = list(tracking_rows(settings))
    if places.address:
        tls = next((row.tls for row in rows if row.tls is not None), None) if places.tls else None
        rows = [Listener(kind="tracking", address=places.address, tls=tls)]
    elif rows and not settings.tracking.separate:
        raise ConfigError(["[tracking] separate: false: the daemon has these listeners; true, or --address"])
    if not rows:
        raise ConfigError(['no [[listener]] of kind "tracking", and no --address'])
    if places.metrics:
        rows.append(Listener(kind="http", address=places.metrics))
    return msgspec.structs.replace(settings, listener=tuple(rows))


class _Process:
    def __init__(self, path: Path, settings: Settings, places: _Places) -> None:
        """Raises EngineError."""
        self._path, self._settings = path, settings
        self._places = places
        self._metrics = Metrics()
        clock = SystemClock()
        events = settings.events
        journal = EventJournal(
            events_directory(settings.node.data_dir, REDIRECT), events.segment_bytes, events.keep,
            keep_bytes=events.keep_bytes,
        )  # fmt: skip
        self._journal = journal
        self._recorder = JournalRecorder(journal)
        self._clock = clock
        self._clients = Clients(most=settings.tracking.max_connections)
        self._stop, self._hangup = asyncio.Event(), asyncio.Event()
        self._notifier = Notifier()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        self._node = node = TrackingNode(self._settings, self._recorder, self._metrics, self._clock)
        clients = self._clients
        self._listeners = Listeners(
            lambda row, settings: node.make_listener(row, settings, clients), self._make_http, _STOP_S
        )
        node.start()
        await self._listeners.open(self._settings, self._settings.listener)
        log.info("postrider %s answers links on %s", __version__, self._settings.node.name)
        self._notifier.ready("answers links")
        reloading = loop.create_task(reload_on_hangup(self._hangup, self._path, self._reload, self._notifier))
        await self._stop.wait()
        log.info("stopping")
        self._notifier.stopping("answering what was asked")
        reloading.cancel()
        await self._listeners.shut()
        await self._listeners.drain()
        await node.stop()
        await self._listeners.end()
        self._recorder.close()
        log.info("stopped")

    def _make_http(self, row: Listener, reuse_port: bool = False) -> MetricsServer:
        return MetricsServer(row, self._metrics.registry, self._node.collect, reuse_port=reuse_port)

    async def _reload(self, settings: Settings) -> None:
        """Raises EngineError: they cannot be used, and the old ones hold."""
        settings = _own(settings, self._places)
        refuse_moves(self._settings, settings)
        opened = await self._listeners.open_new(settings)
        try:
            self._node.reload(settings)
        except EngineError:
            await self._listeners.close(opened)
            raise
        await self._listeners.follow(settings)
        self._settings = settings
        self._clients.most = settings.tracking.max_connections
        events = settings.events
        self._journal.reload(events.segment_bytes, events.keep, events.keep_bytes)
        logging.getLogger().setLevel(settings.log.level.upper())
