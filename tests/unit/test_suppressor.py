"""The rules by which bounces and complaints suppress: how many, how far, how long, and never what is not sure (F1)."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from engine.base.settings import Settings, SuppressionSettings
from engine.base.units import Duration
from engine.feedback.suppressor import SessionRefusals, Suppressor
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Scope, Status
from engine.storage.tables.suppression import MAIL, SMS, Cause, Suppression
from engine.storage.tables.suppression_table import SuppressionTable
from engine.storage.tables.suppressions import Suppressions
from tests.support.clock import FakeClock

KINDS = (
    "hard", "soft", "block", "content", "auth", "quota", "config", "expired", "auto-reply", "complaint", "challenge",
    "unknown",
)  # fmt: skip
DAY = 86400.0


class Desk:
    def __init__(self, path: Path, **rules: Any) -> None:
        self.clock = FakeClock(1_000_000.0)
        self.suppressions = Suppressions(path, self.clock)
        self.suppressor = Suppressor(Settings(suppression=SuppressionSettings(**rules)), self.suppressions)

    async def judge(
        self, kind: str = "hard", *, address: str = "Ada@example.org", stream: str = "news", evidence: str = "550 no",
        sure: bool = True, **more: Any,
    ) -> Suppression | None:  # fmt: skip
        now = self.clock.time()
        return await self.suppressor.judge(address, "shop", stream, kind, evidence, now, sure, **more)


def run(path: Path, story: Callable[[Desk], Coroutine[Any, Any, None]], **rules: Any) -> None:
    async def life() -> None:
        desk = Desk(path, **rules)
        try:
            await story(desk)
        finally:
            await desk.suppressions.close()

    asyncio.run(life())


def of_person(desk: Desk, address: str) -> list[tuple[str, str, str, float]]:
    """(tenant, stream, cause, until) of what holds."""
    table = SuppressionTable(desk.suppressions.db.path.parent)
    try:
        held = table.held(table.hasher.person(MAIL, address), desk.clock.time())
        return [(row.tenant, row.stream, str(row.cause), row.until) for row in held]
    finally:
        table.close()


def test_who_leaves_by_mail_has_left_whatever_else_suppresses_him(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        for scope in (("", ""), ("shop", ""), ("shop", "news")):
            row = Suppression(
                address="ada@example.org", tenant=scope[0], stream=scope[1], cause=Cause.MANUAL, since=1.0
            )
            await desk.suppressions.add(row)
        assert await desk.judge("unsubscribe") is not None
        assert await desk.judge("unsubscribe") is None, "he has left already"
        # In one scope one row holds: that which is for good stays so.
        assert of_person(desk, "ada@example.org") == [
            ("", "", "manual", 0.0), ("shop", "", "manual", 0.0), ("shop", "news", "unsubscribe", 0.0)
        ]  # fmt: skip

    run(tmp_path, story, unsubscribe_expires=Duration(30 * DAY))


def test_what_each_kind_does(tmp_path: Path) -> None:
    """Only two of them do anything; how far these reach."""

    async def story(desk: Desk) -> None:
        done = {kind: await desk.judge(kind, address=f"{kind}@x.org") for kind in KINDS}
        assert {kind for kind, row in done.items() if row is not None} == {"hard", "complaint"}
        known = desk.suppressions
        assert [known.mail(f"{kind}@x.org", "shop") for kind in KINDS] == [k in ("hard", "complaint") for k in KINDS]
        assert known.mail("hard@x.org", "bank") and not known.mail("complaint@x.org", "bank")
        row = done["hard"]
        assert row is not None and (row.cause, row.until) == (Cause.HARD_BOUNCE, desk.clock.time() + 180 * DAY)
        row = await desk.judge("unsubscribe")
        assert row is not None and row.scope == "stream" and row.until == 0
        assert known.mail("ada@example.org", "shop", "news") and not known.mail("ada@example.org", "shop", "offers")
        row = await desk.judge("unsubscribe", address="b@x.org", stream="")
        assert row is not None and row.scope == "tenant"

    run(tmp_path, story)


def test_F1_what_is_not_sure_and_what_names_several_suppresses_nobody(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        for kind in ("hard", "complaint", "unsubscribe"):
            assert await desk.judge(kind, sure=False) is None
            assert await desk.judge(kind, recipients=2) is None
            assert await desk.judge(kind, recipients=0) is None
        assert not desk.suppressions.mail("ada@example.org", "shop", "news")

    run(tmp_path, story)


def test_the_switch(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        assert await desk.judge("hard") is await desk.judge("complaint") is None
        assert await desk.judge("unsubscribe") is not None
        desk.suppressor.reload(Settings())
        assert await desk.judge("hard") is not None

    run(tmp_path, story, automatic=False)


def test_several_within_a_time_counted_on_disk(tmp_path: Path) -> None:
    async def first(desk: Desk) -> None:
        assert await desk.judge(message="m1") is None
        assert await desk.judge(message="m1") is None  # told twice, happened once
        assert await desk.judge(message="m1", evidence="550 5.1.1 in other words") is None
        assert await desk.judge(message="m1", evidence="user unknown") is None
        assert await desk.judge(message="m2") is None
        assert await desk.judge(message="m3", address="b@x.org") is None

    async def after_a_restart(desk: Desk) -> None:
        assert await desk.judge(message="m4", sure=False) is None
        desk.clock.advance(5 * DAY)
        assert await desk.judge(message="m5") is None  # the others are too long ago by now
        assert await desk.judge(message="m6") is None
        desk.clock.advance(DAY)
        assert await desk.judge(message="m7") is not None
        assert await desk.judge(message="m8") is None  # it is so already
        assert not desk.suppressions.mail("b@x.org")

    rules = {"hard_bounces": 3, "hard_bounce_window": Duration(5 * DAY)}
    run(tmp_path, first, **rules)
    run(tmp_path, after_a_restart, **rules)


def test_what_was_seen_before_a_removal_counts_no_more(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        assert await desk.judge(message="m1") is None
        row = await desk.judge(message="m2")
        assert row is not None
        table = SuppressionTable(tmp_path)
        table.lift([row])
        table.close()
        desk.clock.advance(2)
        assert await desk.judge(message="m3") is None
        assert await desk.judge(message="m4") is not None

    run(tmp_path, story, hard_bounces=2)


def test_of_a_tenant_that_nobody_knows_only_what_holds_for_everybody_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(desk: Desk) -> None:
        now = desk.clock.time()
        judge = desk.suppressor.judge
        assert await judge("ada@x.org", None, "", "complaint", "abuse", now, True, message="m1") is None
        assert "m1: ada@x.org: not suppressed (complaint): it is not known whose" in caplog.text
        assert not desk.suppressions.mail("ada@x.org")
        assert await judge("ada@x.org", None, "", "hard", "550 no", now, True) is not None
        row = await judge("bob@x.org", "", "", "complaint", "abuse", now, True)
        assert row is not None and row.scope == "global", "the node's own"

    run(tmp_path, story)


def test_nothing_of_an_erased_person_comes_back_in_clear(tmp_path: Path) -> None:
    """By whatever way, and in whatever scope: he is suppressed in all of them."""

    async def story(desk: Desk) -> None:
        table = SuppressionTable(tmp_path)
        try:
            table.erase(MAIL, "ada@example.org", 1.0, "bob")
            table.erase(SMS, "447700900123", 1.0, "bob")
            desk.clock.advance(2)
            for kind in ("hard", "complaint", "unsubscribe"):
                assert await desk.judge(kind, message=kind) is None
            known, phone = desk.suppressions, Suppression(
                channel=SMS, address="447700900123", stream="shop", cause=Cause.STOP, since=2.0, evidence="STOP"
            )  # fmt: skip
            assert known.holds(phone)
            await known.add(phone)
            await known.lift(phone)
            mine = Suppression(address="ada@example.org", tenant="shop", cause=Cause.MANUAL, since=2.0)
            assert table.add([mine]) == 0
            table.lift([mine])
            assert known.mail("ada@example.org", "shop") and known.sms("shop", "447700900123")
            held = [*table.all_held(2.0)]
            assert [(row.address, row.cause, row.scope) for row in held] == [("", Cause.ERASED, "global")] * 2
            table.lift(held[:1])
            desk.clock.advance(2)
            assert await desk.judge("complaint") is not None, "he is not erased any more"
        finally:
            table.close()

    run(tmp_path, story)
    assert not [file for file in tmp_path.glob("suppression.db*") if b"447700900123" in file.read_bytes()]


def test_it_lapses_and_may_come_again(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        assert await desk.judge() is not None
        desk.clock.advance(1)
        assert await desk.judge() is None
        desk.clock.advance(10)
        assert not desk.suppressions.mail("ada@example.org")
        assert await desk.judge() is not None
        assert desk.suppressions.mail("ada@example.org")

    run(tmp_path, story, hard_bounce_expires=Duration(10))


@pytest.mark.parametrize(
    ("kind", "phase", "recipients", "suppressed"),
    [
        ("hard", "rcpt", 2, True),
        ("hard", "end-of-data", 1, True),
        ("hard", "end-of-data", 2, False),
        ("block", "rcpt", 1, False),
        ("unknown", "rcpt", 1, False),
    ],
)
def test_refusals_in_the_session(tmp_path: Path, kind: str, phase: str, recipients: int, suppressed: bool) -> None:
    """Of what is said to a whole transaction nobody knows whom it means."""
    to = tuple(Recipient(f"{n}@x.org") for n in range(recipients))
    envelope = Envelope("m1", "a@x.org", to, 1.0, 2.0, 10)
    outcome = Outcome(
        index=recipients - 1, status=Status.FAILED, scope=Scope.RECIPIENT, status_code="5.1.1",
        reply="550 5.1.1 no", remote="mx[192.0.2.1]:25", phase=phase, kind=kind,
    )  # fmt: skip

    async def story(desk: Desk) -> None:
        heard = SessionRefusals(desk.suppressor, desk.clock)
        heard.refused(envelope, outcome, "other")
        await heard.close()
        assert [desk.suppressions.mail(one.address) for one in to] == [False] * (recipients - 1) + [suppressed]

    run(tmp_path, story)
