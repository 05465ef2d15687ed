"""All webhooks of a worker: a stream for each of them and each journal that is this worker's.

Each worker posts its own journal, so that nothing of it crosses processes: its events in their order, whatever becomes
of the other workers. The first one also posts what is left in the journals of workers that are no more.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.base.clock import Clock
from engine.base.errors import ConfigError, EngineError, StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Settings, Webhook
from engine.base.settings_feed import good_secret
from engine.feed.stream import Stream
from engine.net.http_post import literal_refusal
from engine.net.resolver import Lookup
from engine.storage.events.cursors import Cursors
from engine.storage.events.event import TYPES
from engine.storage.events.journal import REDIRECT, EventJournal, events_directory
from engine.storage.events.merged import journals

log = logging.getLogger(__name__)


def own_journals(data_dir: Path, number: int, workers: int, separate: bool = False) -> list[int]:
    """Whose journals worker `number` posts and compresses. One that only empties its spool leaves that to the first.

    separate: `postrider redirect` has one, or is going to. Raises StorageError.
    """
    if number >= workers:
        return []
    if separate and not number:
        _make(events_directory(data_dir, REDIRECT))
    left = [other for other in journals(data_dir) if other >= workers] if not number else []
    return [number, *left]


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(f"{directory}: {exc.strerror}") from exc


def secret_of(row: Webhook) -> str:
    """The key of its signatures. Raises ConfigError: its file cannot be used."""
    if not row.secret_file:
        return row.secret
    where = f"[[webhook]] {row.name} secret_file: {row.secret_file}"
    try:
        secret = Path(row.secret_file).read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError([f"{where} cannot be read: {getattr(exc, 'strerror', exc)}"]) from exc
    if not good_secret(secret):
        raise ConfigError([f"{where} has no 32 printable ASCII characters"])
    return secret


def warnings_of(rows: Iterable[Webhook]) -> Iterator[str]:
    """What will work and is probably not meant, or will never work."""
    for row in rows:
        for name in row.types:
            if name not in TYPES:
                yield f"[[webhook]] {row.name} types: no event is {name}"
        if reason := literal_refusal(row.url, row.allow_private):
            yield f"[[webhook]] {row.name} url: {reason}"
        elif row.url.startswith("http:") and not row.allow_private:
            yield f"[[webhook]] {row.name} url: every event travels for all to read"


@dataclass(slots=True, kw_only=True)
class _Needs:
    """Of every stream."""

    node: str
    dns: Lookup
    metrics: Metrics
    clock: Clock
    rng: random.Random


class Feed:
    """Make it inside the loop. journal: this worker's, which says when there is more."""

    def __init__(
        self,
        settings: Settings,
        data_dir: Path,
        owned: Iterable[int],
        journal: EventJournal,
        dns: Lookup,
        metrics: Metrics,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """Raises ConfigError: a secret cannot be read."""
        self._rows = _with_secrets(settings)
        self._data_dir, self._owned = data_dir, tuple(owned)
        self._journal = journal
        self._needs = _Needs(node=settings.node.name, dns=dns, metrics=metrics, clock=clock, rng=rng)
        self._cursors: dict[int, Cursors] = {}
        self._streams: dict[tuple[str, int], Stream] = {}
        self._loop = asyncio.get_running_loop()
        self._armed = False
        self.woken: list[Callable[[], None]] = []  #: called when there may be new events, after `arm`

    async def start(self) -> None:
        """Every webhook has its place when this returns: what is accepted from now on is for it, too."""
        self._journal.written = self._written
        await self._follow()

    def check(self, settings: Settings) -> None:
        """Raises ConfigError: `reload` could not use these."""
        _with_secrets(settings)

    async def reload(self, settings: Settings) -> None:
        """Raises ConfigError, and nothing has changed."""
        self._rows = _with_secrets(settings)
        await self._follow()

    async def stop(self) -> None:
        self._journal.written = None
        await asyncio.gather(*(stream.stop() for stream in self._streams.values()))
        self._streams.clear()
        for cursors in self._cursors.values():
            await cursors.close()

    async def upkeep(self) -> None:
        """Figures, cursors, and journals whose writer does not tell us."""
        for stream in list(self._streams.values()):
            try:
                await stream.measure()
                await stream.keep()
            except StorageError as exc:
                log.warning("webhook %s: %s", stream.name, exc)
            if stream.worker != self._owned[0]:
                stream.wake()

    def arm(self) -> None:
        """Whoever looks for events is told when more are written to this worker's journal; in the loop."""
        self._armed = True

    def collect(self) -> None:
        """Set the gauges; from any thread."""
        lags: dict[str, tuple[int, float]] = {name: (0, 0.0) for name in self._rows}
        for stream in list(self._streams.values()):
            events, seconds = lags.get(stream.name, (0, 0.0))
            lags[stream.name] = events + stream.lag_events, max(seconds, stream.lag_s)
        metrics = self._needs.metrics
        metrics.webhook_lag.clear()
        metrics.webhook_lag_seconds.clear()
        for name, (events, seconds) in lags.items():
            metrics.webhook_lag.labels(name).set(events)
            metrics.webhook_lag_seconds.labels(name).set(seconds)

    def streams(self, name: str = "") -> list[Stream]:
        """Of one webhook, or all. Raises EngineError: there is none of this name."""
        found = [stream for key, stream in sorted(self._streams.items()) if not name or key[0] == name]
        if name and not found:
            raise EngineError(f"{name}: no [[webhook]] of that name")
        return found

    # Inside.

    async def _follow(self) -> None:
        """Streams as the settings have them."""
        for key, stream in list(self._streams.items()):
            if key[0] not in self._rows:
                del self._streams[key]
                await stream.stop()
        for name, (row, secret) in self._rows.items():
            for number in self._owned:
                if (there := self._streams.get((name, number))) is not None:
                    there.reload(row, secret)
                else:
                    await self._add(row, secret, number)

    async def _add(self, row: Webhook, secret: str, number: int) -> None:
        needs, directory = self._needs, events_directory(self._data_dir, number)
        try:
            if number not in self._cursors:
                self._cursors[number] = Cursors(directory)
        except StorageError as exc:
            log.error("webhook %s: gets no events of worker %d: %s", row.name, number, exc)
            return
        stream = self._streams[row.name, number] = Stream(
            row, secret, needs.node, number, directory, self._cursors[number], needs.dns, needs.metrics, needs.clock,
            needs.rng, self.arm,
        )  # fmt: skip
        try:
            await stream.open()
        except StorageError as exc:  # it tries again by itself
            log.error("webhook %s: %s", row.name, exc)
        stream.start()

    def _written(self) -> None:
        """In the journal's thread, after every write: costs nothing while no stream looks for more."""
        if self._armed:
            self._armed = False
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for stream in self._streams.values():
            stream.wake()
        for call in self.woken:
            call()


def _with_secrets(settings: Settings) -> dict[str, tuple[Webhook, str]]:
    return {row.name: (row, secret_of(row)) for row in settings.webhook}
