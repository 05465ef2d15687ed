"""Operators' orders: about all of a scope and nothing else, in the background, through restarts.

An order is about what is queued when it is given. What is in an attempt just then is caught when the attempt is over.
"""

from pathlib import Path

import numpy as np
import pytest

from engine.admin import actions, views
from engine.base.errors import EngineError, StorageError
from engine.base.settings import SpoolSettings
from engine.base.units import Size
from engine.message.envelope import MessageClass
from engine.message.outcome import Status
from engine.queue import errands, orders
from engine.queue.orders import Orders
from engine.queue.scope import Scope
from engine.storage.spool.entry import State
from tests.support.queue import CONTENT, Letter, Stage, breathe, flip_end, outcome, play

HOUR = 3600.0
RELAY = "127.0.0.1:2500"
#: Between two looks at an order that waits for attempts to end, and a little.
LOOK = 6.0


def closed(s: Stage, *destinations: str) -> None:
    """What is put for these lies on disk, due."""
    for destination in destinations:
        s.throttle(destination).close(s.clock.time() + HOUR, "421 closed")


async def mailing(s: Stage) -> list[Letter]:
    """Two tenants, two batches, two classes, two destinations, in all combinations."""
    letters = []
    for number in range(16):
        domain, tenant = ("one.test", "two.test")[number & 1], ("acme", "umbrella")[number >> 1 & 1]
        batch, kind = ("spring", "autumn")[number >> 2 & 1], list(MessageClass)[number >> 3 & 1]
        name = f"{domain[:3]} {tenant} {batch} {kind.name.lower()}"
        letters.append(await s.put(f"a@{domain}", name=name, tenant=tenant, batch=batch, message_class=kind))
    return letters


SCOPES = {"one.test": "one", "tenant:acme": "acme", "batch:spring": "spring", "class:transactional": "transactional"}


@pytest.mark.parametrize("where", ["memory", "disk", "half"])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("action", ["purge", "bounce"])
def test_an_order_is_about_all_of_its_scope_and_nothing_else(
    tmp_path: Path, action: str, scope: str, where: str
) -> None:
    async def story(s: Stage) -> None:
        closed(s, *{"memory": [], "disk": ["one.test", "two.test"], "half": ["one.test"]}[where])
        letters = await mailing(s)
        await s.put("b@three.test", name="other", message_class=MessageClass.BULK)
        assert await s.do(action, scope) == {"deliveries": 8, "in_attempt": 0}
        left = [letter.name for letter in letters if SCOPES[scope] not in letter.name.split()]
        assert await s.queued() == [*left, "other"]
        gone = "failed" if action == "bounce" else "removed"
        assert s.tally() == {"accepted": 17, gone: 8, "queued": 9, "balanced": True}
        await s.jump(LOOK)
        assert s.state.orders == []
        await s.sweeper.sweep()
        assert s.sweeper.orphans == 0

    play(tmp_path, story)


