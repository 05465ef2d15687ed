"""Receipts that an application takes at once, over a real bind: O1 to O3, and when the carrier is answered."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.feedback import direct
from engine.feedback.direct import Direct
from engine.message.channels import account_key
from engine.message.outcome import Status
from engine.protocol.smpp_pdu import BindTransmitter, DeliverSm, DeliverSmResp
from engine.protocol.smpp_tables import ESME_ROK, STATUSES
from tests.support.receipts import ReceiptStage, receipt_stage
from tests.support.smpp_intake import Client, Intake, taking, until
from tests.support.sms_stage import play

ASKED = {"account": "app", "registered": 1}


class _Stage(NamedTuple):
    carrier: ReceiptStage
    intake: Intake
    application: Client
    queued: set[str]  #: applications that something waits for

    def receipts(self, *ids: str) -> None:
        """The carrier brings receipts of messages that it took under these ids."""
        for id in ids:
            self.carrier.send(id, **ASKED)
            self.carrier.receipt(id)

    async def asked(self, count: int) -> list[DeliverSm]:
        """What the application has been sent."""
        await until(lambda: len(self.application.unasked) >= count)
        return [pdu for pdu in self.application.unasked if isinstance(pdu, DeliverSm)]

    async def answer(self, pdu: DeliverSm, status: str = "ESME_ROK") -> None:
        self.application.wire.respond(pdu, DeliverSmResp(command_status=STATUSES[status], message_id=b""))

    async def answer_rest(self) -> None:
        """All that it was sent but the first."""
        for pdu in (await self.asked(1))[1:]:
            await self.answer(pdu)
        await self.carrier.rest()

    def events(self) -> list[tuple[str, str]]:
        return [(line["type"], line["destination"]) for line in self.carrier.lines()]

    def spooled(self) -> list[str]:
        return [envelope.envid for _, envelope, _ in self.carrier.owed]


@contextlib.asynccontextmanager
async def stage(path: Path, kind: type | None = None) -> AsyncIterator[_Stage]:
    queued: set[str] = set()
    for folder in ("intake", "carrier"):
        (path / folder).mkdir(parents=True)
    how = {} if kind is None else {"kind": kind}
    async with taking(path / "intake") as intake, intake.bound(**how) as application:
        straight = Direct(intake.binds, queued.__contains__)
        async with receipt_stage(path / "carrier", direct=straight) as carrier:
            yield _Stage(carrier, intake, application, queued)
            application.wire.abort()  # or nobody answers what is on the wire


def story(path: Path, tell: Callable[[_Stage], Awaitable[None]], kind: type | None = None) -> None:
    async def run() -> None:
        async with stage(path, kind) as s:
            await tell(s)

    play(run)


def test_the_carrier_is_answered_once_the_application_has_its_receipt(tmp_path: Path) -> None:
    async def tell(s: _Stage) -> None:
        s.receipts("1", "2")
        first, second = await s.asked(2)
        assert first.short_message.startswith(b"id:") and b"stat:DELIVRD" in first.short_message
        assert s.carrier.answers == [] and s.carrier.lines() == []
        await s.answer(second)
        await until(lambda: s.carrier.answers == [ESME_ROK])
        await s.answer(first)
        await s.carrier.rest()
        assert s.carrier.answers == [ESME_ROK] * 2 and s.spooled() == []
        assert s.events() == [("delivered", "sms:one"), ("handed-over", "account:app")] * 2
        line = s.carrier.lines()[1]
        assert line["attempt"] == 1 and line["remote"].startswith("app[127.0.0.1:") and line["provider"] == "account"
        assert [one.outcome.status for one in s.carrier.tried] == [Status.DELIVERED] * 2

    story(tmp_path, tell)


def test_who_does_not_answer_has_his_receipts_in_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O2, O3. The answer that comes later changes nothing."""
    monkeypatch.setattr(direct, "PATIENCE_S", 0.05)

    async def tell(s: _Stage) -> None:
        s.receipts("1")
        (late,) = await s.asked(1)
        await until(lambda: s.carrier.answers == [ESME_ROK])
        s.receipts("2")
        await s.carrier.rest()
        assert s.carrier.answers == [ESME_ROK] * 2 and len(s.spooled()) == 2
        await s.answer(late)
        await asyncio.sleep(0.02)
        await s.carrier.rest()
        assert len(s.application.unasked) == 1
        assert [kind for kind, _ in s.events()] == ["delivered", "unknown", "delivered"]

    story(tmp_path, tell)


