"""Files of shared contents compact when most of their contents are needed no more, whatever crashes meanwhile.

S2  nothing that lives is lost, nothing that is final comes back
S5  a content that cannot be read holds its file back, and nothing else
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.base.errors import StorageError
from engine.base.units import Size
from engine.storage.spool import backlog as backlog_module
from engine.storage.spool import emptying
from engine.storage.spool import mover as mover_module
from engine.storage.spool.backlog import Backlog
from engine.storage.spool.entry import State
from engine.storage.spool.frame import scan
from engine.storage.spool.segment import Segment
from engine.storage.spool.spool import Spool
from tests.support.spool import FaultyFiles, contents, cool, put_many, rows_of, settle, whole_spool
from tests.support.spool_tools import verified

#: Of each message. One has a folder of its own, the others share one.
DOMAINS = "a.test", "b.test", "c.test"
MESSAGES = 20
SMALL_FILES = {"segment_bytes": Size(8192), "journal_files": 0}


@pytest.fixture(autouse=True)
def small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mover_module, "_WORTH_EMPTYING", 1)
    monkeypatch.setattr(emptying, "_CHUNK_ITEMS", 4)
    monkeypatch.setattr(backlog_module, "FOLDER_FROM", 1)


def text(number: int) -> bytes:
    return b"shared %02d " % number * 60


def shared(path: Path) -> list[Path]:
    return sorted((path / "spool" / "shared").glob("*.con"))


def copies(path: Path) -> list[int]:
    """Of each content, how often it is there."""
    data = b"".join(file.read_bytes() for file in shared(path))
    return [data.count(text(number)) for number in range(MESSAGES)]


async def filled(path: Path, files: FaultyFiles | None = None) -> Spool:
    """Messages in the old generation, their contents in two files and more, of which the last is open."""
    spool = await whole_spool(path, files, **SMALL_FILES)
    for number in range(MESSAGES):
        await put_many(spool, f"m{number:02}", DOMAINS, text(number))
    cool(spool)
    await spool._journal.run(spool._journal.leave_file)
    await spool.work(at_once=True)
    assert len(shared(path)) == 2
    assert copies(path) == [1] * MESSAGES
    return spool


async def deliver(spool: Spool, numbers: Sequence[int], domains: Sequence[str] = DOMAINS) -> None:
    for number in numbers:
        rows = rows_of(spool, f"m{number:02}")
        spool.table.move_many(rows, State.LOADING)
        for delivery in await spool.reader.read(rows):
            assert not isinstance(delivery, tuple), delivery
            if delivery.destination in domains:
                await settle(spool, delivery)
            else:
                cool(spool, delivery)


async def end(spool: Spool) -> None:
    """As a crash leaves it: nothing is written any more."""
    if spool._mover._soon is not None:
        await asyncio.wait([spool._mover._soon])
    spool._mover._thread.shutdown()
    spool.reader.close()


#: The first file has these, one before and one behind.
MOST, BEHIND = range(1, 12), 12


def test_contents_that_live_are_written_once_more_and_the_file_goes(tmp_path: Path) -> None:
    async def first() -> dict[Any, Any]:
        spool = await filled(tmp_path)
        old = shared(tmp_path)
        await deliver(spool, MOST)
        in_hand = await take_one(spool, "m00", "b.test")
        before, size = await contents(spool), spool.size
        await spool.work(at_once=True)
        now = shared(tmp_path)
        assert old[0] not in now and old[1] in now
        assert copies(tmp_path) == [1 if number not in MOST else 0 for number in range(MESSAGES)]
        assert await contents(spool) == before
        assert spool.size < size
        refs = {segment.number: segment.refs for segment in spool.segments.values() if segment.path.suffix == ".con"}
        assert sum(refs.values()) == 3 * (MESSAGES - len(MOST))
        await settle(spool, in_hand)
        del before["m00", 1]
        assert await contents(spool) == before
        await end(spool)
        return before

    before = asyncio.run(first())
    for _ in range(2):
        assert verified(tmp_path / "spool").faults == []
        assert asyncio.run(found(tmp_path)) == before


async def take_one(spool: Spool, name: str, destination: str) -> Any:
    """The delivery of a message to a destination, taken from its row."""
    number = spool.texts["destination"].number(destination)
    [row] = [row for row in rows_of(spool, name).tolist() if spool.table.get(row, "destination") == number]
    one = np.array([row], dtype=np.uint32)
    spool.table.move_many(one, State.LOADING)
    [delivery] = await spool.reader.read(one)
    return delivery


async def found(path: Path) -> dict[Any, Any]:
    """What a start finds, before and after all work is done."""
    spool = await whole_spool(path, **SMALL_FILES)
    there = await contents(spool)
    await spool.work(at_once=True)
    assert await contents(spool) == there
    await spool.close()
    return there


def test_contents_of_which_each_has_a_recipient_left_stay_where_they_are(tmp_path: Path) -> None:
    async def story() -> None:
        spool = await filled(tmp_path)
        old = shared(tmp_path)
        await deliver(spool, range(MESSAGES), DOMAINS[:2])
        await spool.work(at_once=True)
        assert shared(tmp_path) == old
        await end(spool)

    asyncio.run(story())


def test_the_mover_looks_when_half_of_the_deliveries_have_gone_since_it_looked_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at all rows for each file in each round would be too much; after a start, too."""
    looks: list[int] = []
    look = Backlog.contents_in

    def counted(backlog: Backlog, segment: Segment) -> int:
        looks.append(segment.number)
        return look(backlog, segment)

    async def first() -> None:
        spool = await filled(tmp_path)
        await spool.close()

    async def second() -> None:
        spool = await whole_spool(tmp_path, **SMALL_FILES)
        for numbers, domains, expected in (
            ((), (), 0),
            (range(MESSAGES), DOMAINS[:1], 0),  # two thirds are left
            (range(MESSAGES), DOMAINS[1:2], 2),  # a third: both files are looked at
            ((0,), DOMAINS, 2),
        ):
            await deliver(spool, numbers, domains)
            for _ in range(3):
                await settled(spool)
                await spool.work()
            assert len(looks) == expected
        for expected in (3, 3):
            await spool.work(at_once=True)
            assert len(looks) == expected, "somebody waits: of the first file one more has gone"
        await spool.close()

    async def third() -> None:
        """An import, which waits for the mover again and again."""
        spool = await whole_spool(tmp_path, **SMALL_FILES)
        for expected in (0, 2, 2, 2):
            await spool.work(at_once=expected > 0)
            assert len(looks) == expected
        await spool.close()

    asyncio.run(first())
    monkeypatch.setattr(Backlog, "contents_in", counted)
    asyncio.run(second())
    looks.clear()
    asyncio.run(third())


