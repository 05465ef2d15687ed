"""The sites that mail goes to: a ready queue for each source, site, limits and TLS need, a throttle for each site."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from engine.base.clock import Clock
from engine.queue.budget import Budget
from engine.queue.ready import Courier, ReadyKey, ReadyQueue, Store, ready_key
from engine.queue.throttle import Throttle, Word
from engine.routing.plan import Plan
from engine.storage.tables.queue_state import QueueState

#: Tells the node's other workers what a site said: its key, the word, the time and reason.
Tell = Callable[[str, Word, float, str], object]
#: Sites of which others told us before we had to do with them.
_MOST_HEARD: Final = 10_000


def throttle_key(plan: Plan) -> str:
    """What shares a throttle: a site, and the limits where a route sets its own."""
    return plan.site if plan.limits.key == plan.site else f"{plan.site} {plan.limits.key}"


class Sites:
    """See above. store: where queues have their deliveries from. courier: set before the first queue is asked for.

    tell: set by then, too, if there are other workers.
    """

    def __init__(self, budget: Budget, state: QueueState, clock: Clock, store: Store) -> None:
        self._budget = budget
        self._state = state
        self._clock = clock
        self._store = store
        self._throttles: dict[str, tuple[Throttle, list[ReadyQueue]]] = {}
        self._closed = False
        self._heard: dict[str, tuple[float, str]] = {}  #: closed until, and why; of sites without a throttle
        self.courier: Courier
        self.tell: Tell | None = None
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
            # A carrier and an application are one worker's.
            tell = partial(self.tell, key) if self.tell is not None and plan.channel == "mail" else None
            throttle = Throttle(plan.limits.connections, plan.limits.rate, tell)
            learned: dict[str, Any] | None = self._state.learned(key)
            if learned is not None:
                throttle.remember(learned)
            if (heard := self._heard.pop(key, None)) is not None:
                throttle.hear("closed", *heard)
            found = self._throttles[key] = (throttle, [])
        return found

    def throttle(self, plan: Plan) -> Throttle | None:
        """The throttle of a plan's site; None if nothing was sent there lately."""
        found = self._throttles.get(throttle_key(plan))
        return found[0] if found else None

    def throttles(self) -> Iterator[tuple[str, Throttle]]:
        for site, (throttle, _) in self._throttles.items():
            yield site, throttle

    def hear(self, key: str, word: Word, at: float, reason: str) -> None:
        """Another worker was told this by a site."""
        found = self._throttles.get(key)
        if found is not None:
            found[0].hear(word, at, reason)
        elif word == "closed" and len(self._heard) < _MOST_HEARD:
            self._heard[key] = at, reason

    def reopen(self, plan: Plan) -> None:
        """An operator, or a peer that is there again, says: try this site now; also one closed before a restart."""
        self._heard.pop(throttle_key(plan), None)
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
        for site in [site for site, (until, _) in self._heard.items() if until <= now]:
            del self._heard[site]

    def close(self) -> None:
        """No queue starts another agent."""
        self._closed = True
        for queue in self.ready.values():
            queue.close()
