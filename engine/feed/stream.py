"""One webhook's events of one journal: read, posted, and only then behind it.

    take a batch -> post it -> 2xx: the cursor moves, on disk -> the next one
                            -> 410: paused, until an operator says otherwise
                            -> anything else: the same batch again, after a pause that grows

E1  The next batch is not read before this one is taken: order, and at least once. What fails here is this stream's:
    it has a thread of its own for the disk and a connection of its own, and holds one batch in memory.
"""

import asyncio
import contextlib
import importlib
import logging
import math
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from engine.base.clock import Clock
from engine.base.errors import EngineError, StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Webhook
from engine.feed.post import body_of, numbered, place_text, signed_headers
from engine.feed.source import Batch, Source
from engine.net.http_post import HttpPoster, PostFailed
from engine.net.resolver import Lookup
from engine.storage.events.cursors import Cursor, Cursors
from engine.storage.events.event import NO_ID

log = logging.getLogger(__name__)

_GONE = 410
#: After the disk could not be read or written.
_STORAGE_PAUSE_S = 10.0
#: A batch that is on its way when the daemon stops may still be taken.
_STOP_S = 5.0
T = TypeVar("T")


def pause_s(failures: int, longest_s: float, rng: random.Random) -> float:
    """After so many failures in a row: doubled each time, and shortened by up to a half, so that nodes do not meet."""
    return float(min(2.0 ** min(failures - 1, 30), longest_s)) * rng.uniform(0.5, 1.0)