@pytest.mark.parametrize(
    ("status", "event", "attempts"),
    [
        ("ESME_RX_T_APPN", "deferred", 1),
        ("ESME_RTHROTTLED", None, 0),  # is no attempt
        ("ESME_RMSGQFUL", None, 0),
    ],
)
def test_what_is_refused_for_now_waits(tmp_path: Path, status: str, event: str | None, attempts: int) -> None:
    async def tell(s: _Stage) -> None:
        s.receipts("1")
        (pdu,) = await s.asked(1)
        await s.answer(pdu, status)
        await s.carrier.rest()
        assert s.carrier.answers == [ESME_ROK] and len(s.spooled()) == 1
        assert [kind for kind, _ in s.events()] == ["delivered", *([event] if event else [])]
        (delivery,) = s.carrier.spool.in_hand
        assert delivery.attempts == attempts and delivery.unknowns == ()
        s.receipts("2")
        await s.carrier.rest()
        assert len(s.spooled()) == 2 and len(s.application.unasked) == 1, "behind it"

    story(tmp_path, tell)


def test_what_is_refused_for_good_is_told_and_gone(tmp_path: Path) -> None:
    async def tell(s: _Stage) -> None:
        s.receipts("1")
        (pdu,) = await s.asked(1)
        await s.answer(pdu, "ESME_RINVDSTADR")
        await s.carrier.rest()
        assert s.carrier.answers == [ESME_ROK] and s.spooled() == []
        assert s.events() == [("delivered", "sms:one"), ("failed", "account:app")]
        assert [one.outcome.status for one in s.carrier.tried] == [Status.FAILED]

    story(tmp_path, tell)


def test_a_receipt_that_is_repeated_waits_for_the_first(tmp_path: Path) -> None:
    """A carrier that lost its bind sends it again over another; a kill must not find it answered and nothing kept."""

    async def tell(s: _Stage) -> None:
        s.receipts("1")
        (pdu,) = await s.asked(1)
        s.carrier.receipt("1")
        s.carrier.receipt("1", "ENROUTE")
        await asyncio.sleep(0.02)
        await s.carrier.receipts.upkeep()  # is not held up
        assert s.carrier.answers == [] and s.carrier.lines() == []
        await s.answer(pdu)
        await s.carrier.rest()
        assert s.carrier.answers == [ESME_ROK] * 3 and s.carrier.odd() == {"duplicate": 2}
        assert [kind for kind, _ in s.events()] == ["delivered", "handed-over"]

    story(tmp_path, tell)


def test_receipts_of_the_other_parts_wait_for_the_one_that_decided(tmp_path: Path) -> None:
    async def tell(s: _Stage) -> None:
        s.carrier.send("1", "2", "3", **ASKED)
        s.carrier.receipt("3")
        await s.carrier.rest()
        assert s.carrier.answers == [ESME_ROK], "decides nothing"
        s.carrier.receipt("1", "UNDELIV")
        (pdu,) = await s.asked(1)
        s.carrier.receipt("2", "UNDELIV")
        await asyncio.sleep(0.02)
        assert s.carrier.answers == [ESME_ROK]
        await s.answer(pdu)
        await s.carrier.rest()
        assert s.carrier.answers == [ESME_ROK] * 3 and len(s.application.unasked) == 1 and s.spooled() == []
        assert [kind for kind, _ in s.events()] == ["receipt", "undelivered", "receipt", "handed-over"]

    story(tmp_path, tell)


def test_an_intermediate_state_is_not_overtaken(tmp_path: Path) -> None:
    async def tell(s: _Stage) -> None:
        s.carrier.send("1", **ASKED | {"registered": 0x11})
        s.carrier.receipt("1", "ENROUTE")
        s.carrier.receipt("1")
        await s.carrier.rest()
        assert s.application.unasked == [] and s.carrier.answers == [ESME_ROK] * 2
        states = [sms.body.partition(b"stat:")[2].split()[0] for _, _, sms in s.carrier.owed]
        assert states == [b"ENROUTE", b"DELIVRD"]

    story(tmp_path, tell)


