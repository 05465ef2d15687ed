"""SIGHUP: the settings are read again, and the old ones hold if the new ones cannot be used."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from engine.base.errors import ConfigError, EngineError
from engine.base.settings import Settings
from engine.base.settings_file import load_settings
from engine.daemon.systemd import Notifier

log = logging.getLogger(__name__)


async def reload_on_hangup(
    hangup: asyncio.Event, path: Path, reload: Callable[[Settings], Awaitable[None]], notifier: Notifier
) -> None:
    """Until it is cancelled. hangup: set by the signal."""
    while True:
        await hangup.wait()
        hangup.clear()
        notifier.reloading()
        try:
            await reload(load_settings(path))
            log.info("reloaded %s", path)
        except ConfigError as exc:
            for problem in exc.problems:
                log.error("not reloaded: %s", problem)
        except EngineError as exc:
            log.error("not reloaded: %s", exc)
        except Exception:  # top of a task: the old settings go on
            log.exception("not reloaded")
        notifier.ready()
