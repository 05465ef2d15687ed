"""What is read ahead: in turn, a few batches at once, and no more than may be in hand; but who is connected is fed."""

from pathlib import Path

import pytest

from engine.queue import larder as larder_module
from engine.queue.ready import READ_AHEAD
from engine.storage.spool.entry import State
from tests.support.queue import Stage, play

HOUR = 3600.0


async def stocked(s: Stage, destination: str, count: int) -> None:
    """So many lie on disk, due, for a site that is closed."""
    s.throttle(destination).close(s.clock.time() + HOUR, "421 closed")
    for _ in range(count):
        await s.put(f"a@{destination}")


def test_what_is_in_hand_of_one_site_is_a_batch_and_the_rest_lies_on_disk(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.connections["mx.one.test"] = 1
        await stocked(s, "one.test", READ_AHEAD + 50)
        await s.jump(HOUR)
        agent, sent = s.agent("one.test"), 0
        while (delivery := await s.next(agent)) is not None:
            assert len(s.spool.in_hand) <= READ_AHEAD + 1
            assert len(s.spool.table) + len(s.spool.in_hand) == READ_AHEAD + 50 - sent
            sent += 1
            await s.settle(delivery)
        assert sent == READ_AHEAD + 50

    play(tmp_path, story)


def test_all_together_have_no_more_in_hand_than_may_be_but_who_is_connected_is_fed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(larder_module, "MAX_IN_HAND", 3)

    async def story(s: Stage) -> None:
        for number in range(4):
            s.connections[f"mx.d{number}.test"] = 1
        s.budget.max_connections = 1
        await stocked(s, "d0.test", 5)
        await s.jump(HOUR)
        agent = s.agent("d0.test")
        for number in range(1, 4):
            await stocked(s, f"d{number}.test", 5)
        await s.jump(HOUR)
        assert {delivery.destination for delivery in s.spool.in_hand} == {"d0.test"}
        assert s.spool.table.counts[State.DUE] == 15
        got = []
        while (delivery := await s.next(agent)) is not None:
            got.append(s.named(delivery))
            await s.settle(delivery)
        assert got == [f"m{n:06}" for n in range(1, 6)], "the others, who have no connection, do not stand in its way"
        agent.leave()
        await s.rest()
        for _ in range(3):
            (agent,) = s.courier.agents
            count = 0
            while (delivery := await s.next(agent)) is not None:
                count += 1
                await s.settle(delivery)
            assert count == 5
            agent.leave()
            await s.rest()
        assert s.manager.queued() == 0

    play(tmp_path, story)