async def settled(spool: Spool) -> None:
    """Nothing goes on by itself any more."""
    while spool._mover._soon is not None and not spool._mover._soon.done():
        await asyncio.wait([spool._mover._soon])


def test_s2_a_crash_after_any_step_of_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The disk takes nothing from the n-th call on, which leaves what a crash there leaves."""

    async def story(path: Path, fail_at: int | None) -> tuple[int, dict[Any, Any]]:
        disk = FaultyFiles()
        spool = await filled(path, disk)
        await deliver(spool, MOST)
        await settled(spool)
        before = await contents(spool)
        disk.calls.clear()
        disk.fail_at, disk.for_good = fail_at, True
        if fail_at is None:
            await spool.work(at_once=True)
        else:
            with pytest.raises(StorageError):
                await spool.work(at_once=True)
            assert await contents(spool) == before, "whoever runs goes on with what is there"
        await end(spool)
        return len(disk.calls), before

    calls, before = asyncio.run(story(tmp_path / "whole", None))
    assert calls > 10
    for number in range(calls):
        path = tmp_path / str(number)
        assert asyncio.run(story(path, number))[1] == before
        assert verified(path / "spool").faults == [], number
        assert asyncio.run(found(path)) == before, number
        there = copies(path)
        assert [n for n in range(MESSAGES) if there[n]] == [n for n in range(MESSAGES) if n not in MOST], number
        assert sum(there) <= MESSAGES - len(MOST) + 2, "a copy that nothing came to refer to goes with its file"


def test_s4_a_content_that_cannot_be_written_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And is not taken for one that cannot be read, which would hold its journal file back until the next start."""
    disk = FaultyFiles()

    async def story() -> None:
        spool = await whole_spool(tmp_path, disk, **SMALL_FILES)
        await put_many(spool, "m00", DOMAINS, text(0))
        await put_many(spool, "m01", DOMAINS, text(1))
        cool(spool)
        before = await contents(spool)
        await spool._journal.run(spool._journal.leave_file)
        append, faults = spool._backlog._append, [1]

        def failing(segment: Segment, pieces: Sequence[bytes | memoryview]) -> None:
            if segment.path.suffix == ".con" and faults:
                disk.fail["sync"] = faults.pop()
            append(segment, pieces)

        spool._backlog._append = failing  # type: ignore[method-assign]
        with pytest.raises(StorageError):
            await spool.work(at_once=True)
        assert spool._backlog.unsound
        await spool.work(at_once=True)
        assert "it holds back its file" not in caplog.text
        assert not spool._backlog.unsound
        assert not any(delivery.segment.is_journal for delivery in await spool.reader.peek(rows_of(spool)))
        assert copies(tmp_path)[:2] == [1, 1]
        assert await contents(spool) == before
        await spool.close()

    asyncio.run(story())


def flip(path: Path, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(content) + 5] ^= 1
    path.write_bytes(data)


def cut_off(path: Path, content: bytes) -> None:
    """The length of a record is damaged: those behind it are not found by walking."""
    [at] = [one.offset for one in scan(path.read_bytes(), Segment(path).salt) if bytes(one.body) == content]
    data = bytearray(path.read_bytes())
    data[at + 12] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [flip, cut_off])
def test_s5_a_damaged_content_holds_its_file_back_and_no_other_content(
    tmp_path: Path, damage: Callable[[Path, bytes], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        spool = await filled(tmp_path)
        old = shared(tmp_path)[0]
        await deliver(spool, MOST)
        damage(old, text(BEHIND))
        for _ in range(2):
            await settled(spool)
            await spool.work(at_once=True)
        assert old in shared(tmp_path)
        assert caplog.text.count("it holds back its file") == 1
        assert copies(tmp_path)[0] == 2, "what could be read is elsewhere"
        assert spool.segments[int(old.name[:12])].refs == len(rows_of(spool, f"m{BEHIND}")) == 3
        for number in set(range(MESSAGES)) - {*MOST, BEHIND}:
            for delivery in await spool.reader.peek(rows_of(spool, f"m{number:02}")):
                assert delivery.message.hot is not None and delivery.message.hot[1] == text(number)
        await end(spool)

    asyncio.run(story())
