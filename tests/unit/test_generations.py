"""From the journal to the old generation: what is moved comes back the same, whatever the disk and the clock do.

S2  nothing that lives is lost, nothing that is final comes back; a restart at any step finds what was there
S4  what failed to be written is not trusted
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.base.errors import StorageError
from engine.base.units import Size
from engine.message.outcome import Status
from engine.storage.spool import fetch as fetch_module
from engine.storage.spool import journal as journal_module
from engine.storage.spool import mover as mover_module
from engine.storage.spool.backlog import FOLDER_FROM, SMALL
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.segment import file_of, is_side
from engine.storage.spool.spool import Spool
from tests.support.spool import (
    FaultyFiles,
    contents,
    cool,
    find,
    id_of,
    live,
    open_spool,
    outcome,
    put,
    put_many,
    rows_of,
    settle,
    take,
    whole_spool,
)  # fmt: skip

#: A file for every few messages, and none of them young for long.
SMALL_FILES = {"segment_bytes": Size(4096), "journal_files": 1}


def run(path: Path, story: Callable[[Spool], Awaitable[Any]], **more: Any) -> Any:
    """A story on a spool in `path`; it is left as a crash leaves it unless the story closes it."""

    async def whole() -> Any:
        return await story(await whole_spool(path, **{**SMALL_FILES, **more}))

    return asyncio.run(whole())


def files(path: Path, pattern: str) -> list[Path]:
    return sorted((path / "spool").glob(pattern))


async def fill(spool: Spool, count: int = 30, domain: str = "example.org", first: int = 0) -> None:
    """Messages that lie in the table; each is like no other."""
    for n in range(first, first + count):
        await put(
            spool, f"m{n:03}", recipients=1 + n % 3, content=b"%d " % n * 100, domain=domain, user="acme",
            batch=f"b{n % 2}",
        )  # fmt: skip
    cool(spool)


async def age(spool: Spool) -> None:
    """Whatever was stored so far is in files that are not the newest."""
    usual, spool._journal.segment_bytes = spool._journal.segment_bytes, 1
    await put(spool, "z")
    cool(spool, find(spool, "z"))
    spool._journal.segment_bytes = usual


async def fail_once(spool: Spool, name: str, at: float, indexes: tuple[int, ...]) -> None:
    """An attempt that delivers to these recipients and leaves the others for later."""
    delivery = await take(spool, name)
    own, _ = await spool.reader.load(delivery)
    delivery.attempts, delivery.due_at, delivery.last = delivery.attempts + 1, at, f"450 {name} later"
    fates = [outcome(i, Status.DELIVERED if i in indexes else Status.DEFERRED) for i in delivery.indexes]
    await spool.settle(delivery, own, 1500.0, "other", fates)
    cool(spool, delivery)


@pytest.mark.parametrize("count", [10, FOLDER_FROM + 10])
def test_what_is_moved_is_the_same_in_its_new_place_and_after_a_restart(tmp_path: Path, count: int) -> None:
    async def story(spool: Spool) -> dict[Any, Any]:
        await fill(spool, count)
        for n in range(0, count, 5):
            await fail_once(spool, f"m{n:03}", 5000.0 + n, ())
        before = await contents(spool)
        await fill(spool, 8, "other.test", first=count)  # so that the files before are not the newest
        before = await contents(spool)
        await spool.work()
        assert len(files(tmp_path, "journal/*.log")) == 1
        assert await contents(spool) == before
        return before

    before = run(tmp_path, story, segment_bytes=Size(4096 if count < FOLDER_FROM else 1 << 16))
    assert len(before) == count + 8
    for _ in range(2):

        async def look(spool: Spool) -> None:
            assert await contents(spool) == before
            await spool.close()

        run(tmp_path, look)


def test_a_destination_with_many_has_a_folder_of_its_own_and_the_others_share_one(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        await fill(spool, FOLDER_FROM, "many.test")
        await fill(spool, 3, "few.test", first=100)
        await age(spool)
        await spool.work()
        folders = {path.parent.name for path in files(tmp_path, "mail/*/*.seg")}
        assert folders == {"many.test", SMALL}

    run(tmp_path, story, segment_bytes=Size(1 << 20))


def test_what_became_of_it_in_the_old_generation_is_in_side_files_before_the_journal_goes(tmp_path: Path) -> None:
    """States and deaths: the journal has them first, then the segment's side file; then the journal's file goes."""

    async def first(spool: Spool) -> dict[Any, Any]:
        await fill(spool, 12)
        await age(spool)
        await spool.work()
        for n in range(2, 12, 3):  # of these, two have three recipients
            await fail_once(spool, f"m{n:03}", 7000.0 + n, (0,))
        for n in range(0, 12, 3):
            await settle(spool, await take(spool, f"m{n:03}"))
        return await contents(spool)

    async def second(spool: Spool) -> dict[Any, Any]:
        assert await contents(spool) == before, "from the journal"
        await fill(spool, 12, "other.test", first=100)
        spool._journal.segment_bytes = 1
        await put(spool, "zz")
        cool(spool)
        told = await contents(spool)
        await spool.work()
        states = [spool.table.get(int(row), "state_place") for row in rows_of(spool)]
        assert any(states) and all(is_side(place) for place in states if place)
        assert await contents(spool) == told
        return told

    async def third(spool: Spool) -> None:
        assert await contents(spool) == before, "from the side files"
        await spool.close()

    before = run(tmp_path, first)
    assert sum(len(row[3]) for row in before.values()) < 24
    before = run(tmp_path, second)
    run(tmp_path, third)
    run(tmp_path, third)


def test_a_state_that_only_the_journal_has_is_found_through_an_index(tmp_path: Path) -> None:
    """A stop writes the index with the newest state, whose record stays in the journal."""

    async def first(spool: Spool) -> dict[Any, Any]:
        await fill(spool, 6)
        await age(spool)
        await spool.work()
        await fail_once(spool, "m002", 9000.0, (0, 2))
        before = await contents(spool)
        await spool.close()
        return before

    async def second(spool: Spool) -> None:
        assert await contents(spool) == before
        delivery = await take(spool, "m002")
        assert (delivery.indexes, delivery.attempts, delivery.last) == ((1,), 1, "450 m002 later")

    before = run(tmp_path, first)
    run(tmp_path, second)


def test_a_content_for_many_destinations_is_stored_once_and_goes_with_the_last(tmp_path: Path) -> None:
    domains = [f"d{n:02}.test" for n in range(10)]
    content = b"shared by all " * 100

    async def first(spool: Spool) -> dict[Any, Any]:
        await put_many(spool, "many", domains, content)
        await put_many(spool, "more", domains[:3], content + b"!")
        await fill(spool, 4, first=50)
        before = await contents(spool)
        await spool.work()
        (shared,) = files(tmp_path, "shared/*.con")
        assert len(content) * 2 < shared.stat().st_size < len(content) * 2 + 500
        assert not any(content in path.read_bytes() for path in files(tmp_path, "mail/*/*.seg"))
        assert await contents(spool) == before
        return before

    async def second(spool: Spool) -> None:
        assert await contents(spool) == before
        rows = rows_of(spool, "many").tolist() + rows_of(spool, "more").tolist()
        spool.table.move_many(np.array(rows, dtype=np.uint32), State.LOADING)
        for number, one in enumerate(await spool.reader.read(np.array(rows, dtype=np.uint32)), 1):
            assert isinstance(one, Delivery)
            await spool.work()
            assert len(files(tmp_path, "shared/*.con")) == 1, f"{number} of {len(rows)}"
            await settle(spool, one)
        await spool.work(at_once=True)  # after what goes on by itself
        assert files(tmp_path, "shared/*.con") == []
        await spool.close()

    async def third(spool: Spool) -> None:
        assert set(await live(spool)) == {"m050", "m051", "m052", "m053"}
        await spool.close()

    before = run(tmp_path, first)
    run(tmp_path, second)
    run(tmp_path, third)


def test_a_segment_that_is_mostly_dead_is_emptied_and_one_that_is_dead_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover_module, "_WORTH_EMPTYING", 1)

    async def story(spool: Spool) -> dict[Any, Any]:
        await fill(spool, 60)
        await age(spool)
        await spool.work()
        many = files(tmp_path, "mail/*/*.seg")
        assert len(many) > 4
        size = spool.size
        for n in range(60):
            if n % 10:
                await settle(spool, await take(spool, f"m{n:03}"))
        before = await contents(spool)
        for _ in range(3):
            await spool.work()
        assert await contents(spool) == before
        assert len(files(tmp_path, "mail/*/*.seg")) < len(many) / 2
        assert spool.size < size / 2
        return before

    async def look(spool: Spool) -> None:
        assert await contents(spool) == before
        await spool.close()

    before = run(tmp_path, story)
    assert len(before) == 7
    run(tmp_path, look)
    run(tmp_path, look)


def test_a_delivery_in_an_attempt_is_moved_and_its_outcome_counts(tmp_path: Path) -> None:
    async def first(spool: Spool) -> None:
        await fill(spool, 10)
        done, later = await take(spool, "m000"), await take(spool, "m002")
        await age(spool)
        await spool.work()
        assert not done.segment.is_journal and not later.segment.is_journal
        await settle(spool, done)
        await settle(spool, later, indexes=(1,))

    async def second(spool: Spool) -> None:
        found = await live(spool)
        assert "m000" not in found
        assert found["m002"] == [(0, 2)]

    run(tmp_path, first)
    run(tmp_path, second)


def test_what_is_settled_while_its_copy_is_written_does_not_come_back(tmp_path: Path) -> None:
    """The copy came too late: it is dead, and said to be."""

    async def first(spool: Spool) -> None:
        await fill(spool, 10)
        await age(spool)
        move, taken = spool._backlog.move, []

        def slow(*arguments: Any) -> Any:
            answers = move(*arguments)
            done = asyncio.run_coroutine_threadsafe(between(), loop)
            done.result()
            return answers

        async def between() -> None:
            if not taken:
                for name in ("m001", "m003"):
                    taken.append(await take(spool, name))
                await settle(spool, taken[0])

        loop = asyncio.get_running_loop()
        spool._backlog.move = slow  # type: ignore[method-assign]
        await spool.work()
        assert set(await live(spool)) == {f"m{n:03}" for n in range(10) if n != 1} | {"z"}
        await settle(spool, taken[1])
        await spool.work()

    async def second(spool: Spool) -> None:
        assert set(await live(spool)) == {f"m{n:03}" for n in range(10) if n not in (1, 3)} | {"z"}
        await spool.close()

    run(tmp_path, first)
    run(tmp_path, second)
    run(tmp_path, second)


Known = dict[str, list[tuple[int, ...]]]  #: recipients that are not final, as far as somebody was told, by message


async def _history(spool: Spool, known: Known) -> None:
    """Some of everything: moves, states, deaths, shared contents."""

    async def store(count: int, domain: str, first: int) -> None:
        for n in range(first, first + count):
            await put(spool, f"m{n:03}", recipients=1 + n % 3, content=b"%d " % n * 100, domain=domain)
            known[f"m{n:03}"] = [tuple(range(1 + n % 3))]
        cool(spool)

    async def defer(name: str, index: int) -> None:
        await fail_once(spool, name, 8000.0, (index,))
        known[name] = [tuple(i for i in known[name][0] if i != index)]

    async def deliver(name: str) -> None:
        await settle(spool, await take(spool, name))
        del known[name]

    await store(12, "example.org", 0)
    await put_many(spool, "many", ["a.test", "b.test", "c.test"], b"shared " * 50)
    known["many"] = [(0,), (1,), (2,)]
    cool(spool)
    await spool.work()
    await defer("m002", 1)
    await deliver("m004")
    await store(12, "other.test", 50)
    await spool.work()
    await defer("m005", 0)
    await deliver("m006")
    await deliver("m052")
    await store(12, "third.test", 80)
    await spool.work()
    await spool.close()


def test_s2_a_crash_after_any_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The disk takes nothing from the n-th call on, which leaves what a crash there leaves."""

    async def untroubled(spool: Spool) -> None:
        known: Known = {}
        await _history(spool, known)
        assert len(known) == 34

    whole = FaultyFiles()
    run(tmp_path / "whole", untroubled, files=whole)
    assert len(whole.calls) > 150
    for number in range(4, len(whole.calls), 3):
        path, known, disk = tmp_path / str(number), Known(), FaultyFiles()
        disk.fail_at, disk.for_good = number, True

        async def story(spool: Spool, known: Known = known) -> None:
            history = asyncio.ensure_future(_history(spool, known))
            while not history.done() and spool._journal.failure is None:
                await asyncio.wait([history], timeout=0.001)
            history.cancel()
            await asyncio.wait([history])

        with contextlib.suppress(StorageError):  # it did not even start
            run(path, story, files=disk)
        found = run(path, _close_after(live))
        in_flight = [name for name in {*found, *known} if found.get(name) != known.get(name)]
        assert len(in_flight) <= 1, (number, whole.calls[number], in_flight)
        assert run(path, _close_after(_everything_is_there)) == found, (number, whole.calls[number])


