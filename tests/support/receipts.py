"""Receipts on a stage: a real spool, a real table, two binds of carriers that are only their PDUs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from engine.base.metrics import Metrics
from engine.base.settings import Account, Carrier, Settings, SpoolSettings
from engine.delivery.sms_reports import SmsReports
from engine.delivery.underway import Underway
from engine.feedback.direct import Direct
from engine.feedback.receipts import Receipts
from engine.feedback.turn import Tried
from engine.message.envelope import Envelope
from engine.message.ids import IdSource
from engine.message.sms import SentPart, Sms, decode_sms
from engine.protocol.smpp_pdu import DataSm, DeliverSm
from engine.storage.events.journal import EventJournal
from engine.storage.events.reader import read_events
from engine.storage.spool.entry import Delivery
from engine.storage.spool.spool import Spool
from engine.storage.tables.sent import SentTable
from tests.support.clock import FakeClock

NUMBER = "+447700900123"
SETTINGS = Settings(
    carrier=(
        Carrier(name="one", host="x", system_id="x"), Carrier(name="mute", host="x", system_id="x", receipts=False),
    ),
    account=(Account(system_id="app"), Account(system_id="plain", receipts="text")),
)  # fmt: skip


class ReceiptStage:
    """answers: what arrivals were answered with, in order. persons: what was taken for a person's. owed: receipts for
    applications that lie in the spool, as (destination, envelope, Sms). tried: those that did not need that.
    """

    def __init__(
        self, path: Path, clock: FakeClock, settings: Settings = SETTINGS, direct: Direct | None = None
    ) -> None:
        self.path = path
        self.clock = clock
        self.metrics = Metrics()
        (path / "spool").mkdir(exist_ok=True)
        self.events = EventJournal(path / "events", 1 << 24, 1e9)
        limits = SpoolSettings(min_free=0.0, memory_guard=1.0)
        self.spool = Spool(path / "spool" / "0", limits, self.events, self.metrics, owner="test/0")
        self.spool.start()
        self.owed: list[tuple[str, Envelope, Sms]] = []
        self.spool.accepted = self._accepted  # type: ignore[assignment]  # takes any sequence
        self.ids = IdSource("test", 0, clock, self.spool.last_id)
        self.reports = SmsReports(settings, self.ids, clock, self.metrics)
        self.table = SentTable(path / "sms.db")
        self.underway = Underway()
        self.persons: list[tuple[DeliverSm | DataSm, Callable[[int], None]]] = []
        self.tried: list[Tried] = []
        self.receipts = Receipts(
            settings, self.spool, self.table, self.reports, self.metrics, clock,
            lambda _, *rest: self.persons.append(rest), self.underway, direct, self.tried.append,
        )  # fmt: skip
        self.answers: list[int] = []
        self._count = 0

    def _accepted(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            assert delivery.message.hot is not None
            envelope, content = delivery.message.hot
            assert isinstance(content, bytes)
            self.owed.append((delivery.destination, envelope, decode_sms(content)))

    async def close(self) -> None:
        await self.receipts.settled()
        await self.table.close()
        await self.spool.close()
        self.events.close()

    # ---- the story

    def send(self, *ids: str, carrier: str = "one", **more: Any) -> str:
        """A carrier took a message in so many parts: the id of it."""
        self._count += 1
        now = self.clock.time()
        message = more.pop("message", "") or self.ids.next()
        common = {
            "sender": "ACME",
            "recipient": NUMBER,
            "deadline": now + 1000,
            "received_at": now - 1,
            "index": 0,
        } | more
        self.receipts.sent(
            [
                SentPart(
                    carrier=carrier, carrier_id=id, message=message, part=number, parts=len(ids), sent_at=now, **common
                )
                for number, id in enumerate(ids, 1)
            ]
        )  # fmt: skip
        return message

    def receive(self, text: str | bytes, carrier: str = "one", **more: Any) -> None:
        raw = text.encode("latin-1") if isinstance(text, str) else text
        fields = {"esm_class": 4, "source_addr": NUMBER[1:].encode(), "destination_addr": b"ACME", "short_message": raw}
        self.receipts.arrived(carrier, DeliverSm(**(fields | more)), self.answers.append)

    def receipt(self, id: str, stat: str = "DELIVRD", err: str = "000", **more: Any) -> None:
        self.receive(
            f"id:{id} sub:001 dlvrd:001 submit date:2503141015 done date:2503141016 stat:{stat} err:{err}", **more
        )

    async def rest(self) -> None:
        """Everything that was begun is done."""
        quiet = 0
        while quiet < 3:
            await self.receipts.settled()
            quiet = 0 if self.table.busy else quiet + 1
            await asyncio.sleep(0 if quiet else 0.001)

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.receipts.upkeep()
        await self.rest()

    def told(self) -> list[tuple[str, str, str]]:
        """(type, message, status) of every event."""
        return [(row["type"], row["message"], row.get("status", "")) for row in self.lines()]

    def lines(self) -> list[dict[str, Any]]:
        return list(read_events(self.path / "events"))

    def odd(self) -> dict[str, int]:
        children = self.metrics.sms_odd_receipts._children.items()
        return {what: int(child.value) for (_, what), child in children}


@contextlib.asynccontextmanager
async def receipt_stage(
    path: Path, clock: FakeClock | None = None, settings: Settings = SETTINGS, direct: Direct | None = None
) -> AsyncIterator[ReceiptStage]:
    stage = ReceiptStage(path, clock or FakeClock(1_750_000_000.0), settings, direct)
    try:
        yield stage
        await stage.rest()
    finally:
        await stage.close()
