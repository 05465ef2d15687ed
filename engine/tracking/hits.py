"""Hits on their way to the event journal: answered already, judged, and written in groups (E1).

A hit waits in memory for milliseconds: until the group before it is on disk. While the disk does not keep up and the
buffer is full, requests wait before they are answered, for a second at most: a link must work though the disk does not,
and what is then not recorded is counted and said.

H1  every hit is on disk, or counted as lost.       H2  the buffer never holds more than MAX_WAITING hits.
"""

import asyncio
import contextlib
import logging

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.storage.events.event import Event
from engine.tracking.hit import Hit
from engine.tracking.judge import Judge
from engine.tracking.ports import Recorder

log = logging.getLogger(__name__)

MAX_WAITING = 20_000
#: Events of one group commit.
_MOST = 2000
#: How long a request waits for room, and how soon a failed write is tried again.
_ROOM_S, _AGAIN_S = 1.0, 1.0
#: Between two groups: a disk that syncs in a fraction of a millisecond would make a group of every other hit.
_GATHER_S = 0.02
#: How often verdicts are looked at: a second's worth of them at once would keep the next request waiting.
_TICK_S = 0.05


class Hits:
    """See above. Make it inside the running loop."""

    def __init__(self, judge: Judge, recorder: Recorder, metrics: Metrics, clock: Clock) -> None:
        self.judge = judge
        self._recorder = recorder
        self._clock = clock
        self._counted = metrics.tracking_hits
        self._corrected = metrics.tracking_verdicts
        self._lost = metrics.tracking_lost
        self._waiting: list[Hit] = []
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._busy = 0  #: hits that are being written
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_writing()), loop.create_task(self._keep_settling())]

    @property
    def waiting(self) -> int:
        """Hits that are not on disk yet."""
        return len(self._waiting) + self._busy

    async def room(self) -> None:
        """Before an answer: there is room for one more, or the disk has had its second."""
        if not self._room.is_set():
            await asyncio.sleep(0)  # a request begins without a task (connection.py), and to wait takes one
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), _ROOM_S)

    def add(self, hit: Hit) -> None:
        """After the answer."""
        if self.waiting >= MAX_WAITING:
            self._room.clear()
            self._lost.inc()
            return
        self.judge.judge(hit)
        self._counted.labels(hit.type, hit.verdict).inc()
        self._waiting.append(hit)
        self._more.set()

    async def record(self, event: Event) -> None:
        """One event that its maker waits for. Raises StorageError."""
        await self._recorder.record([event])

    async def stop(self) -> None:
        """Write what there is, with what is known by now."""
        self._stopping = True
        self._more.set()
        settling = self._tasks.pop()
        settling.cancel()
        await asyncio.gather(settling, *self._tasks, return_exceptions=True)
        try:
            self.judge.settle_all()
            await self._correct()
        except StorageError as exc:
            log.error("the last verdicts are not told: %s", exc)

    # ---- inside

    async def _keep_writing(self) -> None:
        while not self._stopping or self._waiting:
            if not self._waiting:
                self._more.clear()
                await self._more.wait()
                continue
            try:
                await self._write()
                if not self._stopping:
                    await asyncio.sleep(_GATHER_S)
            except StorageError as exc:
                if self._stopping:
                    self._lost.inc(len(self._waiting))
                    log.error("%d hits are lost: %s", len(self._waiting), exc)
                    return
                log.error("hits wait: %s", exc)
                await asyncio.sleep(_AGAIN_S)

    async def _write(self) -> None:
        batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        self._busy = len(batch)
        try:
            frame = await self._record(batch)
        except StorageError:
            self._waiting[:0] = batch
            raise
        finally:
            self._busy = 0
        for n, hit in enumerate(batch):
            hit.name = f"{frame}.{n}"
        if not self._room.is_set() and len(self._waiting) < MAX_WAITING // 2:
            self._room.set()

    async def _record(self, batch: list[Hit]) -> int:
        return await self._recorder.record([hit.event() for hit in batch])

    async def _keep_settling(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                self.judge.tick(self._clock.time())
                await self._correct()
            except StorageError as exc:
                log.error("verdicts wait: %s", exc)
            except Exception:  # top of a task
                log.exception("verdicts")

    async def _correct(self) -> None:
        changed = list(self.judge.corrections())
        for at in range(0, len(changed), _MOST):
            group = changed[at : at + _MOST]
            now = self._clock.time()
            await self._recorder.record([hit.correction(now) for hit in group])
            for hit in group:
                self._corrected.labels(hit.verdict).inc()
