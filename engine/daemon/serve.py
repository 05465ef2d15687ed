"""The process: settings, lock, loop, signals; a worker does the rest.

SIGTERM and SIGINT stop it in order, SIGHUP reloads the settings. With one worker there is no supervisor.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop

from engine import __version__
from engine.base.errors import ConfigError, EngineError
from engine.base.log import LineLog, setup
from engine.base.settings import Settings
from engine.base.settings_file import load_settings
from engine.daemon.lock import lock_data_dir
from engine.daemon.systemd import Notifier
from engine.daemon.worker import Worker

log = logging.getLogger(__name__)

#: How long a thread may keep the interpreter while another wants it. The default of 5 ms is what every signature and
#: every commit would wait for the loop to let go.
_SWITCH_INTERVAL_S = 0.0005


def serve(path: Path) -> int:
    """Run the daemon until it is told to stop. Raises EngineError: it could not start."""
    settings = load_settings(path)
    os.umask(0o077)
    lock = lock_data_dir(Path(settings.node.data_dir))
    handler = setup(settings.log.level)
    lines = LineLog(handler)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # Objects of start-up live for ever, those of a message die young and without cycles: look at them seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Daemon(path, settings, lines).run())
    finally:
        lines.close()
        os.close(lock)
    return 0


class _Daemon:
    """Signals and systemd around a worker."""

    def __init__(self, path: Path, settings: Settings, lines: LineLog) -> None:
        self._path = path
        self._settings = settings
        self._lines = lines
        self._notifier = Notifier()
        self._stop = asyncio.Event()
        self._hangup = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        worker = Worker(self._settings, self._lines.add)
        await worker.start()
        log.info("postrider %s is ready on %s", __version__, self._settings.node.name)
        self._notifier.ready(f"ready on {self._settings.node.name}")
        chores = [loop.create_task(self._reload_on_hangup(worker)), loop.create_task(self._feed_watchdog())]
        await self._stop.wait()
        log.info("stopping")
        self._notifier.stopping("finishing what is in flight")
        chores[0].cancel()
        await worker.stop()
        chores[1].cancel()
        log.info("stopped")

    async def _reload_on_hangup(self, worker: Worker) -> None:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            self._notifier.reloading()
            try:
                await worker.reload(load_settings(self._path))
                log.info("reloaded %s", self._path)
            except ConfigError as exc:
                for problem in exc.problems:
                    log.error("not reloaded: %s", problem)
            except EngineError as exc:
                log.error("not reloaded: %s", exc)
            except Exception:  # top of a task: the old settings go on
                log.exception("not reloaded")
            self._notifier.ready()

    async def _feed_watchdog(self) -> None:
        """From the loop itself, so that a loop that is stuck is found out."""
        if self._notifier.watchdog_interval_s is None:
            return
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                self._notifier.alive()
                await asyncio.sleep(self._notifier.watchdog_interval_s)
