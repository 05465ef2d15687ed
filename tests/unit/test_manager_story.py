"""Any story of messages, connections, operators, closed sites, lookups, restarts and time leaves the queue in order.

    Q1  a delivery is in exactly one place           Q2  the books balance            Q4  everybody has an owner
    B1, W2  connections within budget and window     and in the end everything that is queued goes out

Hypothesis prints the story that broke a rule, as small as it can make it.
"""

import functools
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.base.settings import Settings, SpoolSettings
from engine.base.units import Size
from engine.delivery import verdicts
from engine.message.envelope import MessageClass
from engine.message.outcome import Status
from engine.queue.ready import ReadyQueue
from engine.queue.scope import Scope
from engine.queue.stock import Stock
from engine.routing.plan import NoRoute
from engine.storage.spool.entry import State
from tests.support.clock import FakeClock
from tests.support.queue import Agent, NoReports, Stage, outcome

DESTINATIONS = ("one.test", "two.test", "shared-a.test", "shared-b.test")
SITES = {"shared-a.test": "mx.shared", "shared-b.test": "mx.shared"}
CONNECTIONS = {"mx.one.test": 1, "mx.two.test": 3, "mx.shared": 2}
FATES = (Status.DELIVERED, Status.DEFERRED, Status.FAILED, Status.UNKNOWN)

destinations = st.sampled_from(DESTINATIONS)
picks = st.integers(0, 1 << 16)
ACTIONS = ("bounce", "purge", "retry", "move")
ONE = "one message"
RELAY = "127.0.0.1:2500"
scopes = st.sampled_from([*DESTINATIONS, "tenant:acme", "class:bulk"])


def stock_rows(stock: Stock) -> list[int]:
    """What is in a stock, which stays there."""
    rows = stock.take(len(stock))
    stock.put_back(rows)
    return rows


