"""The ready queue of one source and site: deliveries that are due and wait for a connection.

Transactional before bulk; within a class, first come, first served. Only what is next is in memory; the rest is the
stock of the destinations that feed the queue, on disk, read ahead of need (larder.py). What waits for a closed site
goes back to the stock, and the queue sleeps until the site opens.

The queues of a site share its window, those of a provider its leases. None keeps an idle connection that another
wants, and an agent whose connection has carried its share makes room.
"""

import asyncio
import math
from collections import deque
from collections.abc import Iterable
from functools import cached_property
from typing import Final, Protocol

from engine.base.clock import Clock
from engine.queue.budget import Budget, Lease
from engine.queue.stock import Destination
from engine.queue.throttle import Throttle
from engine.routing.plan import NoRoute, Plan
from engine.storage.spool.entry import Delivery, State

#: Deliveries that are objects, about a kilobyte each without the content.
MAX_IN_HAND: Final = 20_000
#: Deliveries of one queue in memory that were read ahead of need; fewer than half of it make it read on.
READ_AHEAD: Final = 256
#: Those that a queue with a connection keeps in memory as they arrive: on disk they are already, and a row that is made
#: and read again costs a third of what an SMS costs.
MOST_FRESH: Final = 8192
#: Of SMS, which are small: as many as all queues of mail may have in memory together, and again so many.
MOST_FRESH_SMS: Final = 2 * MAX_IN_HAND

_READY: Final = State.READY  # a name of the module is quicker than a member of a class
_ATTEMPT: Final = State.ATTEMPT

#: What makes two destinations share connections: source, site, limits, TLS need, credentials.
ReadyKey = tuple[str, str, str, str, tuple[str, str] | None]


def ready_key(plan: Plan) -> ReadyKey:
    return (plan.source.name, plan.site, plan.limits.key, plan.tls, plan.credentials)


class Courier(Protocol):
    """Who carries out deliveries (engine.delivery). Every call returns at once.

    working: the deliveries in an attempt, or being settled, by a task of the courier's (Q4).
    """

    working: set[Delivery]

    def attempt(self, queue: "ReadyQueue", lease: Lease) -> None:
        """Hold a connection and deliver from `queue` until it is empty; then release the lease."""


class Dispatcher(Courier, Protocol):
    """The courier, as the manager needs it. Those that settle a delivery return at once."""

    def no_route(self, delivery: Delivery, route: NoRoute) -> None:
        """Its destination has no route."""

    def give_up(self, delivery: Delivery, provider: str, reason: str) -> None:
        """It expired without another attempt. reason: why its site is closed."""

    def refuse(self, delivery: Delivery) -> None:
        """Its recipients were suppressed when it was accepted. Those who are not any more wait for their turn."""

    def fail_lost(self, delivery: Delivery) -> None:
        """Its record is damaged."""

    @property
    def delay_notice(self) -> float:
        """Seconds after which `tell_delay` is due for what waits without an attempt."""

    def tell_delay(self, delivery: Delivery, provider: str, reason: str) -> None:
        """Its sender hears why it waits, if he wants to; nothing else becomes of it."""

    async def catch_up(self) -> None:
        """Return when everything that was given to settle without an attempt is on its way to the disk."""


class Store(Protocol):
    """Where a queue's deliveries are when they are not in memory (the manager). Every call returns at once."""

    def want(self, queue: "ReadyQueue") -> None:
        """Read some of its stock, and push it."""

    def put_down(self, deliveries: Iterable[Delivery]) -> None:
        """These go back to the stock of their destinations, in front."""

    def set_aside(self, delivery: Delivery) -> None:
        """It goes back to the stock of its destination, and is not read before everything that was set aside is to be
        looked at again."""

    def route_again(self, queue: "ReadyQueue") -> None:
        """Its plan holds no longer: take everything away (`drain`, `feeders`), and find it another place."""


