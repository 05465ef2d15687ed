"""A kill while SMS are on the wire: how many may go twice, what is known of them afterwards, what is marked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.base.errors import StorageError
from engine.base.settings import Carrier, Settings
from engine.delivery import carrier_link, sms_trouble, verdicts
from engine.message.sms import SentPart
from engine.protocol.smpp_pdu import SubmitSmResp
from engine.protocol.smpp_tables import STATUSES
from engine.queue.orders import Orders
from engine.queue.scope import Scope
from engine.storage.events.reader import read_events
from engine.storage.inflight import Inflight
from tests.support.sms_stage import SmsStage, carrier, play, sms_stage, until
from tests.support.smsc import Smsc

MARK = "may have been sent before"


def took(message: str, **more: Any) -> SentPart:
    """What the book has of a part that a carrier took."""
    usual = {
        "carrier": "one", "carrier_id": "x", "message": message, "index": 0, "part": 1, "parts": 1, "sent_at": 1.0,
        "deadline": 2.0, "sender": "ACME", "recipient": "+447700900001",
    }  # fmt: skip
    return SentPart(**usual | more)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes hundredths."""
    monkeypatch.setattr(carrier_link, "_FIRST_PAUSE_S", 0.02)


def test_no_more_is_begun_than_a_kill_may_double(tmp_path: Path) -> None:
    """What was answered, and is not remembered on disk, would be sent again after a kill: it counts as on the wire."""

    async def story() -> None:
        smsc = await Smsc().open()
        async with sms_stage(tmp_path, carrier(smsc, window=4)) as s:
            await until(lambda: s.carriers.healthy("one"))
            s.book.slow = asyncio.Event()
            for n in range(10):
                await s.put(f"{n}", f"+44770090{n:04}")
            await until(lambda: len(s.book.parts) == 4)
            await asyncio.sleep(0.05)
            assert len(smsc.submits) == 4
            s.book.slow.set()
            await until(lambda: s.live() == 0)
            assert len(smsc.submits) == 10
        await smsc.close()

    play(story)


