"""The queue on a real spool, with a clock that stands still, routes made up, and a courier that the test plays.

    with stage(tmp_path) as s:
        s.run(story(s))

An `Agent` is a connection: the test makes it take a delivery and says what became of it.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from engine.base.metrics import Metrics
from engine.base.settings import Settings, Source, SpoolSettings
from engine.delivery.settlement import Settlement, Timing
from engine.message.envelope import Envelope, MessageClass, Recipient
from engine.message.outcome import Outcome, Scope, Status
from engine.queue.budget import Lease, LocalBudget
from engine.queue.manager import Manager
from engine.queue.ready import ReadyQueue
from engine.queue.throttle import Throttle
from engine.routing.plan import Endpoint, Limits, NoRoute, Plan
from engine.storage.events.journal import EventJournal
from engine.storage.events.reader import read_events
from engine.storage.spool.entry import Delivery, Message, State
from engine.storage.spool.spool import Spool
from engine.storage.tables.queue_state import QueueState
from tests.support.clock import ClockLoop, FakeClock, breathe

CONTENT = b"Subject: x\r\n\r\nbody\r\n"


class Routes:
    """A router. Each destination is a site of its own unless `sites` says otherwise, and known unless in `unknown`."""

    def __init__(self, sites: dict[str, str], connections: dict[str, int]) -> None:
        self.sites = sites  #: by destination
        self.connections = connections  #: limits, by site
        self.unknown: dict[str, asyncio.Future[Plan | NoRoute]] = {}  #: what a lookup waits for
        self.lookups: list[str] = []
        self._plans: dict[str, Plan] = {}

    def plan(self, destination: str) -> Plan:
        site = self.sites.get(destination, f"mx.{destination}")
        plan = Plan(
            destination=destination,
            site=site,
            provider="other",
            hosts=((Endpoint(site, "192.0.2.1", 25),),),
            tls="none",
            source=Source(name="default", ehlo="out.test"),
            limits=Limits(key=site, connections=self.connections.get(site, 10), messages_per_connection=100, rate=None),
            credentials=None,
            stop=(),
            expires_at=float("inf"),
        )
        return self._plans.setdefault(destination, plan)

    def forget(self, destination: str) -> None:
        """Its next delivery needs a lookup, which waits for `answer`."""
        self.unknown[destination] = asyncio.get_running_loop().create_future()

    def answer(self, destination: str, what: Plan | NoRoute | Exception | None = None) -> None:
        """End the lookup; with its plan if nothing is said."""
        future = self.unknown.pop(destination)
        if isinstance(what, Exception):
            future.set_exception(what)
            future.exception()
        else:
            future.set_result(what or self.plan(destination))

    # As the manager sees a router.

    def cached(self, destination: str) -> Plan | NoRoute | None:
        return None if destination in self.unknown else self.plan(destination)

    async def resolve(self, destination: str) -> Plan | NoRoute:
        self.lookups.append(destination)
        return (
            await asyncio.shield(self.unknown[destination]) if destination in self.unknown else self.plan(destination)
        )


class Agent:
    """One connection, played by the test."""

    def __init__(self, courier: "PlayedCourier", queue: ReadyQueue, lease: Lease) -> None:
        self.queue = queue
        self.delivery: Delivery | None = None
        self._courier = courier
        self._lease = lease
        self._arrived = False
        self._idle: asyncio.Future[bool] | None = None

    def take(self) -> Delivery | None:
        """Ask for a delivery, as after connecting or when something was announced."""
        assert not self.dismissed
        self._arrive()
        self.delivery = self.queue.take()
        if self.delivery is not None:
            self._courier.working.add(self.delivery)
        return self.delivery

    def wait(self) -> None:
        """Stay connected, in case something comes."""
        if self._idle is None and self._arrived:
            self._idle = self.queue.wait()

    @property
    def waits(self) -> bool:
        return self._idle is not None and not self._idle.done()

    @property
    def dismissed(self) -> bool:
        """Somebody else needs the connection: nothing to do but `leave`."""
        return self._idle is not None and self._idle.done() and not self._idle.result()

    def done(self) -> None:
        """The delivery was settled."""
        assert self.delivery is not None
        self._courier.working.discard(self.delivery)
        self.delivery = None

    def leave(self) -> None:
        """Disconnect."""
        assert self.delivery is None
        self._arrive()
        self._courier.agents.remove(self)
        self._lease.release()
        self.queue.left()

    def _arrive(self) -> None:
        """What the queue is told when an agent comes to it for the first time, or from waiting."""
        if not self._arrived or (self._idle is not None and self._idle.done() and self._idle.result()):
            self.queue.arrived()
        elif self._idle is not None:
            self.queue.left_waiting(self._idle)
        self._arrived, self._idle = True, None


class PlayedCourier:
    """`queue.manager.Dispatcher`: remembers what it was asked to do."""

    def __init__(self) -> None:
        self.working: set[Delivery] = set()
        self.agents: list[Agent] = []
        self.unroutable: list[tuple[Delivery, NoRoute]] = []
        self.given_up: list[Delivery] = []

    def attempt(self, queue: ReadyQueue, lease: Lease) -> None:
        self.agents.append(Agent(self, queue, lease))

    def no_route(self, delivery: Delivery, route: NoRoute) -> None:
        self.working.add(delivery)
        self.unroutable.append((delivery, route))

    def give_up(self, delivery: Delivery, provider: str, reason: str) -> None:
        self.working.add(delivery)
        self.given_up.append(delivery)


class NoReports:
    """A notifier that has nothing to say."""

    def wants(self, *_: object) -> bool:
        return False

    def compose(self, *_: object) -> None:
        return None


class Stage:
    """Everything from the spool to the settlement. `restart` begins again with what is on disk.

    sites, connections: see Routes. max_connections: of the node.
    """

    def __init__(self, path: Path, clock: FakeClock, settings: Settings, notifier: Any) -> None:
        self.path = path
        self.clock = clock
        self.settings = settings
        self.lines: list[str] = []
        self.metrics = Metrics()
        self.notifier = notifier
        self.sites: dict[str, str] = {}
        self.connections: dict[str, int] = {}
        self.max_connections = 1000
        self.loop = ClockLoop(clock)
        self._names = 0
        self.run(self._begin())

    async def _begin(self) -> None:
        self.events = EventJournal(self.path / "events", 1 << 20, 86400, self.clock)
        self.spool = Spool(
            self.path / "journal", SpoolSettings(min_free=0.0), self.events, self.metrics, owner="test/0"
        )
        self.spool.start()
        self.state = QueueState(self.path / "tables.db")
        self.routes = Routes(self.sites, self.connections)
        self.budget = LocalBudget(self.max_connections)
        self.courier = PlayedCourier()
        router: Any = self.routes
        self.manager = Manager(self.spool, router, self.budget, self.state, self.clock)
        self.settlement = Settlement(
            self.settings, self.spool, self.manager, self.notifier, self.metrics, self.clock, self.lines.append,
            random.Random(1),
        )  # fmt: skip
        self.manager.start(self.courier)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    async def close(self) -> None:
        self.manager.stop()
        await self.spool.close()
        self.events.close()
        self.state.close()

    async def restart(self) -> None:
        """The process ends and another begins on the same directory."""
        await self.close()
        await self._begin()

    async def jump(self, seconds: float) -> None:
        await self.loop.jump(seconds)

    async def put(
        self,
        *recipients: str,
        name: str = "",
        sender: str = "ada@home.test",
        message_class: MessageClass = MessageClass.BULK,
        expires_in: float = 72 * 3600,
        notify: int = 0,
    ) -> Message:
        """A message that is accepted and durable."""
        self._names += 1
        now = self.clock.time()
        envelope = Envelope(
            name or f"m{self._names:06}", sender, tuple(Recipient(r, notify) for r in recipients), now,
            now + expires_in, len(CONTENT), int(message_class),
        )  # fmt: skip
        splits: dict[str, list[int]] = {}
        for index, recipient in enumerate(recipients):
            splits.setdefault(recipient.rpartition("@")[2], []).append(index)
        await self.spool.accept(envelope, CONTENT, [(k, tuple(v)) for k, v in splits.items()])
        return self.spool.messages[envelope.id]

    async def settle(self, delivery: Delivery, *outcomes: Outcome, attempted: bool = True) -> None:
        """As an agent does after its transaction; without outcomes, everyone is delivered."""
        envelope, content = await self.spool.load(delivery.message)
        self.courier.working.discard(delivery)
        for agent in self.courier.agents:
            if agent.delivery is delivery:
                agent.done()
        made = outcomes or [outcome(index) for index in delivery.indexes]
        timing = Timing(self.clock.time())
        await self.settlement.settle(delivery, envelope, content, made, "other", timing, attempted=attempted)

    def agent(self, destination: str) -> Agent:
        """The first agent of a destination's site that has no delivery."""
        site = self.routes.plan(destination).site
        return next(agent for agent in self.courier.agents if agent.queue.plan.site == site and not agent.delivery)

    async def take_all(self, destination: str) -> list[str]:
        """Deliver everything one connection can get; the messages in order."""
        out = []
        while delivery := self.agent(destination).take():
            out.append(delivery.message.id)
            await self.settle(delivery)
        return out

    def throttle(self, destination: str) -> Throttle:
        """Of the destination's site."""
        return self.manager._site(self.routes.plan(destination))[0]

    def tally(self) -> dict[str, int | bool]:
        """The books, but for what is zero."""
        return {key: count for key, count in self.manager.tally.as_row(self.manager.queued()).items() if count}

    def told(self) -> list[tuple[str, str]]:
        """(type, recipient) of every event so far."""
        return [(event["type"], event["recipient"]) for event in read_events(self.path / "events")]


@contextlib.contextmanager
def stage(path: Path, settings: Settings | None = None, notifier: Any = None) -> Iterator[Stage]:
    """A stage, closed at the end."""
    made = Stage(path, FakeClock(), settings or Settings(), notifier or NoReports())
    try:
        yield made
    finally:
        made.run(made.close())
        made.loop.close()


def play(path: Path, story: Callable[[Stage], Coroutine[Any, Any, None]], **more: Any) -> None:
    """Run one story on a stage of its own."""
    with stage(path, **more) as made:
        made.run(story(made))


def outcome(
    index: int,
    status: Status = Status.DELIVERED,
    reply: str = "250 2.0.0 ok",
    scope: Scope = Scope.RECIPIENT,
    **more: Any,
) -> Outcome:
    code = {Status.DELIVERED: "2.0.0", Status.FAILED: "5.1.1"}.get(status, "4.0.0")
    return Outcome(index=index, status=status, scope=scope, status_code=code, reply=reply, **more)


__all__ = [
    "CONTENT", "Agent", "NoReports", "PlayedCourier", "Routes", "Stage", "State", "breathe", "outcome", "play", "stage",
]  # fmt: skip