class ReadyQueue:
    """See above. Made by the manager; agents call `take`, `wait` and `left`.

    feeders: destinations with stock for this queue, the next one first. reading: a batch of it is being read.
    """

    def __init__(
        self,
        plan: Plan,
        throttle: Throttle,
        siblings: "list[ReadyQueue]",
        budget: Budget,
        courier: Courier,
        clock: Clock,
        store: Store,
    ) -> None:
        """siblings: all queues of the site, this one included once it is added; they share the throttle."""
        self._store = store
        self.feeders: dict[Destination, None] = {}
        self.reading = False
        self.siblings = siblings
        self.plan = plan  #: the newest; hosts and limits may change while deliveries wait
        self.throttle = throttle
        self._budget = budget
        self._courier = courier
        self._clock = clock
        self._classes: tuple[deque[Delivery], deque[Delivery]] = (deque(), deque())  #: by MessageClass
        self._idle: list[asyncio.Future[bool]] = []  #: agents with an open connection and nothing to do
        self._offered = ""  #: the key their leases are offered under
        self._coming = 0  #: agents that were woken or started and have not asked for a delivery yet
        self._waits_for_budget = False
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at = math.inf
        self._permit_at = 0.0  #: of a permit that was given for later than it was worth an agent's waiting
        self._closed = False
        self.agents = 0

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def __len__(self) -> int:
        """Entries, those included that an operator has taken away since."""
        return len(self._classes[0]) + len(self._classes[1])

    @property
    def unused(self) -> bool:
        """Nothing queued and nobody working: the manager may forget this queue."""
        return not self.agents and not len(self) and not self.feeders and not self.reading

    @property
    def hungry(self) -> bool:
        """More is queued than agents come for, and the site takes it."""
        return not self._closed and len(self) > self._coming and self.throttle.window(self._clock.time()) > 0

    def takes_more(self, in_hand: int, contents_stay: bool) -> bool:
        """A delivery that is in memory may stay there: nothing stands before it on disk, and there is room.

        in_hand: of all queues. contents_stay: in memory, too, as long as it may last.
        """
        most, most_of_all = (MOST_FRESH_SMS, MOST_FRESH_SMS) if self.plan.channel else (MOST_FRESH, MAX_IN_HAND)
        if in_hand >= most_of_all:
            return False
        if not self.agents or not contents_stay:
            most = READ_AHEAD
        closed_until = self.throttle.closed_until
        return not self.feeders and len(self) < most and (not closed_until or closed_until <= self._clock.time())

    def feed(self, destination: Destination) -> None:
        """The destination has stock for this queue."""
        self.feeders[destination] = None
        self.restock()

    def restock(self) -> None:
        """Read on if little is left in memory and the site takes it."""
        if (
            self.feeders
            and len(self) < READ_AHEAD // 2
            and not self._closed
            and self.throttle.window(self._clock.time()) > 0
        ):
            self._store.want(self)
        elif self.feeders:
            self.pump()

    def take_stock(self) -> list[int]:
        """Rows to read now: a batch, from one destination after the other. Few for a queue without a connection."""
        most = READ_AHEAD - len(self) if self.agents else min(READ_AHEAD // 4, 2 * self.plan.limits.connections)
        rows: list[int] = []
        for destination in list(self.feeders):
            del self.feeders[destination]
            rows += destination.take(most - len(rows))
            if destination.stocked:
                self.feeders[destination] = None
            if len(rows) >= most:
                break
        return rows

    def push(self, delivery: Delivery) -> None:
        delivery.state, delivery.owner = _READY, self
        self._classes[delivery.message.message_class].append(delivery)
        self.pump()

    def take(self) -> Delivery | None:
        """The next delivery, now in an attempt; None if there is none or the site is closed."""
        if self.throttle.closed_until and self._clock.time() < self.throttle.closed_until:
            return None
        delivery = self._first()
        if delivery is not None:
            delivery.state = _ATTEMPT
            self.pump()  # what is left may be worth another connection
        if self.feeders and len(self) < READ_AHEAD // 2:
            self._store.want(self)
        return delivery

    def put_back(self, delivery: Delivery) -> None:
        """An agent took it and cannot begin it: it is the next one again."""
        self._store.put_down([delivery])

    def set_aside(self, delivery: Delivery) -> None:
        """An agent took it, and it must not keep those behind it: they are next."""
        self._store.set_aside(delivery)

    def permit(self, now: float) -> float:
        """When the next message may go (monotonic, as `now`): by the limits' rate, and by a rate slower than that."""
        if self._permit_at:
            at, self._permit_at = self._permit_at, 0.0
            return at
        throttle, limits = self.throttle, self.plan.limits
        at = self._budget.permit(limits.key, throttle.cap, now)
        if throttle.rate != throttle.cap:
            # A permit of its own: others that share the key are not slowed down with this site.
            at = max(at, self._budget.permit(f"slow {limits.key} {self.plan.site}", throttle.rate, now))
        return at

    def sleep_until(self, at: float) -> None:
        """An agent leaves rather than wait so long for its permit; the one that comes then has it."""
        self._permit_at = at

    def arrived(self) -> None:
        """An agent that was started, or whose `wait` gave True, is about to take."""
        self._coming -= 1

    def wait(self) -> "asyncio.Future[bool]":
        """For an agent with an open connection: True when there is something to take; set False to stop waiting."""
        future: asyncio.Future[bool] = self._loop.create_future()
        if not self._idle:
            self._offered = self.plan.limits.key
            self._budget.offer(self._offered, self)
        self._idle.append(future)
        return future

    def left_waiting(self, future: "asyncio.Future[bool]") -> None:
        """An agent waits no longer."""
        if future in self._idle:
            self._idle.remove(future)
            if not self._idle:
                self._budget.withdraw(self._offered, self)

    def must_share(self) -> bool:
        """Others wait for what an agent of ours holds."""
        siblings = any(queue.hungry for queue in self.siblings if queue is not self)
        return siblings or self._budget.wanted(self.plan.limits.key, self)

    def give_back(self) -> bool:
        """Let the agent go whose connection is idle longest; False if none is."""
        return self._wake_idle(0, False)

    def lease_freed(self) -> bool:
        """The budget has a lease again: whether this queue took it."""
        before, self._waits_for_budget = self.agents, False
        self.pump()
        return self.agents > before

    def left(self) -> None:
        """An agent has ended and released its lease. The other queues of the site have their turn first."""
        self.agents -= 1
        self.throttle.in_use -= 1
        self.siblings.remove(self)
        self.siblings.append(self)
        for queue in self.siblings:
            queue.pump()
        self.restock()  # what it put back is in nobody's memory

    def close(self) -> None:
        """The daemon stops: start no more agents. What is queued is safe on disk."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def reopen(self) -> None:
        """The site was opened before its time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._wake()

    def pump(self) -> None:
        """Wake or start agents for what is queued, as far as throttle and budget allow."""
        if self._closed:
            return
        if len(self) <= self._coming:
            if self.feeders and self.throttle.window(self._clock.time()) == 0:
                self._sleep()
            return
        # The connection used last is the one least likely to be closed, and the others may end.
        if self._idle and self._wake_idle(-1, True):
            self._coming += 1
            return
        window = self.throttle.window(self._clock.time())
        if window == 0:
            self._sleep()
            return
        if self._permit_at and (wait := self._permit_at - self._clock.monotonic()) > 0:
            self._wake_in(wait)
            return
        if self.throttle.in_use >= window:
            any(queue.give_back() for queue in self.siblings if queue is not self)
            return
        # One new agent for each delivery without one is enough: those at work will come back for more.
        if self._waits_for_budget:
            return
        limits = self.plan.limits
        lease = self._budget.lease(limits.key, limits.connections)
        if lease is None:
            self._waits_for_budget = True
            self._budget.wait(limits.key, self)
            return
        self.agents += 1
        self._coming += 1
        self.throttle.in_use += 1
        self._courier.attempt(self, lease)

    def _first(self) -> Delivery | None:
        for queue in self._classes:
            while queue:
                delivery = queue.popleft()
                if delivery.state is _READY and delivery.owner is self:
                    return delivery
        return None

    def _wake_idle(self, position: int, more: bool) -> bool:
        """Tell the idle agent at this end of the list that there is more to do, or not; False if none is idle."""
        while self._idle:
            future = self._idle.pop(position)
            if not self._idle:
                self._budget.withdraw(self._offered, self)
            if not future.done():
                future.set_result(more)
                return True
        return False

    def _sleep(self) -> None:
        """Until the site opens. Nothing of it stays in memory, but the loop serves others in between."""
        self._store.put_down(self.drain(READ_AHEAD))
        if len(self):
            self._loop.call_soon(self.pump)
        wake_at = self.throttle.closed_until
        if self._timer is not None and wake_at < self._wake_at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._wake_at = wake_at
            delay = max(wake_at - self._clock.time(), 0.0)
            self._timer = self._loop.call_later(delay, self._wake)

    def _wake_in(self, seconds: float) -> None:
        """Sleep until a permit holds."""
        if self._timer is None:
            self._wake_at = self._clock.time() + seconds
            self._timer = self._loop.call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._closed:
            return
        if self.plan.expires_at <= self._clock.monotonic():
            self._store.route_again(self)
        else:
            self.pump()
            self.restock()

    def drain(self, most: int = 1 << 30) -> list[Delivery]:
        """Take the last so many out of memory, in their order; the caller finds them another place.

        What an operator sent elsewhere and back again is listed twice.
        """
        last: dict[Delivery, None] = {}
        for queue in reversed(self._classes):
            while queue and len(last) < most:
                delivery = queue.pop()
                if delivery.state is _READY and delivery.owner is self:
                    last[delivery] = None
        return list(reversed(last))
