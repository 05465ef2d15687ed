"""The queue manager: every live delivery is somewhere, and knows when it goes on.

    insert -> waiting (due time) -> resolving (route) -> ready (site) -> attempt -> settled: final, or waiting again

Q1  a delivery is in exactly one state; `_move` is the only way between them outside a ready queue.
Q4  every live delivery has an owner and a next time; `sweep` puts an orphan back to work and counts it.
"""

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.message.outcome import Status
from engine.queue.budget import Budget
from engine.queue.ready import Courier, ReadyKey, ReadyQueue, ready_key
from engine.queue.tally import Tally
from engine.queue.throttle import Throttle
from engine.routing.plan import NoRoute, Plan
from engine.routing.router import Router
from engine.storage.spool.entry import Delivery, Message, State
from engine.storage.spool.spool import Spool
from engine.storage.tables.queue_state import ALL, QueueState

log = logging.getLogger(__name__)

#: Routes looked up at once; more destinations wait for their turn.
MAX_LOOKUPS = 1000
#: An orphan is the trace of a fault, which may be there still: not at once.
ORPHAN_WAIT_S = 60.0
#: Deliveries that become due in one go; then the loop serves others.
DUE_SLICE = 500


def throttle_key(plan: Plan) -> str:
    """What shares a throttle: a site, and the limits where a route sets its own."""
    return plan.site if plan.limits.key == plan.site else f"{plan.site} {plan.limits.key}"


class Dispatcher(Courier, Protocol):
    """The courier, as the manager needs it."""

    def no_route(self, delivery: Delivery, route: NoRoute) -> None:
        """Settle a delivery whose destination has no route. Returns at once."""


class Destination:
    """The queue of one mail domain or carrier: its live deliveries, whatever their state."""

    __slots__ = ("deliveries", "held", "name")

    def __init__(self, name: str, held: bool) -> None:
        self.name = name
        self.held = held
        self.deliveries: dict[Delivery, None] = {}