async def _everything_is_there(spool: Spool) -> Any:
    """Contents too, and after all work is done."""
    await contents(spool)
    await spool.work()
    await contents(spool)
    return await live(spool)


def _close_after(look: Callable[[Spool], Awaitable[Any]]) -> Callable[[Spool], Awaitable[Any]]:
    async def story(spool: Spool) -> Any:
        found = await look(spool)
        await spool.close()
        return found

    return story


def test_s4_a_disk_that_fails_once_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the mover was doing: what it cannot trust is emptied and dropped, and the work is done after all."""
    monkeypatch.setattr(journal_module, "RETRY_S", 0.001)
    disk = FaultyFiles()

    async def story(spool: Spool) -> dict[Any, Any]:
        await fill(spool, 12)
        await put_many(spool, "many", ["a.test", "b.test", "c.test"], b"shared " * 50)
        cool(spool)
        failed = 0
        for skipped in range(50):
            await fill(spool, 12, "more.test", first=100 + 12 * skipped)
            if skipped % 5 == 4:
                await fail_once(spool, f"m{skipped:03}" if skipped < 12 else f"m{100 + skipped}", 8000.0, (0,))
            before = await contents(spool)
            disk.fail_at = len(disk.calls) + skipped % 20
            for _ in range(50):
                try:
                    await spool.work()
                    break
                except StorageError:
                    failed += 1
                    await asyncio.sleep(0.002)
            disk.fail_at = None
            assert await contents(spool) == before, skipped
            assert not spool._backlog.unsound
            assert len(files(tmp_path, "journal/*.log")) == 1
        assert failed > 20
        return before

    before = run(tmp_path, story, files=disk)

    async def look(spool: Spool) -> None:
        assert await contents(spool) == before
        await spool.close()

    run(tmp_path, look)
    run(tmp_path, look)


def test_an_unsound_segment_is_never_written_again_and_holds_the_journal_back(tmp_path: Path) -> None:
    disk = FaultyFiles()

    async def first(spool: Spool) -> dict[Any, Any]:
        await fill(spool, 20)
        await age(spool)
        before = await contents(spool)
        disk.fail["sync"] = 0
        write = spool._backlog._append

        def failing(segment: Any, pieces: Any) -> None:
            if segment.path.suffix == ".seg" and not spool._backlog.unsound:
                disk.fail["sync"] = 1
            write(segment, pieces)

        spool._backlog._append = failing  # type: ignore[method-assign]
        journal = files(tmp_path, "journal/*.log")
        with pytest.raises(StorageError):
            await spool.work()
        assert files(tmp_path, "journal/*.log") == journal
        (unsound,) = spool._backlog.unsound.values()
        left = unsound.path.read_bytes()
        assert await contents(spool) == before
        refuse = spool._backlog.drop
        spool._backlog.drop = lambda segment: None  # type: ignore[method-assign]  # it would be gone at once
        await spool.work()
        assert unsound.path.read_bytes() == left
        spool._backlog.drop = refuse  # type: ignore[method-assign]
        return before

    async def second(spool: Spool) -> None:
        assert await contents(spool) == before, "what lies in its tail is known from the journal"
        await spool.work()
        assert await contents(spool) == before
        await spool.close()

    before = run(tmp_path, first, files=disk)
    run(tmp_path, second)
    run(tmp_path, second)


def test_s5_a_damaged_record_is_told_when_its_file_is_to_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(spool: Spool) -> None:
        await fill(spool, 10)
        await age(spool)
        row = int(rows_of(spool, "m003")[0])
        segment = spool._segments[file_of(spool.table.get(row, "place"))]
        data = bytearray(segment.path.read_bytes())
        data[(spool.table.get(row, "place") & 0xFFFFFFFF) + 60] ^= 1
        segment.path.write_bytes(data)
        told: list[int] = []
        spool.lost = lambda rows: told.extend(rows.tolist())
        for _ in range(2):
            await spool.work()
        assert told == [row, row], "again, until it is settled"
        assert segment.path == files(tmp_path, "journal/*.log")[0], "the files before it are gone"
        there = [r for r in rows_of(spool).tolist() if file_of(spool.table.get(r, "place")) == segment.number]
        assert there == [row], "the others are moved"
        assert "set aside; its delivery is lost" in caplog.text
        assert len(files(tmp_path, "journal/damaged/*")) == 1
        delivery = spool.reader.take_unread(row, StorageError("damaged"))
        await spool.settle(
            delivery, (await spool.reader.peek(rows_of(spool, "m004")))[0].message.hot[0], 1.0, "o", [outcome(0)]
        )
        await spool._mover._soon
        await spool.work()
        assert len(files(tmp_path, "journal/*.log")) == 1, "it was purged: nothing holds the files back"
        assert set(await live(spool)) == {f"m{n:03}" for n in range(10) if n != 3} | {"z"}
        await spool.close()

    run(tmp_path, story)


def test_reading_does_not_mind_that_things_move(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        await fill(spool, 40)
        await age(spool)
        before = await contents(spool)
        rows = rows_of(spool)
        spool.table.move_many(rows, State.LOADING)
        found, _ = await asyncio.gather(spool.reader.read(rows), spool.work())
        assert all(isinstance(one, Delivery) for one in found)
        assert await contents(spool) == before
        await spool.close()

    run(tmp_path, story)


def test_intake_is_open_while_the_old_generation_is_loaded(tmp_path: Path) -> None:
    async def first(spool: Spool) -> None:
        await fill(spool, 20)
        await age(spool)
        await spool.work()

    async def second() -> None:
        spool = open_spool(tmp_path, **SMALL_FILES)
        assert spool.loading
        assert set(await live(spool)) == {"z"}
        await put(spool, "young")
        await spool.work()
        counted: list[int] = []
        await spool.load_backlog(counted.append)
        assert sum(counted) == sum(1 + n % 3 for n in range(20))
        assert not spool.loading
        assert len(await live(spool)) == 22
        await spool.close()

    run(tmp_path, first)
    asyncio.run(second())


def test_an_index_that_is_gone_or_damaged_is_made_again_from_the_segment(tmp_path: Path) -> None:
    async def first(spool: Spool) -> dict[Any, Any]:
        await fill(spool, 20)
        await age(spool)
        await spool.work()
        await settle(spool, await take(spool, "m001"))
        before = await contents(spool)
        await spool.close()
        return before

    async def second(spool: Spool) -> None:
        assert await contents(spool) == before
        await spool.close()

    before = run(tmp_path, first)
    indexes = files(tmp_path, "mail/*/*.idx")
    assert indexes
    indexes[0].unlink()
    for index in indexes[1:]:
        index.write_bytes(index.read_bytes()[:-7] + b"garbage")
    run(tmp_path, second)
    assert files(tmp_path, "mail/*/*.idx") == indexes
    run(tmp_path, second)


def test_small_reads_give_what_large_ones_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of a record is read first, and whether neighbours come with one read or many."""

    async def story(spool: Spool) -> None:
        await fill(spool, 20)
        await put_many(spool, "many", ["a.test", "b.test"], b"shared " * 5000)
        cool(spool)
        await fail_once(spool, "m004", 9000.0, (0,))
        await age(spool)
        for moved in (False, True):
            if moved:
                await spool.work()
            before = await contents(spool)
            for head, gap, most in ((40, 0, 1), (1 << 10, 1 << 10, 4096), (16 << 10, 16 << 10, 1 << 20)):
                monkeypatch.setattr(fetch_module, "HEAD_BYTES", head)
                monkeypatch.setattr(fetch_module, "_GAP_BYTES", gap)
                monkeypatch.setattr(fetch_module, "_READ_BYTES", most)
                assert await contents(spool) == before
        await spool.close()

    run(tmp_path, story)


def test_one_damaged_record_among_many_that_are_read_at_once_harms_no_other(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        await fill(spool, 9)
        rows = rows_of(spool)
        bad = int(rows_of(spool, "m004")[0])
        place = spool.table.get(bad, "place")
        segment = spool._segments[file_of(place)]
        data = bytearray(segment.path.read_bytes())
        data[place & 0xFFFFFFFF] ^= 0xFF  # its prefix, with all lengths
        segment.path.write_bytes(data)
        spool.table.move_many(rows, State.LOADING)
        found = await spool.reader.read(rows[::-1])
        assert [one[0] for one in found if not isinstance(one, Delivery)] == [bad]
        names = [one.message.id for one in found if isinstance(one, Delivery)]
        assert names == [id_of(f"m{n:03}") for n in reversed(range(9)) if n != 4], "in the order they were asked for"
        await spool.close()

    run(tmp_path, story, segment_bytes=Size(1 << 20))
