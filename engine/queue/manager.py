"""The queue manager: every live delivery is somewhere, and knows when it goes on.

    accepted -> ready (site) -> attempt -> settled: final, or waiting until it is due -> due -> read -> ready

Those that somebody has in hand are objects (`spool.in_hand`): ready, in an attempt, waiting for a route. All others
are rows of the spool's table: waiting, held, due, being read, seized. A row that is due is in the stock of its
destination, which feeds the ready queue of its site.

Q1  a delivery is in exactly one state.
Q4  every live delivery has an owner and a next time; `sweep` puts an orphan back to work and counts it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.message.ids import id_time, split_id
from engine.message.outcome import Status
from engine.queue.budget import Budget
from engine.queue.larder import MAX_IN_HAND, Larder
from engine.queue.ready import Courier, ReadyKey, ReadyQueue, ready_key
from engine.queue.scope import Scope
from engine.queue.stock import Destination
from engine.queue.tally import Tally
from engine.queue.throttle import Throttle
from engine.routing.plan import OTHER, NoRoute, Plan
from engine.routing.router import Router
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Column, Rows
from engine.storage.tables.queue_state import QueueState

log = logging.getLogger(__name__)

_FINAL = State.FINAL  # a name of the module is quicker than a member of a class
#: Routes looked up at once; more destinations wait for their turn.
MAX_LOOKUPS = 1000
#: An orphan is the trace of a fault, which may be there still: not at once.
ORPHAN_WAIT_S = 60.0
#: A message that could not be read from disk is tried again after this long.
PUT_OFF_S = 300.0
#: Rows that are read and settled without an attempt, in one go; then the loop serves others.
_ERRAND_ROWS = 100

Key = tuple[str, str]  #: destination, and the relay that an operator sent it to, or ""


def throttle_key(plan: Plan) -> str:
    """What shares a throttle: a site, and the limits where a route sets its own."""
    return plan.site if plan.limits.key == plan.site else f"{plan.site} {plan.limits.key}"


class Dispatcher(Courier, Protocol):
    """The courier, as the manager needs it. Each settles the delivery, and returns at once."""

    def no_route(self, delivery: Delivery, route: NoRoute) -> None:
        """Its destination has no route."""

    def give_up(self, delivery: Delivery, provider: str, reason: str) -> None:
        """It expired without another attempt. reason: why its site is closed."""

    @property
    def delay_notice(self) -> float:
        """Seconds after which `tell_delay` is due for what waits without an attempt."""

    def tell_delay(self, delivery: Delivery, provider: str, reason: str) -> None:
        """Its sender hears why it waits, if he wants to; nothing else becomes of it."""

    async def catch_up(self) -> None:
        """Return when everything that was given to settle without an attempt is on its way to the disk."""


class Manager:
    """See above. One per worker; all methods on its loop."""

    def __init__(self, spool: Spool, router: Router, budget: Budget, state: QueueState, clock: Clock) -> None:
        self._spool = spool
        self._table = spool.table
        self._router = router
        self._budget = budget
        self._state = state
        self._clock = clock
        self._courier: Dispatcher
        self._larder = Larder(spool, self._read, self._unreadable)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._lookups: set[asyncio.Task[None]] = set()
        self._lookups_waiting: deque[Key] = deque()
        self._resolving: dict[Key, list[Delivery]] = {}  #: deliveries in hand whose route is looked up
        self._errands: set[asyncio.Task[None]] = set()
        self._throttles: dict[str, tuple[Throttle, list[ReadyQueue]]] = {}
        self._holds: list[Scope] = []
        self._moves: list[tuple[Scope, int, str]] = []  #: scope, packed id of the last message, relay
        self._closing = False
        self.destinations: dict[Key, Destination] = {}
        self.ready: dict[ReadyKey, ReadyQueue] = {}
        self.last_counts = [0] * len(State)  #: `counts`, as of the last sweep
        self.orphans = 0
        self.oldest_at: float | None = None  #: when the oldest queued message arrived, as of the last sweep
        self.tally = Tally()

    def start(self, courier: Dispatcher) -> None:
        """Take over what recovery found in the journal, and every message accepted from now on."""
        self._courier = courier
        self._spool.accepted = self.accept
        self.holds_changed()
        self.moves_changed()
        self.tally.recovered += self._table.recipients
        self.count_destinations()
        self.look_for_due()

    async def load_backlog(self) -> None:
        """Have the spool read its old generation. Raises StorageError."""

        def loaded(recipients: int) -> None:
            self.tally.recovered += recipients
            self.look_for_due()

        await self._spool.load_backlog(loaded)
        self.count_destinations()
        self.look_for_due()

    def stop(self) -> None:
        """Begin nothing new. What is in an attempt goes on; the rest is safe on disk."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._larder.close()
        for task in (*self._lookups, *self._errands):
            task.cancel()
        for queue in self.ready.values():
            queue.close()

    # ---- in and out

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """The deliveries of a message that is durable since just now."""
        for delivery in deliveries:
            self.tally.accepted += len(delivery.indexes)
            self.destination(delivery.destination, delivery.via).live += 1
            if self._holds and self._is_held(delivery):
                self._shelve(delivery, State.HELD)
            elif delivery.due_at > delivery.message.received_at and delivery.due_at > self._clock.time():
                self._wait(delivery)  # it was tried already, by the node that it comes from
            else:
                self._route(delivery)

    def settled(self, delivery: Delivery) -> None:
        """An attempt is over and recorded: forget the delivery, or let it wait for its next time."""
        if delivery.state is _FINAL:
            self._forget(delivery)
        else:
            self._spool.when_settled(delivery, self._wait)
        if self._larder.waits:
            self._larder.pump()

    def destination(self, name: str, via: str = "") -> Destination:
        """The queue of a destination, made when there is none."""
        destination = self.destinations.get((name, via))
        if destination is None:
            destination = self.destinations[name, via] = Destination(name, via)
        return destination

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

    # ---- sites

    def throttle(self, plan: Plan) -> Throttle | None:
        """The throttle of a plan's site; None if nothing was sent there lately."""
        found = self._throttles.get(throttle_key(plan))
        return found[0] if found else None

    def throttles(self) -> Iterator[tuple[str, Throttle]]:
        for site, (throttle, _) in self._throttles.items():
            yield site, throttle

    def reopen(self, plan: Plan) -> None:
        """An operator says: try this site now."""
        found = self._throttles.get(throttle_key(plan))
        if found is not None:
            throttle, queues = found
            throttle.reopen()
            for queue in queues:
                queue.reopen()

    def remember(self) -> None:
        """Write down what the throttles have learned."""
        now = self._clock.time()
        self._state.save_throttles({site: throttle.learned(now) for site, throttle in self.throttles()})

    async def reroute(self) -> None:
        """Routes have changed: look up again where everything goes that waits for a connection."""
        for queue in list(self.ready.values()):
            self.route_again(queue)
            await asyncio.sleep(0)

    # ---- what ready queues ask

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

    def route_again(self, queue: ReadyQueue) -> None:
        feeders = list(queue.feeders)
        queue.feeders.clear()
        for delivery in queue.drain():
            self._route(delivery)
        for destination in feeders:
            self._offer(destination)

    # ---- operators' actions on one delivery in hand; admin finds which

    def hold(self, delivery: Delivery) -> bool:
        """Stop a delivery in hand. False: it is in an attempt just now, or gone."""
        if delivery.state in (State.ATTEMPT, State.FINAL):
            return False
        self._shelve(delivery, State.HELD)
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
        self._go_via(delivery, via)
        self._route(delivery)
        return True

    # ---- operators' actions on rows

    def holds_changed(self) -> None:
        """The table of holds is another."""
        self._holds = [Scope.stored(name) for name in self._state.holds()]

    def moves_changed(self) -> None:
        """The orders to send something by another relay are others."""
        moves = [order for order in self._state.orders if order.action == "move"]
        self._moves = [(Scope.stored(order.scope), order.newest, order.argument) for order in moves]

    def held_by(self, delivery: Delivery) -> Scope | None:
        """The hold that a delivery is under; None: none."""
        return next((scope for scope in self._holds if scope.holds(delivery)), None)

    def release(self, rows: Rows, now: bool) -> None:
        """Rows that were held, or wait, go on: at their due time, or at once."""
        self._table.move_many(rows, State.WAITING, int(self._clock.time()) if now else None)
        self.look_for_due()

    def held_still(self, rows: Rows) -> Column:
        """Which of these rows are under a hold, as a mask."""
        held = np.zeros(len(rows), dtype=bool)
        for scope in self._holds:
            if scope.kind == "all":
                held[:] = True
            for more in scope.rows(self._spool):
                held |= np.isin(rows, more)
        return held

    async def visit(self, rows: Rows, action: Callable[[Delivery], None], by_hand: bool = False) -> None:
        """Read seized rows, and do this with each delivery, which is in an attempt then; a slice at a time.

        by_hand: also with those whose record is damaged.
        """
        async for part in self._seized(rows):
            for one in await self._spool.read(part):
                if not isinstance(one, Delivery):
                    if not by_hand:
                        self._unreadable(*one)
                        continue
                    one = self._spool.take_unread(one[0])
                self._move(one, State.ATTEMPT, self)
                action(one)
            await self._courier.catch_up()

    async def _seized(self, rows: Rows) -> AsyncIterator[Rows]:
        """These rows a slice at a time, LOADING from then on; without those that are another delivery's by then."""
        table = self._table
        ids = table.columns(rows, ("id",))["id"]
        for start in range(0, len(rows), _ERRAND_ROWS):
            part = rows[start : start + _ERRAND_ROWS]
            now = table.columns(part, ("id", "state"))
            part = part[(now["id"] == ids[start : start + _ERRAND_ROWS]) & (now["state"] == State.SEIZED)]
            table.move_many(part, State.LOADING)
            yield part

    def look_for_due(self) -> None:
        """Something in the table may be due earlier than was known."""
        if self._table.next_due is not None:
            self._set_timer(self._table.next_due)

    def count_destinations(self) -> None:
        """Make the queues of all destinations that have rows, and count what is live in each."""
        live: dict[Key, int] = {}
        texts = self._spool.texts
        for slab in self._table.slabs:
            used = slab["state"] != State.STORING
            keys = slab["destination"][used].astype("u8") << np.uint64(16) | slab["via"][used]
            for key, count in zip(*(part.tolist() for part in np.unique(keys, return_counts=True)), strict=True):
                own = texts["destination"].text(key >> 16), texts["via"].text(key & 0xFFFF)
                live[own] = live.get(own, 0) + count
        for delivery in self._spool.in_hand:
            if delivery.state is not State.FINAL:
                own = delivery.destination, delivery.via
                live[own] = live.get(own, 0) + 1
        for own in [own for own in self.destinations if own not in live]:
            del self.destinations[own]
        for own, count in live.items():
            self.destination(*own).live = count

    # ---- inside: states

    def _move(self, delivery: Delivery, state: State, owner: object) -> None:
        delivery.state, delivery.owner = state, owner

    def _is_held(self, delivery: Delivery) -> bool:
        return self.held_by(delivery) is not None

    def _shelve(self, delivery: Delivery, state: State) -> int:
        """From a hand to the table."""
        return self._spool.cool(delivery, state)

    def _wait(self, delivery: Delivery) -> None:
        """What an attempt left is on disk; the rest of it waits."""
        if self._moves:
            self._follow_moves(delivery)
        held = bool(self._holds) and self._is_held(delivery)
        row = self._shelve(delivery, State.HELD if held else State.WAITING)
        if not held:
            self._set_timer(self._table.get(row, "due_at"))

    def _follow_moves(self, delivery: Delivery) -> None:
        """A delivery that was in an attempt when it was moved, or whose row does not know that it was."""
        packed = split_id(delivery.message.id)[0]
        vias = [via for scope, newest, via in self._moves if packed <= newest and scope.holds(delivery)]
        if vias and vias[-1] != delivery.via:
            self._go_via(delivery, vias[-1])

    def _go_via(self, delivery: Delivery, via: str) -> None:
        self._leave(self.destination(delivery.destination, delivery.via))
        delivery.via = via
        self.destination(delivery.destination, via).live += 1

    def _forget(self, delivery: Delivery) -> None:
        self._leave(self.destination(delivery.destination, delivery.via))
        own = Scope("message", delivery.message.id)
        if own in self._holds and self._is_last(own):
            try:
                self._state.resume(str(own))
            except StorageError as exc:  # a row too many; the delivery is settled all the same
                log.error("%s: %s", delivery.message.id, exc)
            self.holds_changed()

    def _is_last(self, message: Scope) -> bool:
        """Nothing of a message lives any more, but for outcomes on their way to the disk."""
        lives = any(delivery.state is not State.FINAL for delivery in message.in_hand(self._spool))
        return not lives and not any(True for _ in message.rows(self._spool))

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
        if self._holds:
            held = self.held_still(rows)
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
            self._offer(destination)

    def _offer(self, destination: Destination) -> None:
        """Let the queue of its site know that a destination has stock."""
        plan = self._router.cached(destination.name, destination.via)
        if isinstance(plan, Plan):
            self._queue_for(plan).feed(destination)
        elif plan is None:
            self._look_up((destination.name, destination.via))
        else:
            self.run_errand(self._settle_stock(destination, plan))

    # ---- inside: routes

    def _route(self, delivery: Delivery) -> None:
        """A delivery in hand that is due: to the queue of its site, or aside if that has enough."""
        key = delivery.destination, delivery.via
        plan = self._router.cached(*key)
        if isinstance(plan, Plan):
            queue = self._queue_for(plan)
            if queue.takes_more and len(self._spool.in_hand) < MAX_IN_HAND:
                queue.push(delivery)
            else:
                destination = self.destination(*key)
                destination.stock[delivery.message.message_class].add(self._shelve(delivery, State.DUE))
                queue.feed(destination)
        elif plan is None:
            if len(self._resolving.get(key, ())) < _ERRAND_ROWS:
                self._move(delivery, State.RESOLVING, self)
                self._look_up(key)
                self._resolving[key].append(delivery)
            else:
                self.destination(*key).stock[delivery.message.message_class].add(self._shelve(delivery, State.DUE))
        else:
            self._no_route(delivery, plan)

    def _no_route(self, delivery: Delivery, route: NoRoute) -> None:
        self._move(delivery, State.ATTEMPT, self)
        self._courier.no_route(delivery, route)

    def _queue_for(self, plan: Plan) -> ReadyQueue:
        key = ready_key(plan)
        queue = self.ready.get(key)
        if queue is None:
            throttle, siblings = self._site(plan)
            queue = self.ready[key] = ReadyQueue(
                plan, throttle, siblings, self._budget, self._courier, self._clock, self
            )
            siblings.append(queue)
            if self._closing:
                queue.close()
        elif queue.plan is not plan:
            queue.plan = plan
            queue.throttle.configure(plan.limits.connections, plan.limits.rate)
        return queue

    def _site(self, plan: Plan) -> tuple[Throttle, list[ReadyQueue]]:
        key = throttle_key(plan)
        found = self._throttles.get(key)
        if found is None:
            throttle = Throttle(plan.limits.connections, plan.limits.rate)
            learned: dict[str, Any] | None = self._state.learned(key)
            if learned is not None:
                throttle.remember(learned)
            found = self._throttles[key] = (throttle, [])
        return found

    def _look_up(self, key: Key) -> None:
        if key not in self._resolving:
            self._resolving[key] = []
            self._lookups_waiting.append(key)
            self._start_lookups()

    def _start_lookups(self) -> None:
        while self._lookups_waiting and len(self._lookups) < MAX_LOOKUPS and not self._closing:
            task = asyncio.get_running_loop().create_task(self._resolve(self._lookups_waiting.popleft()))
            self._lookups.add(task)
            task.add_done_callback(self._looked_up)

    def _looked_up(self, task: asyncio.Task[None]) -> None:
        self._lookups.discard(task)
        self._start_lookups()

    async def _resolve(self, key: Key) -> None:
        try:
            plan = await self._router.resolve(*key)
        except Exception:  # top of a task, Q3: unknown means deferred
            log.exception("looking up the route of %s", key[0])
            plan = NoRoute(Status.DEFERRED, "4.3.5", "internal error while looking up the route", 0.0)
        for delivery in self._resolving.pop(key):
            if delivery.state is not State.RESOLVING:
                continue  # an operator took it
            if isinstance(plan, Plan):
                self._queue_for(plan).push(delivery)
            else:
                self._no_route(delivery, plan)
        destination = self.destinations.get(key)
        if destination is None or not destination.stocked:
            return
        if isinstance(plan, Plan):
            self._queue_for(plan).feed(destination)
        else:
            self.run_errand(self._settle_stock(destination, plan))

    # ---- inside: rows that are read

    def _read(self, delivery: Delivery) -> None:
        """A delivery that the larder has read."""
        if self._holds and self._is_held(delivery):
            self._shelve(delivery, State.HELD)
            return
        if self._moves:
            self._follow_moves(delivery)
        plan = self._router.cached(delivery.destination, delivery.via)
        if isinstance(plan, Plan):
            self._queue_for(plan).push(delivery)
        else:
            self._route(delivery)

    def _unreadable(self, row: int, error: StorageError) -> None:
        """Nothing can be recorded of a message that the disk does not give back, so it waits for another try."""
        log.error("%s: %s; tried again in %d s", self._spool.id_of(row), error, PUT_OFF_S)
        self._table.move(row, State.WAITING, int(self._clock.time() + PUT_OFF_S))
        self.look_for_due()

    async def _settle_stock(self, destination: Destination, route: NoRoute) -> None:
        """Everything that is due for a destination without a route."""
        while destination.stocked and not self._closing:
            rows = [row for row in destination.take(_ERRAND_ROWS) if self._is_due(row)]
            numbers = np.array(rows, dtype=np.uint32)
            self._seize_rows(numbers)
            await self.visit(numbers, lambda delivery: self._no_route(delivery, route))

    def _seize_rows(self, rows: Rows) -> None:
        """They will be settled without an attempt: nobody else takes them."""
        self._table.move_many(rows, State.SEIZED)

    def _is_due(self, row: int) -> bool:
        return self._table.holds(row) and self._table.get(row, "state") == State.DUE

    def run_errand(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Something that takes its time; it ends with the manager."""
        task = asyncio.get_running_loop().create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errand_done)
        return task

    def _errand_done(self, task: asyncio.Task[None]) -> None:
        self._errands.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("an errand of the queue", exc_info=task.exception())  # Q3: the sweeper finds what it left

    # ---- the sweep

    async def sweep(self) -> None:
        """Q4: look at everything that lives; forget ready queues nobody uses. A slice at a time."""
        now, orphans = self._clock.time(), 0
        for delivery in list(self._spool.in_hand):
            if self._is_orphan(delivery):
                orphans += 1
                log.error("%s: delivery to %s had no owner; queued again", delivery.message.id, delivery.destination)
                delivery.due_at = now + ORPHAN_WAIT_S
                self._spool.when_settled(delivery, self._wait)
        orphans += await self._sweep_rows(now)
        self.orphans, self.last_counts = orphans, self.counts()
        self._spool.forget_names()
        for key, queue in list(self.ready.items()):
            if queue.unused and queue.throttle.learned(now) is None:
                del self.ready[key]
                queue.siblings.remove(queue)
                if not queue.siblings:
                    del self._throttles[throttle_key(queue.plan)]

    def _is_orphan(self, delivery: Delivery) -> bool:
        match delivery.state:
            case State.RESOLVING:
                return (delivery.destination, delivery.via) not in self._resolving
            case State.ATTEMPT:
                return delivery not in self._courier.working and not delivery.unsettled
            case State.READY:
                owner = delivery.owner
                return not isinstance(owner, ReadyQueue) or self.ready.get(ready_key(owner.plan)) is not owner
            case State.FINAL:
                return False
            case State.LOADING:
                return not self._errands
        return True

    async def _sweep_rows(self, now: float) -> int:
        """Orphans among the rows; what expired while it was due; the oldest."""
        table, oldest, orphans = self._table, min((d.message.received_at for d in self._spool.in_hand), default=None), 0
        stocked = sum(destination.stocked for destination in self.destinations.values())
        if table.counts[State.DUE] > stocked:
            orphans += table.counts[State.DUE] - stocked
            log.error("%d deliveries were due and in no stock; queued again", orphans)
            for rows in list(table.select(state=State.DUE)):
                table.move_many(rows, State.WAITING, int(now + ORPHAN_WAIT_S))
            for destination in self.destinations.values():
                for stock in destination.stock:
                    stock.take(len(stock))
        if not self._errands and not self._larder.busy:
            for state in (State.LOADING, State.SEIZED):
                for rows in list(table.select(state=state)):
                    orphans += len(rows)
                    log.error("%d deliveries were being read by nobody; queued again", len(rows))
                    table.move_many(rows, State.WAITING, int(now + ORPHAN_WAIT_S))
        for number, slab in enumerate(list(table.slabs)):
            states = slab["state"]
            live = states != State.STORING
            if not live.any():
                continue
            first = id_time(int(slab["id"][live].min()))
            oldest = first if oldest is None else min(oldest, first)
            late = (states == State.WAITING) & (slab["due_at"] < now - 60)
            if late.any():
                orphans += int(late.sum())
                slab.next_due = int(slab["due_at"][late].min())
            expired = np.flatnonzero((states == State.DUE) & (slab["expires_at"] <= now))
            if len(expired):
                rows = (expired | (number << 16)).astype(np.uint32)
                self._seize_rows(rows)
                self.run_errand(self.visit(rows, self._give_up))
            self._tell_delays(number, now)
            await asyncio.sleep(0)
        self.oldest_at = oldest
        self.look_for_due()
        return orphans

    def _tell_delays(self, number: int, now: float) -> None:
        """Rows of a slab whose senders are to hear that they wait, though nothing was tried: their site is closed.

        A row that is noted is not looked at again; after a restart once more, by its record.
        """
        slab = self._table.slabs[number]
        newest = int((now - self._courier.delay_notice) * 1000) << 12
        for state in (State.DUE, State.HELD):
            late = np.flatnonzero((slab["state"] == state) & (slab["notices"] == 0) & (slab["id"] <= max(newest, 0)))
            if len(late):
                rows = (late | (number << 16)).astype(np.uint32)
                self._seize_rows(rows)
                self.run_errand(self._tell_delay(rows, state))

    async def _tell_delay(self, rows: Rows, state: State) -> None:
        """Tell of these, and put them back."""
        async for part in self._seized(rows):
            found = await self._spool.read(part)
            for one in found:
                if isinstance(one, Delivery):
                    self._courier.tell_delay(one, *self._site_of(one))
                else:
                    self._unreadable(*one)
            await self._courier.catch_up()
            # An operator may have taken some meanwhile.
            told = [one for one in found if isinstance(one, Delivery) and one.state is State.LOADING]
            for delivery in told:
                delivery.notices = 1
                if state is State.HELD:
                    self._wait(delivery)  # held as before, if the hold was not lifted meanwhile
            if state is State.DUE:
                self.put_down(told)
                for key in {(delivery.destination, delivery.via) for delivery in told}:
                    self._offer(self.destination(*key))

    def _site_of(self, delivery: Delivery) -> tuple[str, str]:
        """The provider, and why its site is closed or slow."""
        plan = self._router.cached(delivery.destination, delivery.via)
        throttle = self.throttle(plan) if isinstance(plan, Plan) else None
        return plan.provider if isinstance(plan, Plan) else OTHER, throttle.reason if throttle else ""

    def _give_up(self, delivery: Delivery) -> None:
        self._courier.give_up(delivery, *self._site_of(delivery))
