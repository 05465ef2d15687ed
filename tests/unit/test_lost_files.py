"""S5: a file of the spool that is gone, or shorter than it was, is told by the next start and by `verify`."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.base.units import Size
from engine.message.outcome import Status
from engine.storage.spool.backlog import FOLDER_FROM
from engine.storage.spool.frame import decode
from engine.storage.spool.segment import Segment
from tests.support.spool_tools import Bench, bench, killed, name_of, verified

LARGE = b"Subject: x\r\n\r\n" + b"large\r\n" * 1000


async def fill(own: Bench, above: int) -> list[Path]:
    """Six messages, and a journal of as many files; those that are not the newest. above: what a large content is."""
    for n in range(6):
        content = await own.spool._large.store(LARGE, above)
        await own.put(name_of(n), "one.test", content=content)
        if above < len(LARGE):
            await own.spool._journal.run(own.spool._journal.leave_file)
    return [segment.path for segment in own.spool._journal.segments.values()][:-1]


def spoiled(path: Path, spoil: Callable[[list[Path]], None], above: int = 1 << 20) -> tuple[int, int, list[str]]:
    """A spool is filled, killed and spoiled: what is left of six messages, how much is damaged, what verify says."""

    async def story() -> tuple[int, int, list[str]]:
        own = Bench(path, journal_files=9)
        await own.spool.load_backlog()
        older = await fill(own, above)
        await killed(own)
        assert verified(own.directory).faults == []
        spoil(older)
        faults = verified(own.directory).faults
        async with bench(path, journal_files=9) as again:
            return len(again.rows()), again.spool.damaged, faults

    return asyncio.run(story())


@pytest.mark.parametrize("which", [0, 2])
def test_a_file_of_the_journal_that_is_gone_is_told(tmp_path: Path, which: int) -> None:
    left, damaged, faults = spoiled(tmp_path, lambda older: older[which].unlink())
    assert (left, damaged) == (5, 1)
    assert len(faults) == 1
    assert "of the journal is gone" in faults[0]


def test_a_file_of_the_journal_that_was_cut_is_told(tmp_path: Path) -> None:
    """Its end looks like the torn tail of a crash; but the next file says that it was longer."""
    left, damaged, faults = spoiled(tmp_path, lambda older: os.truncate(older[1], 4000))
    assert (left, damaged) == (5, 2)
    assert "was cut: 4000 bytes of" in faults[0]


def test_a_journal_that_ends_before_its_events_is_told(tmp_path: Path) -> None:
    def spoil(older: list[Path]) -> None:
        newest = max(older[0].parent.iterdir())
        os.truncate(newest, newest.stat().st_size - 100)

    left, damaged, faults = spoiled(tmp_path, spoil)
    assert (left, damaged) == (5, 1)
    assert "the journal has lost its end" in faults[0]


def test_contents_of_messages_that_are_lost_are_kept(tmp_path: Path) -> None:
    spoiled(tmp_path, lambda older: older[1].unlink(), above=1000)
    large = tmp_path / "spool" / "0" / "large"
    assert len(list(large.glob("*.dat"))) == 5
    [kept] = (large / "damaged").iterdir()
    assert kept.read_bytes() == LARGE.partition(b"\r\n\r\n")[2]


def test_what_is_lost_is_told_until_it_was_dealt_with(tmp_path: Path) -> None:
    """A start that is killed before it has set contents aside leaves that to the next one."""

    async def story() -> None:
        own = Bench(tmp_path, journal_files=9)
        await own.spool.load_backlog()
        older = await fill(own, 1000)
        await killed(own)
        older[1].unlink()
        hasty = Bench(tmp_path, journal_files=9)
        await hasty.put(name_of(50), "one.test")
        await killed(hasty)
        async with bench(tmp_path, journal_files=9) as again:
            assert again.spool.damaged == 1
            await again.spool.work(at_once=True)
        assert len(list((tmp_path / "spool" / "0" / "large" / "damaged").iterdir())) == 1
        async with bench(tmp_path, journal_files=9) as later:
            await later.put(name_of(51), "one.test")
        async with bench(tmp_path, journal_files=9) as last:
            assert last.spool.damaged == 0

    asyncio.run(story())


def test_a_spool_whose_files_name_no_older_ones_is_not_called_damaged(tmp_path: Path) -> None:
    """As earlier programs wrote them; and nothing is left in the newest but its first frame."""

    async def story() -> None:
        async with bench(tmp_path) as own:
            await own.put(name_of(1), "one.test")
            await own.settle(name_of(1), 0, Status.DELIVERED, Status.DELIVERED)
            await own.spool._journal.run(own.spool._journal.leave_file)
            await own.spool.work(at_once=True)
        [newest] = (own.directory / "journal").glob("*.log")
        first = decode(memoryview(newest.read_bytes()), 0, Segment(newest).salt)
        assert first is not None
        os.truncate(newest, first.end)
        async with bench(tmp_path) as again:
            assert again.spool.damaged == 0
        assert verified(own.directory).faults == []

    asyncio.run(story())


def test_what_went_in_order_is_not_missed(tmp_path: Path) -> None:
    """Whatever the moment: files go while others come, and the process is killed after each step."""

    async def story() -> None:
        for round_ in range(4):
            own = Bench(tmp_path, journal_files=1)
            await own.spool.load_backlog()
            assert own.spool.damaged == 0
            for n in range(5):
                await own.put(name_of(10 * round_ + n), "one.test", content=LARGE)
                await own.spool.work(at_once=True)
                assert verified(own.directory).faults == []
            await killed(own)

    asyncio.run(story())


@pytest.mark.parametrize("left", [0, 2000])
def test_a_segment_that_was_cut_is_told(tmp_path: Path, left: int) -> None:
    async def story() -> None:
        async with bench(tmp_path, segment_bytes=Size(1 << 20)) as own:
            for n in range(FOLDER_FROM):
                await own.put(name_of(n), "one.test")
            await own.age()
        [path] = own.directory.glob("mail/one.test/*.seg")
        os.truncate(path, left)
        async with bench(tmp_path) as own:
            assert own.spool.damaged == 1
            assert len(own.rows()) == FOLDER_FROM, "they are listed, and wait for an operator"
        assert verified(own.directory).faults

    asyncio.run(story())
