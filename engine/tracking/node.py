"""All parts of the redirector of one process, built and kept: a worker has one, `postrider redirect` is one."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from engine.base.clock import Clock
from engine.base.errors import ConfigError, EngineError
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.base.settings_tracking import Tracking
from engine.intake.clients import Clients
from engine.message.link_token import LinkTokens
from engine.storage.ledger.reader import LedgerReader
from engine.storage.link_keys import link_keys
from engine.storage.tables.suppression_table import SuppressionTable
from engine.storage.tables.withdrawals import Withdrawals
from engine.tracking.app import Redirector
from engine.tracking.clients import Peers
from engine.tracking.hits import Hits
from engine.tracking.judge import Judge
from engine.tracking.listener import TrackingListener
from engine.tracking.memory import Memory
from engine.tracking.ports import Recorder
from engine.tracking.scanners import load_scanners
from engine.tracking.unsubscribe import Unsubscriber
from engine.tracking.withdrawn import Withdrawn

log = logging.getLogger(__name__)

#: How often other processes' words are read: withdrawn links, and what was sent.
_REFRESH_S = 1.0


class TrackingNode:
    """See above. Make it inside the running loop. Raises EngineError: something cannot be used."""

    def __init__(self, settings: Settings, recorder: Recorder, metrics: Metrics, clock: Clock) -> None:
        data_dir = Path(settings.node.data_dir)
        self._metrics = metrics
        keys = link_keys(settings)
        self._memory = Memory(LedgerReader(data_dir), clock)
        judge = Judge(load_scanners(Path(settings.tracking.scanners_file)).name, self._memory.delivered_at)
        _instruct(judge, judge.known, settings.tracking)
        self.hits = Hits(judge, recorder, metrics, clock)
        self._withdrawn = Withdrawn(Withdrawals(data_dir))
        expires_s = settings.suppression.unsubscribe_expires
        self._unsubscriber = Unsubscriber(SuppressionTable(data_dir), self.hits.record, clock, expires_s)
        self.app = Redirector(
            LinkTokens(keys), self._memory, self._withdrawn, self.hits, self._unsubscriber,
            Peers(settings.tracking.proxies), metrics, clock, keys=keys, prefixes=_prefixes(settings),
            expire_after_s=settings.tracking.expire_after,
        )  # fmt: skip
        self._keeping: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    def start(self) -> None:
        """Hits are written from now on, and what was sent is read; listeners open when that is done."""
        self.hits.start()
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    def reload(self, settings: Settings) -> None:
        """Raises EngineError, and nothing changes."""
        keys = link_keys(settings)
        known = load_scanners(Path(settings.tracking.scanners_file)).name
        tracking = settings.tracking
        self.app.use(LinkTokens(keys), Peers(tracking.proxies), keys, _prefixes(settings), tracking.expire_after)
        _instruct(self.hits.judge, known, tracking)
        self._unsubscriber.expires_s = settings.suppression.unsubscribe_expires

    async def stop(self) -> None:
        """When nobody asks any more."""
        if self._keeping is not None:
            self._keeping.cancel()
        await self.hits.stop()
        self._unsubscriber.close()
        self._withdrawn.close()

    def make_listener(self, row: Listener, settings: Settings, clients: Clients | None = None) -> TrackingListener:
        """Raises ConfigError."""
        return TrackingListener(row, settings, self.app, self._ready, self._metrics, clients)

    def collect(self) -> None:
        """Set the gauges; from any thread."""
        self._metrics.tracking_waiting.set(self.hits.waiting)

    async def _keep(self) -> None:
        while True:
            for chore in (self._memory.refresh, self._withdrawn.refresh):
                try:
                    await chore()
                except EngineError as exc:
                    log.error("%s", exc)
                except Exception:  # top of a task
                    self._metrics.internal_errors.labels("tracking").inc()
                    log.exception("tracking")
            self._ready.set()
            await asyncio.sleep(_REFRESH_S)


def _instruct(judge: Judge, known: Callable[[str, str], str], tracking: Tracking) -> None:
    judge.use(known, float(tracking.verdict_after), float(tracking.corrected_for), tracking.many_recipients)


def tracking_rows(settings: Settings) -> Sequence[Listener]:
    return [row for row in settings.listener if row.kind == "tracking"]


def _prefixes(settings: Settings) -> set[str]:
    """Where paths begin, of all URLs that links may begin with."""
    tracking = settings.tracking
    urls = [tracking.base_url, tracking.sms_url]
    for row in settings.click_domain:
        urls += [row.base_url, row.sms_url]
    return {urlsplit(url).path.rstrip("/") for url in urls if url}


def check_files(settings: Settings) -> list[str]:
    """What a redirector could not use, for `postrider check`."""
    file = Path(settings.tracking.scanners_file)
    try:
        if file.is_file():  # else it was said already
            load_scanners(file)
    except ConfigError as error:
        return list(error.problems)
    return []
