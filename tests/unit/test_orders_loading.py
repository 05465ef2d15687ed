"""Orders that are given while the old generation is read after a start.

They are about everything that was queued, whatever is loaded by then: kept at once, carried out to their end, answered
when all of it is there.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.admin import actions
from engine.base.errors import EngineError, StorageError
from engine.base.settings import SpoolSettings
from engine.base.units import Size
from engine.message.envelope import Envelope, Recipient
from engine.message.ids import IdSource
from engine.storage.spool.opening import Opening
from engine.storage.spool.table import Column
from tests.support.queue import CONTENT, Stage, breathe, play

HOUR = 3600.0
RELAY = "127.0.0.1:2500"
#: Between two looks at an order that waits, and a little.
LOOK = 6.0
SMALL = SpoolSettings(min_free=0.0, memory_guard=1.0, segment_bytes=Size(4096), journal_files=0, move_rate=Size(0))
OLD = [f"old{number:02}" for number in range(30)]


class SlowStart:
    """A start on a real old generation of several files, which are read when the test says so."""

    def __init__(self, s: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self._s = s
        self._files = asyncio.Semaphore(0)
        self.failure: StorageError | None = None
        enter, start = Opening._enter_slowly, self

        async def enter_when_told(self: Opening, columns: Mapping[str, Column]) -> None:
            await start._files.acquire()
            if start.failure is not None:
                raise start.failure
            await enter(self, columns)

        monkeypatch.setattr(Opening, "_enter_slowly", enter_when_told)

    async def begin(self, back_s: float = 0.0) -> None:
        """Everything is aged; the process ends and another begins. back_s: the clock is set back meanwhile."""
        s = self._s
        self._close_sites()
        for name in OLD:
            await s.put("a@one.test", name=name, content=b"Subject: x\r\n\r\n" + b"x" * 400)
        await s.put("a@two.test", name="other")
        await s.spool._journal.run(s.spool._journal.leave_file)
        await s.spool.work(at_once=True)
        await s.close()
        s.clock.advance(-back_s)
        await self.start()
        assert await s.queued() == []

    async def start(self) -> None:
        """A process begins."""
        self._task = asyncio.ensure_future(self._s._begin())
        await breathe()
        self._close_sites()
        assert self._s.spool.loading

    def _close_sites(self) -> None:
        """Nothing is sent, and what is loaded stays on disk."""
        for destination in ("one.test", "two.test"):
            self._s.throttle(destination).close(self._s.clock.time() + HOUR, "421 closed")

    async def go_on(self) -> None:
        """One more file is loaded."""
        self._files.release()
        await self._s.rest()

    async def end(self) -> None:
        """All of them are."""
        for _ in range(100):
            self._files.release()
        await self._task

    async def stop(self) -> None:
        """In the middle of it."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._s.close()


def give(s: Stage, action: str, *arguments: str) -> asyncio.Future[list[Any]]:
    return asyncio.ensure_future(s.view(getattr(actions, action), *arguments))


@pytest.mark.parametrize("back_s", [0.0, 100_000.0], ids=["", "set back"])
@pytest.mark.parametrize("scope", ["one.test", "*"])
@pytest.mark.parametrize("action", ["purge", "bounce"])
def test_an_order_is_about_what_is_not_loaded_yet(
    tmp_path: Path, action: str, scope: str, back_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stage) -> None:
        slow = SlowStart(s, monkeypatch)
        await slow.begin(back_s)
        if not back_s:  # else the last id is on disk only
            await s.put("a@one.test", name="young")
        answer = give(s, action, scope)
        await s.rest()
        await s.put("a@one.test", name="later")
        assert (len(s.state.orders), answer.done()) == (1, False)
        assert await s.queued() == ["later"], "what is there is taken at once"
        for _ in range(2):
            await slow.go_on()
        assert len(await s.queued()) > 5
        await s.jump(LOOK)
        assert set(await s.queued()) <= {"later", "other"}, "what is loaded is taken while the rest is read"
        assert not answer.done()
        await slow.end()
        count = len(OLD) + (not back_s) + (scope == "*")
        assert await answer == [{"deliveries": count, "in_attempt": 0}]
        await s.jump(LOOK)
        assert await s.queued() == (["other", "later"] if scope == "one.test" else ["later"])
        await s.jump(LOOK)
        assert s.state.orders == []
        assert s.tally()["balanced"]

    play(tmp_path, story, spool=SMALL)


