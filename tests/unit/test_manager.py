"""The queue manager on a real spool, with the time and the connections in the test's hands. Q1 to Q4."""

import logging
from pathlib import Path

import numpy as np
import pytest

from engine.base.errors import EngineError
from engine.message.outcome import Status
from engine.queue import lookups, sweeper
from engine.queue.ready import ReadyQueue
from engine.routing.plan import NoRoute
from engine.storage.spool.entry import Delivery, State
from tests.support.queue import Stage, breathe, outcome, play

HOUR = 3600.0


async def deferred(s: Stage, delivery: Delivery, seconds: float) -> None:
    """One failed attempt; due again after this long."""
    s.settlement._jitter = 0.0
    retry_at = s.clock.time() + seconds
    await s.settle(delivery, *[outcome(i, Status.DEFERRED, "451 later", retry_at=retry_at) for i in delivery.indexes])


def test_a_message_goes_to_the_queue_of_each_destination(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test", "b@two.test", "c@one.test")
        assert [(d.destination, d.indexes) for d in message.in_hand] == [("one.test", (0, 2)), ("two.test", (1,))]
        live = {key: destination.live for key, destination in s.manager.destinations.items()}
        assert live == {("one.test", ""): 1, ("two.test", ""): 1}
        for destination in ("one.test", "two.test"):
            delivery = s.agent(destination).take()
            assert delivery is not None and delivery.state is State.ATTEMPT
            await s.settle(delivery)
        assert s.manager.destinations == {} and await s.queued() == []
        assert s.tally() == {"accepted": 3, "delivered": 3, "balanced": True}

    play(tmp_path, story)


def test_what_is_deferred_wakes_in_the_order_of_due_times(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        for seconds in (300, 100, 200, 100):
            message = await s.put(f"r{seconds}@one.test")
            delivery = s.agent("one.test").take()
            assert delivery is message.delivery
            await deferred(s, delivery, seconds)
            s.agent("one.test").leave()
        assert s.courier.agents == []
        woken: list[str] = []
        for seconds in (99.0, 2.0, 98.0, 2.0, 98.0, 2.0):
            await s.jump(seconds)
            woken.append(" ".join(await s.take_all("one.test")) if s.courier.agents else "")
            for agent in list(s.courier.agents):
                agent.leave()
        assert woken == ["", "m000002 m000004", "", "m000003", "", "m000001"]

    play(tmp_path, story)


def test_a_restart_keeps_due_times_and_attempts(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        await s.put("a@one.test", name="late")
        delivery = s.agent("one.test").take()
        assert delivery is not None
        await deferred(s, delivery, 500)
        await s.put("b@one.test", name="new")
        await s.restart()
        assert s.tally() == {"recovered": 2, "queued": 2, "balanced": True}
        assert await s.take_all("one.test") == ["new"]
        s.agent("one.test").leave()
        await s.jump(499)
        assert s.courier.agents == []
        await s.jump(2)
        again = s.agent("one.test").take()
        assert again is not None and (s.named(again), again.attempts) == ("late", 1)

    play(tmp_path, story)


def test_one_lookup_for_a_destination_and_all_its_deliveries_wait_for_it(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.routes.lose("one.test")
        for _ in range(3):
            await s.put("a@one.test")
        await breathe()
        assert s.routes.lookups == ["one.test"]
        assert [d.state for d in s.spool.in_hand] == [State.RESOLVING] * 3
        await s.sweeper.sweep()
        assert s.sweeper.orphans == 0
        s.routes.answer("one.test")
        await breathe()
        assert await s.take_all("one.test") == ["m000001", "m000002", "m000003"]

    play(tmp_path, story)


def test_lookups_at_once_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MAX_LOOKUPS", 2)

    async def story(s: Stage) -> None:
        for number in range(4):
            s.routes.lose(f"d{number}.test")
            await s.put(f"a@d{number}.test")
        await breathe()
        assert s.routes.lookups == ["d0.test", "d1.test"]
        s.routes.answer("d1.test")
        await breathe()
        assert s.routes.lookups == ["d0.test", "d1.test", "d2.test"]
        for name in ("d0.test", "d2.test"):
            s.routes.answer(name)
        await breathe()
        s.routes.answer("d3.test")
        await breathe()
        assert len(s.courier.agents) == 4

    play(tmp_path, story)


def test_no_route_is_the_couriers_to_settle(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.routes.lose("one.test")
        message = await s.put("a@one.test")
        await breathe()
        nowhere = NoRoute(Status.FAILED, "5.1.2", "no such domain", 0.0)
        s.routes.answer("one.test", nowhere)
        await breathe()
        assert s.courier.unroutable == [(message.delivery, nowhere)]

    play(tmp_path, story)


def test_q3_a_fault_while_looking_up_a_route_defers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(s: Stage) -> None:
        s.routes.lose("one.test")
        message = await s.put("a@one.test")
        await breathe()
        s.routes.answer("one.test", RuntimeError("a bug"))
        await breathe()
        ((delivery, route),) = s.courier.unroutable
        assert delivery is message.delivery
        assert (route.status, route.status_code) == (Status.DEFERRED, "4.3.5")

    play(tmp_path, story)
    assert "looking up the route of one.test" in caplog.text


@pytest.mark.parametrize("where", ["ready", "waiting", "resolving", "due"])
def test_a_held_delivery_goes_nowhere_until_it_is_released(tmp_path: Path, where: str) -> None:
    async def story(s: Stage) -> None:
        if where == "resolving":
            s.routes.lose("one.test")
        if where == "due":
            s.throttle("one.test").close(s.clock.time() + HOUR, "closed")
        message = await s.put("a@one.test")
        if where == "waiting":
            delivery = s.agent("one.test").take()
            assert delivery is not None
            await deferred(s, delivery, 100)
        assert message.state.name.lower() == where
        assert await s.do("hold", message.id) == {"deliveries": 1, "in_attempt": 0}
        if where == "resolving":
            s.routes.answer("one.test")
        await s.jump(2 * HOUR)
        assert [await s.next(agent) for agent in s.courier.agents] == [None] * len(s.courier.agents)
        assert message.state is State.HELD
        assert await s.do("resume", message.id) == {"deliveries": 1, "in_attempt": 0, "held": 0}
        taken = [await s.next(agent) for agent in s.courier.agents]
        assert [delivery for delivery in taken if delivery] == [message.delivery]
        with pytest.raises(EngineError, match="is not held"):
            await s.do("resume", message.id)

    play(tmp_path, story)


def test_a_hold_of_a_destination_is_for_what_comes_later_too_and_survives_a_restart(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        await s.do("hold", "one.test")
        await s.put("a@one.test", "b@two.test")
        await s.restart()
        message = await s.put("c@one.test")
        assert message.state is State.HELD
        assert [agent.queue.plan.site for agent in s.courier.agents] == ["mx.two.test"]
        assert [d.state for d in await s.deliveries() if d.destination == "one.test"] == [State.HELD] * 2
        assert await s.do("resume", "one.test") == {"deliveries": 2, "in_attempt": 0, "held": 0}
        assert await s.take_all("one.test") == ["m000001", "m000002"]

    play(tmp_path, story)


def test_what_is_held_during_its_attempt_is_held_after_it(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test")
        delivery = message.delivery
        assert s.agent("one.test").take() is delivery
        assert await s.do("hold", message.id) == {"deliveries": 0, "in_attempt": 1}, "an attempt is not interrupted"
        await deferred(s, delivery, 100)
        assert message.state is State.HELD

    play(tmp_path, story)


def test_the_hold_of_a_message_ends_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the last of its deliveries; also when the table cannot be written: then a row stays, and nothing else."""

    async def story(s: Stage) -> None:
        for broken in (False, True):
            message = await s.put("a@one.test", "b@two.test", name=f"broken {broken}")
            await s.do("hold", message.id)
            for left in (1, 0):
                s.manager.release(np.array(message.rows[:1], dtype=np.uint32), now=True)
                s.manager.standing.holds.clear()  # an order of an operator is done all the same
                await s.rest()
                delivery = message.in_hand[0]
                assert s.manager.seize(delivery)
                s.manager.standing.holds_changed()
                if broken and not left:
                    s.state.close()
                await s.settle(delivery, attempted=False)
                assert s.state.holds() == [f"message:{message.id}"] * (left or broken)
            assert s.manager.destinations == {} and await s.queued() == []

    play(tmp_path, story)
    assert ": cannot write the queue's table: " in caplog.text


def test_nobody_can_act_on_what_is_final(tmp_path: Path) -> None:
    """An operator's list is worked off in slices; what was delivered meanwhile stays delivered."""

    async def story(s: Stage) -> None:
        message = await s.put("a@one.test")
        delivery = message.delivery
        await s.take_all("one.test")
        assert not s.manager.hold(delivery)
        assert not s.manager.seize(delivery)
        assert not s.manager.divert(delivery, "127.0.0.1:25")
        assert delivery.state is State.FINAL

    play(tmp_path, story)


def lost_attempt(s: Stage, delivery: Delivery) -> None:
    delivery.state = State.ATTEMPT


def lost_queue(s: Stage, delivery: Delivery) -> None:
    assert isinstance(delivery.owner, ReadyQueue)
    s.manager.sites.ready.clear()


def lost_lookup(s: Stage, delivery: Delivery) -> None:
    delivery.state = State.RESOLVING


def lost_row(s: Stage, delivery: Delivery) -> None:
    """Due, and in no stock."""
    s.spool.cool(delivery, State.DUE)


def lost_read(s: Stage, delivery: Delivery) -> None:
    s.spool.cool(delivery, State.LOADING)


def lost_order(s: Stage, delivery: Delivery) -> None:
    s.spool.cool(delivery, State.SEIZED)


def lost_due_time(s: Stage, delivery: Delivery) -> None:
    """The slab does not know that it has something that is due."""
    delivery.due_at = s.clock.time() - 61
    s.spool.cool(delivery, State.WAITING)
    s.spool.table.slabs[0].next_due = 1 << 31


@pytest.mark.parametrize(
    "lose", [lost_attempt, lost_queue, lost_lookup, lost_row, lost_read, lost_order, lost_due_time]
)
def test_q4_an_orphan_is_found_counted_and_put_back_to_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lose
) -> None:
    async def story(s: Stage) -> None:
        message = await s.put("a@one.test")
        other = await s.put("b@two.test")
        delivery = message.delivery
        lose(s, delivery)
        if lose is lost_queue:
            s.manager.hold(other.delivery)
        await s.sweeper.sweep()
        assert s.sweeper.orphans == 1
        assert s.manager.tally.as_row(s.manager.queued())["balanced"]
        await s.jump(sweeper.ORPHAN_WAIT_S + 1)
        taken = [await s.next(agent) for agent in list(s.courier.agents)]
        assert message.id in {one.message.id for one in taken if one is not None}
        await s.sweeper.sweep()
        assert s.sweeper.orphans == 0

    with caplog.at_level(logging.ERROR):
        play(tmp_path, story)
    assert "queued again" in caplog.text or lose is lost_due_time


def test_a_sweep_forgets_queues_nobody_uses_but_not_what_was_learned(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        for destination in ("one.test", "slow.test"):
            await s.put(f"a@{destination}")
            await s.take_all(destination)
            s.agent(destination).leave()
        s.throttle("slow.test").blocked(s.clock.time(), "421 slow down")
        await s.sweeper.sweep()
        assert [queue.plan.site for queue in s.manager.sites.ready.values()] == ["mx.slow.test"]
        assert [site for site, _ in s.manager.sites.throttles()] == ["mx.slow.test"]
        s.manager.sites.remember()
        await s.restart()
        assert s.throttle("slow.test").reason == "421 slow down"

    play(tmp_path, story)


def test_after_stop_nothing_is_begun_and_all_is_on_disk(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        first = await s.put("a@one.test")
        delivery = s.agent("one.test").take()
        assert delivery is first.delivery
        s.manager.stop()
        await s.put("b@two.test")
        s.routes.lose("three.test")
        await s.put("c@three.test")
        await deferred(s, delivery, 1)
        await s.jump(HOUR)
        assert [agent.queue.plan.site for agent in s.courier.agents] == ["mx.one.test"]
        assert s.routes.lookups == []
        await s.restart()
        assert s.tally() == {"recovered": 3, "queued": 3, "balanced": True}

    play(tmp_path, story)


@pytest.mark.parametrize("routed", [True, False])
def test_what_was_held_and_released_in_its_stock_is_taken_and_counted_once(tmp_path: Path, routed: bool) -> None:
    """Its place in the stock stays when an operator takes it, and it has another when he gives it back."""

    async def story(s: Stage) -> None:
        s.throttle("one.test").close(s.clock.time() + HOUR, "421 closed")
        letters = [await s.put("a@one.test") for _ in range(3)]
        for _ in range(2):
            await s.do("hold", "one.test")
            await s.do("resume", "one.test")
        assert s.manager.destination("one.test").stocked == 9
        if routed:
            await s.jump(HOUR)
        else:
            s.routes.lose("one.test")
            s.manager.offer(s.manager.destination("one.test"))
            await s.rest()
            s.routes.answer("one.test", NoRoute(Status.FAILED, "5.1.2", "no such domain", 0.0))
            await s.rest()
            assert len(s.courier.unroutable) == 3
        assert [len(letter.in_hand) for letter in letters] == [1, 1, 1]
        assert s.spool.table.counts == [0] * len(State)
        await s.sweeper.sweep()
        assert s.sweeper.orphans == 0

    play(tmp_path, story)