class Manager:
    """See above. One per worker; all methods on its loop."""

    def __init__(self, spool: Spool, router: Router, budget: Budget, state: QueueState, clock: Clock) -> None:
        self._spool = spool
        self._router = router
        self._budget = budget
        self._state = state
        self._clock = clock
        self._courier: Dispatcher
        self._heap: list[tuple[float, int, Delivery]] = []
        self._pushed = 0  #: breaks ties in the heap, first come first served
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._parked: dict[str, list[Delivery]] = {}  #: deliveries by destination, while its route is looked up
        self._lookups: set[asyncio.Task[None]] = set()
        self._lookups_waiting: deque[str] = deque()
        self._throttles: dict[str, tuple[Throttle, list[ReadyQueue]]] = {}
        self._closing = False
        self.destinations: dict[str, Destination] = {}
        self.ready: dict[ReadyKey, ReadyQueue] = {}
        self.counts = [0] * len(State)
        self.orphans = 0
        self.oldest_at: float | None = None  #: when the oldest queued message arrived, as of the last sweep
        self.tally = Tally()

    def start(self, courier: Dispatcher) -> None:
        """Take over what recovery found, and every message accepted from now on."""
        self._courier = courier
        self._spool.accepted = self.accept
        for message in self._spool.messages.values():
            self.tally.recovered += sum(len(delivery.indexes) for delivery in message.deliveries)
            self.insert(message)

    def stop(self) -> None:
        """Begin nothing new. What is in an attempt goes on; the rest is safe on disk."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._lookups:
            task.cancel()
        for queue in self.ready.values():
            queue.close()

    def accept(self, message: Message) -> None:
        """A message that is durable since just now."""
        for delivery in message.deliveries:
            self.tally.accepted += len(delivery.indexes)
        self.insert(message)

    def insert(self, message: Message) -> None:
        """A message that is durable enters the queues."""
        for delivery in message.deliveries:
            if delivery.state is State.FINAL:
                continue
            destination = self.destination(delivery.destination)
            destination.deliveries[delivery] = None
            self._reenter(delivery)

    def destination(self, name: str) -> Destination:
        """The queue of a destination, made when there is none."""
        destination = self.destinations.get(name)
        if destination is None:
            destination = self.destinations[name] = Destination(name, self._state.is_held(name))
        return destination

    def schedule(self, delivery: Delivery) -> None:
        """Send a delivery on its way: now if it is due, else at its time."""
        if delivery.due_at <= self._clock.time():
            self._route(delivery)
            return
        self._move(delivery, State.WAITING, self)
        self._pushed += 1
        heapq.heappush(self._heap, (delivery.due_at, self._pushed, delivery))
        self._set_timer()

    def settled(self, delivery: Delivery) -> None:
        """An attempt is over and recorded: forget the delivery or wait for its next time."""
        if delivery.state is not State.FINAL:
            self._reenter(delivery)
            return
        destination = self.destinations[delivery.destination]
        del destination.deliveries[delivery]
        if not destination.deliveries and not destination.held:
            del self.destinations[delivery.destination]
        if not delivery.message.live and self._state.is_held(delivery.message.id):
            try:
                self._state.resume(delivery.message.id)
            except StorageError as exc:  # a row too many; the delivery is settled all the same
                log.error("%s: %s", delivery.message.id, exc)

    def throttle(self, plan: Plan) -> Throttle | None:
        """The throttle of a plan's site; None if nothing was sent there lately."""
        found = self._throttles.get(throttle_key(plan))
        return found[0] if found else None

    def queued(self) -> int:
        """Recipients that are not final, counted one by one (Q2)."""
        return sum(len(d.indexes) for name in self.destinations.values() for d in name.deliveries)

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

    def _route_again(self, queue: ReadyQueue) -> None:
        for delivery in queue.drain():
            self._route(delivery)

    async def reroute(self) -> None:
        """Routes have changed: look up again where everything goes that waits for a connection."""
        for destination in list(self.destinations.values()):
            for delivery in list(destination.deliveries):
                if delivery.state is State.READY:
                    self._route(delivery)
            await asyncio.sleep(0)

    # Operators' actions on one delivery; `actions.py` finds which.

    def hold(self, delivery: Delivery) -> bool:
        """Stop a delivery until `release`. False: it is in an attempt just now, or gone."""
        if delivery.state in (State.ATTEMPT, State.FINAL):
            return False
        self._move(delivery, State.HELD, self.destinations[delivery.destination])
        return True

    def release(self, delivery: Delivery, now: bool = False) -> bool:
        """End a hold, or (now) a wait: the delivery goes on at its due time or at once."""
        if delivery.state not in (State.HELD, State.WAITING):
            return False
        if now:
            delivery.due_at = self._clock.time()
        self.schedule(delivery)
        return True

    def seize(self, delivery: Delivery) -> bool:
        """Take a delivery out of its queue to settle it by hand. False: it is in an attempt just now."""
        if delivery.state in (State.ATTEMPT, State.FINAL):
            return False
        self._move(delivery, State.ATTEMPT, self)
        return True

    # Inside.

    def _move(self, delivery: Delivery, state: State, owner: object) -> None:
        delivery.state, delivery.owner = state, owner

    def _reenter(self, delivery: Delivery) -> None:
        destination = self.destinations[delivery.destination]
        if destination.held or self._state.is_held(delivery.message.id) or self._state.is_held(ALL):
            self._move(delivery, State.HELD, destination)
        else:
            self.schedule(delivery)

    def _set_timer(self) -> None:
        """Sleep until the earliest due time (or an hour: a clock that was set shows itself then at the latest)."""
        due = self._heap[0][0]
        if self._closing or (self._timer is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        delay = min(max(due - self._clock.time(), 0.0), 3600.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_due)

    def _on_due(self) -> None:
        self._timer = None
        now = self._clock.time()
        for _ in range(DUE_SLICE):
            if not self._heap or self._heap[0][0] > now:
                break
            due_at, _, delivery = heapq.heappop(self._heap)
            # An entry whose delivery went elsewhere meanwhile, or got another time, says nothing.
            if delivery.state is State.WAITING and delivery.due_at == due_at:
                self._route(delivery)
        if self._heap:
            self._set_timer()

    def _route(self, delivery: Delivery) -> None:
        plan = self._router.cached(delivery.destination)
        if isinstance(plan, Plan):
            self._queue_for(plan).push(delivery)
        elif plan is None:
            self._look_up(delivery)
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
                plan, throttle, siblings, self._budget, self._courier, self._clock, self._route_again
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

    def _look_up(self, delivery: Delivery) -> None:
        name = delivery.destination
        self._move(delivery, State.RESOLVING, self)
        parked = self._parked.get(name)
        if parked is not None:
            parked.append(delivery)
            return
        self._parked[name] = [delivery]
        self._lookups_waiting.append(name)
        self._start_lookups()

    def _start_lookups(self) -> None:
        while self._lookups_waiting and len(self._lookups) < MAX_LOOKUPS and not self._closing:
            task = asyncio.get_running_loop().create_task(self._resolve(self._lookups_waiting.popleft()))
            self._lookups.add(task)
            task.add_done_callback(self._looked_up)

    def _looked_up(self, task: asyncio.Task[None]) -> None:
        self._lookups.discard(task)
        self._start_lookups()

    async def _resolve(self, name: str) -> None:
        try:
            plan = await self._router.resolve(name)
        except Exception:  # top of a task, Q3: unknown means deferred
            log.exception("looking up the route of %s", name)
            plan = NoRoute(Status.DEFERRED, "4.3.5", "internal error while looking up the route", 0.0)
        for delivery in self._parked.pop(name):
            if delivery.state is not State.RESOLVING:
                continue  # an operator took it
            if isinstance(plan, Plan):
                self._queue_for(plan).push(delivery)
            else:
                self._no_route(delivery, plan)

    async def sweep(self) -> None:
        """Q4: look at every live delivery; forget ready queues nobody uses. A slice at a time."""
        now, orphans, counts = self._clock.time(), 0, [0] * len(State)
        for index, message in enumerate(list(self._spool.messages.values())):
            for delivery in message.deliveries:
                counts[delivery.state] += 1
                if self._is_orphan(delivery, now):
                    orphans += 1
                    log.error("%s: delivery to %s had no owner; queued again", message.id, delivery.destination)
                    delivery.due_at = now + ORPHAN_WAIT_S
                    self._reenter(delivery)
            if index % 1000 == 999:
                await asyncio.sleep(0)
        self.counts, self.orphans = counts, orphans
        oldest = next(iter(self._spool.messages.values()), None)
        self.oldest_at = oldest.received_at if oldest else None
        for key, queue in list(self.ready.items()):
            if queue.unused and queue.throttle.learned(now) is None:
                del self.ready[key]
                queue.siblings.remove(queue)
                if not queue.siblings:
                    del self._throttles[throttle_key(queue.plan)]

    def _is_orphan(self, delivery: Delivery, now: float) -> bool:
        match delivery.state:
            case State.FINAL | State.HELD:
                return False
            case State.WAITING:
                return delivery.due_at < now - 60
            case State.RESOLVING:
                return delivery.destination not in self._parked
            case State.ATTEMPT:
                return delivery not in self._courier.working
            case State.READY:
                owner = delivery.owner
                return not isinstance(owner, ReadyQueue) or self.ready.get(ready_key(owner.plan)) is not owner
            case State.STORING:
                return True
