"""The sites that mail goes to: a ready queue for each source, site, limits and TLS need, a throttle for each site."""

from collections.abc import Iterator
from typing import Any

from engine.base.clock import Clock
from engine.queue.budget import Budget
from engine.queue.ready import Courier, ReadyKey, ReadyQueue, Store, ready_key
from engine.queue.throttle import Throttle
from engine.routing.plan import Plan
from engine.storage.tables.queue_state import QueueState


def throttle_key(plan: Plan) -> str:
    """What shares a throttle: a site, and the limits where a route sets its own."""
    return plan.site if plan.limits.key == plan.site else f"{plan.site} {plan.limits.key}"


class Sites:
    """See above. store: where queues have their deliveries from. courier: set before the first queue is asked for."""

    def __init__(self, budget: Budget, state: QueueState, clock: Clock, store: Store) -> None:
        self._budget = budget
        self._state = state
        self._clock = clock
        self._store = store
        self._throttles: dict[str, tuple[Throttle, list[ReadyQueue]]] = {}
        self._closed = False
        self.courier: Courier
        self.ready: dict[ReadyKey, ReadyQueue] = {}

    def queue_for(self, plan: Plan) -> ReadyQueue:
        """The queue that serves this plan, made when there is none; it works by this plan from now on."""
        key = ready_key(plan)
        queue = self.ready.get(key)
        if queue is None:
            throttle, siblings = self.site(plan)
            queue = self.ready[key] = ReadyQueue(
                plan, throttle, siblings, self._budget, self.courier, self._clock, self._store
            )
            siblings.append(queue)
            if self._closed:
                queue.close()
        elif queue.plan is not plan:
            queue.plan = plan
            queue.throttle.configure(plan.limits.connections, plan.limits.rate)
        return queue

    def site(self, plan: Plan) -> tuple[Throttle, list[ReadyQueue]]:
        """The throttle of a plan's site, with what it learned before a restart, and the queues that share it."""
        key = throttle_key(plan)
        found = self._throttles.get(key)
        if found is None:
            throttle = Throttle(plan.limits.connections, plan.limits.rate)
            learned: dict[str, Any] | None = self._state.learned(key)
            if learned is not None:
                throttle.remember(learned)
            found = self._throttles[key] = (throttle, [])
        return found

    def throttle(self, plan: Plan) -> Throttle | None:
        """The throttle of a plan's site; None if nothing was sent there lately."""
        found = self._throttles.get(throttle_key(plan))
        return found[0] if found else None

    def throttles(self) -> Iterator[tuple[str, Throttle]]:
        for site, (throttle, _) in self._throttles.items():
            yield site, throttle

    def reopen(self, plan: Plan) -> None:
        """An operator, or a peer that is there again, says: try this site now; also one closed before a restart."""
        throttle, queues = self.site(plan)
        throttle.reopen()
        for queue in queues:
            queue.reopen()

    def remember(self) -> None:
        """Write down what the throttles have learned."""
        now = self._clock.time()
        self._state.save_throttles({site: throttle.learned(now) for site, throttle in self.throttles()})

    def forget_unused(self) -> None:
        """Drop the queues that nobody uses, and the throttles that say nothing."""
        now = self._clock.time()
        for key, queue in list(self.ready.items()):
            if queue.unused and queue.throttle.learned(now) is None:
                del self.ready[key]
                queue.siblings.remove(queue)
                if not queue.siblings:
                    del self._throttles[throttle_key(queue.plan)]

    def close(self) -> None:
        """No queue starts another agent."""
        self._closed = True
        for queue in self.ready.values():
            queue.close()
