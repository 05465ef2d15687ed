"""Cancelling what an agent has: what the carrier told to slow down, or what waits behind that, is not on the wire."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.base.settings import Carrier
from engine.base.units import Rate
from engine.protocol.smpp_pdu import SubmitSm, SubmitSmResp
from engine.protocol.smpp_tables import STATUSES
from engine.storage.spool.entry import Delivery
from tests.support.sms_stage import SmsStage, play, sms_stage, until
from tests.support.smsc import Smsc

THROTTLED = SubmitSmResp(command_status=STATUSES["ESME_RTHROTTLED"])
Story = Callable[[SmsStage, Smsc], Awaitable[None]]


def with_carrier(path: Path, story: Story, **more: object) -> None:
    async def run() -> None:
        smsc = await Smsc().open()
        row = Carrier(name="one", host="127.0.0.1", port=smsc.port, system_id="us", **more)  # type: ignore[arg-type]
        async with sms_stage(path, row) as s:
            await until(lambda: s.carriers.healthy("one"))
            await story(s, smsc)
        await smsc.close()

    play(run)


def delivery_of(s: SmsStage, message_id: str) -> Delivery:
    return next(one for one in s.spool.in_hand if one.message.id == message_id)


def withdraw(s: SmsStage, message_id: str) -> bool:
    return s.courier.withdraw(delivery_of(s, message_id), "app")


def texts(smsc: Smsc) -> list[bytes]:
    return [pdu.short_message for pdu in smsc.submits]


def test_what_was_told_to_slow_down(tmp_path: Path) -> None:
    async def story(s: SmsStage, smsc: Smsc) -> None:
        smsc.answer = lambda _: THROTTLED
        first = await s.put("first", "+447700900001")
        await until(lambda: len(smsc.submits) == 1)
        last = await s.put("last", "+447700900004")
        await until(lambda: withdraw(s, first))
        assert not withdraw(s, first), "it is over"
        assert not withdraw(s, last), "no agent has it: it is an order's"
        smsc.answer = lambda pdu: SubmitSmResp(message_id=b"id-" + pdu.destination_addr)
        await until(lambda: len(s.told()) == 2)
        assert texts(smsc) == [b"first", b"last"]
        assert sorted(s.told()) == [
            ("removed", "+447700900001", "removed by app"), ("sent", "+447700900004", "ESME_ROK id=id-447700900004"),
        ]  # fmt: skip
        assert s.tally() == {"accepted": 2, "delivered": 1, "removed": 1, "balanced": True}

    with_carrier(tmp_path, story)


@pytest.mark.parametrize("window", [1, 10])
def test_parts_that_all_were_told_to_slow_down(tmp_path: Path, window: int) -> None:
    """Of a window of one the second part has not been sent yet."""

    async def story(s: SmsStage, smsc: Smsc) -> None:
        smsc.answer = lambda _: THROTTLED
        message_id = await s.put("x" * 300, "+447700900001")
        await until(lambda: len(smsc.submits) == min(window, 2))
        await until(lambda: withdraw(s, message_id))
        await until(lambda: s.live() == 0)
        assert s.tally() == {"accepted": 1, "removed": 1, "balanced": True}
        smsc.answer = lambda _: SubmitSmResp(message_id=b"id")
        await s.put("next", "+447700900001")
        await until(lambda: s.live() == 0)
        assert texts(smsc)[min(window, 2) :] == [b"next"], "nothing of it is sent again"

    with_carrier(tmp_path, story, window=window)


def test_what_is_on_the_wire_or_was_taken_in_part_stays(tmp_path: Path) -> None:
    async def story(s: SmsStage, smsc: Smsc) -> None:
        held: list[SubmitSm] = []
        smsc.answer = held.append  # type: ignore[assignment]  # answers nothing
        message_id = await s.put("x" * 300, "+447700900001")
        await until(lambda: len(held) == 2)
        assert not withdraw(s, message_id), "both are on the wire"
        smsc.wires[0].respond(held[1], THROTTLED)
        await asyncio.sleep(0.05)
        assert not withdraw(s, message_id), "one is"
        smsc.wires[0].respond(held[0], SubmitSmResp(message_id=b"1"))
        await asyncio.sleep(0.05)
        assert not withdraw(s, message_id), "the carrier has one"
        smsc.answer = lambda _: SubmitSmResp(message_id=b"2")
        for again in held[2:]:  # sent again before that
            smsc.wires[0].respond(again, SubmitSmResp(message_id=b"2"))
        await until(lambda: s.live() == 0)
        assert s.tally() == {"accepted": 1, "delivered": 1, "balanced": True}

    with_carrier(tmp_path, story)


def test_what_waits_for_its_turn_by_the_rate(tmp_path: Path) -> None:
    async def story(s: SmsStage, smsc: Smsc) -> None:
        await s.put("first", "+447700900001")
        await until(lambda: len(smsc.submits) == 1)
        message_id = await s.put("second", "+447700900001")
        await until(lambda: withdraw(s, message_id))
        await until(lambda: len(s.told()) == 2)
        assert texts(smsc) == [b"first"] and s.told()[-1][0] == "removed"

    with_carrier(tmp_path, story, rate=Rate(0.001))


def test_what_was_withdrawn_stays_so_when_the_bind_is_lost_that_moment(tmp_path: Path) -> None:
    async def story(s: SmsStage, smsc: Smsc) -> None:
        held: list[SubmitSm] = []
        smsc.answer = held.append  # type: ignore[assignment]  # answers nothing
        await s.put("first", "+447700900001")
        await until(lambda: len(held) == 1)
        behind = await s.put("behind", "+447700900002", "+447700900003")

        def withdrawn_and_lost() -> bool:
            if not withdraw(s, behind):
                return False
            s.carriers.links()[0].abort()
            return True

        await until(withdrawn_and_lost)
        await until(lambda: len(s.told()) == 3)
        assert [kind for kind, *_ in s.told()] == ["removed", "removed", "unknown"]

    with_carrier(tmp_path, story, window=1)