def test_hold_and_resume_by_scope(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        closed(s, "two.test")
        letters = await mailing(s)
        await s.do("hold", "tenant:acme")
        await s.do("hold", "batch:spring")
        held = [letter.name for letter in letters if letter.state is State.HELD]
        assert held == [letter.name for letter in letters if {"acme", "spring"} & set(letter.name.split())]
        late = await s.put("a@one.test", tenant="acme")
        assert late.state is State.HELD
        # The others are acme's still.
        assert await s.do("resume", "batch:spring") == {"deliveries": 4, "in_attempt": 0, "held": 4}
        with pytest.raises(EngineError, match="is not held"):
            await s.do("resume", "batch:spring")
        await s.restart()
        await s.jump(HOUR)
        assert [d.state for d in await s.deliveries() if d.message.tenant == "acme"] == [State.HELD] * 9
        assert await s.do("resume", "*") == {"deliveries": 9, "in_attempt": 0, "held": 0}
        assert s.state.holds() == []

    play(tmp_path, story)


def test_what_is_in_an_attempt_is_caught_after_it(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        letter = await s.put("a@one.test", name="in an attempt")
        delivery = s.agent("one.test").take()
        assert delivery is letter.delivery
        assert await s.do("purge", "one.test") == {"deliveries": 0, "in_attempt": 1}
        await s.jump(LOOK)
        assert len(s.state.orders) == 1
        await s.settle(delivery, outcome(0, Status.DEFERRED, "451 later"))
        assert letter.state is State.WAITING
        await s.jump(LOOK)
        assert await s.queued() == []
        await s.jump(LOOK)
        assert s.state.orders == []
        assert s.tally() == {"accepted": 1, "deferred": 1, "removed": 1, "balanced": True}

    play(tmp_path, story)


def test_what_came_later_is_not_touched(tmp_path: Path) -> None:
    """Also while the order waits for an attempt to end, and whoever else takes rows meanwhile."""

    async def story(s: Stage) -> None:
        await s.put("a@one.test", name="old")
        delivery = s.agent("one.test").take()
        assert delivery is not None
        await s.do("purge", "one.test")
        await s.jump(1)
        closed(s, "one.test")
        await s.put("a@one.test", name="new", expires_in=600)
        await s.jump(700)
        await s.sweeper.sweep()  # it expired: its row is seized
        await s.jump(LOOK)
        assert [s.named(given_up) for given_up in s.courier.given_up] == ["new"]
        await s.settle(delivery, outcome(0, Status.DEFERRED, "451 later"))
        await s.jump(LOOK)
        assert await s.queued() == ["new"]
        await s.jump(LOOK)
        assert s.state.orders == []

    play(tmp_path, story)


def test_an_order_goes_on_after_a_restart_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "SLICE_ROWS", 2)

    async def story(s: Stage) -> None:
        closed(s, "one.test")
        for number in range(10):
            await s.put("a@one.test", name=f"old{number}")
        done, settle = 0, s.settlement.settle

        def counted(*arguments, **more):
            nonlocal done
            done += 1
            if done == 5:
                s.manager.stop()  # errands end here
            return settle(*arguments, **more)

        monkeypatch.setattr(s.settlement, "settle", counted)
        await s.do("purge", "one.test")
        assert 0 < len(await s.queued()) < 10
        assert len(s.state.orders) == 1
        later = await s.put("a@one.test", name="later")
        assert later.rows or later.in_hand
        await s.restart()
        await s.jump(LOOK)
        assert await s.queued() == ["later"]
        await s.jump(LOOK)
        assert s.state.orders == []
        told = [kind for kind, _ in s.told()]
        assert told.count("removed") == 10, "once each"

    play(tmp_path, story)


def test_two_orders_about_the_same_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each delivery is settled once; a row that is used again by then is somebody else's."""
    monkeypatch.setattr(errands, "SLICE_ROWS", 1)

    async def story(s: Stage) -> None:
        closed(s, "one.test", "two.test")
        letters = await mailing(s)
        answers = [
            await anext(aiter(given))
            for given in (
                _given(s, "bounce", "batch:spring"), _given(s, "purge", "tenant:acme"),
                _given(s, "purge", "batch:autumn"),
            )
        ]  # fmt: skip
        assert [row["deliveries"] for row in answers] == [8, 4, 4], "what one has taken the next has not"
        for number in range(8):
            await s.put("b@one.test", name=f"new{number}")
        assert await s.queued() == [f"new{number}" for number in range(8)]
        assert s.tally() == {"accepted": 24, "failed": 8, "removed": 8, "queued": 8, "balanced": True}
        assert len(letters) == 16

    play(tmp_path, story)


@pytest.mark.parametrize("word", ["hold", "purge", "move"])
def test_a_later_word_ends_a_bounce_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """Or nobody could stop one that was given by mistake."""
    monkeypatch.setattr(errands, "SLICE_ROWS", 2)
    monkeypatch.setattr(orders, "SLICE_ROWS", 2)

    async def story(s: Stage) -> None:
        closed(s, "one.test", "two.test")
        letters = await mailing(s)
        await anext(aiter(_given(s, "bounce", "batch:spring")))
        answer = await s.do(word, "batch:spring", *([RELAY] if word == "move" else []))
        for _ in range(10):
            await s.jump(LOOK)
        failed = s.tally().get("failed", 0)
        assert failed <= 2, "the slice that was on its way"
        assert answer["deliveries"] == 8 - failed
        assert [order.action for order in s.state.orders] == ["move"] * (word == "move")
        left = 8 if word == "purge" else 16 - failed
        assert len(await s.queued()) == left
        if word == "hold":
            assert [letter.state for letter in letters].count(State.HELD) == 8 - failed
        assert s.tally().get("removed", 0) == 16 - failed - left

    play(tmp_path, story)


def test_the_later_word_is_not_forgotten_with_the_one_it_ends(tmp_path: Path) -> None:
    """What is in an attempt when both are given is the later one's, also after a restart."""

    async def story(s: Stage) -> None:
        letters = [await s.put("a@one.test", name="kept by a restart"), await s.put("a@two.test", name="waits")]
        taken = [s.agent("one.test").take(), s.agent("two.test").take()]
        assert taken == [letter.delivery for letter in letters]
        assert await s.do("bounce", "*") == {"deliveries": 0, "in_attempt": 2}
        assert await s.do("purge", "*") == {"deliveries": 0, "in_attempt": 2}
        await s.settle(taken[1], outcome(0, Status.DEFERRED, "451 later"))
        for _ in range(3):
            await s.jump(LOOK)
        assert [order.action for order in s.state.orders] == ["purge"]
        assert await s.queued() == ["kept by a restart"]
        await s.restart()
        await s.jump(LOOK)
        assert await s.queued() == []
        assert [kind for kind, _ in s.told()].count("removed") == 2

    play(tmp_path, story)


def test_an_order_that_a_full_disk_refuses_is_written_in_the_room_kept_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stage) -> None:
        closed(s, "one.test")
        await mailing(s)
        give, tries = s.state.give, []

        def full(*arguments):
            tries.append(any(tmp_path.rglob("reserve")))
            if tries[-1]:
                raise StorageError("database or disk is full")
            return give(*arguments)

        monkeypatch.setattr(s.state, "give", full)
        assert await s.do("purge", "one.test") == {"deliveries": 8, "in_attempt": 0}
        assert tries == [True, False]

    play(tmp_path, story, spool=SpoolSettings(min_free=0.0001, memory_guard=1.0))


