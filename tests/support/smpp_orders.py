"""A queue whose carrier is not there, and query_sm, cancel_sm and replace_sm about it."""

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

from engine.base.settings import Account, Carrier
from engine.intake.smpp_orders import SmppOrders
from engine.intake.sms_admission import SmsAdmission
from engine.message.sms import decode_sms
from engine.protocol.smpp_tables import status_name
from engine.queue.orders import Orders
from engine.queue.scope import Scope
from engine.storage.tables.sms_quota import SmsQuota
from tests.support.smpp_intake import Routes, normalise
from tests.support.sms_stage import SmsStage, play, sms_stage

APP = Account(system_id="app")
OTHER = Account(system_id="other")
NOWHERE = Carrier(name="one", host="127.0.0.1", port=1, system_id="x")
NUMBER = "+447700900123"
Story = Callable[["Stage"], Awaitable[None]]


class Stage:
    """A queue, and orders about it. sent: the book, by id."""

    def __init__(self, stage: SmsStage, path: Path) -> None:
        self.stage = stage
        self.sent: dict[tuple[str, str], tuple[int, float, int]] = {}
        self.quota = SmsQuota(path / "quota.db")
        self.queue_orders = Orders(
            stage.spool, stage.manager, stage.state, {"bounce": stage.courier.bounce, "purge": stage.courier.purge},
            stage.clock,
        )  # fmt: skip
        admission = SmsAdmission(
            stage.spool, stage.ids, stage.clock, stage.metrics, stage.settings, stage.lines.append,
            Routes(stage.settings.carrier), normalise, self.quota,
        )  # fmt: skip
        self.orders = SmppOrders(
            stage.spool, stage.manager, self.queue_orders, stage.courier, self, admission, normalise, stage.clock
        )

    def state_of(self, message_id: str, account: str, queued: Collection[int] = ()) -> tuple[int, float, int] | None:
        return self.sent.get((message_id, account), (1, 0.0, 0) if queued else None)

    def addresses_of(self, message_id: str, account: str) -> tuple[str, list[str]] | None:
        return ("+447700900999", [NUMBER]) if (message_id, account) in self.sent else None

    async def ask(self, pdu: Any, account: Account = APP) -> Any:
        return await self.orders.carry_out(pdu, account)

    async def status(self, pdu: Any, account: Account = APP) -> str:
        return status_name((await self.ask(pdu, account)).command_status)

    async def row(self, text: str = "hello", **more: Any) -> str:
        """A message that is a row: held."""
        await self.queue_orders.hold(Scope("all"))
        self.stage.manager.standing.holds_changed()
        return await self.stage.put(text, NUMBER, **more)

    async def queued(self) -> list[tuple[str, str | None]]:
        """Id and text of each delivery that is a row."""
        found = []
        for delivery in await self.stage.rows():
            content = delivery.message.hot[1]
            found.append((delivery.message.id, decode_sms(content).text))
        return found


def on_stage(path: Path, story: Story) -> None:
    async def run() -> None:
        async with sms_stage(path, NOWHERE) as stage:
            made = Stage(stage, path)
            try:
                await story(made)
            finally:
                made.quota.close()

    play(run)