class Stream:
    """Make it inside the loop, `open` and `start` it. worker: of its journal. arm: called before it looks for events,
    so that `wake` is called when more are written."""

    def __init__(
        self,
        row: Webhook,
        secret: str,
        node: str,
        worker: int,
        directory: Path,
        cursors: Cursors,
        dns: Lookup,
        metrics: Metrics,
        clock: Clock,
        rng: random.Random,
        arm: Callable[[], None],
    ) -> None:
        self.name, self.worker = row.name, worker
        self._row, self._secret = row, secret
        self._new: tuple[Webhook, str] | None = None
        self._node, self._dns = node, dns
        self._cursors, self._metrics, self._clock, self._rng, self._arm = cursors, metrics, clock, rng, arm
        self._source = Source(directory)
        self._thread = ThreadPoolExecutor(1, "webhook")
        self._poster = HttpPoster(dns, row.allow_private)
        self._cursor: Cursor | None = None  #: None: it is not known yet
        self._saved: Cursor | None = None
        self._batch: Batch | None = None
        self._seeks: list[tuple[Callable[[Source], None], asyncio.Future[None]]] = []
        self._more, self._word = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._adrift = False  #: the source is not known to stand behind the batch in hand, or else the cursor
        self._stopped = False
        self._failures = 0
        self._error = ""
        self._next_at = 0.0
        self._posting = False
        self.lag_events = 0

    @property
    def lag_s(self) -> float:
        """Age of the oldest event that is read and not taken."""
        return max(0.0, self._clock.time() - self._batch.first_at) if self._batch and self._batch.first_at else 0.0

    async def open(self) -> None:
        """Stand where the cursor says; a new webhook, behind what there is. Raises StorageError."""
        await self._blocking(partial(importlib.import_module, "aiohttp"))  # a third of a second, not of the loop's
        cursor = await self._cursors.get(self.name)
        if cursor is None:
            await self._blocking(self._source.seek_end)
            await self._save(self._here(Cursor()))
        else:
            await self._blocking(partial(self._source.seek, cursor.after, cursor.number, cursor.line))
            self._cursor = self._saved = cursor

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"webhook {self.name}")

    async def stop(self) -> None:
        """A batch that is on its way has a moment; after that it is posted again after the next start."""
        self._stopped = True
        self._word.set()
        self._more.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_STOP_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for _, done in self._seeks:
            if not done.done():
                done.set_exception(self._gone())
        with contextlib.suppress(StorageError):
            await self.keep()
        await self._poster.close()
        self._thread.shutdown()
        self._source.close()

    def wake(self) -> None:
        """There may be new events."""
        self._more.set()

    def reload(self, row: Webhook, secret: str) -> None:
        if (row, secret) != (self._row, self._secret):
            self._new = row, secret
            self._speak()

    async def pause(self) -> None:
        """Raises EngineError."""
        await self._save(replace(self._known(), paused="by an operator"))
        self._speak()

    async def resume(self) -> None:
        """At once, whatever it waits for. Raises EngineError."""
        await self._save(replace(self._known(), paused=""))
        self._failures = 0
        self._speak()

    async def seek(self, move: Callable[[Source], None]) -> None:
        """Go on elsewhere, once the batch on its way is through. Raises EngineError."""
        if self._stopped:
            raise self._gone()
        self._known()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._seeks.append((move, done))
        self._speak()
        await done

    async def keep(self) -> None:
        """Write the cursor down if it moved over events that nobody wants. Raises StorageError."""
        if self._cursor is not None and self._cursor != self._saved:
            await self._save(self._cursor)

    async def measure(self) -> None:
        """Count `lag_events`. Raises StorageError."""
        if (cursor := self._cursor) is not None and not self._stopped:
            self.lag_events = await self._blocking(partial(self._source.lag, cursor.number, cursor.line))

    def state(self) -> dict[str, Any]:
        """For operators. cursor: the last event taken. next_try_s: None: it does not wait."""
        cursor = self._cursor or Cursor()
        waits = max(0.0, self._next_at - self._clock.time()) if self._failures else None
        return {
            "name": self.name, "worker": self.worker, "state": self._state(), "lag_events": self.lag_events,
            "lag_s": self.lag_s, "cursor": place_text(cursor.after, self.worker), "missed": cursor.missed,
            "failures": self._failures, "next_try_s": None if cursor.paused else waits, "last_error": self._error,
        }  # fmt: skip

    # Inside.

    def _state(self) -> str:
        if self._cursor is not None and self._cursor.paused:
            return f"paused {self._cursor.paused}"
        return "posting" if self._posting else "waits" if self._failures else "idle"

    def _gone(self) -> EngineError:
        return EngineError(f"{self.name}: is not among the settings any more, or the daemon stops")

    def _known(self) -> Cursor:
        if self._cursor is None:
            raise EngineError(f"{self.name}: its cursor cannot be read: {self._error}")
        return self._cursor

    def _speak(self) -> None:
        self._word.set()
        self._more.set()

    async def _run(self) -> None:
        while not self._stopped:
            self._word.clear()
            try:
                pause = await self._turn()
            except Exception as exc:  # top of a task
                known = isinstance(exc, StorageError)
                if not known:
                    self._metrics.internal_errors.labels("webhook").inc()
                    log.exception("webhook %s", self.name)
                self._adrift = True
                self._failed(str(exc) if known else f"internal error: {type(exc).__name__}", _STORAGE_PAUSE_S)
                pause = _STORAGE_PAUSE_S
            if not self._stopped:
                await self._rest(pause)

    async def _rest(self, seconds: float | None) -> None:
        """So long, or until an operator says something. None: until there are events, and a moment more for others."""
        if seconds is None:
            await self._more.wait()
            seconds = self._row.batch_wait
        if seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._word.wait(), seconds if seconds < math.inf else None)

    async def _turn(self) -> float | None:
        """One batch, or a try at it. Gives how long to rest then."""
        if self._cursor is None:
            await self.open()
        await self._obey()
        if self._batch is None:
            self._more.clear()  # not before: what is written while a batch waits is for the next
            self._arm()
            row = self._row
            batch = await self._blocking(
                partial(self._source.take, frozenset(row.types), row.batch_events, row.batch_bytes)
            )
            if not batch.lines and batch.gap is None:
                self._failures, self._error = 0, ""
                self._cursor = self._behind(batch)
                return 0.0 if batch.full else None
            self._take(batch)
        assert self._batch is not None
        batch = self._batch
        if self._known().paused:
            return math.inf
        try:
            await self._post(batch)
        except PostFailed as exc:
            return await self._refused(exc)
        if self._failures:
            log.info("webhook %s: takes events again after %d failures", self.name, self._failures)
        self._failures, self._error, self._batch = 0, "", None
        self._cursor = self._behind(batch)
        await self._save(self._cursor)
        return 0.0 if batch.full else None

    def _take(self, batch: Batch) -> None:
        """It is this stream's until it is taken."""
        self._batch = batch
        if (gap := batch.gap) is not None:
            self._metrics.webhook_missed.labels(self.name).inc(gap.events)
            self._metrics.webhook_gaps.labels(self.name).inc()
            log.error(
                "webhook %s: events behind %s, up to %s, were %s before they were taken: %s%d",
                self.name, place_text(gap.after, self.worker), place_text(gap.last, self.worker), gap.why(),
                "" if gap.exact else "at least ", gap.events,
            )  # fmt: skip

    async def _post(self, batch: Batch) -> None:
        """Raises PostFailed."""
        row = self._row
        lines = [numbered(line, self.worker) for line in batch.lines]
        body = body_of(row.name, self._node, self.worker, lines, batch.gap)
        self._posting = True
        try:
            await self._poster.post(row.url, body, signed_headers(self._secret, body, self._clock.time()), row.timeout)
        except PostFailed:
            self._metrics.webhook_posts.labels(row.name, "failed").inc()
            raise
        finally:
            self._posting = False
        self._metrics.webhook_posts.labels(row.name, "taken").inc()
        self._metrics.webhook_events.labels(row.name).inc(len(lines))

    async def _refused(self, exc: PostFailed) -> float:
        if exc.status == _GONE:
            log.error("webhook %s: says 410 Gone, and gets no more until it is resumed", self.name)
            self._error = str(exc)
            await self._save(replace(self._known(), paused="by 410 Gone"))
            return math.inf
        pause = pause_s(self._failures + 1, self._row.longest_pause, self._rng)
        self._failed(str(exc), pause)
        return pause

    def _failed(self, error: str, pause: float) -> None:
        self._failures += 1
        self._error = error
        self._next_at = self._clock.time() + pause
        log.warning("webhook %s: attempt=%d, next in %.1f s (%s)", self.name, self._failures, pause, error)

    async def _obey(self) -> None:
        """New settings, and an operator's word on where to go on."""
        if self._new is not None:
            old = self._poster
            (self._row, self._secret), self._new = self._new, None
            self._poster = HttpPoster(self._dns, self._row.allow_private)
            await old.close()
            self._failures, self._adrift = 0, True
        if self._adrift:
            self._batch = None
            cursor = self._known()
            await self._blocking(partial(self._source.seek, cursor.after, cursor.number, cursor.line))
            self._adrift = False
        while self._seeks:
            move, done = self._seeks.pop(0)
            try:
                self._batch = None
                await self._blocking(partial(move, self._source))
                await self._save(self._here(self._known()))
            except EngineError as exc:
                if not done.done():
                    done.set_exception(exc)
                raise
            self._failures = 0
            if not done.done():
                done.set_result(None)

    def _here(self, cursor: Cursor) -> Cursor:
        after, number, line = self._source.cursor()
        return replace(cursor, after=after, number=number, line=line)

    def _behind(self, batch: Batch) -> Cursor:
        cursor = self._known()
        missed = cursor.missed + (batch.gap.events if batch.gap is not None else 0)
        return replace(cursor, after=max(batch.after, NO_ID), number=batch.number, line=batch.line, missed=missed)

    async def _save(self, cursor: Cursor) -> None:
        """Raises StorageError, and it holds until the next stop."""
        self._cursor = cursor
        await self._cursors.put(self.name, cursor)
        self._saved = cursor

    async def _blocking(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
