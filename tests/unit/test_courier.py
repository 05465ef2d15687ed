"""Errands of the courier that are not an attempt: a notice of a delay for what waits."""

import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.delivery.bouncer import Bouncer
from engine.delivery.courier import Courier
from engine.message.envelope import Notify
from engine.message.ids import IdSource
from engine.storage.spool.entry import State
from tests.support.clock import breathe
from tests.support.queue import Stage, flip_end, stage

HOUR = 3600.0


def courier_of(s: Stage) -> Courier:
    """With what errands need of its kit."""
    s.settlement._notifier = Bouncer(s.settings, IdSource("out.test", 0, s.clock), s.clock)
    kit: Any = SimpleNamespace(
        working=set(), spool=s.spool, settlement=s.settlement, metrics=s.metrics, clock=s.clock
    )  # fmt: skip
    return Courier(kit)


async def finish(courier: Courier) -> None:
    while courier._runners:
        await breathe()


def test_a_delay_is_told_once_however_often_the_queue_asks(tmp_path: Path) -> None:
    """The sweep comes by again before the content is read; and the delivery is in nobody's hands meanwhile (Q4)."""

    async def story(s: Stage) -> None:
        courier = courier_of(s)
        message = await s.put("a@one.test", name="m", notify=int(Notify.DELAY))
        delivery = message.delivery
        assert s.settlement.notice_at(delivery) == message.received_at + 4 * HOUR
        s.clock.now += 4 * HOUR
        for _ in range(3):
            courier.tell_delay(delivery, "other", "its site is closed: 421 no")
        assert courier.working == set()
        await finish(courier)
        assert [line for line in s.lines if "sender delayed notification" in line] == s.lines
        assert len(s.lines) == 1
        assert delivery.state is State.READY
        (report,) = [delivery for delivery in s.spool.in_hand if delivery.message.id != message.id]
        _, content = await s.spool.reader.load(report)
        assert b"Action: delayed" in content and b"its site is closed: 421 no" in content
        assert b"Last-Attempt-Date" not in content, "there was none"
        assert s.settlement.notice_at(delivery) == math.inf

    with stage(tmp_path) as s:
        s.run(story(s))


def test_a_message_that_cannot_be_read_is_not_read_for_a_notice_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(s: Stage) -> None:
        courier = courier_of(s)
        message = await s.put("a@one.test", name="m", notify=int(Notify.DELAY))
        delivery = message.delivery
        s.clock.now += 4 * HOUR
        s.spool.hands.chill(delivery.message)
        path = delivery.segment.path
        path.write_bytes(bytes(path.stat().st_size))
        courier.tell_delay(delivery, "other", "held back")
        await finish(courier)
        assert s.settlement.notice_at(delivery) == math.inf
        assert delivery.state is State.READY

    with caplog.at_level(logging.ERROR), stage(tmp_path) as s:
        s.run(story(s))
    assert ": no notice of its delay" in caplog.text


@pytest.mark.parametrize("by_hand", [True, False])
def test_who_sent_a_message_whose_content_is_lost_hears_of_its_end(tmp_path: Path, by_hand: bool) -> None:
    """The record has the envelope; the notification has nothing to return."""

    async def story(s: Stage) -> None:
        courier = courier_of(s)
        message = await s.put("a@one.test", name="m")
        delivery = message.delivery
        s.spool.hands.chill(delivery.message)
        flip_end(delivery)
        if by_hand:
            courier.bounce(delivery, "the disk lost it")
        else:
            courier.give_up(delivery, "other", "421 no")
        await finish(courier)
        assert "m: to=<a@one.test>" in s.lines[-1]
        (report,) = [delivery for delivery in s.spool.in_hand if delivery.message.id != message.id]
        envelope, content = await s.spool.reader.load(report)
        assert envelope.recipients[0].address == "ada@home.test"
        assert b"Final-Recipient: rfc822; a@one.test" in content
        assert b"rfc822-headers" not in content and b"message/rfc822" not in content

    with stage(tmp_path) as s:
        s.run(story(s))