def test_an_order_is_about_what_another_node_brought_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id is above our last one."""

    async def story(s: Stage) -> None:
        s.clock.advance(10)
        envelope = Envelope(
            IdSource("elsewhere.test", 0, s.clock).next(), "", (Recipient("a@one.test"),), 1000.0, 9e9, len(CONTENT)
        )
        s.clock.advance(-9)
        await s.spool.take_in(envelope, CONTENT, {0: ["one.test", (0,), 1000.0, 0, (), 0, ""]})
        slow = SlowStart(s, monkeypatch)
        await slow.begin(-60.0)
        answer = give(s, "purge", "one.test")
        await slow.end()
        assert await answer == [{"deliveries": 31, "in_attempt": 0}]
        await s.jump(LOOK)
        assert await s.queued() == ["other"]

    play(tmp_path, story, spool=SMALL)


def test_an_order_is_kept_through_a_restart_in_the_middle_of_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stage) -> None:
        slow = SlowStart(s, monkeypatch)
        await slow.begin()
        answer = give(s, "purge", "one.test")
        await s.rest()
        await s.put("a@one.test", name="later")
        await slow.go_on()
        answer.cancel()
        await slow.stop()
        await slow.start()
        assert await s.queued() == ["later"]
        await slow.go_on()
        await slow.go_on()
        assert len(await s.queued()) > 5
        await s.jump(LOOK)
        assert set(await s.queued()) <= {"later", "other"}, "what is loaded is taken while the rest is read"
        await slow.end()
        await s.jump(LOOK)
        await s.jump(LOOK)
        assert (await s.queued(), s.state.orders) == (["other", "later"], [])

    play(tmp_path, story, spool=SMALL)


@pytest.mark.parametrize("gone", [False, True], ids=["", "who asked is gone"])
def test_a_move_is_about_what_is_not_loaded_yet(tmp_path: Path, gone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stage) -> None:
        slow = SlowStart(s, monkeypatch)
        await slow.begin()
        first, answer = give(s, "move", "*", "127.0.0.1:2501"), give(s, "move", "one.test", RELAY)
        await s.rest()
        await s.put("a@one.test", name="later")
        await slow.go_on()
        if gone:
            answer.cancel()
        await slow.end()
        if not gone:
            assert await first == [{"deliveries": 31, "in_attempt": 0}]
            assert await answer == [{"deliveries": 30, "in_attempt": 0}]
        await s.rest()
        assert {s.named(d): d.via for d in await s.deliveries()} == {
            **dict.fromkeys(OLD, RELAY), "other": "127.0.0.1:2501", "later": "",
        }  # fmt: skip
        assert {key: d.live for key, d in s.manager.destinations.items() if d.live} == {
            ("one.test", RELAY): 30, ("two.test", "127.0.0.1:2501"): 1, ("one.test", ""): 1,
        }  # fmt: skip
        first.cancel()

    play(tmp_path, story, spool=SMALL)


def test_what_turns_out_to_be_nowhere_is_refused_when_all_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stage) -> None:
        slow = SlowStart(s, monkeypatch)
        await slow.begin()
        answer = give(s, "purge", "three.test")
        await s.rest()
        assert not answer.done()
        await slow.end()
        with pytest.raises(EngineError, match=r"three\.test: no queued message and no destination"):
            await answer
        await s.jump(LOOK)
        assert (len(await s.queued()), s.state.orders) == (31, [])

    play(tmp_path, story, spool=SMALL)


def test_an_order_stays_where_the_spool_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stage) -> None:
        slow = SlowStart(s, monkeypatch)
        await slow.begin()
        answer = give(s, "purge", "one.test")
        await s.rest()
        slow.failure = StorageError("the disk is gone")
        with pytest.raises(StorageError):
            await slow.end()
        with pytest.raises(StorageError, match="needs a restart: the disk is gone; then the order goes on"):
            await answer
        await s.jump(LOOK)
        assert len(s.state.orders) == 1
        monkeypatch.undo()
        await s.restart()
        await s.jump(LOOK)
        await s.jump(LOOK)
        assert (await s.queued(), s.state.orders) == (["other"], [])

    play(tmp_path, story, spool=SMALL)