def test_who_is_slow_is_sent_no_more_than_his_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "SLOW_S", 0.05)

    async def tell(s: _Stage) -> None:
        s.receipts(*map(str, range(1000, 1060)))
        await s.asked(50)
        await until(lambda: len(s.spooled()) == 10)  # those that waited for room
        await s.answer(s.application.unasked[0])
        s.receipts("1")
        await until(lambda: len(s.spooled()) == 11)
        await s.answer_rest()
        assert len(s.application.unasked) == 50 and s.carrier.answers == [ESME_ROK] * 61

    story(tmp_path, tell)


def test_a_lost_connection_sends_it_to_the_spool_and_says_that_it_may_be_there_already(tmp_path: Path) -> None:
    async def tell(s: _Stage) -> None:
        s.receipts("1")
        await s.asked(1)
        s.application.wire.abort()
        await until(lambda: s.carrier.answers == [ESME_ROK])
        assert [kind for kind, _ in s.events()] == ["delivered", "unknown"]
        (delivery,) = s.carrier.spool.in_hand
        assert delivery.unknowns == (0,) and delivery.destination == account_key("app")

    story(tmp_path, tell)


def test_behind_what_is_queued_it_waits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "SPOOLED_S", 0.0)

    async def tell(s: _Stage) -> None:
        s.queued.add("app")
        s.receipts("1")
        await s.carrier.rest()
        assert len(s.spooled()) == 1 and s.application.unasked == []
        s.queued.clear()
        s.receipts("2")
        await s.asked(1)

    story(tmp_path, tell)


def test_a_bind_that_cannot_receive_is_sent_nothing(tmp_path: Path) -> None:
    async def tell(s: _Stage) -> None:
        s.receipts("1")
        await s.carrier.rest()
        assert len(s.spooled()) == 1 and s.application.unasked == []

    story(tmp_path, tell, BindTransmitter)


def test_more_than_the_window_wait_for_room_and_keep_their_order(tmp_path: Path) -> None:
    async def tell(s: _Stage) -> None:
        s.receipts(*map(str, range(1000, 1120)))
        taken: list[DeliverSm] = []
        while len(taken) < 120:
            sent = await s.asked(min(len(taken) + 50, 120))
            assert len(sent) <= len(taken) + 50
            for pdu in sent[len(taken) :]:
                await s.answer(pdu)
            taken = sent
        await s.carrier.rest()
        assert s.spooled() == [] and s.carrier.answers == [ESME_ROK] * 120
        ids = [line["carrier_id"] for line in s.carrier.lines() if line["type"] == "delivered"]
        assert ids == [*map(str, range(1000, 1120))]

    story(tmp_path, tell)


def test_what_waits_for_room_goes_through_the_spool_if_one_before_it_is_not_taken(tmp_path: Path) -> None:
    async def tell(s: _Stage) -> None:
        s.receipts(*map(str, range(1000, 1060)))
        first, *_ = await s.asked(50)
        await s.answer(first, "ESME_RX_T_APPN")
        await until(lambda: len(s.spooled()) == 11)
        await s.answer_rest()
        assert len(s.application.unasked) == 50 and s.carrier.answers == [ESME_ROK] * 60

    story(tmp_path, tell)


def test_no_more_than_so_many_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "MOST_HELD", 60)

    async def tell(s: _Stage) -> None:
        s.receipts(*map(str, range(1000, 1070)))
        await s.asked(50)
        await until(lambda: len(s.spooled()) == 20)  # behind the one that was too many, all that wait for room

    story(tmp_path, tell)


def test_at_the_end_what_is_on_the_wire_is_waited_for(tmp_path: Path) -> None:
    async def tell(s: _Stage) -> None:
        s.receipts("1")
        (pdu,) = await s.asked(1)
        done = asyncio.ensure_future(s.carrier.receipts.settled())
        await asyncio.sleep(0.02)
        assert not done.done()
        await s.answer(pdu)
        await done
        assert s.carrier.answers == [ESME_ROK]

    story(tmp_path, tell)
