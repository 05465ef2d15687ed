"""The queue on a real spool, with a clock that stands still, routes made up, and a courier that the test plays.

    with stage(tmp_path) as s:
        s.run(story(s))

An `Agent` is a connection: the test makes it take a delivery and says what became of it.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np

from engine.admin import actions, views
from engine.admin.parts import Parts
from engine.base.metrics import Metrics
from engine.base.settings import Settings, Source, SpoolSettings
from engine.delivery import verdicts
from engine.delivery.courier import readable
from engine.delivery.settlement import Settlement, Timing
from engine.message.envelope import Envelope, MessageClass, Recipient
from engine.message.ids import IdSource, split_id
from engine.message.outcome import Outcome, Scope, Status
from engine.queue.budget import Lease, LocalBudget
from engine.queue.manager import Manager
from engine.queue.orders import Orders
from engine.queue.ready import ReadyQueue
from engine.queue.sweeper import Sweeper
from engine.queue.throttle import Throttle
from engine.routing.plan import Endpoint, Limits, NoRoute, Plan
from engine.storage.events.journal import EventJournal
from engine.storage.events.reader import read_events
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool
from engine.storage.tables.queue_state import QueueState
from tests.support.clock import ClockLoop, FakeClock, breathe

CONTENT = b"Subject: x\r\n\r\nbody\r\n"


def flip_end(delivery: Delivery) -> None:
    """A bit of the content on disk; what comes before it is whole."""
    data = bytearray(delivery.segment.path.read_bytes())
    data[delivery.offset + delivery.length - 3] ^= 1
    delivery.segment.path.write_bytes(data)


class AtOnce(Executor):
    """Threads that need no time: work is done when it is handed in."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as exc:
            future.set_exception(exc)
        return future


class Routes:
    """A router. Each destination is a site of its own unless `sites` says otherwise, and known unless in `unknown`.

    What an operator sent to a relay is a site of its own, too.
    """

    def __init__(self, sites: dict[str, str], connections: dict[str, int]) -> None:
        self.sites = sites  #: by destination
        self.connections = connections  #: limits, by site
        self.unknown: dict[str, asyncio.Future[Plan | NoRoute]] = {}  #: what a lookup waits for
        self.lookups: list[str] = []
        self._plans: dict[tuple[str, str], Plan] = {}

    def plan(self, destination: str, via: str = "") -> Plan:
        site = via or self.sites.get(destination, f"mx.{destination}")
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
        return self._plans.setdefault((destination, via), plan)

    def lose(self, destination: str) -> None:
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

    def cached(self, destination: str, via: str = "") -> Plan | NoRoute | None:
        return None if destination in self.unknown else self.plan(destination, via)

    async def resolve(self, destination: str, via: str = "") -> Plan | NoRoute:
        self.lookups.append(destination)
        if destination in self.unknown:
            return await asyncio.shield(self.unknown[destination])
        return self.plan(destination, via)

    def provider_of(self, destination: str) -> str:
        return "other"

    def forget(self, destination: str, via: str = "") -> None:
        """Nothing changes here unless the test says so."""


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
    """`queue.manager.Dispatcher`: remembers what it was asked to do.

    by_hand, delays: what is to be settled, or told, without a connection; `Stage.rest` does it. delay_notice: nothing
    is told of a delay unless a test says when.
    """

    def __init__(self) -> None:
        self.working: set[Delivery] = set()
        self.agents: list[Agent] = []
        self.unroutable: list[tuple[Delivery, NoRoute]] = []
        self.given_up: list[Delivery] = []
        self.by_hand: list[tuple[Delivery, Callable[[Any], Any]]] = []
        self.delays: list[tuple[Delivery, str]] = []
        self.delay_notice = 1e9
        self.work_off: Callable[[], Coroutine[Any, Any, None]]

    def attempt(self, queue: ReadyQueue, lease: Lease) -> None:
        self.agents.append(Agent(self, queue, lease))

    def no_route(self, delivery: Delivery, route: NoRoute) -> None:
        self.working.add(delivery)
        self.unroutable.append((delivery, route))

    def give_up(self, delivery: Delivery, provider: str, reason: str) -> None:
        self.working.add(delivery)
        self.given_up.append(delivery)

    def tell_delay(self, delivery: Delivery, provider: str, reason: str) -> None:
        self.delays.append((delivery, reason))

    def bounce(self, delivery: Delivery, reason: str) -> None:
        self.settle_by_hand(delivery, lambda indexes: verdicts.bounced(indexes, reason))

    def purge(self, delivery: Delivery, _: str = "") -> None:
        self.settle_by_hand(delivery, verdicts.purged)

    def fail_lost(self, delivery: Delivery) -> None:
        self.settle_by_hand(delivery, verdicts.damaged)

    def settle_by_hand(self, delivery: Delivery, verdict: Callable[[Any], Any]) -> None:
        self.working.add(delivery)
        self.by_hand.append((delivery, verdict))

    async def catch_up(self) -> None:
        await self.work_off()

    def connections(self) -> int:
        return len(self.agents)


