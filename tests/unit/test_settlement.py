"""What follows from an attempt: schedule, jitter, expiry, the second unknown (D3); reports have a file of their own."""

import logging
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.settings import Retry, Settings
from engine.delivery import verdicts
from engine.delivery.retries import Retries
from engine.delivery.settlement import PUT_OFF_S, Settlement
from engine.message.envelope import Envelope, MessageClass, Recipient
from engine.message.outcome import Scope, Status
from engine.storage.spool.entry import Delivery, Message, State
from tests.support.clock import FakeClock
from tests.support.queue import NoReports, Stage, outcome, play
from tests.support.settling import HOUR, LATER, STEADY, attempt, records, story_with_reports

DAY = 86400.0

# The schedule.


def test_each_class_has_its_schedule_and_the_last_step_repeats_where_it_says_so(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        bulk = await s.put("a@one.test")
        waits = []
        for _ in range(5):
            delivery = await attempt(s, bulk)
            waits.append(delivery.due_at - s.clock.time())
        assert waits == [60, 300, HOUR, HOUR, HOUR]

        urgent = await s.put("a@one.test", message_class=MessageClass.TRANSACTIONAL)
        waits = []
        for _ in range(2):
            delivery = await attempt(s, urgent)
            waits.append(delivery.due_at - s.clock.time())
        assert waits == [30, 60]
        assert (await attempt(s, urgent)).state is State.FINAL, "a schedule without * ends"
        assert s.tally()["expired"] == 1

    play(tmp_path, story, settings=STEADY)


def test_jitter_stays_within_its_bounds_and_is_not_always_the_same(tmp_path: Path) -> None:
    settings = Settings(retry=Retry(schedule="100s*", jitter=0.2))

    async def story(s: Stage) -> None:
        message = await s.put("a@one.test")
        waits = []
        for _ in range(100):
            waits.append((await attempt(s, message)).due_at - s.clock.time())
        assert all(80 <= wait <= 120 for wait in waits)
        assert min(waits) < 90 and max(waits) > 110
        assert len(set(waits)) > 50

    play(tmp_path, story, settings=settings)


def test_a_reload_changes_the_next_wait(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test")
        s.settlement.reload(Settings(retry=Retry(schedule="7s*", jitter=0.0)))
        assert (await attempt(s, message)).due_at - s.clock.time() == 7

    play(tmp_path, story, settings=STEADY)


def test_a_time_the_receiver_named_is_kept_when_it_is_later(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", "b@one.test")
        now = s.clock.time()
        named = outcome(0, LATER, retry_at=now + 2 * HOUR), outcome(1, LATER, retry_at=now + 5)
        assert (await attempt(s, message, *named)).due_at == now + 2 * HOUR
        delivery = await attempt(s, message, outcome(0, LATER, retry_at=now + 1), outcome(1, LATER))
        assert delivery.due_at == now + 300, "an earlier one is not"

    play(tmp_path, story, settings=STEADY)


def test_what_was_not_attempted_does_not_move_along_the_schedule(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test")
        delivery = message.delivery
        s.manager.seize(delivery)
        s.courier.working.add(delivery)
        await s.settle(delivery, outcome(0, LATER), attempted=False)
        assert (delivery.attempts, delivery.due_at) == (0, s.clock.time() + 60)

    play(tmp_path, story, settings=STEADY)


# Expiry.


def test_the_last_try_is_at_the_very_end_and_then_the_sender_is_told(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", expires_in=90)
        delivery = await attempt(s, message)
        assert delivery.due_at == s.clock.time() + 60
        await s.jump(60)
        delivery = await attempt(s, message)
        assert delivery.due_at == message.expires_at, "not after five minutes"
        await s.jump(31)
        assert (await attempt(s, message)).state is State.FINAL
        assert s.tally()["expired"] == 1
        assert s.notifier.made == [("failed", ["a@one.test"])]
        (last,) = [line for line in s.lines if "status=expired" in line]
        assert "dsn=4.4.7" in last and "(message expired; last: 451 later)" in last

    story_with_reports(tmp_path, story)


def test_expiry_spares_what_is_final_in_the_same_attempt(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("ok@one.test", "no@one.test", "later@one.test", expires_in=10)
        await s.jump(11)
        await attempt(s, message, outcome(0), outcome(1, Status.FAILED, "550 no"), outcome(2, LATER))
        assert s.tally() == {
            "accepted": 4, "delivered": 1, "failed": 1, "expired": 1, "queued": 1, "balanced": True,
        }  # fmt: skip
        assert s.notifier.made == [("failed", ["no@one.test", "later@one.test"])]

    story_with_reports(tmp_path, story)


def test_expired_by_the_queue_without_another_attempt(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", expires_in=HOUR)
        delivery = message.delivery
        s.manager.seize(delivery)
        await s.settle(delivery, *verdicts.expired((0,), "its site was closed all the time"), attempted=False)
        assert (delivery.state, delivery.attempts) == (State.FINAL, 0)
        assert s.tally()["expired"] == 1

    play(tmp_path, story, settings=STEADY)


# D3.


def test_d3_unknown_is_tried_once_more_and_then_fails_with_a_warning_to_the_sender(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test")
        lost = outcome(0, Status.UNKNOWN, "lost connection (while sending end of data)", Scope.SESSION)
        delivery = await attempt(s, message, lost)
        assert (delivery.state, delivery.unknowns) == (State.WAITING, (0,))
        assert s.notifier.made == []
        await s.jump(60)
        assert (await attempt(s, message, lost)).state is State.FINAL
        assert (s.tally()["unknown"], s.tally()["failed"]) == (1, 1)
        assert s.notifier.made == [("failed", ["a@one.test"])]
        assert [kind for kind, who in s.told() if who == "a@one.test"] == ["received", "unknown", "failed"]

    story_with_reports(tmp_path, story)


def test_d3_the_count_of_unknowns_survives_a_restart(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", name="m")
        await attempt(s, message, outcome(0, Status.UNKNOWN, "lost"))
        await s.restart()
        await attempt(s, message, outcome(0, Status.UNKNOWN, "lost"))
        assert s.tally() == {"recovered": 1, "failed": 1, "balanced": True}

    play(tmp_path, story, settings=STEADY)


def test_d3_a_deferral_between_two_unknowns_does_not_forget_the_first(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test")
        for status in (Status.UNKNOWN, LATER, Status.UNKNOWN):
            delivery = await attempt(s, message, outcome(0, status, "so"))
        assert delivery.state is State.FINAL

    play(tmp_path, story, settings=STEADY)


# What else.


def test_the_rest_of_a_delivery_waits_when_some_recipients_are_final(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", "b@one.test", "c@one.test")
        delivery = await attempt(s, message, outcome(0), outcome(1, LATER), outcome(2, Status.FAILED))
        assert (delivery.indexes, delivery.state, delivery.attempts) == ((1,), State.WAITING, 1)
        await s.jump(60)
        await attempt(s, message, outcome(1))
        assert s.tally() == {"accepted": 3, "delivered": 2, "failed": 1, "deferred": 1, "balanced": True}

    play(tmp_path, story, settings=STEADY)


def test_outcomes_for_some_recipients_leave_the_others_queued(tmp_path: Path) -> None:
    """Q3: nobody is dropped because an attempt said nothing of them."""

    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", "b@one.test")
        delivery = await attempt(s, message, outcome(0))
        assert (delivery.indexes, message.state) == ((1,), State.READY)
        assert s.manager.queued() == 1
        assert s.tally()["balanced"]

    play(tmp_path, story, settings=STEADY)


def test_put_off_waits_without_a_record_and_without_an_attempt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The spool did not give the message back: nothing is known of its recipients, so nothing is written."""

    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", name="m")
        delivery = message.delivery
        s.manager.seize(delivery)
        s.settlement.put_off(delivery, "cannot read it")
        assert (delivery.state, delivery.attempts) == (State.WAITING, 0)
        assert delivery.due_at == s.clock.time() + PUT_OFF_S
        assert delivery.last == "cannot read it"
        assert records(s) == [("message", "m")]
        ids.append(message.id)

    ids: list[str] = []
    with caplog.at_level(logging.ERROR):
        play(tmp_path, story, settings=STEADY)
    assert f"{ids[0]}: cannot read it; tried again in 5m" in caplog.text


def test_the_log_has_a_line_in_postfix_style_for_each_recipient(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", "b@one.test", name="m")
        await s.jump(1.5)
        remote = {"remote": "mx.one.test[192.0.2.1]:25"}
        await attempt(s, message, outcome(0, **remote), outcome(1, LATER, "451 4.2.1 \x1b[2Jlater", **remote))
        assert s.lines == [
            "m: to=<a@one.test>, relay=mx.one.test[192.0.2.1]:25, delay=1.5, delays=1.5/0/0/0, dsn=2.0.0, "
            "status=sent (250 2.0.0 ok)",
            "m: to=<b@one.test>, relay=mx.one.test[192.0.2.1]:25, delay=1.5, delays=1.5/0/0/0, dsn=4.0.0, "
            "status=deferred (451 4.2.1 \\x1b[2Jlater)",
        ]

    play(tmp_path, story, settings=STEADY)


@given(
    st.lists(st.sampled_from([Status.DELIVERED, LATER, Status.FAILED, Status.UNKNOWN]), min_size=1, max_size=5),
    st.integers(0, 30),
    st.floats(0.0, 5 * DAY),
)
def test_q3_whatever_an_attempt_gives_each_recipient_is_final_or_has_a_time(fates, attempts, age) -> None:
    """The decision alone, without a disk."""
    clock = FakeClock()
    envelope = Envelope("m", "a@b.test", tuple(Recipient(f"r{n}@c.test") for n in range(len(fates))), clock.now - age,
                        clock.now - age + 3 * DAY, 1)  # fmt: skip
    delivery = Delivery(Message(envelope, b""), 0, "c.test", tuple(range(len(fates))))
    delivery.attempts = attempts
    settlement = object.__new__(Settlement)
    settlement._retries = Retries(random.Random(attempts))
    settlement._notifier = NoReports()
    settlement.reload(Settings())
    decided = settlement._decide(delivery, envelope, [outcome(n, status) for n, status in enumerate(fates)], clock.now)
    assert [o.index for o in decided] == list(range(len(fates)))
    if any(not o.status.final for o in decided):
        assert clock.now < delivery.due_at <= max(envelope.expires_at, clock.now + 1)
        assert age < 3 * DAY
