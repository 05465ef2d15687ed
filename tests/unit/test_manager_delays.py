"""Senders of what waits are told of the delay: a slice at a time, beside the words of operators."""

from pathlib import Path
from typing import Any

import pytest

from engine.admin import actions, views
from engine.storage.spool.entry import State
from tests.support.queue import Stage, play

HOUR = 3600.0


async def tell_meanwhile(s: Stage, action: str, *arguments: str) -> dict[str, Any]:
    """Senders are told of a delay, and an operator says this while it is done."""
    said: list[dict[str, Any]] = []
    work_off = s.courier.work_off

    async def first() -> None:
        if s.courier.delays and not said:
            said.extend(await s.view(getattr(actions, action), *arguments))
        await work_off()

    s.courier.work_off = first
    s.courier.delay_notice = HOUR
    await s.jump(HOUR + 1)
    await s.sweeper.sweep()
    await s.rest()
    assert s.sweeper.orphans == 0
    return said[0]


def test_a_hold_that_is_lifted_while_senders_are_told_of_the_delay_holds_nothing_back(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.throttle("one.test").close(s.clock.time() + 2 * HOUR, "gone")
        letter = await s.put("a@one.test")
        await s.do("hold", "one.test")
        assert await tell_meanwhile(s, "resume", "one.test") == {"deliveries": 1, "in_attempt": 0, "held": 0}
        [row] = letter.rows
        assert [s.spool.table.get(row, name) for name in ("state", "notices")] == [State.DUE, 1]

    play(tmp_path, story)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(("action", "arguments"), [("hold", ()), ("purge", ()), ("move", ("127.0.0.1:25",))])
def test_an_operator_finds_what_is_being_told_of(
    tmp_path: Path, held: bool, action: str, arguments: tuple[str, ...]
) -> None:
    """Once, and what is held stays so wherever it goes."""

    async def story(s: Stage) -> None:
        s.throttle("one.test").close(s.clock.time() + 2 * HOUR, "gone")
        letter = await s.put("a@one.test")
        if held:
            await s.do("hold", "one.test")
        answer = await tell_meanwhile(s, action, "one.test", *arguments)
        assert answer["deliveries"] == int(action != "hold" or not held)
        if action == "purge":
            assert letter.states == []
        elif action == "hold" or held:
            assert letter.states == [State.HELD]
        else:
            assert (await letter.read()).via == arguments[0]
        assert s.tally()["balanced"]

    play(tmp_path, story)


def test_senders_are_told_of_a_delay_a_slice_at_a_time_and_nothing_leaves_its_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.queue.sweeper.SLICE_ROWS", 2)

    async def story(s: Stage) -> None:
        s.throttle("due.test").close(s.clock.time() + 9 * HOUR, "gone")
        for n in range(5):
            await s.put(f"a{n}@held.test")
            await s.put(f"a{n}@due.test")
        await s.do("hold", "held.test")
        slices: list[int] = []
        work_off = s.courier.work_off

        async def look() -> None:
            if s.courier.delays:
                slices.append(len(s.courier.delays))
                shown = {row["destination"]: (row["held"], row["ready"]) for row in await s.view(views.queues)}
                assert shown == {"held.test": (5, 0), "due.test": (0, 5)}
            await work_off()

        s.courier.work_off = look
        s.courier.delay_notice = HOUR
        await s.jump(HOUR + 1)
        for _ in range(9):
            await s.sweeper.sweep()
            await s.jump(1)
            assert s.sweeper.orphans == 0
        assert slices == [2, 2, 1, 2, 2, 1], "each once"

    play(tmp_path, story)