class NoReports:
    """A notifier that has nothing to say."""

    def wants(self, *_: object) -> bool:
        return False

    def tells_of_delay(self, *_: object) -> bool:
        """Looked into all the same."""
        return True

    def reports(self, *_: object) -> tuple[()]:
        return ()


class Letter:
    """A message that was put on the stage: where its deliveries are, in hand or in the table."""

    def __init__(self, s: "Stage", name: str, message_id: str, received_at: float, expires_at: float) -> None:
        self._stage = s
        self.name = name
        self.id = message_id
        self.received_at = received_at
        self.expires_at = expires_at

    @property
    def in_hand(self) -> list[Delivery]:
        """Its deliveries that are objects, in order."""
        own = [delivery for delivery in self._stage.spool.in_hand if delivery.message.id == self.id]
        return sorted(own, key=lambda delivery: delivery.number)

    @property
    def delivery(self) -> Delivery:
        """The only one, in hand."""
        [delivery] = self.in_hand
        return delivery

    @property
    def rows(self) -> list[int]:
        """Its deliveries that are rows, in order."""
        spool = self._stage.spool
        packed, node = split_id(self.id)
        number = spool.texts["node"].find(node)
        rows = [] if number is None else spool.table.find(packed, number)
        return sorted(rows, key=lambda row: spool.table.get(row, "number"))

    @property
    def states(self) -> list[State]:
        """Of all its deliveries that live, in order."""
        table = self._stage.spool.table
        found = [(d.number, d.state) for d in self.in_hand if d.state is not State.FINAL]
        found += [(table.get(row, "number"), State(table.get(row, "state"))) for row in self.rows]
        return [state for _, state in sorted(found)]

    @property
    def state(self) -> State:
        """Of its only delivery."""
        [state] = self.states
        return state

    async def read(self) -> Delivery:
        """Its only delivery as it is, wherever it is."""
        rows = np.array(self.rows, dtype=np.uint32)
        [delivery] = [*self.in_hand, *(await self._stage.spool.reader.peek(rows))]
        return delivery


