"""Answers over a real spool and a real database; what was sent, and where events go, are lists of the test."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Account, Carrier, Keyword, Settings, Sms
from engine.feedback.answers import Answers
from engine.feedback.ports import Noted
from engine.message.envelope import Envelope
from engine.message.ids import IdSource
from engine.message.sms import SentPart, decode_sms
from engine.message.sms import Sms as Content
from engine.protocol.smpp_pdu import DataSm, DeliverSm
from engine.storage.spool.entry import Delivery
from engine.storage.tables.grouped import Grouped
from engine.storage.tables.suppression import Suppression
from engine.storage.tables.suppression_table import SuppressionTable
from engine.storage.tables.suppressions import Suppressions
from tests.support.clock import ClockLoop, FakeClock
from tests.support.lookup import ZoneLookup
from tests.support.spool import FaultyFiles, open_spool

PHONE, OURS = "+447700900123", "60999"


def settings(
    *accounts: Account, keywords: tuple[Keyword, ...] = (), carriers: tuple[Carrier, ...] = (), **sms: Any
) -> Settings:
    return Settings(account=accounts, keyword=keywords, carrier=carriers, sms=Sms(**sms))


def phone(text: bytes = b"Hello", to: bytes = OURS.encode(), **more: Any) -> DeliverSm:
    """A message from the phone."""
    fields = {"source_addr": PHONE[1:].encode(), "source_addr_ton": 1, "source_addr_npi": 1, "destination_addr": to}
    return DeliverSm(short_message=text, **fields | more)


def sent(message: str = "m1", account: str = "shop", sender: str = OURS) -> SentPart:
    return SentPart(
        carrier="one", carrier_id="1", message=message, index=0, part=1, parts=1, sent_at=1.0, deadline=9.0,
        sender=sender, recipient=PHONE, account=account,
    )  # fmt: skip


class Stage:
    """A process that lives from `begin` to `end`; what it leaves in the folder is what the next one finds."""

    def __init__(self, path: Path, loaded: Settings) -> None:
        self.path = path
        self.settings = loaded
        self.clock = FakeClock()
        self.loop = ClockLoop(self.clock)
        self.files = FaultyFiles()
        self.last: dict[str, SentPart] = {}
        self.events: list[Noted] = []
        self.note_fails = False
        self.metrics = Metrics()

    def begin(self) -> None:
        self.spool = open_spool(self.path, self.files)
        self.db = Grouped(self.path / "sms.db")
        self.suppressions = Suppressions(self.path, self.clock)
        ids = IdSource("n", 0, self.clock, self.spool.last_id)
        self.answers = Answers(
            self.settings, self.db, self.suppressions, self.spool, self, self, ZoneLookup({}, self.clock), ids,
            self.clock, self.metrics,
        )  # fmt: skip
        self.answers.start()

    async def end(self) -> None:
        await self.answers.close()
        await self.suppressions.close()
        await self.db.close()
        await self.spool.load_backlog()
        await self.spool.close()

    def held(self) -> list[Suppression]:
        table = SuppressionTable(self.path)
        try:
            return list(table.all_held(self.clock.time()))
        finally:
            table.close()

    def last_to(self, number: str) -> SentPart | None:
        return self.last.get(number)

    def note(self, event: Noted) -> asyncio.Future[None]:
        future = self.loop.create_future()
        if self.note_fails:
            future.set_exception(StorageError("no room"))
        else:
            self.events.append(event)
            future.set_result(None)
        return future

    def arrive(self, pdu: DeliverSm | DataSm, carrier: str = "one") -> asyncio.Future[int]:
        """A message from a phone; done with the status it is answered with. A second answer would raise."""
        status: asyncio.Future[int] = self.loop.create_future()
        self.answers.person(carrier, pdu, status.set_result)
        return status

    async def passed(self) -> None:
        """Until everything that is being passed on is."""
        while self.answers._tasks:
            await asyncio.wait(self.answers._tasks)

    async def spooled(self, destination: str) -> list[tuple[Envelope, Content]]:
        """What waits for a destination."""
        found: list[Delivery] = [d for d in self.spool.in_hand if d.destination == destination]
        out = []
        for delivery in sorted(found, key=lambda d: d.message.id):
            envelope, content = await self.spool.reader.load(delivery)
            assert isinstance(content, bytes)
            out.append((envelope, decode_sms(content)))
        return out

    def told(self, *types: str) -> list[Noted]:
        return [event for event in self.events if not types or event.type in types]


def run(stage: Stage, *stories: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Each story is a life of the process."""

    async def lives() -> None:
        for story in stories:
            stage.begin()
            try:
                await story()
            finally:
                await stage.end()

    with asyncio.Runner(loop_factory=lambda: stage.loop) as runner:
        runner.run(lives())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """A thing of another thread or socket that is on its way."""
    while not await condition():  # noqa: ASYNC110  # what is waited for has no event of its own
        await asyncio.sleep(0)
