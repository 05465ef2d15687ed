"""The queue manager: every live delivery is somewhere, and knows when it goes on.

    accepted -> ready (site) -> attempt -> settled: final, or waiting until it is due -> due -> read -> ready

Those that somebody has in hand are objects (`spool.in_hand`): ready, in an attempt, waiting for a route. All others
are rows of the spool's table: waiting, held, due, being read, seized. A row that is due is in the stock of its
destination, which feeds the ready queue of its site. While its sender is told of a delay, one that is held or due is in
hand, too.

Q1  a delivery is in exactly one state.
Q4  every live delivery has an owner and a next time (sweeper.py).
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from engine.base.clock import Clock
from engine.queue.budget import Budget
from engine.queue.errands import SLICE_ROWS, Errands
from engine.queue.larder import Larder
from engine.queue.lookups import Lookups
from engine.queue.ready import Dispatcher, ReadyQueue, ready_key
from engine.queue.sites import Sites
from engine.queue.standing import Standing
from engine.queue.stock import Destination, Key, live_counts
from engine.queue.tally import Tally
from engine.routing.plan import NoRoute, Plan
from engine.routing.router import Router
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Rows
from engine.storage.tables.queue_state import QueueState

_FINAL: Final = State.FINAL  # a name of the module is quicker than a member of a class


class Manager:
    """See above. One per worker; all methods on its loop."""

    def __init__(self, spool: Spool, router: Router, budget: Budget, state: QueueState, clock: Clock) -> None:
        self._spool = spool
        self._table = spool.table
        self._router = router
        self._clock = clock
        self._courier: Dispatcher
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._lookups = Lookups(router, self._found)
        self._resolving: dict[Key, list[Delivery]] = {}  #: deliveries in hand whose route is looked up
        self._closing = False
        self.destinations: dict[Key, Destination] = {}
        self.errands = Errands(spool, clock, self.look_for_due)
        self._larder = Larder(spool, self._read, self.errands.put_off)
        self.sites = Sites(budget, state, clock, self)
        self.standing = Standing(spool, state)
        self.tally = Tally()

    def start(self, courier: Dispatcher) -> None:
        """Take over what recovery found in the journal, and every message accepted from now on."""
        self._courier = self.sites.courier = courier
        self.errands.start(courier)
        self._spool.accepted = self.accept
        self.tally.recovered += self._table.recipients
        self._take_over()

    async def load_backlog(self) -> None:
        """Have the spool read its old generation. Raises StorageError."""

        def loaded(recipients: int) -> None:
            self.tally.recovered += recipients
            self.look_for_due()

        await self._spool.load_backlog(loaded)
        self._take_over()

    def _take_over(self) -> None:
        """Rows that recovery found; what was held is held again."""
        for scope in self.standing.holds:
            for rows in scope.rows(self._spool, state=State.WAITING):
                self._table.move_many(rows, State.HELD)
        self.count_destinations()
        self.look_for_due()

    def stop(self) -> None:
        """Begin nothing new. What is in an attempt goes on; the rest is safe on disk."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._larder.close()
        self._lookups.close()
        self.errands.close()
        self.sites.close()

    # ---- in and out

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """The deliveries of a message that is durable since just now."""
        for delivery in deliveries:
            self.tally.accepted += len(delivery.indexes)
            self.destination(delivery.destination, delivery.via).live += 1
            if delivery.unwanted and self.seize(delivery):
                self._courier.refuse(delivery)
            elif delivery.due_at > delivery.message.received_at and delivery.due_at > self._clock.time():
                self.wait(delivery)  # its client said when, or it was tried already by the node that it comes from
            else:
                self._go_on(delivery)

    def settled(self, delivery: Delivery) -> None:
        """An attempt is over and recorded: forget the delivery, or let it wait for its next time."""
        if delivery.state is _FINAL:
            self._forget(delivery)
        else:
            self._spool.when_settled(delivery, self.wait)
        if self._larder.waits:
            self._larder.pump()

    def destination(self, name: str, via: str = "") -> Destination:
        """The queue of a destination, made when there is none."""
        found = self.destinations.get((name, via))
        return found if found is not None else self.destinations.setdefault((name, via), Destination(name, via))

    def counts(self) -> list[int]:
        """Deliveries by state."""
        counts = list(self._table.counts)
        for delivery in self._spool.in_hand:
            counts[delivery.state] += 1
        counts[State.FINAL] = 0
        return counts

    def queued(self) -> int:
        """Recipients that are not final (Q2)."""
        return self._table.recipients + sum(len(delivery.indexes) for delivery in self._spool.in_hand)

    # ---- what ready queues ask, and routes that change

    async def reroute(self) -> None:
        """Routes have changed: look up again where everything goes that waits for a connection."""
        for queue in list(self.sites.ready.values()):
            self.route_again(queue)
            await asyncio.sleep(0)

    def want(self, queue: ReadyQueue) -> None:
        self._larder.want(queue)

    def put_down(self, deliveries: Iterable[Delivery]) -> None:
        rows: dict[Destination, tuple[list[int], ...]] = {}
        for delivery in deliveries:
            destination = self.destination(delivery.destination, delivery.via)
            queue = delivery.owner
            row = self._spool.cool(delivery, State.DUE)
            rows.setdefault(destination, ([], []))[delivery.message.message_class].append(row)
            if isinstance(queue, ReadyQueue):
                queue.feeders[destination] = None
        for destination, by_class in rows.items():
            for stock, own in zip(destination.stock, by_class, strict=True):
                stock.put_back(own)

    def set_aside(self, delivery: Delivery) -> None:
        stock = self.destination(delivery.destination, delivery.via).stock[delivery.message.message_class]
        stock.aside.append(self._spool.cool(delivery, State.DUE))

    def restore(self) -> None:
        """Everything that was set aside is to be looked at again."""
        for destination in list(self.destinations.values()):
            if destination.restore():
                self.offer(destination)

    def route_again(self, queue: ReadyQueue) -> None:
        feeders = list(queue.feeders)
        queue.feeders.clear()
        for delivery in queue.drain():
            self._route(delivery)
        for destination in feeders:
            self.offer(destination)

    def hand_over(self, delivery: Delivery, destination: str, via: str = "") -> None:
        """It goes elsewhere, or by another way, from now on. A destination is recorded with its next outcome."""
        self._leave(self.destination(delivery.destination, delivery.via))
        delivery.destination, delivery.via = destination, via
        self.destination(destination, via).live += 1

    # ---- operators' actions on one delivery in hand; admin finds which

    def hold(self, delivery: Delivery) -> bool:
        """Stop a delivery in hand. False: it is in an attempt just now, or gone, or held."""
        if delivery.state in (State.ATTEMPT, State.FINAL, State.HELD):
            return False
        self._move(delivery, State.HELD, self)
        self._spool.when_settled(delivery, self.wait)
        return True

    def seize(self, delivery: Delivery) -> bool:
        """Take a delivery out of its queue to settle it by hand. False: it is in an attempt just now, or gone."""
        if delivery.state in (State.ATTEMPT, State.FINAL):
            return False
        self._move(delivery, State.ATTEMPT, self)
        return True

    def divert(self, delivery: Delivery, via: str) -> bool:
        """Send a delivery in hand by another relay. False: it is in an attempt just now, or gone."""
        if not self.seize(delivery):
            return False
        self.hand_over(delivery, delivery.destination, via)
        self._spool.when_settled(delivery, self._go_on)
        return True

    # ---- operators' actions on rows

    def release(self, rows: Rows, now: bool) -> None:
        """Rows that were held, or wait, go on: at their due time, or at once."""
        # What was never tried waits for nothing, not even for the second that its time was rounded up to.
        columns = self._table.columns(rows, ("attempts", "due_at"))
        at_once = (columns["attempts"] == 0) & (columns["due_at"] <= int(self._clock.time()) + 1)
        at_once |= now
        self._table.move_many(rows[at_once], State.WAITING, int(self._clock.time()))
        self._table.move_many(rows[~at_once], State.WAITING)
        self.look_for_due()

    def look_for_due(self) -> None:
        """Something in the table may be due earlier than was known."""
        if self._table.next_due is not None:
            self._set_timer(self._table.next_due)

    def count_destinations(self) -> None:
        """Make the queues of all destinations that have deliveries, and count what is live in each."""
        live = live_counts(self._spool)
        for own in [own for own in self.destinations if own not in live]:
            del self.destinations[own]
        for own, count in live.items():
            self.destination(*own).live = count

    # ---- inside: states

    def _move(self, delivery: Delivery, state: State, owner: object) -> None:
        delivery.state, delivery.owner = state, owner

    def wait(self, delivery: Delivery) -> None:
        """What an attempt left is on disk; the rest of it waits."""
        self._follow_moves(delivery)
        held = self.standing.held_by(delivery) is not None
        row = self._spool.cool(delivery, State.HELD if held else State.WAITING)
        if not held:
            self._set_timer(self._table.get(row, "due_at"))

    def _go_on(self, delivery: Delivery) -> None:
        """A delivery in hand that is new, or goes another way."""
        if self.standing.held_by(delivery) is not None:
            self._spool.cool(delivery, State.HELD)
        else:
            self._route(delivery)

    def _follow_moves(self, delivery: Delivery) -> None:
        via = self.standing.via(delivery)
        if via != delivery.via:
            self.hand_over(delivery, delivery.destination, via)

    def _forget(self, delivery: Delivery) -> None:
        self._leave(self.destination(delivery.destination, delivery.via))
        if self.standing.holds:
            self.standing.forget(delivery)

    def _leave(self, destination: Destination) -> None:
        destination.live -= 1
        if destination.live <= 0 and not destination.stocked:
            self.destinations.pop((destination.name, destination.via), None)

    # ---- inside: due

    def _set_timer(self, due: float) -> None:
        """Sleep until the earliest due time (or an hour: a clock that was set shows itself then at the latest)."""
        if self._closing or (self._timer is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        delay = min(max(due - self._clock.time(), 0.0), 3600.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_due)

    def _on_due(self) -> None:
        """What is due goes to the stock of its destination; one slab at a time, then the loop serves others."""
        self._timer = None
        rows = self._table.take_due(self._clock.time())
        if len(rows):
            self.stock(rows)
        self.look_for_due()

    def stock(self, rows: Rows) -> None:
        """Rows that are DUE from now on."""
        if self.standing.holds:
            held = self.standing.held(rows)
            if held.any():
                self._table.move_many(rows[held], State.HELD)
                rows = rows[~held]
        columns = self._table.columns(rows, ("destination", "via", "message_class", "id"))
        group = (
            columns["destination"].astype("u8") << np.uint64(24)
            | columns["via"].astype("u8") << np.uint64(8)
            | columns["message_class"]
        )
        order = np.lexsort((columns["id"], group))
        groups, starts = np.unique(group[order], return_index=True)
        texts = self._spool.texts
        for key, part in zip(groups.tolist(), np.split(rows[order], starts)[1:], strict=True):
            name, via = texts["destination"].text(key >> 24), texts["via"].text(key >> 8 & 0xFFFF)
            destination = self.destination(name, via)
            destination.stock[key & 0xFF].extend(part)
            self.offer(destination)

    def offer(self, destination: Destination) -> None:
        """Let the queue of its site know that a destination has stock."""
        plan = self._router.cached(destination.name, destination.via)
        if plan is None:
            self._lookups.want((destination.name, destination.via))
        else:
            self._supply(destination, plan)

    # ---- inside: routes

    def _route(self, delivery: Delivery) -> None:
        """A delivery in hand that is due: to the queue of its site, or aside if that has enough."""
        key = delivery.destination, delivery.via
        plan = self._router.cached(*key)
        if isinstance(plan, Plan):
            queue = self.sites.queue_for(plan)
            if queue.takes_more(len(self._spool.in_hand), self._spool.hands.roomy):
                queue.push(delivery)
            else:
                destination = self.destination(*key)
                destination.stock[delivery.message.message_class].add(self._spool.cool(delivery, State.DUE))
                queue.feed(destination)
        elif plan is None:
            if len(self._resolving.get(key, ())) < SLICE_ROWS:
                self._move(delivery, State.RESOLVING, self)
                self._resolving.setdefault(key, []).append(delivery)
                self._lookups.want(key)
            else:
                self.destination(*key).stock[delivery.message.message_class].add(self._spool.cool(delivery, State.DUE))
        else:
            self._no_route(delivery, plan)

    def _no_route(self, delivery: Delivery, route: NoRoute) -> None:
        self._move(delivery, State.ATTEMPT, self)
        self._courier.no_route(delivery, route)

    def _found(self, key: Key, plan: Plan | NoRoute) -> None:
        """The route of a destination is looked up."""
        for delivery in self._resolving.pop(key, ()):
            if delivery.state is not State.RESOLVING:  # an operator took it
                continue
            if isinstance(plan, Plan):
                self.sites.queue_for(plan).push(delivery)
            else:
                self._no_route(delivery, plan)
        if (destination := self.destinations.get(key)) is not None and destination.stocked:
            self._supply(destination, plan)

    def _supply(self, destination: Destination, plan: Plan | NoRoute) -> None:
        """A destination with stock has this route."""
        if isinstance(plan, Plan):
            self.sites.queue_for(plan).feed(destination)
        else:
            self.errands.run(self.errands.clear(destination, lambda delivery: self._no_route(delivery, plan)))

    # ---- inside: rows that are read

    def _read(self, delivery: Delivery) -> None:
        """A delivery that the larder has read."""
        if self.standing.held_by(delivery) is not None:
            self._spool.cool(delivery, State.HELD)
            return
        self._follow_moves(delivery)
        plan = self._router.cached(delivery.destination, delivery.via)
        if isinstance(plan, Plan):
            self.sites.queue_for(plan).push(delivery)
        else:
            self._route(delivery)

    @property
    def idle(self) -> bool:
        """Nothing is being read, or settled without an attempt."""
        return not self.errands.busy and not self._larder.busy

    def has_owner(self, delivery: Delivery) -> bool:
        """Whether somebody will do something about a delivery in hand."""
        match delivery.state:
            case State.RESOLVING:
                key = delivery.destination, delivery.via
                return key in self._lookups.pending and delivery in self._resolving.get(key, ())
            case State.ATTEMPT:
                return delivery in self._courier.working or bool(delivery.unsettled)
            case State.READY if isinstance(owner := delivery.owner, ReadyQueue):
                return self.sites.ready.get(ready_key(owner.plan)) is owner
            case State.LOADING:
                return self.errands.busy
        return delivery.state is State.FINAL