class Stage:
    """Everything from the spool to the settlement. `restart` begins again with what is on disk.

    sites, connections: see Routes. max_connections: of the node.
    """

    def __init__(
        self,
        path: Path,
        clock: FakeClock,
        settings: Settings,
        notifier: Any,
        spool_settings: SpoolSettings | None = None,
    ) -> None:
        self.path = path
        self.clock = clock
        self.settings = settings
        self.lines: list[str] = []
        self.metrics = Metrics()
        self.notifier = notifier
        self.sites: dict[str, str] = {}
        self.connections: dict[str, int] = {}
        self.max_connections = 1000
        self.spool_settings = spool_settings or SpoolSettings(min_free=0.0, memory_guard=1.0)
        self.loop = ClockLoop(clock)
        self._source = IdSource("stage.test", 0, clock)
        self._names: dict[str, str] = {}  #: by id
        self._count = 0
        self._by_hand = asyncio.Lock()
        self.run(self._begin())

    async def _begin(self) -> None:
        self.events = EventJournal(self.path / "events", 1 << 20, 86400, self.clock)
        self.spool = Spool(self.path / "spool", self.spool_settings, self.events, self.metrics, owner="test/0")
        self.spool.reader.close()
        self.spool._mover._thread.shutdown()
        here: Any = AtOnce()
        self.spool.reader.threads = self.spool._mover._thread = here
        self.spool.tells_of_delay = self.notifier.tells_of_delay
        self.spool.start()
        self.state = QueueState(self.path / "tables.db")
        self.routes = Routes(self.sites, self.connections)
        self.budget = LocalBudget(self.max_connections)
        self.courier = PlayedCourier()
        self.courier.work_off = self._settle_by_hand
        router: Any = self.routes
        self.manager = Manager(self.spool, router, self.budget, self.state, self.clock)
        self.settlement = Settlement(
            self.settings, self.spool, self.manager, self.notifier, self.metrics, self.clock, self._log,
            random.Random(1),
        )  # fmt: skip
        settle = {"bounce": self.courier.bounce, "purge": self.courier.purge}
        self.orders = Orders(self.spool, self.manager, self.state, settle, self.clock)
        self.sweeper = Sweeper(self.spool, self.manager, router, self.courier, self.clock)
        courier: Any = self.courier
        self.parts = Parts(
            settings=self.settings, clock=self.clock, started_at=self.clock.time(), spool=self.spool,
            manager=self.manager, router=router, budget=self.budget, courier=courier, state=self.state,
            orders=self.orders, sweeper=self.sweeper, metrics=self.metrics,
        )  # fmt: skip
        self.manager.start(self.courier)
        self.orders.start()
        await self.manager.load_backlog()
        self.orders.start()
        await self.rest()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    def run_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def close(self) -> None:
        self.manager.stop()
        await self.spool.close()
        self.events.close()
        self.state.close()

    async def restart(self) -> None:
        """The process ends and another begins on the same directory."""
        await self.close()
        await self._begin()

    async def rest(self) -> None:
        """Return when nothing moves any more: what is due was read, operators' orders are carried out."""
        journal = self.spool._journal
        while True:
            await breathe()
            await self._settle_by_hand()
            if not journal._busy and not journal._pending:
                break
            await journal.flush()
        await breathe()

    async def jump(self, seconds: float) -> None:
        await self.loop.jump(seconds)
        await self.rest()

    async def put(
        self,
        *recipients: str,
        name: str = "",
        sender: str = "ada@home.test",
        message_class: MessageClass = MessageClass.BULK,
        expires_in: float = 72 * 3600,
        notify: int = 0,
        tenant: str = "",
        batch: str = "",
        content: bytes = CONTENT,
    ) -> Letter:
        """A message that is accepted and durable. name: what the story calls it; `named` gives it for an id."""
        self._count += 1
        now, message_id = self.clock.time(), self._source.next()
        self._names[message_id] = name or f"m{self._count:06}"
        envelope = Envelope(
            message_id, sender, tuple(Recipient(r, notify) for r in recipients), now, now + expires_in, len(content),
            int(message_class), user=tenant, batch=batch,
        )  # fmt: skip
        splits: dict[str, list[int]] = {}
        for index, recipient in enumerate(recipients):
            splits.setdefault(recipient.rpartition("@")[2], []).append(index)
        await self.spool.accept(envelope, content, [(k, tuple(v)) for k, v in splits.items()])
        await self.rest()
        return Letter(self, self._names[message_id], message_id, now, now + expires_in)

    def named(self, what: Delivery | str) -> str:
        """The story's name of a message; a report, which has none, is its id."""
        message_id = what if isinstance(what, str) else what.message.id
        return self._names.get(message_id, message_id)

    async def deliveries(self) -> list[Delivery]:
        """All that live, oldest first, wherever they are."""
        rows = list(self.spool.table.select())
        found = await self.spool.reader.peek(np.concatenate(rows)) if rows else []
        found += [delivery for delivery in self.spool.in_hand if delivery.state is not State.FINAL]
        return sorted(found, key=lambda delivery: (delivery.message.id, delivery.number))

    async def queued(self) -> list[str]:
        """The names of the messages that live, oldest first."""
        return list(dict.fromkeys([self.named(delivery) for delivery in await self.deliveries()]))

    async def settle(self, delivery: Delivery, *outcomes: Outcome, attempted: bool = True, **more: Any) -> None:
        """As an agent does after its transaction; without outcomes, everyone is delivered. more: see Settlement."""
        envelope, content = await self.spool.reader.load(delivery)
        self.courier.working.discard(delivery)
        for agent in self.courier.agents:
            if agent.delivery is delivery:
                agent.done()
        made = outcomes or [outcome(index) for index in delivery.indexes]
        timing = Timing(self.clock.time())
        await self.settlement.settle(delivery, envelope, content, made, "other", timing, attempted=attempted, **more)
        await self.rest()

    async def do(self, action: str, target: str, *arguments: str) -> dict[str, Any]:
        """An operator's command, and what it answers."""
        [row] = await self.view(getattr(actions, action), target, *arguments)
        await self.rest()
        return row

    def _log(self, line: str) -> None:
        message_id, colon, rest = line.partition(":")
        self.lines.append(self.named(message_id) + colon + rest)

    async def view(self, command: Callable[..., AsyncIterator[dict[str, Any]]], *arguments: Any) -> list[Any]:
        """The rows that a command gives."""
        return [row async for row in command(self.parts, *arguments)]

    async def status(self) -> dict[str, Any]:
        [row] = await self.view(views.status)
        return dict(row)

    async def _settle_by_hand(self) -> None:
        """What operators ordered, as the courier would: without a content that cannot be read."""
        async with self._by_hand:
            await self._work_off()

    async def _work_off(self) -> None:
        while self.courier.delays:
            delivery, reason = self.courier.delays.pop()
            stored = self.settlement.tell_delay(delivery, *await self.spool.reader.load(delivery), "other", reason)
            if stored is not None:
                await stored
        while self.courier.by_hand:
            delivery, verdict = self.courier.by_hand.pop(0)
            self.courier.working.discard(delivery)
            envelope, content = await readable(self.spool.reader, delivery, by_hand=True)
            made, timing = verdict(delivery.indexes), Timing(self.clock.time())
            await self.settlement.settle(delivery, envelope, content, made, "other", timing, attempted=False)

    def agent(self, destination: str) -> Agent:
        """The first agent of a destination's site that has no delivery."""
        site = self.routes.plan(destination).site
        return next(agent for agent in self.courier.agents if agent.queue.plan.site == site and not agent.delivery)

    async def take_all(self, destination: str) -> list[str]:
        """Deliver everything one connection can get; the messages in order."""
        out = []
        while delivery := await self.next(self.agent(destination)):
            out.append(self.named(delivery))
            await self.settle(delivery)
        return out

    async def next(self, agent: Agent) -> Delivery | None:
        """What the agent gets, the disk having had the time to give it."""
        delivery = agent.take()
        if delivery is None:
            await self.rest()
            delivery = agent.take()
        return delivery

    def throttle(self, destination: str) -> Throttle:
        """Of the destination's site."""
        return self.manager.sites.site(self.routes.plan(destination))[0]

    def tally(self) -> dict[str, int | bool]:
        """The books, but for what is zero."""
        return {key: count for key, count in self.manager.tally.as_row(self.manager.queued()).items() if count}

    def told(self) -> list[tuple[str, str]]:
        """(type, recipient) of every event so far."""
        return [(event["type"], event["recipient"]) for event in read_events(self.path / "events")]


@contextlib.contextmanager
def stage(
    path: Path, settings: Settings | None = None, notifier: Any = None, spool: SpoolSettings | None = None
) -> Iterator[Stage]:
    """A stage, closed at the end."""
    made = Stage(path, FakeClock(), settings or Settings(), notifier or NoReports(), spool)
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
    "CONTENT", "Agent", "AtOnce", "Letter", "NoReports", "PlayedCourier", "Routes", "Stage", "State", "breathe",
    "outcome", "play", "stage",
]  # fmt: skip
