"""Everything from the spool to the carrier's socket, in the test's process: real but for the routes."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.base.clock import SystemClock
from engine.base.metrics import Metrics
from engine.base.settings import Carrier, Settings, Source, SpoolSettings
from engine.delivery import carrier_agent, carrier_link, sms_pace
from engine.delivery.agent import Kit
from engine.delivery.carriers import Carriers
from engine.delivery.courier import Courier
from engine.delivery.failover import Failover
from engine.delivery.settlement import Settlement
from engine.delivery.sms_kit import SmsKit
from engine.delivery.underway import Underway
from engine.message.channels import CHANNEL, carrier_key, channel_of
from engine.message.envelope import Envelope, Recipient
from engine.message.ids import IdSource
from engine.message.outcome import Status
from engine.message.sms import SentPart, Sms, encode_sms
from engine.net.outbox import Outbox
from engine.net.smpp_wire import Wire
from engine.net.stream import TlsContexts, connect
from engine.protocol.smpp_pdu import DataSm, DeliverSm
from engine.queue.budget import LocalBudget
from engine.queue.manager import Manager
from engine.routing.plan import Endpoint, Limits, NoRoute, Plan
from engine.storage.events.journal import EventJournal
from engine.storage.events.reader import read_events
from engine.storage.inflight import Inflight
from engine.storage.spool.entry import State
from engine.storage.spool.spool import Spool
from engine.storage.tables.queue_state import QueueState
from tests.support.queue import NoReports
from tests.support.smsc import Smsc
from tests.support.unwanted import Unwanted

PATIENCE_S = 20.0


class _Routes:
    """A router of carriers and accounts, and which of them may have a number: all."""

    def __init__(self, carriers: Sequence[Carrier]) -> None:
        self.rows = {row.name: row for row in carriers}
        self.only: dict[str, list[str]] = {}  #: by number, who may have it

    def cached(self, destination: str, via: str = "") -> Plan | NoRoute:
        channel, name = channel_of(destination)
        if channel == "carrier" and name not in self.rows:
            return NoRoute(Status.DEFERRED, "4.4.4", f"there is no [[carrier]] {name}", float("inf"))
        row = self.rows.get(name)
        connections, rate = (row.binds, row.rate) if row is not None else (1, None)
        return Plan(
            destination=destination, site=destination, provider=name, hosts=((Endpoint(name, "127.0.0.1", 1),),),
            tls="none", source=Source(name="default", ehlo="x"),
            limits=Limits(key=destination, connections=connections, messages_per_connection=1 << 60, rate=rate),
            credentials=None, stop=(), expires_at=float("inf"), channel=channel,
        )  # fmt: skip

    def provider_of(self, destination: str) -> str:
        return channel_of(destination)[1]

    def carriers(self, number: str, sender: str, message_class: int) -> Sequence[str]:
        return self.only.get(number) or list(self.rows)


class Book:
    """A SentBook that only keeps what it was told. slow: what its answers wait for."""

    def __init__(self) -> None:
        self.parts: list[SentPart] = []
        self.slow: asyncio.Event | None = None

    def sent(self, parts: Sequence[SentPart]) -> "asyncio.Future[None] | None":
        self.parts += parts
        slow = self.slow
        return None if slow is None else asyncio.ensure_future(slow.wait())  # type: ignore[return-value]

    def taken(self, message: str, index: int) -> Sequence[SentPart]:
        return [part for part in self.parts if (part.message, part.index) == (message, index)]


class SmsStage:
    """See above. bound: of the applications, by system_id; called: those that something waits for and that have none.
    came: what carriers brought, to be answered.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.clock = SystemClock()
        self.metrics = Metrics()
        self.settings = settings
        self.lines: list[str] = []
        self.bound: dict[str, list[Wire]] = {}
        self.called: list[str] = []
        self.came: list[tuple[str, DeliverSm | DataSm, Callable[[int], None]]] = []
        self.book = Book()
        self.unwanted = Unwanted()
        loop = asyncio.get_running_loop()
        self.outbox = Outbox(loop)
        self.events = EventJournal(path / "events", 1 << 20, 86400)
        limits = SpoolSettings(min_free=0.0, memory_guard=1.0)
        self.spool = Spool(path / "spool" / "0", limits, self.events, self.metrics, owner="test/0")
        (path / "spool").mkdir(exist_ok=True)
        self.spool.start()
        self.ids = IdSource("test", 0, self.clock, self.spool.last_id)
        self.state = QueueState(path / "tables.db")
        self.routes = _Routes(settings.carrier)
        router: Any = self.routes
        budget = LocalBudget(1000)
        self.manager = Manager(self.spool, router, budget, self.state, self.clock)
        notifier: Any = NoReports()
        self.settlement = Settlement(
            settings, self.spool, self.manager, notifier, self.metrics, self.clock, self.lines.append, random.Random(1)
        )
        contexts = TlsContexts()
        nothing: Any = None
        self.kit = Kit(
            settings=settings, spool=self.spool, settlement=self.settlement, signer=nothing,
            return_paths=nothing, posters={}, budget=budget, metrics=self.metrics, clock=self.clock,
            rng=random.Random(1), contexts=contexts, open_stream=connect,
        )  # fmt: skip
        self.carriers = Carriers(settings, self, self.outbox, contexts, self._opened)
        self.sms = SmsKit(
            carriers=self.carriers, receivers=self, book=self.book, inflight=Inflight(path / "inflight"),
            underway=Underway(), alternatives=Failover(self.routes, self.carriers), suppressed=self.unwanted,
        )  # fmt: skip
        self.courier = Courier(self.kit, self.sms)

    async def start(self) -> None:
        self.manager.start(self.courier)
        await self.manager.load_backlog()
        self.carriers.start()

    async def stop(self) -> None:
        self.manager.stop()
        await self.courier.stop(5.0)
        await self.carriers.stop()
        await self.spool.close()
        self.sms.inflight.close()
        self.events.close()
        self.state.close()

    def _opened(self, name: str) -> None:
        plan = self.routes.cached(carrier_key(name))
        assert isinstance(plan, Plan)
        self.manager.restore()
        self.manager.sites.reopen(plan)

    # As carriers and agents see it.

    def arrived(self, carrier: str, pdu: DeliverSm | DataSm, answer: Callable[[int], None]) -> None:
        self.came.append((carrier, pdu, answer))

    def receivers(self, system_id: str) -> Sequence[Wire]:
        return self.bound.get(system_id, ())

    def call(self, system_id: str) -> None:
        self.called.append(system_id)

    # For the story.

    async def put(
        self,
        text: str,
        *numbers: str,
        carrier: str = "one",
        destination: str = "",
        expires_in: float = 3600,
        **more: Any,
    ) -> str:
        """A message that is accepted and durable: its id."""
        message_id, now = self.ids.next(), self.clock.time()
        content = encode_sms(Sms(**{"source": "ACME", "source_ton": 5, "text": text} | more))
        envelope = Envelope(
            message_id, "ACME", tuple(Recipient(number) for number in numbers), now, now + expires_in, len(content), 0,
            user="app", channel=CHANNEL,
        )  # fmt: skip
        splits = [(destination or carrier_key(carrier), tuple(range(len(numbers))))]
        await self.spool.accept(envelope, content, splits)
        return message_id

    def told(self) -> list[tuple[str, str, str]]:
        """(type, recipient, reply) of every event so far, but for what was received."""
        rows = read_events(self.path / "events")
        return [(row["type"], row["recipient"], row.get("reply", "")) for row in rows if row["type"] != "received"]

    def tally(self) -> dict[str, int | bool]:
        return {k: n for k, n in self.manager.tally.as_row(self.manager.queued()).items() if n}

    async def rows(self) -> list[Any]:
        """Deliveries that lie on disk."""
        found = list(self.spool.table.select())
        return await self.spool.reader.peek(np.concatenate(found)) if found else []

    def live(self) -> int:
        """Deliveries that are not final."""
        in_hand = [delivery for delivery in self.spool.in_hand if delivery.state is not State.FINAL]
        return len(self.spool.table) + len(in_hand)


def carrier(smsc: Smsc, name: str = "one", **more: Any) -> Carrier:
    """The row of a carrier that is this SMSC."""
    return Carrier(name=name, host="127.0.0.1", port=smsc.port, system_id="us", password="secret", **more)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes hundredths."""
    monkeypatch.setattr(carrier_link, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(carrier_link, "_FIRST_REFUSED_S", 0.02)
    monkeypatch.setattr(carrier_agent, "_LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(sms_pace, "FIRST_PAUSE_S", 0.02)


async def until(done: Callable[[], Any], what: object = "") -> None:
    """Wait for it."""
    async with asyncio.timeout(PATIENCE_S):
        while not done():  # noqa: ASYNC110  # it looks at whatever the test says
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def sms_stage(path: Path, *carriers: Carrier, **tables: Any) -> AsyncIterator[SmsStage]:
    made = SmsStage(path, Settings(carrier=carriers, **tables))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(2 * PATIENCE_S):
            await story()

    asyncio.run(run())
