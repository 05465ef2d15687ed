"""The sweeper: looks at everything that lives, a slice at a time, and puts right what nobody else sees.

Q4  every live delivery has an owner and a next time; an orphan is put back to work and counted.

It also gives up what expired while its site was closed, and tells senders of a delay that no attempt has told them of.
"""

import asyncio
import logging

import numpy as np

from engine.base.clock import Clock
from engine.queue.errands import SLICE_ROWS
from engine.queue.manager import Manager
from engine.queue.ready import Dispatcher
from engine.queue.stock import oldest_arrival
from engine.routing.plan import OTHER, Plan
from engine.routing.router import Router
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Rows, rows_of_slab

log = logging.getLogger(__name__)

#: Between two slices of rows whose senders are told that they wait.
_PAUSE_S = 0.1
#: An orphan is the trace of a fault, which may be there still: not at once.
ORPHAN_WAIT_S = 60.0


class Sweeper:
    """See above. The figures are those of the last sweep.

    counts: deliveries by state. oldest_at: when the oldest queued message arrived.
    """

    def __init__(self, spool: Spool, manager: Manager, router: Router, courier: Dispatcher, clock: Clock) -> None:
        self._spool = spool
        self._table = spool.table
        self._manager = manager
        self._router = router
        self._courier = courier
        self._clock = clock
        self._telling: asyncio.Task[None] | None = None
        self._told: dict[Delivery, None] = {}  #: in hand because their senders are being told of the delay
        self.counts = [0] * len(State)
        self.orphans = 0
        self.oldest_at: float | None = None

    async def sweep(self) -> None:
        """Q4: look at everything that lives; forget ready queues nobody uses. A slice at a time."""
        now, orphans = self._clock.time(), 0
        for delivery in list(self._spool.in_hand):
            if not self._manager.has_owner(delivery) and delivery not in self._told:
                orphans += 1
                log.error("%s: delivery to %s had no owner; queued again", delivery.message.id, delivery.destination)
                delivery.due_at = now + ORPHAN_WAIT_S
                self._spool.when_settled(delivery, self._manager.wait)
        # Whose senders are to hear that they wait are told below, as rows.
        told_at = now - self._courier.delay_notice
        self._manager.put_down([d for d in self._spool.in_hand if _waits_since(d, told_at)])
        orphans += await self._sweep_rows(now)
        self.orphans, self.counts = orphans, self._manager.counts()
        self.oldest_at = await oldest_arrival(self._spool)
        self._spool.forget_unused_texts()
        self._manager.sites.forget_unused()

    async def _sweep_rows(self, now: float) -> int:
        """Orphans among the rows; what expired while it was due."""
        table, orphans = self._table, 0
        stocked = sum(destination.stocked + destination.aside for destination in self._manager.destinations.values())
        if table.counts[State.DUE] > stocked:
            orphans += table.counts[State.DUE] - stocked
            log.error("%d deliveries were due and in no stock; queued again", orphans)
            for rows in list(table.select(state=State.DUE)):
                table.move_many(rows, State.WAITING, int(now + ORPHAN_WAIT_S))
            for destination in self._manager.destinations.values():
                destination.restore()
                destination.take(destination.stocked)
        if self._manager.idle:
            for state in (State.LOADING, State.SEIZED):
                for rows in list(table.select(state=state)):
                    orphans += len(rows)
                    log.error("%d deliveries were being read by nobody; queued again", len(rows))
                    table.move_many(rows, State.WAITING, int(now + ORPHAN_WAIT_S))
        for number, slab in enumerate(list(table.slabs)):
            states = slab["state"]
            late = (states == State.WAITING) & (slab["due_at"] < now - 60)
            if late.any():
                orphans += int(late.sum())
                slab.next_due = int(slab["due_at"][late].min())
            expired = np.flatnonzero((states == State.DUE) & (slab["expires_at"] <= now))
            if len(expired):
                rows = rows_of_slab(number, expired)
                self._manager.errands.seize(rows)
                self._manager.errands.run(self._manager.errands.visit(rows, self._give_up))
            await asyncio.sleep(0)
        if self._telling is None or self._telling.done():
            self._telling = self._manager.errands.run(self._tell_delays(now), seizes=False)
        self._manager.look_for_due()
        return orphans

    async def _tell_delays(self, now: float) -> None:
        """Tell senders that their rows wait, though nothing was tried: their site is closed, or slow, or held.

        A slice, a pause, the next. A row that was noted is not looked at again.
        """
        newest = max(int((now - self._courier.delay_notice) * 1000) << 12, 0)
        for slab_number, slab in enumerate(self._table.slabs):
            for state in (State.DUE, State.HELD):
                while True:
                    late = np.flatnonzero((slab["state"] == state) & (slab["notices"] == 0) & (slab["id"] <= newest))
                    if not len(late):
                        break
                    await self._tell_delay(rows_of_slab(slab_number, late[:SLICE_ROWS]), state)
                    await asyncio.sleep(_PAUSE_S)
            await asyncio.sleep(0)

    async def _tell_delay(self, rows: Rows, state: State) -> None:
        """Tell of these, and put them back. They keep their state: as rows while they are read, then in hand."""
        try:
            for one in await self._spool.reader.read(rows, state):
                if isinstance(one, Delivery):
                    self._told[one] = None
                    self._courier.tell_delay(one, *self._site_of(one))
                else:
                    row, error = one
                    log.error("%s: no notice of its delay: %s", self._spool.id_of(row), error)
                    self._table.set(row, "notices", 1)
            await self._courier.catch_up()
            # An operator may have taken some meanwhile.
            told = [one for one in self._told if one in self._spool.in_hand and one.state is state]
            for delivery in told:
                delivery.notices = 1
                if state is State.HELD:
                    self._manager.wait(delivery)  # held as before, if the hold was not lifted meanwhile
            if state is State.DUE:
                self._manager.put_down(told)
                for key in {(delivery.destination, delivery.via) for delivery in told}:
                    self._manager.offer(self._manager.destination(*key))
        finally:
            self._told.clear()

    def _site_of(self, delivery: Delivery) -> tuple[str, str]:
        """The provider, and why its site is closed or slow."""
        plan = self._router.cached(delivery.destination, delivery.via)
        throttle = self._manager.sites.throttle(plan) if isinstance(plan, Plan) else None
        return plan.provider if isinstance(plan, Plan) else OTHER, throttle.reason if throttle else ""

    def _give_up(self, delivery: Delivery) -> None:
        self._courier.give_up(delivery, *self._site_of(delivery))


def _waits_since(delivery: Delivery, at: float) -> bool:
    """Whether it waits for its turn since then, and its sender has not heard of it."""
    ready = delivery.state is State.READY and not delivery.unsettled
    return ready and not delivery.notices and delivery.message.received_at <= at