def on_the_loop(step: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A step of the story, run to its end; what it set in motion has come to rest then."""

    @functools.wraps(step)
    def run(self: "Story", **arguments: Any) -> None:
        async def whole() -> None:
            await step(self, **arguments)
            await self.s.rest()
            await self._errands()
            await self.s.rest()

        self.s.run(whole())

    return run


class Story(RuleBasedStateMachine):
    """The rules are what can happen; the invariants are looked at after each."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="postrider-story-"))
        spool = SpoolSettings(
            min_free=0.0, memory_guard=1.0, segment_bytes=Size(4096), journal_files=1, move_rate=Size(0)
        )
        self.s = Stage(self.path, FakeClock(), Settings(), NoReports(), spool)
        self.s.sites.update(SITES)
        self.s.connections.update(CONNECTIONS)
        self.s.max_connections = self.s.budget.max_connections = 4

    # What can happen.

    @rule(
        to=st.lists(destinations, min_size=1, max_size=4), urgent=st.booleans(), days=st.sampled_from([0.01, 3.0]),
        tenant=st.sampled_from(["", "acme"]),
    )  # fmt: skip
    @on_the_loop
    async def message(self, to: list[str], urgent: bool, days: float, tenant: str) -> None:
        kind = MessageClass.TRANSACTIONAL if urgent else MessageClass.BULK
        recipients = [f"r{n}@{destination}" for n, destination in enumerate(to)]
        await self.s.put(*recipients, message_class=kind, expires_in=days * 86400, tenant=tenant)

    @precondition(lambda self: self._agents(busy=False))
    @rule(pick=picks)
    @on_the_loop
    async def take(self, pick: int) -> None:
        agents = self._agents(busy=False)
        agents[pick % len(agents)].take()

    @precondition(lambda self: self._agents(busy=True))
    @rule(pick=picks, fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=4))
    @on_the_loop
    async def settle(self, pick: int, fates: list[Status]) -> None:
        agents = self._agents(busy=True)
        delivery = agents[pick % len(agents)].delivery
        assert delivery is not None
        made = [outcome(index, fates[n % len(fates)], "so it was") for n, index in enumerate(delivery.indexes)]
        await self.s.settle(delivery, *made)

    @precondition(lambda self: self._agents(busy=False))
    @rule(pick=picks)
    @on_the_loop
    async def wait(self, pick: int) -> None:
        """As an agent does: only with nothing queued; where a site is closed, it leaves."""
        agents = self._agents(busy=False)
        agent = agents[pick % len(agents)]
        if await self.s.next(agent) is None:
            if len(agent.queue) or agent.queue.feeders:
                agent.leave()
            else:
                agent.wait()

    @precondition(lambda self: self._agents(busy=False))
    @rule(pick=picks)
    @on_the_loop
    async def leave(self, pick: int) -> None:
        agents = self._agents(busy=False)
        agents[pick % len(agents)].leave()

    @precondition(lambda self: self._agents(busy=True))
    @rule(pick=picks)
    @on_the_loop
    async def fail_to_connect(self, pick: int) -> None:
        """The delivery is deferred, the connection is gone, the throttle hears of it."""
        agents, s = self._agents(busy=True), self.s
        agent = agents[pick % len(agents)]
        assert agent.delivery is not None
        agent.queue.throttle.connect_failed(s.clock.time(), "refused")
        made = [outcome(index, Status.DEFERRED, "refused") for index in agent.delivery.indexes]
        await s.settle(agent.delivery, *made)
        agent.leave()

    @rule(destination=destinations, seconds=st.sampled_from([1, 60, 7200]))
    @on_the_loop
    async def close_site(self, destination: str, seconds: int) -> None:
        throttle = self.s.throttle(destination)
        throttle.close(self.s.clock.time() + seconds, "a stop rule")

    @rule(destination=destinations)
    @on_the_loop
    async def reopen_site(self, destination: str) -> None:
        self.s.manager.sites.reopen(self.s.routes.plan(destination))

    @rule(scope=scopes)
    @on_the_loop
    async def hold(self, scope: str) -> None:
        await self.s.do("hold", scope)

    @precondition(lambda self: self.s.state.holds())
    @rule(pick=picks)
    @on_the_loop
    async def resume(self, pick: int) -> None:
        holds = self.s.state.holds()
        await self.s.do("resume", holds[pick % len(holds)])

    @precondition(lambda self: self.s.manager.queued())
    @rule(action=st.sampled_from(ACTIONS), scope=scopes | st.just(ONE), pick=picks)
    @on_the_loop
    async def order(self, action: str, scope: str, pick: int) -> None:
        """About a destination, a tenant, a class; or one message."""
        s = self.s
        if scope == ONE:
            queued = await s.deliveries()
            scope = queued[pick % len(queued)].message.id
        arguments = [RELAY if pick % 2 else ""] if action == "move" else []
        about = Scope.parse(scope, s.spool)
        if about.in_hand(s.spool) or any(True for _ in about.rows(s.spool)):
            await s.do(action, scope, *arguments)

    @rule(destination=destinations)
    @on_the_loop
    async def route_expires(self, destination: str) -> None:
        if destination not in self.s.routes.unknown:
            self.s.routes.lose(destination)

    @precondition(lambda self: self.s.routes.unknown)
    @rule(how=st.sampled_from(["plan", "nowhere", "fault"]))
    @on_the_loop
    async def route_found(self, how: str) -> None:
        destination = next(iter(self.s.routes.unknown))
        what: Any = {
            "plan": None,
            "nowhere": NoRoute(Status.DEFERRED, "4.4.3", "name server failure", 0.0),
            "fault": RuntimeError("a bug"),
        }[how]
        self.s.routes.answer(destination, what)

    @rule(seconds=st.sampled_from([0.5, 61, 3601, 5 * 3600]))
    @on_the_loop
    async def time_passes(self, seconds: float) -> None:
        await self.s.jump(seconds)

    @rule()
    @on_the_loop
    async def sweep(self) -> None:
        await self.s.sweeper.sweep()
        assert self.s.sweeper.orphans == 0

    @rule()
    @on_the_loop
    async def crash(self) -> None:
        """What was durable is there again, and every attempt begins anew; what operators ordered is carried out."""
        queued, ordered = await self._live(), {order.action for order in self.s.state.orders} - {"move"}
        await self.s.restart()
        assert await self._live() == queued or (ordered and await self._live() < queued)

    @rule()
    @on_the_loop
    async def old_files_are_emptied(self) -> None:
        """What lives moves to the files of its destinations."""
        queued = await self._live()
        await self.s.spool.work()
        assert await self._live() == queued

    # What must hold.

    @invariant()
    def q1_every_delivery_is_in_its_place_and_no_other(self) -> None:
        manager, spool = self.s.manager, self.s.spool
        taken = [agent.delivery for agent in self.s.courier.agents if agent.delivery]
        assert len(set(taken)) == len(taken)
        live: Counter[tuple[str, str]] = Counter()
        for delivery in spool.in_hand:
            live[delivery.destination, delivery.via] += 1
            assert (delivery in self.s.courier.working) == (delivery.state is State.ATTEMPT)
            match delivery.state:
                case State.RESOLVING:
                    assert delivery in manager._resolving[delivery.destination, delivery.via]
                case State.READY:
                    assert isinstance(delivery.owner, ReadyQueue) and delivery.owner in manager.sites.ready.values()
                    assert any(delivery in entries for entries in delivery.owner._classes)
                    assert not any(scope.holds(delivery) for scope in manager.standing.holds)
                case State.ATTEMPT:
                    pass
                case other:
                    raise AssertionError(other)
        stocked = Counter(row for d in manager.destinations.values() for stock in d.stock for row in stock_rows(stock))
        table, texts, counts = spool.table, spool.texts, Counter[int]()
        for rows in table.select():
            for row in rows.tolist():
                state = table.get(row, "state")
                counts[state] += 1
                live[
                    texts["destination"].text(table.get(row, "destination")), texts["via"].text(table.get(row, "via"))
                ] += 1
                match state:
                    case State.WAITING:
                        assert manager._timer is not None and manager._timer_at <= table.get(row, "due_at")
                    case State.DUE:
                        assert stocked[row]  # twice, if it was held and released meanwhile; the second says nothing
                    case State.HELD:
                        assert manager.standing.holds
                    case other:
                        raise AssertionError(State(other))
        assert {state: count for state, count in enumerate(table.counts) if count} == counts
        assert live == {key: destination.live for key, destination in manager.destinations.items() if destination.live}

    @invariant()
    def q2_the_books_balance(self) -> None:
        assert self.s.manager.tally.as_row(self.s.manager.queued())["balanced"]

    @invariant()
    def b1_connections_are_within_budget_and_counted(self) -> None:
        budget, agents = self.s.budget, self.s.courier.agents
        assert budget.connections == len(agents) <= budget.max_connections
        for site, limit in CONNECTIONS.items():
            used = [agent for agent in agents if agent.queue.plan.site == site]
            assert budget.used(site) == len(used) <= limit
        for _, (throttle, queues) in self.s.manager.sites._throttles.items():
            assert throttle.in_use == sum(queue.agents for queue in queues)

    @invariant()
    def nothing_sleeps_that_could_work(self) -> None:
        """A queue with something in it has somebody at work, or waits for a time, a window or a lease."""
        s, now = self.s, self.s.clock.time()
        for queue in s.manager.sites.ready.values():
            ready = [d for entries in queue._classes for d in entries if d.state is State.READY and d.owner is queue]
            rows = [row for destination in queue.feeders for stock in destination.stock for row in stock_rows(stock)]
            if (
                any((s.spool.table.holds(row) and s.spool.table.get(row, "state") == State.DUE) for row in rows)
                and now >= queue.throttle.closed_until
            ):
                assert ready, "what is on disk is read before all else is gone"
            if not ready or any(agent.queue is queue and not agent.waits for agent in s.courier.agents):
                continue
            throttle, limits = queue.throttle, queue.plan.limits
            assert not any(agent.queue is queue for agent in s.courier.agents), "an idle connection was not woken"
            if now < throttle.closed_until:
                assert queue._timer is not None or queue._waits_for_budget
            elif throttle.in_use < throttle.window(now):
                assert s.budget.used(limits.key) >= limits.connections or s.budget.connections >= 4
                assert queue._waits_for_budget

    def teardown(self) -> None:
        """Everything is opened, and the agents work until nothing is left; then the house is torn down."""
        try:
            self.s.run(self._deliver_everything())
            assert self.s.manager.queued() == 0 and self.s.run_for(self.s.queued()) == []
            self.q2_the_books_balance()
        finally:
            self.s.run(self.s.close())
            self.s.loop.close()
            shutil.rmtree(self.path)

    async def _deliver_everything(self) -> None:
        s = self.s
        for destination in list(s.routes.unknown):
            s.routes.answer(destination)
        await s.do("resume", "*")
        for agent in self._agents(busy=True):
            assert agent.delivery is not None
            await s.settle(agent.delivery)
        for _ in range(200):
            await s.jump(1800)
            await self._errands()
            for agent in list(s.courier.agents):  # those that wait have waited too long
                while not agent.waits and (delivery := await s.next(agent)) is not None:
                    await s.settle(delivery)
                agent.leave()
            if not s.manager.queued():
                return

    # Helpers.

    async def _live(self) -> Counter[tuple[str, str, tuple[int, ...]]]:
        return Counter((d.destination, d.message.id, d.indexes) for d in await self.s.deliveries())

    def _agents(self, busy: bool) -> list[Agent]:
        return [agent for agent in self.s.courier.agents if (agent.delivery is not None) == busy]

    async def _errands(self) -> None:
        """What the courier does by itself: settle what needs no connection, end what others have better use for."""
        s = self.s
        while dismissed := [agent for agent in s.courier.agents if agent.dismissed]:
            dismissed[0].leave()
        unroutable, s.courier.unroutable = s.courier.unroutable, []
        for delivery, route in unroutable:
            await s.settle(delivery, *verdicts.no_route(route, delivery.indexes))
        given_up, s.courier.given_up = s.courier.given_up, []
        for delivery in given_up:
            await s.settle(delivery, *verdicts.expired(delivery.indexes), attempted=False)


TestStory = Story.TestCase
TestStory.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def test_an_order_goes_on_at_once_with_what_is_loaded_while_it_waits_to_look_again() -> None:
    story = Story()
    try:
        story.message(days=0.01, tenant="", to=["one.test", "two.test", "shared-a.test"], urgent=False)
        story.crash()
        story.order(action="bounce", pick=0, scope="one.test")
        story.order(action="move", pick=1, scope="one message")
        story.crash()
        story.old_files_are_emptied()
        story.take(pick=0)
        story.take(pick=0)
        story.order(action="bounce", pick=0, scope="one message")
        story.crash()
        story.q1_every_delivery_is_in_its_place_and_no_other()
    finally:
        story.teardown()