def test_a_recipient_is_remembered_when_he_has_his_answer_and_not_with_the_others(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: smsc.take(pdu) if pdu.destination_addr[-1:] != b"3" else None
        async with sms_stage(tmp_path, carrier(smsc, window=3, response_timeout=3600.0)) as s:
            await s.put("a", *[f"+44770090000{n}" for n in range(6)])
            await until(lambda: len(s.book.parts) == 5)
            assert s.told() == [], "one has no answer, and so the delivery is not settled"
            assert [part.index for part in s.book.parts] == [0, 1, 2, 4, 5]
            smsc.wires[0].abort()
            await until(lambda: len(s.told()) == 6)
            assert len(s.book.parts) == 5
        await smsc.close()

    play(story)


def test_a_message_of_many_parts_is_not_begun_where_a_kill_would_double_more_than_the_window(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: None
        async with sms_stage(tmp_path, carrier(smsc, window=4, response_timeout=3600.0)) as s:
            await until(lambda: s.carriers.healthy("one"))
            for n in range(3):
                await s.put("a", f"+44770090000{n}")
            await s.put("b" * 400, "+447700900009")
            await until(lambda: len(smsc.submits) == 3)
            await asyncio.sleep(0.1)
            assert len(smsc.submits) == 3
            smsc.answer = smsc.take
            for pdu in list(smsc.submits):
                smsc.wires[0].respond(pdu, smsc.take(pdu))
            await until(lambda: [pdu.destination_addr[-1:] for pdu in smsc.submits].count(b"9") == 3)
        await smsc.close()

    play(story)


def test_what_died_twice_before_it_was_sent_again_is_still_known(tmp_path: Path) -> None:
    """A slot of a process that was killed stays until the end of its delivery is recorded."""
    first = Inflight(tmp_path / "inflight")
    first.enter("0Vc83one", 1)
    first.leave(first.enter("0Vc83two", 1))
    first.close()
    Inflight(tmp_path / "inflight").close()
    third = Inflight(tmp_path / "inflight")
    assert [third.perhaps("0Vc83one", 1), third.perhaps("0Vc83two", 1)] == [True, False]
    slot = third.enter("0Vc83new", 1)
    third.doubt(-1, "0Vc83not", 1)
    assert not third.perhaps("0Vc83not", 1), "nothing of it was on the wire"
    third.doubt(slot, "0Vc83new", 1)
    for name in ("0Vc83one", "0Vc83one", "0Vc83new", "0Vc83two"):
        third.forget(name, 1)
        assert not third.perhaps(name, 1)
    third.close()
    assert not any((tmp_path / "inflight").read_bytes())


def test_what_a_carrier_took_before_we_were_killed_is_settled_and_not_sent_again(tmp_path: Path) -> None:
    """Answered and remembered, and its outcome not on disk; of two recipients the second had no answer."""

    async def story() -> None:
        smsc = await Smsc().open()
        s = SmsStage(tmp_path, Settings(carrier=(carrier(smsc, window=2),)))
        try:
            s.manager.start(s.courier)
            inflight = s.sms.inflight
            messages = [await s.put("a" * 200, "+447700900001"), await s.put("b", "+447700900002", "+447700900003")]
            for message in messages:
                inflight.before[message, 0] = inflight.enter(message, 0)
            s.book.parts = [
                *[
                    took(messages[0], carrier="gone", carrier_id=id, part=part, parts=2, price="0.03")
                    for part, id in ((1, "x"), (2, "y"))
                ],
                took(messages[1], carrier_id="z", recipient="+447700900002"),
            ]
            before = [*s.book.parts]
            s.carriers.start()
            await until(lambda: len(s.told()) == 3)
            assert [pdu.destination_addr for pdu in smsc.submits] == [b"447700900003"]
            assert s.book.parts[:3] == before and [part.index for part in s.book.parts[3:]] == [1]
            told = {to: (kind, reply) for kind, to, reply in s.told()}
            assert told["+447700900001"] == ("sent", "ESME_ROK id=x")
            assert told["+447700900002"] == ("sent", "ESME_ROK id=z")
            assert "may have been sent before" in told["+447700900003"][1]
            rows = [row for row in read_events(tmp_path / "events") if row["type"] == "sent"]
            priced = {row["recipient"][-1]: (row.get("price", ""), row["remote"]) for row in rows}
            assert priced["1"] == ("0.06", "gone"), "by whoever took it, at his price"
            assert priced["2"] == ("", "one")
            await until(lambda: not any((tmp_path / "inflight").read_bytes()))
            assert not inflight.before
        finally:
            await s.stop()
        await smsc.close()

    play(story)


def test_what_was_on_the_wire_when_we_were_killed_is_marked_when_it_goes_again(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: None
        async with sms_stage(tmp_path, carrier(smsc, window=2)) as s:
            await until(lambda: s.carriers.healthy("one"))
            for n in range(4):
                await s.put(f"{n}", f"+44770090{n:04}")
            await until(lambda: len(smsc.submits) == 2)
            left = (tmp_path / "inflight").read_bytes()
            smsc.wires[0].abort()
        (tmp_path / "inflight").write_bytes(left)
        smsc.answer = smsc.take
        async with sms_stage(tmp_path, carrier(smsc)) as s:
            s.manager.release(np.concatenate(list(s.spool.table.select())), now=True)
            await until(lambda: s.live() == 0 and [kind for kind, _, _ in s.told()].count("unknown") == 2)
            await until(lambda: len(s.told()) == 2 + 4)
            marked = sorted(to for kind, to, reply in s.told() if "may have been sent before" in reply)
            assert marked == ["+447700900000", "+447700900001"]
        await smsc.close()

    play(story)


def test_a_word_on_what_a_carrier_took_before_we_were_killed_cannot_take_it_back(tmp_path: Path) -> None:
    """Purged before it was looked at again: who was sent to is told so, and of who may have been it is said."""

    async def story() -> None:
        smsc = await Smsc().open()
        s = SmsStage(tmp_path, Settings(carrier=(carrier(smsc),)))
        try:
            s.manager.start(s.courier)
            inflight = s.sms.inflight
            message = await s.put("a" * 200, "+447700900001", "+447700900002")
            other = await s.put("b", "+447700900003")
            inflight.before[message, 0] = inflight.enter(message, 0)
            s.book.parts = [
                took(message, carrier_id=id, part=part, parts=2, price="0.03") for part, id in ((1, "x"), (2, "y"))
            ]
            orders = Orders(s.spool, s.manager, s.state, {"purge": s.courier.purge}, s.clock)
            orders.start()
            await s.manager.load_backlog()
            assert await orders.give("purge", Scope("all")) == (2, 0)
            await until(lambda: len(s.told()) == 3)
            told = {to: (kind, reply) for kind, to, reply in s.told()}
            assert told["+447700900001"] == ("sent", "ESME_ROK id=x")
            assert told["+447700900002"][0] == told["+447700900003"][0] == "removed"
            assert "may have been sent before" in told["+447700900002"][1]
            assert "may have been sent before" not in told["+447700900003"][1]
            [sent] = [row for row in read_events(tmp_path / "events") if row["type"] == "sent"]
            assert (sent["price"], sent["remote"]) == ("0.06", "one")
            assert not inflight.before and not any((tmp_path / "inflight").read_bytes())
            assert other != message and smsc.submits == []
        finally:
            await s.stop()
        await smsc.close()

    play(story)


def test_what_could_not_be_settled_is_not_sent_again_and_hinders_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of our own: the carrier has it, and what it said is remembered."""

    async def story() -> None:
        smsc = await Smsc().open()
        async with sms_stage(tmp_path, carrier(smsc, window=2)) as s:
            await until(lambda: s.carriers.healthy("one"))
            settle, failing = s.settlement.settle, [True]

            def fails(delivery: Any, *rest: Any, **more: Any) -> Any:
                if failing and delivery.message.id == first:
                    raise RuntimeError("no settling now")
                return settle(delivery, *rest, **more)

            monkeypatch.setattr(s.settlement, "settle", fails)
            first = await s.put("a", "+447700900001")
            for number in range(2, 7):
                await s.put("b", f"+44770090000{number}")
            await until(lambda: len(s.told()) == 5)
            assert s.metrics.internal_errors.labels("agent").value == 1
            [delivery] = s.spool.in_hand
            assert delivery.message.id == first and not s.manager.has_owner(delivery)
            failing.clear()
            delivery.due_at = 0.0
            s.spool.when_settled(delivery, s.manager.wait)  # as the sweeper does
            await until(lambda: len(s.told()) == 6)
            assert s.told()[-1][0] == "sent" and "may have been sent" not in s.told()[-1][2]
            assert len(smsc.submits) == 6 and s.live() == 0
            await until(lambda: not any((tmp_path / "inflight").read_bytes()))
        await smsc.close()

    play(story)


@contextlib.asynccontextmanager
async def after_a_kill(path: Path, *carriers: Carrier) -> AsyncIterator[SmsStage]:
    """A stage whose carriers are not looked for yet."""
    s = SmsStage(path, Settings(carrier=carriers))
    s.manager.start(s.courier)
    try:
        yield s
    finally:
        await s.stop()


async def doubtful(s: SmsStage, *numbers: str, **more: Any) -> str:
    """A message that may have been on the wire when the engine was killed; its id."""
    message = await s.put("hello", *numbers, **more)
    s.sms.inflight.doubt(s.sms.inflight.enter(message, 0), message, 0)
    return message


@pytest.mark.parametrize("unwanted", [False, True])
def test_what_is_not_sent_again_says_that_it_may_have_been(tmp_path: Path, unwanted: bool) -> None:
    """It expires, or its recipient opts out, before its turn comes."""

    async def story() -> None:
        smsc = await Smsc().open()
        async with after_a_kill(tmp_path, carrier(smsc)) as s:
            await doubtful(s, "+447700900001", **({} if unwanted else {"expires_in": 0.2}))
            if unwanted:
                s.unwanted.add(("ACME", "+447700900001"))
            else:
                await asyncio.sleep(0.25)
            s.carriers.start()
            await until(lambda: len(s.told()) == 1)
            [(kind, _, reply)] = s.told()
            assert kind == ("suppressed" if unwanted else "expired") and MARK in reply
            await until(lambda: not s.sms.inflight.before and not any((tmp_path / "inflight").read_bytes()))
        assert smsc.submits == []
        await smsc.close()

    play(story)


def test_what_is_told_to_wait_keeps_its_mark_to_the_end(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        answers = [STATUSES["ESME_RSYSERR"], 0]
        smsc.answer = lambda pdu: SubmitSmResp(command_status=answers.pop(0), message_id=b"id")
        async with after_a_kill(tmp_path, carrier(smsc)) as s:
            message = await doubtful(s, "+447700900001")
            s.carriers.start()
            await until(lambda: [kind for kind, _, _ in s.told()] == ["deferred"])
            assert s.sms.inflight.perhaps(message, 0), "it is not at its end"
            await until(lambda: len(s.spool.table) == 1)
            s.manager.release(np.concatenate(list(s.spool.table.select())), now=True)
            await until(lambda: len(s.told()) == 2)
            assert [(kind, MARK in reply) for kind, _, reply in s.told()] == [("deferred", True), ("sent", True)]
            await until(lambda: not s.sms.inflight.before and not any((tmp_path / "inflight").read_bytes()))
        await smsc.close()

    play(story)


def test_the_mark_stays_until_the_end_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes nothing, and an operator's word: a kill now must not forget that it was perhaps sent."""

    async def story() -> None:
        smsc = await Smsc().open()
        async with after_a_kill(tmp_path, carrier(smsc)) as s:
            message = await doubtful(s, "+447700900001")
            await s.manager.load_backlog()
            orders = Orders(s.spool, s.manager, s.state, {"purge": s.courier.purge}, s.clock)
            orders.start()
            append, full = s.spool._journal._files.append, [True]

            def fails(descriptor: int, pieces: Any) -> None:
                if full:
                    raise StorageError("no room")
                append(descriptor, pieces)

            monkeypatch.setattr(s.spool._journal._files, "append", fails)
            purging = asyncio.ensure_future(orders.give("purge", Scope("all")))
            await until(lambda: s.spool.failure)
            assert s.sms.inflight.perhaps(message, 0)
            full.clear()
            assert await purging == (1, 0)
            await until(lambda: not s.sms.inflight.before and not any((tmp_path / "inflight").read_bytes()))
            assert [(kind, MARK in reply) for kind, _, reply in s.told()] == [("removed", True)]
        await smsc.close()

    play(story)


def test_what_a_carrier_took_that_is_no_more_goes_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken out of the settings after the kill: the outcome is its own, and its queue's."""

    async def story() -> None:
        smsc = await Smsc().open()
        async with after_a_kill(tmp_path, carrier(smsc)) as s:
            s.carriers.start()
            message, inflight = s.ids.next(), s.sms.inflight
            monkeypatch.setattr(s.ids, "next", lambda: message)
            inflight.doubt(inflight.enter(message, 0), message, 0)
            s.book.parts = [took(message, carrier="gone")]
            await s.put("hello", "+447700900001", carrier="gone")
            await until(lambda: len(s.told()) == 1 and not inflight.before)
            [row] = [row for row in read_events(tmp_path / "events") if row["type"] != "received"]
            assert (row["type"], row["destination"], row["remote"]) == ("sent", "sms:gone", "gone")
        assert smsc.submits == []
        await smsc.close()

    play(story)


def test_what_was_sent_again_and_taken_before_another_kill_is_marked_all_the_same(tmp_path: Path) -> None:
    """Killed, sent again, answered, killed before that was recorded: a carrier may have it twice."""

    async def story() -> None:
        smsc = await Smsc().open()
        number = "+447700900001"
        smsc.answer = lambda pdu: None
        async with after_a_kill(tmp_path, carrier(smsc)) as s:
            message = await doubtful(s, number)
            s.carriers.start()
            await until(lambda: smsc.submits)
            left = (tmp_path / "inflight").read_bytes()
        (tmp_path / "inflight").write_bytes(left)
        again = Inflight(tmp_path / "inflight")
        assert again.perhaps(message, 0) and again.again == {(message, 0)}
        part = took(message)
        for twice in (False, True):
            [told] = sms_trouble.after_a_kill(verdicts.purged((0,), "us"), lambda index: [part], twice)
            assert told.reply.startswith("ESME_ROK id=x") and (MARK in told.reply) is twice
        again.forget(message, 0)
        assert not again.again and not any((tmp_path / "inflight").read_bytes())
        again.close()
        await smsc.close()

    play(story)


@pytest.mark.parametrize("again", [False, True])
def test_what_is_known_to_be_taken_is_marked_if_it_went_twice(tmp_path: Path, again: bool) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        async with after_a_kill(tmp_path, carrier(smsc)) as s:
            message = await doubtful(s, "+447700900001")
            if again:
                s.sms.inflight.again.add((message, 0))
            s.book.parts = [took(message)]
            s.carriers.start()
            await until(lambda: len(s.told()) == 1 and not s.sms.inflight.before)
            [(kind, _, reply)] = s.told()
            assert (kind, MARK in reply) == ("sent", again) and smsc.submits == []
            assert not any((tmp_path / "inflight").read_bytes())
        await smsc.close()

    play(story)
