"""Failures of one message at several destinations: one notification names them all, and none is lost in a crash."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.base.settings import Dsn
from engine.base.units import Duration
from engine.delivery import gathering
from engine.message.outcome import Status
from engine.storage.spool.entry import State
from tests.support.queue import Letter, Stage, outcome
from tests.support.settling import STEADY, records, story_with_reports

#: So long that nothing ends it but what the test says.
GATHERED = replace(STEADY, dsn=Dsn(gather=Duration(3600)))
THREE = ("a@one.test", "b@two.test", "c@three.test")


async def fails(s: Stage, message: Letter, destination: str, *statuses: Status) -> None:
    """An agent takes the delivery to this destination; these become of its recipients, or all fail."""
    agent = s.agent(destination)
    delivery = agent.take()
    assert delivery is not None and delivery.message.id == message.id
    every = statuses or [Status.FAILED] * len(delivery.indexes)
    replies = {Status.FAILED: "550 no", Status.DEFERRED: "451 later", Status.UNKNOWN: "lost"}
    made = [outcome(i, what, replies.get(what, "250 ok")) for i, what in zip(delivery.indexes, every, strict=True)]
    await s.settle(delivery, *made)
    agent.leave()
    await s.rest()


def test_one_report_names_all_that_failed(tmp_path: Path) -> None:
    """In the journal before the outcomes it tells of; until then each has an owner (Q4) and is in an attempt (Q1)."""

    async def story(s: Stage) -> None:
        message = await s.put(*THREE, name="m")
        for destination in ("one.test", "two.test", "three.test"):
            await fails(s, message, destination)
        assert s.notifier.made == []
        assert [delivery.state for delivery in message.in_hand] == [State.ATTEMPT] * 3
        await s.sweeper.sweep()
        assert s.sweeper.orphans == 0
        s.settlement.tell_gathered()
        await s.rest()
        assert s.notifier.made == [("failed", list(THREE))]
        (report,) = await s.queued()
        assert records(s) == [("message", "m"), ("message", report), *[("failed", "m")] * 3]
        assert (s.manager.tally.failed, s.manager.queued()) == (3, 1)

    story_with_reports(tmp_path, story, GATHERED)


def test_after_a_crash_they_are_tried_again(tmp_path: Path) -> None:
    """What was gathered is lost, and so the recipients are queued as before; those who have the message are not."""

    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", "a2@one.test", "b@two.test", name="m")
        await fails(s, message, "one.test", Status.DELIVERED, Status.FAILED)
        await fails(s, message, "two.test")
        assert s.manager.tally.delivered == 1
        await s.restart()
        found = {delivery.destination: delivery.indexes for delivery in await s.deliveries()}
        assert found == {"one.test": (1,), "two.test": (2,)}

    story_with_reports(tmp_path, story, GATHERED)


def test_what_cannot_be_had_again_does_not_wait(tmp_path: Path) -> None:
    """D3: a second attempt without a reply is final at once; a crash must not make it a third."""

    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", "b@two.test")
        await fails(s, message, "one.test", Status.UNKNOWN)
        s.clock.advance(3600)
        await s.rest()
        await fails(s, message, "one.test", Status.UNKNOWN)
        assert s.notifier.made == [("failed", ["a@one.test"])]

    story_with_reports(tmp_path, story, GATHERED)


@pytest.mark.parametrize("recipients", [("a@one.test",), ("a@one.test", "b@one.test")])
def test_who_is_alone_does_not_wait(recipients: tuple[str, ...], tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        await fails(s, await s.put(*recipients), "one.test")
        assert s.notifier.made == [("failed", list(recipients))]

    story_with_reports(tmp_path, story, GATHERED)


def test_who_is_not_told_does_not_wait(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        await fails(s, await s.put(*THREE, sender=""), "one.test")
        assert s.manager.tally.failed == 1

    story_with_reports(tmp_path, story, GATHERED)


def test_it_may_be_turned_off(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put(*THREE)
        await fails(s, message, "one.test")
        await fails(s, message, "two.test")
        assert s.notifier.made == [("failed", ["a@one.test"]), ("failed", ["b@two.test"])]

    story_with_reports(tmp_path, story, replace(STEADY, dsn=Dsn(gather=Duration(0))))


@pytest.mark.parametrize("bound", ["_MOST_RECIPIENTS", "_MOST_BYTES"])
def test_what_waits_is_bounded(bound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large fan-out is told of in parts: nothing is kept without end, and no turn of the loop is long."""
    monkeypatch.setattr(gathering, bound, {"_MOST_RECIPIENTS": 2, "_MOST_BYTES": 1}[bound])

    async def story(s: Stage) -> None:
        message = await s.put(*THREE)
        await fails(s, message, "one.test")
        await fails(s, message, "two.test")
        await fails(s, message, "three.test")
        parts = [2] if bound == "_MOST_RECIPIENTS" else [1, 1, 1]
        assert [len(told) for _, told in s.notifier.made] == parts

    story_with_reports(tmp_path, story, GATHERED)


def test_a_notification_that_cannot_be_made_loses_nothing(tmp_path: Path) -> None:
    """Q3: they are due again."""

    async def story(s: Stage) -> None:
        message = await s.put(*THREE)
        await fails(s, message, "one.test")
        await fails(s, message, "two.test")

        def broken(*_: Any) -> Any:
            raise RuntimeError("a fault")

        whole, s.notifier.reports = s.notifier.reports, broken
        s.settlement.tell_gathered()
        s.notifier.reports = whole
        await s.rest()
        assert s.manager.queued() == 3
        assert s.manager.tally.failed == 0
        assert s.metrics.internal_errors.labels("notification").value == 1

    story_with_reports(tmp_path, story, GATHERED)
