"""Orders and imports: what is taken in has ids of old, and no order takes it for what it is about.

An import that was acknowledged must not be removed by an order given before; nor may it say that something is queued
already which an order is about to remove.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from engine.admin import actions
from engine.admin.spool import spool_import, spool_queued
from engine.base.errors import EngineError
from engine.base.settings import Node, Settings
from engine.daemon import offline
from engine.message.outcome import Status
from engine.queue.orders import Orders
from engine.storage.tables.queue_state import QueueState
from tests.support.queue import Stage, breathe, outcome, play
from tests.support.spool_tools import ALL_FIVE, bench, both_generations, exported

RELAY = "127.0.0.1:2500"
#: Between two looks at an order that waits for attempts to end, and a little.
LOOK = 6.0
FIVE = sorted({message_id for message_id, _ in ALL_FIVE})


@pytest.fixture
def stream(tmp_path: Path) -> bytes:
    """Five deliveries of four messages, to one.test and two.test, older than anything on a stage."""

    async def made() -> bytes:
        async with bench(tmp_path / "old") as old:
            await both_generations(old)
            return exported(old.directory)

    return asyncio.run(made())


def body_of(data: bytes) -> asyncio.StreamReader:
    body = asyncio.StreamReader()
    body.feed_data(data)
    body.feed_eof()
    return body


async def take_in(s: Stage, stream: bytes) -> tuple[int, int]:
    """How many of a stream are taken in, and how many left out."""
    [row] = await s.view(spool_import, body_of(stream))
    await s.rest()
    return row["taken"], row["left_out"]


async def in_an_attempt(s: Stage) -> Any:
    await s.put("a@one.test", name="in an attempt")
    delivery = s.agent("one.test").take()
    assert delivery is not None
    return delivery


@pytest.mark.parametrize("action", ["purge", "bounce"])
def test_nothing_is_imported_while_an_order_removes_mail(tmp_path: Path, stream: bytes, action: str) -> None:
    async def story(s: Stage) -> None:
        delivery = await in_an_attempt(s)
        assert await s.do(action, "one.test") == {"deliveries": 0, "in_attempt": 1}
        refused = f"being carried out: {action} one.test; import again once that is done; 0 deliveries were taken in"
        with pytest.raises(EngineError, match=refused):
            await take_in(s, stream)
        await s.settle(delivery, outcome(0, Status.DEFERRED, "451 later"))
        await s.jump(LOOK)
        assert await s.queued() == []
        await s.jump(LOOK)
        assert s.state.orders == []
        assert await take_in(s, stream) == (5, 0)
        await s.jump(LOOK)
        assert await s.queued() == FIVE

    play(tmp_path, story)


def test_a_move_that_stands_refuses_no_import(tmp_path: Path, stream: bytes) -> None:
    """It removes nothing: what is taken in goes by the same relay at worst."""

    async def story(s: Stage) -> None:
        await in_an_attempt(s)
        await s.do("move", "one.test", RELAY)
        assert await take_in(s, stream) == (5, 0)
        assert await s.queued() == [*FIVE, "in an attempt"]

    play(tmp_path, story)


def test_an_order_that_a_restart_interrupted_refuses_imports(
    tmp_path: Path, stream: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stage) -> None:
        await in_an_attempt(s)
        await s.do("purge", "*")
        with monkeypatch.context() as patch:
            patch.setattr(Orders, "start", lambda _: None)  # the old generation is read, the order is not begun
            await s.restart()
        with pytest.raises(EngineError, match="being carried out: purge everything;"):
            await take_in(s, stream)
        s.orders.start()
        await s.rest()
        await s.jump(LOOK)
        assert (await s.queued(), s.state.orders) == ([], [])
        assert await take_in(s, stream) == (5, 0)

    play(tmp_path, story)


def test_what_an_order_is_about_to_remove_is_not_said_to_be_queued_already(tmp_path: Path, stream: bytes) -> None:
    """Or its other node would let go of it. A worker that is asked by another one does not say so either."""

    async def story(s: Stage) -> None:
        assert await take_in(s, stream) == (5, 0)
        delivery = s.agent("one.test").take()
        assert delivery is not None
        wanted = json.dumps(ALL_FIVE).encode()
        assert len(await s.view(spool_queued, body_of(wanted))) == 5
        await s.do("purge", "one.test")
        for command, body in ((spool_import, stream), (spool_queued, wanted)):
            with pytest.raises(EngineError, match=r"being carried out: purge one\.test"):
                await s.view(command, body_of(body))
        assert await s.view(spool_queued, body_of(b'[["00000000else01", 0]]')) == [], "that is no concern of it"

    play(tmp_path, story)


def test_an_order_waits_for_a_slice_that_is_being_stored(
    tmp_path: Path, stream: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is acknowledged after the order was given is none of its business; this was taken in before."""

    async def story(s: Stage) -> None:
        delivery = await in_an_attempt(s)
        slow, apart = asyncio.Event(), s.spool.apart

        async def slowly(content: bytes) -> Any:
            await slow.wait()
            return await apart(content)

        monkeypatch.setattr(s.spool, "apart", slowly)
        importing = asyncio.ensure_future(take_in(s, stream))
        await breathe()
        purging = asyncio.ensure_future(s.view(actions.purge, "*"))
        await breathe()
        assert s.state.orders == []
        slow.set()
        assert await importing == (5, 0)
        assert await purging == [{"deliveries": 5, "in_attempt": 1}]
        await s.settle(delivery)
        await s.jump(LOOK)
        assert (await s.queued(), s.state.orders) == ([], [])

    play(tmp_path, story)


@pytest.mark.parametrize("worker", [0, 1])
def test_a_stopped_node_with_an_order_takes_nothing_in(tmp_path: Path, stream: bytes, worker: int) -> None:
    """Of the spool that takes in, or of another one that has some of it."""
    settings = Settings(node=Node(name="old.test", data_dir=str(tmp_path / "new")))

    async def made(path: Path) -> None:
        async with bench(path) as new:
            if path == tmp_path / "other":
                await both_generations(new)

    asyncio.run(made(tmp_path / "new"))
    if worker:
        asyncio.run(made(tmp_path / "other"))
        (tmp_path / "other" / "spool" / "0").rename(tmp_path / "new" / "spool" / "1")
    state = QueueState(tmp_path / "new" / "tables.db", worker)
    order = state.give("bounce", "one.test", "", 1 << 50)
    with pytest.raises(EngineError, match=r"being carried out: bounce one\.test;"):
        offline.take_in(settings, [stream])
    state.carried_out(order)
    state.give("move", "one.test", RELAY, 1 << 50)
    state.close()
    row = offline.take_in(settings, [stream])
    assert (row["taken"], row["left_out"]) == ((0, 5) if worker else (5, 0))
