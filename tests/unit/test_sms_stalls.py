"""A carrier that is bound and answers enquire_link, and never a submit: others have what is for it."""

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.admin.sms import binds
from engine.delivery import carrier_link, sms_pace
from engine.protocol.smpp_pdu import SubmitSmResp
from engine.protocol.smpp_tables import STATUSES
from tests.support.sms_stage import carrier as carrier_at
from tests.support.sms_stage import play, sms_stage, until
from tests.support.smsc import Smsc

ANSWER_S = 0.2

carrier = partial(carrier_at, response_timeout=ANSWER_S)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_link, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(carrier_link, "STALLED_S", 0.05)


async def silent(smsc: Smsc) -> Smsc:
    smsc.answer = lambda pdu: None
    return await smsc.open()


def replies(s: Any, kind: str) -> list[str]:
    return [reply for told, _, reply in s.told() if told == kind]


def test_the_next_carrier_has_what_was_not_answered_and_what_comes_after(tmp_path: Path) -> None:
    """D3: it goes once more, and is marked; of what was not sent at all nothing is marked."""

    async def story() -> None:
        stalled, there = await silent(Smsc()), await Smsc().open()
        async with sms_stage(tmp_path, carrier(stalled, window=4), carrier(there, "two")) as s:
            await until(lambda: s.carriers.healthy("one") and s.carriers.healthy("two"))
            for number in range(12):
                await s.put(f"{number}", f"+44770090{number:04}")
            await until(lambda: s.live() == 0)
            await until(lambda: len(replies(s, "sent")) == 12)
            lost = len(stalled.submits)
            assert 4 <= lost < 4 + sms_pace.SILENT, "a window, and what went before so many had no answer"
            assert s.carriers.stalled("one") and not s.carriers.healthy("one")
            assert len(replies(s, "unknown")) == lost
            marked = [
                reply for reply in replies(s, "sent") if "may have been sent before: there was no answer" in reply
            ]
            assert len(marked) == lost
            assert sorted(int(pdu.short_message) for pdu in there.submits) == list(range(12))
            assert s.tally()["delivered"] == 12 and s.tally()["balanced"]
            parts: Any = SimpleNamespace(carriers=s.carriers, binds=SimpleNamespace(all=list), clock=s.clock)
            row, _ = [row async for row in binds(parts)]
            assert (row["state"], row["takes"]) == ("bound", False)
            assert row["reason"].startswith("answers no submits: a pause of ")
        await stalled.close()
        await there.close()

    play(story)


def test_it_is_looked_at_again_with_one_message_and_has_all_when_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sms_pace, "FIRST_SILENCE_S", 0.2)

    async def story() -> None:
        smsc = await silent(Smsc())
        async with sms_stage(tmp_path, carrier(smsc, window=3)) as s:
            await until(lambda: s.carriers.healthy("one"))
            for number in range(8):
                await s.put(f"{number}", f"+44770090{number:04}")
            await until(lambda: s.carriers.stalled("one") and not s.carriers.links()[0].unanswered)
            lost = len(smsc.submits)
            await until(lambda: len(smsc.submits) > lost)
            await asyncio.sleep(ANSWER_S / 4)
            assert len(smsc.submits) == lost + 1, "one alone, after the pause"
            assert s.carriers.stalled("one"), "while it waits"
            smsc.answer = smsc.take
            # What had no answer waits for its time; the rest is not behind it.
            await until(lambda: len(replies(s, "sent")) == 8 - lost - 1)
            assert s.carriers.healthy("one")
            s.manager.release(np.concatenate(list(s.spool.table.select())), now=True)
            await until(lambda: s.live() == 0)
            assert s.tally()["delivered"] == 8
        await smsc.close()

    play(story)


def test_what_was_not_answered_twice_fails_in_words_of_sms(tmp_path: Path) -> None:
    async def story() -> None:
        first, second = await silent(Smsc()), await silent(Smsc())
        async with sms_stage(tmp_path, carrier(first), carrier(second, "two")) as s:
            await until(lambda: s.carriers.healthy("one") and s.carriers.healthy("two"))
            await s.put("x", "+447700900001")
            await until(lambda: replies(s, "failed"))
            [reply] = replies(s, "failed")
            assert reply.startswith("no answer to the submit, twice; the message may have been sent: no answer")
            assert "end of data" not in reply
            assert (len(first.submits), len(second.submits)) == (1, 1)
        await first.close()
        await second.close()

    play(story)


@pytest.mark.parametrize("status", ["ESME_RSUBMITFAIL", "ESME_RINVNUMDESTS", "0x00000463"])
def test_whatever_a_carrier_says_the_next_has_its_turn(tmp_path: Path, status: str) -> None:
    """Unless it is about the message or the number: nobody would take that."""

    async def story() -> None:
        bad, good = await Smsc().open(), await Smsc().open()
        number = STATUSES.get(status) or int(status, 16)
        bad.answer = lambda pdu: SubmitSmResp(command_status=number)
        async with sms_stage(tmp_path, carrier(bad), carrier(good, "two")) as s:
            await until(lambda: s.carriers.healthy("one") and s.carriers.healthy("two"))
            await s.put("x", "+447700900001")
            await until(lambda: replies(s, "sent"))
            assert [part.carrier for part in s.book.parts] == ["two"]
            assert status in replies(s, "deferred")[0]
            assert "before" not in replies(s, "sent")[0]
        await bad.close()
        await good.close()

    play(story)
