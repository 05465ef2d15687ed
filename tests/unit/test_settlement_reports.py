"""What a sender is told, when, and in which order with the outcome it is about (S2, Q3)."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from engine.base.settings import Dsn, Retry, Settings
from engine.base.units import Duration
from engine.delivery.settlement import Timing
from engine.message.envelope import Envelope, Notify, Recipient
from engine.message.outcome import Status
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.table import Rows
from tests.support.queue import Letter, Stage, outcome
from tests.support.settling import HOUR, LATER, attempt, records, story_with_reports


def test_a_report_is_in_the_journal_before_the_outcome_it_tells_of(tmp_path: Path) -> None:
    """A crash between the two sends the report twice at worst; the other way round it would be lost."""

    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", name="m")
        await attempt(s, message, outcome(0, Status.FAILED, "550 no"))
        (report,) = await s.queued()
        assert records(s) == [("message", "m"), ("message", report), ("failed", "m")]
        assert [delivery.destination for delivery in await s.deliveries()] == ["home.test"]

    story_with_reports(tmp_path, story)


def test_no_report_to_the_null_sender(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", sender="")
        await attempt(s, message, outcome(0, Status.FAILED, "550 no"))
        assert s.notifier.made == [] and await s.queued() == []

    story_with_reports(tmp_path, story)


def test_success_is_reported_where_it_was_asked_for_and_the_receiver_does_not_do_it(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        for relays_dsn in (False, True):
            message = await s.put("a@one.test", notify=int(Notify.SUCCESS))
            delivery = message.delivery
            envelope, content = await s.spool.reader.load(delivery)
            s.manager.seize(delivery)
            timing = Timing(s.clock.time())
            await s.settlement.settle(delivery, envelope, content, [outcome(0)], "other", timing, relays_dsn=relays_dsn)
        assert s.notifier.made == [("relayed", ["a@one.test"])]

    story_with_reports(tmp_path, story)


def test_a_delay_is_told_once(tmp_path: Path) -> None:
    settings = Settings(
        retry=Retry(schedule="1h*", jitter=0.0), dsn=Dsn(delay_notice=Duration(2 * HOUR), delay_by_default=True)
    )

    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", name="m")
        made = []
        for _ in range(5):
            await attempt(s, message)
            made.append(len(s.notifier.made))
            await s.jump(HOUR)
        assert made == [0, 0, 1, 1, 1]
        assert s.notifier.made == [("delayed", ["a@one.test"])]
        await s.restart()
        assert (await message.read()).notices == 1

    story_with_reports(tmp_path, story, settings)


def watch_reads(s: Stage) -> list[list[int]]:
    """The rows that are read from now on."""
    reads: list[list[int]] = []
    read = s.spool.reader.read

    async def watched(rows: Rows, *more: Any) -> Any:
        reads.append(rows.tolist())
        return await read(rows, *more)

    s.spool.reader.read = watched  # type: ignore[method-assign]  # watched, not changed
    return reads


async def tell(s: Stage, message: Letter, reason: str = "its site is closed: 421 no") -> Delivery:
    """The queue found that a notice may be due."""
    rows = np.array(message.rows, dtype=np.uint32)
    s.spool.table.move_many(rows, State.LOADING)
    [delivery] = [*message.in_hand, *(await s.spool.reader.read(rows))]
    assert isinstance(delivery, Delivery)
    stored = s.settlement.tell_delay(delivery, *(await s.spool.reader.load(delivery)), "other", reason)
    if stored is not None:
        await stored
    return delivery


@pytest.mark.parametrize("state", [State.READY, State.HELD, State.DUE])
def test_a_delay_without_an_attempt_is_told_once_and_changes_nothing_else(tmp_path: Path, state: State) -> None:
    """By the sweep, in whatever state it waits."""

    async def look(s: Stage, message: Letter) -> None:
        s.courier.delay_notice = s.settlement.delay_notice
        await s.sweeper.sweep()
        await s.rest()

    async def story(s: Stage) -> None:
        if state is State.DUE:
            s.throttle("one.test").close(s.clock.time() + 9 * HOUR, "421 no")
        message = await s.put("a@one.test", "b@one.test", name="m", notify=int(Notify.DELAY))
        if state is State.HELD:
            await s.do("hold", "one.test")

        async def as_it_is() -> tuple[object, ...]:
            delivery = await message.read()
            return delivery.state, delivery.due_at, delivery.attempts, delivery.indexes, len(message.rows)

        before = await as_it_is()
        assert before[0] is state
        assert s.settlement.notice_at(await message.read()) == message.received_at + 4 * HOUR
        await look(s, message)
        assert s.notifier.made == [], "not before its time"
        s.clock.now += 4 * HOUR
        await look(s, message)
        await look(s, message)
        assert s.notifier.made == [("delayed", ["a@one.test", "b@one.test"])]
        assert await as_it_is() == before
        assert s.settlement.notice_at(await message.read()) == math.inf
        assert s.sweeper.orphans == 0
        tally = s.tally()
        assert (tally["queued"], tally["balanced"]) == (3, True)
        await s.restart()
        assert s.settlement.notice_at(await message.read()) == math.inf, "it is on disk"

    story_with_reports(tmp_path, story)


def test_the_notice_of_a_delay_is_in_the_journal_before_the_word_that_it_was_made(tmp_path: Path) -> None:
    """Q3: a crash between the two makes it twice at worst."""

    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", name="m", notify=int(Notify.DELAY))
        s.clock.now += 4 * HOUR
        await tell(s, message)
        report = next(name for name in await s.queued() if name != "m")
        assert records(s) == [("message", "m"), ("message", report), ("", "m")]
        assert [kind for kind, who in s.told() if who == "a@one.test"] == ["received"], "no event: nothing was tried"

    story_with_reports(tmp_path, story)


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        ("TLS is required, but was not offered", "4.7.4", "4.7.4"),
        ("451 4.7.1 greylisted", "4.7.1", "4.7.1"),
        ("451 later", "4.3.0", "4.4.0"),
    ],
)
def test_the_notice_of_a_delay_has_the_status_of_the_last_attempt(
    tmp_path: Path, words: str, code: str, status: str
) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", notify=int(Notify.DELAY))
        await attempt(s, message, replace(outcome(0, LATER, words), status_code=code))
        s.clock.now += 4 * HOUR
        await tell(s, message)
        assert s.notifier.statuses == [status]

    story_with_reports(tmp_path, story)


def test_an_attempt_under_way_tells_of_the_delay_itself(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", notify=int(Notify.DELAY))
        s.clock.now += 4 * HOUR
        delivery = s.agent("one.test").take()
        assert delivery is await tell(s, message)
        assert s.notifier.made == []
        await s.settle(delivery, outcome(0, LATER))
        assert s.notifier.made == [("delayed", ["a@one.test"])]
        await tell(s, message)
        assert len(s.notifier.made) == 1

    story_with_reports(tmp_path, story)


@pytest.mark.parametrize(
    ("sender", "notify"), [("", Notify.DELAY), ("ada@home.test", Notify.FAILURE), ("ada@home.test", Notify.UNSET)]
)
def test_a_delay_that_nobody_wants_to_hear_of_is_known_when_the_message_is_accepted(
    tmp_path: Path, sender: str, notify: Notify
) -> None:
    """A backlog is not read to find that out, nor after a restart."""

    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", name="m", sender=sender, notify=int(notify))
        await s.do("hold", "one.test")
        s.clock.now += 4 * HOUR
        s.courier.delay_notice = s.settlement.delay_notice
        reads = watch_reads(s)
        await s.sweeper.sweep()
        await s.rest()
        assert (message.state, reads) == (State.HELD, [])
        await s.restart()
        assert s.settlement.notice_at(await message.read()) == math.inf
        assert records(s) == [("message", "m")]

    story_with_reports(tmp_path, story)


def test_a_delivery_is_told_of_if_one_of_its_recipients_asks(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        now = s.clock.time()
        recipients = (Recipient("a@one.test"), Recipient("b@one.test", int(Notify.DELAY)), Recipient("c@two.test"))
        envelope = Envelope(s._source.next(), "ada@home.test", recipients, now, now + 9 * HOUR, 0)
        await s.spool.accept(envelope, b"", [("one.test", (0, 1)), ("two.test", (2,))])
        await s.rest()
        assert [delivery.notices for delivery in await s.deliveries()] == [0, 1]

    story_with_reports(tmp_path, story)


def test_delay_by_default_is_about_mail_that_comes_from_then_on(tmp_path: Path) -> None:
    settings = Settings(
        retry=Retry(schedule="9h*", jitter=0.0), dsn=Dsn(delay_notice=Duration(2 * HOUR), delay_by_default=True)
    )

    async def story(s: Stage) -> None:
        before = await s.put("a@one.test")
        s.notifier.reload(settings)
        after = await s.put("b@one.test")
        for message in (before, after):
            await attempt(s, message)
        due_at = [(await message.read()).due_at - message.received_at for message in (before, after)]
        assert due_at == [9 * HOUR, 2 * HOUR], "tried early for the notice alone"
        s.clock.now += 3 * HOUR
        for message in (before, after):
            await attempt(s, message)
        assert s.notifier.made == [("delayed", ["b@one.test"])]

    story_with_reports(tmp_path, story, Settings(retry=settings.retry, dsn=Dsn(delay_notice=Duration(2 * HOUR))))


def test_a_hold_that_comes_while_a_notice_goes_to_disk_waits_for_it(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", notify=int(Notify.DELAY))
        s.clock.now += 4 * HOUR
        delivery = message.delivery
        stored = s.settlement.tell_delay(delivery, *(await s.spool.reader.load(delivery)), "other", "421 no")
        assert stored is not None and not stored.done()
        assert (await s.do("hold", "one.test"))["deliveries"] == 1
        assert message.states == [State.HELD]
        assert s.settlement.notice_at(await message.read()) == math.inf

    story_with_reports(tmp_path, story)


def test_no_notice_is_recorded_for_what_became_a_row_before_its_turn(tmp_path: Path) -> None:
    """The row would not know of the record; a sweep comes by again."""

    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", name="m", notify=int(Notify.DELAY))
        s.clock.now += 4 * HOUR
        delivery = message.delivery
        loaded = await s.spool.reader.load(delivery)
        await s.do("hold", "one.test")
        assert s.settlement.tell_delay(delivery, *loaded, "other", "421 no") is None
        assert records(s) == [("message", "m")]
        assert (await message.read()).notices == 0

    story_with_reports(tmp_path, story)