async def _given(s: Stage, action: str, scope: str):
    async for row in getattr(actions, action)(s.parts, scope):
        yield row


def test_rows_that_are_used_again_are_not_taken_for_those_that_were_there(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        closed(s, "one.test")
        old = await s.put("a@one.test", name="old")
        rows = np.array(old.rows, dtype=np.uint32)
        s.spool.table.move_many(rows, State.SEIZED)
        seen = s.manager.errands.slices(rows)
        # Meanwhile somebody else takes it, settles it, and its row is used again and seized again.
        s.spool.table.move_many(rows, State.LOADING)
        [delivery] = await s.spool.reader.read(rows)
        s.manager.seize(delivery)
        await s.settle(delivery)
        new = await s.put("a@one.test", name="new")
        assert new.rows == rows.tolist()
        s.spool.table.move_many(rows, State.SEIZED)
        assert [part.tolist() async for part in seen] in ([[]], [rows.tolist()])
        s.spool.table.move_many(rows, State.DUE)

    play(tmp_path, story)


def test_a_damaged_record_can_be_purged_and_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(s: Stage) -> None:
        closed(s, "one.test")
        letters = [await s.put("a@one.test", "b@one.test", name=f"m{number}") for number in range(3)]
        delivery = await letters[1].read()
        path = delivery.segment.path
        data = bytearray(path.read_bytes())
        data[delivery.offset + 50] ^= 1
        path.write_bytes(data)
        s.throttle("one.test").reopen()
        s.manager.sites.reopen(s.routes.plan("one.test"))
        await s.rest()
        assert await s.take_all("one.test") == ["m0", "m2"]
        assert letters[1].state is State.WAITING, "tried again later"
        [row] = await s.view(views.listing)
        assert (row["id"], row["state"], row["recipients"]) == (letters[1].id, "waiting", 2)
        assert "is damaged" in row["last"] and 0 < row["next_s"] <= errands.PUT_OFF_S
        assert await s.do("purge", letters[1].id) == {"deliveries": 1, "in_attempt": 0}
        assert await s.queued() == []
        assert s.tally() == {"accepted": 6, "delivered": 4, "removed": 2, "balanced": True}
        await s.restart()
        assert await s.queued() == []

    play(tmp_path, story)


@pytest.mark.parametrize("order", ["bounce", "purge"])
def test_a_message_whose_content_is_lost_is_shown_and_settled_by_its_envelope(tmp_path: Path, order: str) -> None:
    async def story(s: Stage) -> None:
        closed(s, "one.test")
        letter = await s.put("a@one.test", "b@one.test", name="m0")
        flip_end(await letter.read())
        [shown] = await s.view(views.show, letter.id)
        assert (shown["sender"], shown["bytes"], shown["header"]) == ("ada@home.test", len(CONTENT), "")
        assert shown["deliveries"][0]["recipients"] == ["a@one.test", "b@one.test"]
        assert "is damaged" in shown["content_error"]
        [row] = await s.view(views.why, "b@one.test")
        assert row["id"] == letter.id
        await s.do(order, letter.id)
        assert await s.queued() == []
        assert [line.partition(",")[0] for line in s.lines] == ["m0: to=<a@one.test>", "m0: to=<b@one.test>"]

    play(tmp_path, story)


def test_a_message_whose_content_is_lost_waits_and_expires(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        closed(s, "one.test")
        letter = await s.put("a@one.test", name="m0", expires_in=HOUR)
        flip_end(await letter.read())
        s.throttle("one.test").reopen()
        s.manager.sites.reopen(s.routes.plan("one.test"))
        await s.rest()
        assert letter.state is State.WAITING and s.courier.given_up == []
        await s.jump(HOUR + errands.PUT_OFF_S)
        assert [s.named(delivery) for delivery in s.courier.given_up] == ["m0"]

    play(tmp_path, story)


# Move.


def sites(s: Stage) -> list[str]:
    return sorted({agent.queue.plan.site for agent in s.courier.agents})


def test_what_was_moved_and_back_again_is_in_its_queue_once(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        letter = await s.put("a@one.test", name="m0")
        await s.do("move", "*", RELAY)
        await s.do("move", "*", "")
        assert letter.rows == []
        closed(s, "one.test")
        for agent in list(s.courier.agents):
            agent.leave()
        assert len(letter.rows) == 1, "put down, as its site is closed"
        s.throttle("one.test").reopen()
        s.manager.sites.reopen(s.routes.plan("one.test"))
        await s.rest()
        assert await s.take_all("one.test") == ["m0"]
        assert s.tally() == {"accepted": 1, "delivered": 1, "balanced": True}

    play(tmp_path, story)


@pytest.mark.parametrize("where", ["memory", "disk", "waiting", "held"])
def test_what_is_moved_goes_by_the_relay_and_back(tmp_path: Path, where: str) -> None:
    async def story(s: Stage) -> None:
        if where == "disk":
            closed(s, "one.test")
        letters = [await s.put("a@one.test", name=f"m{number}", batch="spring") for number in range(3)]
        if where == "held":
            await s.do("hold", "one.test")
        if where == "waiting":
            for _ in letters:
                agent = s.agent("one.test")
                delivery = agent.take()
                assert delivery is not None
                await s.settle(delivery, outcome(0, Status.DEFERRED, "451 later"))
        for agent in list(s.courier.agents):
            agent.leave()
        assert await s.do("move", "batch:spring", RELAY) == {"deliveries": 3, "in_attempt": 0}
        await s.put("a@one.test", name="later", batch="spring")
        assert {key: d.live for key, d in s.manager.destinations.items()} == {
            ("one.test", RELAY): 3, ("one.test", ""): 1,
        }  # fmt: skip
        assert [row["via"] for row in await s.view(views.queues)] == [None, RELAY]
        if where == "held":
            await s.do("resume", "one.test")
        if where == "waiting":
            await s.do("retry", "batch:spring")
        [agent] = [agent for agent in s.courier.agents if agent.queue.plan.site == RELAY][:1]
        delivery = await s.next(agent)
        assert delivery is not None and (s.named(delivery), delivery.via) == ("m0", RELAY)
        await s.settle(delivery)
        await s.do("move", "*", "")
        assert {key: d.live for key, d in s.manager.destinations.items() if d.live} == {("one.test", ""): 3}
        await s.sweeper.sweep()
        assert s.sweeper.orphans == 0

    play(tmp_path, story)


def test_a_move_is_not_forgotten_by_a_restart(tmp_path: Path) -> None:
    """Wherever the delivery lies: in the journal, or in an old segment with or without an index."""
    spool = SpoolSettings(min_free=0.0, memory_guard=1.0, segment_bytes=Size(4096), journal_files=1, move_rate=Size(0))

    async def story(s: Stage) -> None:
        closed(s, "one.test")
        for number in range(20):
            await s.put("a@one.test", name=f"m{number:02}", tenant="acme")
        await s.spool.work()
        assert await s.do("move", "tenant:acme", RELAY) == {"deliveries": 20, "in_attempt": 0}
        await s.put("a@one.test", name="later", tenant="acme")
        await s.jump(LOOK)
        for _ in range(2):
            await s.restart()
            found = {s.named(d): d.via for d in await s.deliveries()}
            assert found == {**{f"m{n:02}": RELAY for n in range(20)}, "later": ""}
        await s.do("move", "tenant:acme", "")
        await s.restart()
        assert {d.via for d in await s.deliveries()} == {""}

    play(tmp_path, story, spool=spool)


def test_what_nobody_knows_is_refused(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        await s.put("a@one.test")
        for action in ("bounce", "purge", "retry"):
            for target in ("two.test", "tenant:nobody", "batch:none", "class:transactional"):
                with pytest.raises(EngineError, match=r"no queued message and no destination|nothing of it is queued"):
                    await s.do(action, target)
        with pytest.raises(EngineError, match="relay: "):
            await s.do("move", "one.test", "not a relay")
        assert s.state.orders == []
        await breathe()

    play(tmp_path, story)


def test_giving_an_order_reads_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stage) -> None:
        closed(s, "one.test")
        for _ in range(20):
            await s.put("a@one.test")
        reads: list[str] = []
        read = s.spool._files.read
        monkeypatch.setattr(s.spool._files, "read", lambda *a: reads.append(str(a)) or read(*a), raising=False)
        await s.do("hold", "one.test")
        await s.do("resume", "one.test")
        monkeypatch.setattr(s.manager.errands, "run", lambda work, **_: work.close())
        moved, _ = await s.orders.give("move", Scope("destination", "one.test"), RELAY)
        purged, _ = await s.orders.give("purge", Scope("all"))
        assert (moved, purged, reads) == (20, 20, [])

    play(tmp_path, story)


def test_of_two_moves_the_last_one_holds_for_what_was_in_an_attempt_too(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        letter = await s.put("a@one.test", name="m", tenant="acme")
        delivery = s.agent("one.test").take()
        assert delivery is not None
        assert await s.do("move", "one.test", "127.0.0.1:2501") == {"deliveries": 0, "in_attempt": 1}
        assert await s.do("move", "tenant:acme", RELAY) == {"deliveries": 0, "in_attempt": 1}
        later = await s.put("a@one.test", name="later", tenant="acme")
        await s.settle(delivery, outcome(0, Status.DEFERRED, "451 later"))
        await s.jump(LOOK)
        assert ((await letter.read()).via, (await later.read()).via) == (RELAY, "")
        assert sorted((key, d.live) for key, d in s.manager.destinations.items() if d.live) == [
            (("one.test", ""), 1), (("one.test", RELAY), 1),
        ]  # fmt: skip
        await s.do("purge", "*")
        await s.jump(61)
        assert s.state.orders == [], "nothing of it lives"

    play(tmp_path, story)


def test_nothing_that_was_moved_goes_by_its_route_while_the_spool_is_loaded(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        closed(s, "one.test")
        await s.put("a@one.test", name="m")
        await s.do("move", "one.test", RELAY)
        for agent in list(s.courier.agents):
            agent.leave()
        s.orders.start = lambda: None  # type: ignore[method-assign]
        monkey = Orders.start
        Orders.start = lambda self: None  # type: ignore[method-assign]  # as before the old generation is there
        try:
            await s.restart()
        finally:
            Orders.start = monkey  # type: ignore[method-assign]
        assert "mx.one.test" not in {agent.queue.plan.site for agent in s.courier.agents if agent.take()}
        assert [d.via for d in await s.deliveries()] == [RELAY]

    play(tmp_path, story)


def test_retry_counts_what_it_wakes_wherever_that_is_by_then(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        waiting = await s.put("a@one.test", name="waiting")
        delivery = s.agent("one.test").take()
        assert delivery is not None
        await s.settle(delivery, outcome(0, Status.DEFERRED, "451 later"))
        s.agent("one.test").leave()
        closed(s, "one.test")
        for _ in range(20):
            await s.put("a@one.test")
        assert await s.do("retry", "one.test") == {"deliveries": 21, "in_attempt": 0, "held": 0}
        assert waiting.state is State.READY, "it is read and waits for a connection"
        assert len(await s.take_all("one.test")) == 21

    play(tmp_path, story)
