"""S5 while the engine runs: a record is damaged that the journal would have to stay for."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from engine.base.settings import SpoolSettings
from engine.base.units import Size
from engine.message.outcome import Status
from engine.storage.spool.segment import Segment, file_of, is_side, offset_of
from tests.support.queue import Letter, Stage, outcome, play

HOUR = 3600.0
#: Every message is in a file of its own.
SMALL_FILES = SpoolSettings(segment_bytes=Size(1), journal_files=2, move_rate=Size(0), min_free=0.0, memory_guard=1.0)


def flip(s: Stage, place: int, at: int) -> None:
    segment = s.spool.segments[file_of(place)]
    path = segment.side if is_side(place) else segment.path
    data = bytearray(path.read_bytes())
    data[offset_of(place) + at] ^= 1
    path.write_bytes(data)


def value(s: Stage, letter: Letter, name: str) -> int:
    [row] = letter.rows
    return s.spool.table.get(row, name)


async def fail_once(s: Stage, letter: Letter) -> None:
    """An attempt that defers all its recipients."""
    [delivery] = await s.spool.reader.read(np.array(letter.rows, dtype=np.uint32), letter.state)
    await s.settle(delivery, *(outcome(index, Status.DEFERRED, "451 later") for index in delivery.indexes))


async def work(s: Stage) -> None:
    for _ in range(4):
        await s.spool.work(at_once=True)
        await s.rest()


async def message(s: Stage, letter: Letter) -> None:
    flip(s, value(s, letter, "place"), 60)


async def content(s: Stage, letter: Letter) -> None:
    flip(s, value(s, letter, "place"), value(s, letter, "length") - 3)


async def state(s: Stage, letter: Letter) -> None:
    await fail_once(s, letter)
    flip(s, value(s, letter, "state_place"), 60)


async def state_of_what_moved(s: Stage, letter: Letter) -> None:
    await work(s)
    await state(s, letter)
    await s.put("y@one.test", name="m5")
    await s.put("z@one.test", name="m6")


async def unsound(s: Stage, letter: Letter) -> None:
    """And what lies in an unsound segment is the journal's to keep."""
    await work(s)
    await message(s, letter)
    segment = s.spool.segments[file_of(value(s, letter, "place"))]
    s.spool._backlog.close(segment)
    s.spool._backlog.unsound[segment.number] = segment


@pytest.mark.parametrize("spoil", [message, content, state, state_of_what_moved, unsound])
def test_its_delivery_fails_and_the_journal_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Stage, Letter], Awaitable[None]]
) -> None:
    async def story(s: Stage) -> None:
        s.throttle("one.test").close(s.clock.time() + HOUR, "421 closed")
        letters = [await s.put("a@one.test", "b@one.test", name=f"m{number}") for number in range(5)]
        await spoil(s, letters[1])
        others = [name for name in await s.queued() if name != "m1"]
        await work(s)
        assert await s.queued() == others
        assert len(list((tmp_path / "spool" / "journal").glob("*.log"))) <= SMALL_FILES.journal_files
        assert not s.spool._backlog.unsound
        assert list((tmp_path / "spool").rglob("damaged/*")), "what there was of it is kept"
        assert "set aside; its delivery is lost" in caplog.text
        to = ["unreadable"] * 2 if spoil in (message, unsound) else ["a@one.test", "b@one.test"]
        assert [recipient for kind, recipient in s.told() if kind == "failed"] == to
        assert s.tally()["failed"] == 2 and s.tally()["balanced"]
        await s.restart()
        assert await s.queued() == others
        assert s.spool.damaged == 0, "nothing is left of it"

    play(tmp_path, story, spool=SMALL_FILES)


def test_a_message_that_has_the_row_of_a_damaged_one_by_then_is_not_taken_for_it(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.throttle("one.test").close(s.clock.time() + HOUR, "421 closed")
        letters = [await s.put("a@one.test", name=f"m{number}") for number in range(5)]
        await message(s, letters[1])
        [row] = letters[1].rows
        emptier = s.spool._mover._emptier
        move_states = emptier._move_states

        async def meanwhile(source: Segment) -> None:
            if emptier._damaged and letters[1].rows:
                await s.do("purge", letters[1].id)
                taken = await s.put("a@one.test", name="m9")
                assert taken.rows == [row]
            await move_states(source)

        emptier._move_states = meanwhile  # type: ignore[method-assign]
        await work(s)
        assert await s.queued() == ["m0", "m2", "m3", "m4", "m9"]
        assert [kind for kind, _ in s.told() if kind == "failed"] == []
        assert s.spool.damaged == 1

    play(tmp_path, story, spool=SMALL_FILES)


def test_a_file_that_cannot_be_read_at_all_stays_and_its_deliveries_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(s: Stage) -> None:
        s.throttle("one.test").close(s.clock.time() + HOUR, "421 closed")
        letters = [await s.put("a@one.test", name=f"m{number}") for number in range(5)]
        path = s.spool.segments[file_of(value(s, letters[0], "place"))].path
        shutil.move(path, tmp_path / "away")
        await work(s)
        assert len(await s.queued()) == 5
        assert caplog.text.count("it holds back its file, and the journal's") == 1
        shutil.move(tmp_path / "away", path)
        await s.restart()
        await work(s)
        assert await s.queued() == [f"m{number}" for number in range(5)]
        assert len(list(path.parent.glob("*.log"))) <= SMALL_FILES.journal_files

    play(tmp_path, story, spool=SMALL_FILES)
