"""Errands: rows that are read and settled without an attempt, a slice at a time beside everybody's deliveries.

A row is SEIZED from the moment that somebody decides about it, so that nobody else takes it; LOADING while it is read.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import numpy as np

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.queue.ready import Dispatcher
from engine.queue.stock import Destination
from engine.routing.plan import OTHER
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.reader import ContentLost
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Rows

log = logging.getLogger(__name__)

#: Rows of one slice; then the loop serves others.
SLICE_ROWS = 100
#: A message that could not be read from disk is tried again after this long.
PUT_OFF_S = 300.0


class Errands:
    """See above. due_changed: something in the table may be due earlier than was known."""

    def __init__(self, spool: Spool, clock: Clock, due_changed: Callable[[], None]) -> None:
        self._spool = spool
        self._table = spool.table
        self._clock = clock
        self._due_changed = due_changed
        self._tasks: dict[asyncio.Task[None], bool] = {}
        self._courier: Dispatcher

    def start(self, courier: Dispatcher) -> None:
        """Before the first visit."""
        self._courier = courier
        self._spool.lost = self._lose

    @property
    def busy(self) -> bool:
        """Somebody may have seized rows."""
        return any(self._tasks.values())

    def run(self, work: Coroutine[Any, Any, None], seizes: bool = True) -> asyncio.Task[None]:
        """Something that takes its time. seizes: it settles rows that were seized for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = seizes
        task.add_done_callback(self._done)
        return task

    def seize(self, rows: Rows) -> None:
        """These will be settled without an attempt."""
        self._table.move_many(rows, State.SEIZED)

    def let_go(self, rows: Rows) -> None:
        """Of those that are seized still: they wait again, from now on."""
        seized = rows[self._table.columns(rows, ("state",))["state"] == State.SEIZED]
        self._table.move_many(seized, State.WAITING)
        self._due_changed()

    async def visit(self, rows: Rows, action: Callable[[Delivery], None], by_hand: bool = False) -> None:
        """Read seized rows, and do this with each delivery, which is in an attempt then.

        by_hand: also with those whose record is damaged. Those of which only the content is lost come in any case.
        """
        async for part in self.slices(rows):
            for one in await self._spool.reader.read(part):
                if not isinstance(one, Delivery):
                    if not by_hand and not isinstance(one[1], ContentLost):
                        self.put_off(*one)
                        continue
                    one = self._spool.reader.take_unread(*one)
                one.state, one.owner = State.ATTEMPT, self
                action(one)
            await self._courier.catch_up()

    async def clear(self, destination: Destination, action: Callable[[Delivery], None]) -> None:
        """Do this with everything that is due for a destination."""
        while destination.stocked:
            rows = np.array(list(dict.fromkeys(destination.take(SLICE_ROWS))), dtype=np.uint32)
            rows = rows[self._table.columns(rows, ("state",))["state"] == State.DUE]
            self.seize(rows)
            await self.visit(rows, action)

    async def slices(self, rows: Rows) -> AsyncIterator[Rows]:
        """Seized rows a slice at a time, LOADING from then on; without those that are another delivery's by then."""
        table = self._table
        ids = table.columns(rows, ("id",))["id"]
        for start in range(0, len(rows), SLICE_ROWS):
            part = rows[start : start + SLICE_ROWS]
            now = table.columns(part, ("id", "state"))
            part = part[(now["id"] == ids[start : start + SLICE_ROWS]) & (now["state"] == State.SEIZED)]
            table.move_many(part, State.LOADING)
            yield part

    def put_off(self, row: int, error: StorageError) -> None:
        """Nothing can be recorded of a message that the disk does not give back, so it waits for another try.

        One of which only the content is lost waits no longer than a message may.
        """
        if isinstance(error, ContentLost) and self._table.get(row, "expires_at") <= self._clock.time():
            rows = np.array([row], dtype=np.uint32)
            self.seize(rows)
            self.run(self.visit(rows, self._expire))
            return
        log.error("%s: %s; tried again in %d s", self._spool.id_of(row), error, PUT_OFF_S)
        self._table.move(row, State.WAITING, int(self._clock.time() + PUT_OFF_S))
        self._due_changed()

    def _lose(self, rows: Rows) -> None:
        """These have records that are damaged and hold others back: they fail. Those that are looked at just now are
        told of again."""
        states = self._table.columns(rows, ("state",))["state"]
        rows = rows[np.isin(states, (State.WAITING, State.DUE, State.HELD))]
        self.seize(rows)
        self.run(self._fail_lost(rows))

    async def _fail_lost(self, rows: Rows) -> None:
        async for part in self.slices(rows):
            for one in await self._spool.reader.read(part):
                if isinstance(one, Delivery):  # it can be read after all
                    self._spool.cool(one, State.WAITING)
                    self._due_changed()
                    continue
                lost = self._spool.reader.take_unread(*one)
                lost.state, lost.owner = State.ATTEMPT, self
                self._courier.fail_lost(lost)
            await self._courier.catch_up()

    def _expire(self, delivery: Delivery) -> None:
        delivery.last = delivery.last or "4.3.0 its content cannot be read"
        self._courier.give_up(delivery, OTHER, "")

    def close(self) -> None:
        """What is left undone is on disk as it was."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and task.exception() is not None:
            log.error("an errand of the queue", exc_info=task.exception())  # Q3: the sweeper finds what it left
