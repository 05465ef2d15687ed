"""The larder: reads from disk, ahead of need, what ready queues will send next.

A queue that can send says so (`want`); queues are served in turn, a batch each. What is read ahead is bounded: for
all together by MAX_IN_HAND deliveries, but a queue that has a connection is never left without.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np

from engine.base.errors import StorageError
from engine.queue.ready import MAX_IN_HAND, ReadyQueue
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Rows

log = logging.getLogger(__name__)

#: Batches being read at once.
_MAX_READS: Final = 4


class Larder:
    """See above. deliver: takes what was read for a queue. failed: a row that cannot be read, and why."""

    def __init__(
        self,
        spool: Spool,
        deliver: Callable[[Delivery], None],
        failed: Callable[[int, StorageError], None],
    ) -> None:
        self._spool = spool
        self._deliver = deliver
        self._failed = failed
        self._waiting: dict[ReadyQueue, None] = {}
        self._connected: dict[ReadyQueue, None] = {}  #: those of them that have a connection
        self._reads: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def waits(self) -> bool:
        """A queue waits for its turn."""
        return bool(self._waiting)

    @property
    def busy(self) -> bool:
        """Something is being read."""
        return bool(self._reads)

    def want(self, queue: ReadyQueue) -> None:
        """The queue could do with more of its stock."""
        if not queue.reading:
            self._waiting[queue] = None
            if queue.agents:
                self._connected[queue] = None
            self.pump()

    def pump(self) -> None:
        """Begin to read for those who wait, as far as there is room; to be called when there is more."""
        while len(self._reads) < _MAX_READS and not self._closed:
            full = len(self._spool.in_hand) >= MAX_IN_HAND
            queue = next(iter(self._connected if full else self._waiting), None)
            if queue is None:
                return
            del self._waiting[queue]
            self._connected.pop(queue, None)
            if rows := self._due(queue):
                queue.reading = True
                numbers = np.array(rows, dtype=np.uint32)
                # At once: a sweep that finds them due and in no stock takes them for orphans.
                self._spool.table.move_many(numbers, State.LOADING)
                self._start(self._read(queue, numbers))

    def close(self) -> None:
        """Read nothing more."""
        self._closed = True
        for task in self._reads:
            task.cancel()

    def _due(self, queue: ReadyQueue) -> list[int]:
        """The next rows of its stock that are due still, each once: what was held and released there stands twice."""
        table = self._spool.table
        rows: list[int] = []
        while not rows and queue.feeders:
            taken = dict.fromkeys(queue.take_stock())
            rows = [row for row in taken if table.holds(row) and table.get(row, "state") == State.DUE]
        return rows

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._reads.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._reads.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("reading ahead", exc_info=task.exception())  # the rows are LOADING; the sweeper finds them
        self.pump()

    async def _read(self, queue: ReadyQueue, rows: Rows) -> None:
        try:
            found = await self._spool.reader.read(rows)
        finally:
            queue.reading = False
        for one in found:
            if isinstance(one, Delivery):
                self._deliver(one)
            else:
                self._failed(*one)
        queue.restock()
