"""What one carrier refuses, or cannot take, another has: over real sockets."""

from pathlib import Path

import numpy as np
import pytest

from engine.base.units import Rate
from engine.delivery import carrier_link, sms_pace
from tests.support.sms_stage import carrier, hurry, play, sms_stage, until
from tests.support.smsc import Refusing, Smsc


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def test_the_next_carrier_has_what_one_refuses_or_cannot_take(tmp_path: Path) -> None:
    async def story() -> None:
        bad, good = await Smsc().open(), await Smsc().open()
        bad.answer = Refusing("ESME_RSYSERR")
        async with sms_stage(tmp_path, carrier(bad), carrier(good, "two")) as s:
            await until(lambda: s.carriers.healthy("two"))
            await s.put("refused", "+447700900001")
            await until(lambda: len(good.submits) == 1)
            await until(lambda: s.live() == 0)
            assert [part.carrier for part in s.book.parts] == ["two"]
            await bad.close()
            await until(lambda: s.carriers.down("one"))
            await s.put("not bound", "+447700900002")
            await until(lambda: len(good.submits) == 2)
            await until(lambda: s.live() == 0)
            assert s.tally()["delivered"] == 2 and s.tally()["balanced"]
        await good.close()

    play(story)


def test_what_went_to_the_next_carrier_stays_there_after_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        bad, slow = await Smsc().open(), await Smsc().open()
        bad.answer, slow.answer = Refusing("ESME_RSYSERR"), lambda pdu: None
        async with sms_stage(tmp_path, carrier(bad), carrier(slow, "two")) as s:
            await until(lambda: s.carriers.healthy("two"))
            await s.put("x", "+447700900001")
            await until(lambda: slow.submits)
            slow.wires[0].abort()
            await until(lambda: s.tally().get("unknown", 0) or len(s.told()) == 2)
        async with sms_stage(tmp_path, carrier(bad), carrier(slow, "two")) as s:
            [delivery] = await s.rows()
            assert delivery.destination == "sms:two"
            assert {own for own, d in s.manager.destinations.items() if d.live} == {("sms:two", "")}
        await bad.close()
        await slow.close()

    play(story)


def test_what_is_queued_for_a_carrier_that_a_reload_removed_goes_to_another(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        async with sms_stage(tmp_path, carrier(smsc)) as s:
            await until(lambda: s.carriers.healthy("one"))
            await s.put("x", "+447700900001", destination="sms:gone")
            await until(lambda: s.live() == 0)
            await until(lambda: len(s.told()) == 2)
            assert [(kind, reply) for kind, _, reply in s.told()] == [
                ("deferred", "there is no [[carrier]] gone"), ("sent", "ESME_ROK id=1"),
            ]  # fmt: skip
        await smsc.close()

    play(story)


def test_one_that_no_other_carrier_may_have_keeps_nobody_from_going_there(tmp_path: Path) -> None:
    async def story() -> None:
        gone, there = await Smsc().open(), await Smsc().open()
        async with sms_stage(tmp_path, carrier(gone), carrier(there, "two")) as s:
            s.routes.only["+43660000001"] = ["one"]
            await until(lambda: s.carriers.healthy("two"))
            await gone.close()
            await until(lambda: s.carriers.down("one"))
            await s.put("stays", "+43660000001")
            for number in range(3):
                await s.put("goes", f"+4915100000{number}")
            await until(lambda: len(there.submits) == 3 and s.live() == 1)
        await there.close()

    play(story)


def test_hundreds_that_no_other_carrier_may_have_keep_nobody_from_going_there(tmp_path: Path) -> None:
    """More than are in memory at once. When their own carrier is back they go."""

    async def story() -> None:
        gone, there = await Smsc().open(), await Smsc().open()
        async with sms_stage(tmp_path, carrier(gone), carrier(there, "two")) as s:
            s.routes.only.update({f"+43660{number:06}": ["one"] for number in range(600)})
            await until(lambda: s.carriers.healthy("two"))
            await gone.close()
            await until(lambda: s.carriers.down("one"))
            for number in range(600):
                await s.put(f"{number}", f"+43660{number:06}")
            for number in range(3):
                await s.put("goes", f"+4915100000{number}")
            await until(lambda: len(there.submits) == 3 and s.live() == 600)
            await gone.open()
            await until(lambda: s.live() == 0)
            assert sorted(int(pdu.short_message) for pdu in gone.submits) == list(range(600))
        await gone.close()
        await there.close()

    play(story)


def test_what_found_no_carrier_goes_to_the_first_that_is_bound(tmp_path: Path) -> None:
    async def story() -> None:
        gone, there = await Smsc().open(), await Smsc().open()
        async with sms_stage(tmp_path, carrier(gone), carrier(there, "two")) as s:
            await until(lambda: s.carriers.healthy("one") and s.carriers.healthy("two"))
            await gone.close()
            await there.close()
            await until(lambda: s.carriers.down("one") and s.carriers.down("two"))
            await s.put("x", "+447700900001")
            await until(lambda: s.manager.destination("sms:one").aside)
            await there.open()
            await until(lambda: s.live() == 0)
            assert [part.carrier for part in s.book.parts] == ["two"]
        await there.close()

    play(story)


def test_what_is_behind_at_a_carrier_that_takes_nothing_goes_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it refused itself goes there first of all when it takes something again, then what nobody else may have."""
    monkeypatch.setattr(carrier_link, "STALLED_S", 0.1)
    monkeypatch.setattr(sms_pace, "LONGEST_PAUSE_S", 0.1)

    async def story() -> None:
        stalled, there = await Smsc().open(), await Smsc().open()
        stalled.answer = refusing = Refusing("ESME_RTHROTTLED")
        async with sms_stage(tmp_path, carrier(stalled, window=1, rate=Rate(1000)), carrier(there, "two")) as s:
            s.routes.only["+43660000001"] = ["one"]
            await until(lambda: s.carriers.healthy("one") and s.carriers.healthy("two"))
            await s.put("refused", "+447700900001")
            await until(lambda: s.carriers.stalled("one"))
            await s.put("only there", "+43660000001")
            for number in range(3):
                await s.put("goes", f"+4915100000{number}")
            await until(lambda: len(there.submits) == 3 and s.live() == 2)
            assert not s.carriers.healthy("one")
            stalled.answer = refusing = Refusing("ESME_RTHROTTLED", 1)
            await until(lambda: s.live() == 0)
            assert refusing.taken == [b"refused", b"only there"]
            assert s.carriers.healthy("one")
        await stalled.close()
        await there.close()

    play(story)


def test_what_was_tried_often_goes_to_another_carrier_still_if_its_own_is_down(tmp_path: Path) -> None:
    async def story() -> None:
        gone, there = await Smsc().open(), await Smsc().open()
        gone.answer, there.answer = Refusing("ESME_RSYSERR"), Refusing("ESME_RSYSERR", 1)
        async with sms_stage(tmp_path, carrier(gone), carrier(there, "two")) as s:
            await until(lambda: s.carriers.healthy("one") and s.carriers.healthy("two"))
            await s.put("x", "+447700900001")
            await until(lambda: len(s.told()) == 2 and len(s.spool.table) == 1)
            [delivery] = await s.rows()
            assert (delivery.destination, delivery.attempts) == ("sms:two", 2)
            gone.answer = gone.take
            await there.close()
            await until(lambda: s.carriers.down("two"))
            s.manager.release(np.concatenate(list(s.spool.table.select())), now=True)
            await until(lambda: s.live() == 0)
            assert [part.carrier for part in s.book.parts] == ["one"]
        await gone.close()

    play(story)
