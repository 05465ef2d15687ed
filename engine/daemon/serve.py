"""The process: settings, lock, loop, signals; a worker does the rest, or a supervisor of several.

SIGTERM and SIGINT stop it in order, SIGHUP reloads the settings. With one worker there is no supervisor, unless there
are spools left of a time with more of them.
"""

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from engine import __version__
from engine.base.log import LineLog, setup
from engine.base.settings import Settings
from engine.base.settings_file import load_settings
from engine.daemon.division import of_daemon
from engine.daemon.hangup import reload_on_hangup
from engine.daemon.lock import lock_data_dir
from engine.daemon.process import require_files, tune
from engine.daemon.spools import leftover
from engine.daemon.systemd import Notifier

if TYPE_CHECKING:
    from engine.daemon.supervisor import Supervisor
    from engine.daemon.worker import Worker

log = logging.getLogger(__name__)


def serve(path: Path) -> int:
    """Run the daemon until it is told to stop. Raises EngineError: it could not start."""
    settings = of_daemon(load_settings(path))
    os.umask(0o077)
    lock = lock_data_dir(Path(settings.node.data_dir))
    handler = setup(settings.log.level)
    lines = LineLog(handler)
    tune()
    try:
        require_files()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Daemon(path, settings, lines, lock).run())
    finally:
        lines.close()
        os.close(lock)
    return 0


class _Daemon:
    """Signals and systemd around a worker or a supervisor."""

    def __init__(self, path: Path, settings: Settings, lines: LineLog, lock: int) -> None:
        self._path = path
        self._settings = settings
        self._lines = lines
        self._lock = lock
        self._notifier = Notifier()
        self._stop = asyncio.Event()
        self._hangup = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        worker = self._engine()
        await worker.start()
        log.info("postrider %s is ready on %s", __version__, self._settings.node.name)
        self._notifier.ready(f"ready on {self._settings.node.name}")

        async def reload(settings: Settings) -> None:
            await worker.reload(of_daemon(settings))

        chores = [
            loop.create_task(reload_on_hangup(self._hangup, self._path, reload, self._notifier)),
            loop.create_task(self._feed_watchdog(worker)),
        ]
        await self._stop.wait()
        log.info("stopping")
        self._notifier.stopping("finishing what is in flight")
        chores[0].cancel()
        await worker.stop()
        chores[1].cancel()
        log.info("stopped")

    def _engine(self) -> "Worker | Supervisor":
        """Only what is needed is imported: a supervisor without a worker's modules is 30 MiB smaller."""
        node = self._settings.node
        if node.workers > 1 or leftover(Path(node.data_dir), node.workers):
            from engine.daemon.supervisor import Supervisor

            return Supervisor(self._settings, self._lock)
        from engine.daemon.worker import Worker

        return Worker(self._settings, self._lines.add)

    async def _feed_watchdog(self, worker: "Worker | Supervisor") -> None:
        """From the loop itself, so that a loop that is stuck is found out; those of all workers are asked."""
        if self._notifier.watchdog_interval_s is None:
            return
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                if worker.answers:
                    self._notifier.alive()
                await asyncio.sleep(self._notifier.watchdog_interval_s)
