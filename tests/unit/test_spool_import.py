"""What another spool makes of an export: the same deliveries, each once, whatever crashes and however often."""

import asyncio
import shutil
from collections.abc import Set
from pathlib import Path

import pytest

from engine.base.errors import EngineError
from engine.message.outcome import Status
from engine.storage.events.reader import read_events
from engine.storage.spool.importer import Importer
from engine.storage.spool.keys import Key
from tests.support.spool_tools import (
    ALL_FIVE,
    CONTENT,
    Bench,
    bench,
    both_generations,
    exported,
    killed,
    name_of,
    take_in,
    verified,
)  # fmt: skip


def test_what_is_imported_is_what_was_exported_and_a_second_time_is_left_out(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await both_generations(old)
            live, stream = await old.live(), exported(old.directory)
        async with bench(tmp_path / "new") as new:
            assert await take_in(new, stream) == (5, 0)
            assert await new.live() == live
            assert await take_in(new, stream) == (0, 5)
            await new.age()
            assert await take_in(new, stream) == (0, 5)
            assert await new.live() == live
        received = [e for e in read_events(tmp_path / "new" / "events" / "0") if e["type"] == "received"]
        assert len(received) == sum(len(indexes) for indexes, *_ in live.values())
        assert {event["at"] for event in received} == {1000.0}

    asyncio.run(story())


@pytest.mark.parametrize("aged", [False, True])
def test_s3_what_was_imported_survives_a_crash_in_either_generation(tmp_path: Path, aged: bool) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await both_generations(old)
            live, stream = await old.live(), exported(old.directory)
        new = Bench(tmp_path / "new")
        await new.spool.load_backlog()
        await take_in(new, stream)
        if aged:
            await new.age()
        await new.settle(name_of(2), 0, Status.DELIVERED, Status.DEFERRED, due_at=2500.0)
        await new.settle(name_of(1), 1, Status.DELIVERED, Status.DELIVERED)
        await killed(new)
        live[name_of(2), 0] = (1,), 1, 2500.0, CONTENT
        del live[name_of(1), 1]
        async with bench(tmp_path / "new") as again:
            assert await again.live() == live
        assert verified(tmp_path / "new" / "spool" / "0").faults == []

    asyncio.run(story())


def test_e1_received_events_of_an_import_that_a_crash_cut_off_are_repeated(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await both_generations(old)
            stream = exported(old.directory)
        async with bench(tmp_path / "new") as new:
            await take_in(new, stream)
        whole = list(read_events(tmp_path / "new" / "events" / "0"))
        shutil.rmtree(tmp_path / "new" / "events")
        async with bench(tmp_path / "new"):
            pass
        assert list(read_events(tmp_path / "new" / "events" / "0")) == whole

    asyncio.run(story())


def test_deliveries_of_one_message_can_come_one_by_one(tmp_path: Path) -> None:
    """Two exports by destination, imported one after the other, with a restart between them."""

    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await old.put(name_of(1), "one.test", "two.test")
            live = await old.live()
            streams = [exported(old.directory, scope) for scope in ("two.test", "one.test")]
        for stream in streams:
            async with bench(tmp_path / "new") as new:
                assert await take_in(new, stream) == (1, 0)
        async with bench(tmp_path / "new") as new:
            assert await new.live() == live
            await new.age()
            assert await new.live() == live

    asyncio.run(story())


@pytest.mark.parametrize("aged", [False, True])
def test_what_was_purged_here_can_come_back(tmp_path: Path, aged: bool) -> None:
    async def story() -> None:
        async with bench(tmp_path, journal_files=10) as spool:
            await spool.put(name_of(1), "one.test", "two.test")
            if aged:
                await spool.age()
            live, stream = await spool.live(), exported(spool.directory)
            await spool.settle(name_of(1), 0, Status.REMOVED, Status.REMOVED)
            assert await take_in(spool, stream) == (1, 1)
            assert await spool.live() == live
        async with bench(tmp_path, journal_files=10) as spool:
            assert await spool.live() == live
            await spool.age()
        async with bench(tmp_path) as spool:
            assert await spool.live() == live
            await spool.age()
        async with bench(tmp_path) as spool:
            assert await spool.live() == live

    asyncio.run(story())


def test_messages_of_two_nodes_that_differ_in_the_node_alone_are_two(tmp_path: Path) -> None:
    async def story() -> None:
        streams = []
        for node in ("AAAA", "BBBB"):
            async with bench(tmp_path / node) as old:
                await old.put(name_of(1, node), "one.test")
                streams.append(exported(old.directory))
        async with bench(tmp_path / "new", segment_bytes=1) as new:
            for stream in streams:
                assert await take_in(new, stream) == (1, 0)
                await new.age()
        assert len(list(new.directory.glob("mail/*/*.seg"))) == 2
        async with bench(tmp_path / "new") as again:
            assert sorted(await again.live()) == [(name_of(1, "AAAA"), 0), (name_of(1, "BBBB"), 0)]

    asyncio.run(story())


def test_an_import_stops_at_the_first_fault_and_says_how_many_it_took(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await both_generations(old)
            stream = exported(old.directory)
        async with bench(tmp_path / "new") as new:
            importer = Importer(new.spool)
            await importer.feed(stream[:-50])
            with pytest.raises(EngineError, match=r"cut short after 5 deliveries; 5 deliveries were taken in before"):
                await importer.end()
            assert await take_in(new, stream) == (0, 5)

    asyncio.run(story())


def test_what_another_spool_of_the_node_has_is_left_out(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await both_generations(old)
            stream = exported(old.directory)
        asked: list[Set[Key]] = []

        async def elsewhere(wanted: Set[Key]) -> Set[Key]:
            asked.append(wanted)
            return set(ALL_FIVE[:2])

        async with bench(tmp_path / "new") as new:
            importer = Importer(new.spool, elsewhere=elsewhere)
            await importer.feed(stream)
            await importer.end()
            assert (importer.taken, importer.left_out, sorted(await new.live())) == (3, 2, ALL_FIVE[2:])
            assert asked == [set(ALL_FIVE)]

            async def silent(_: Set[Key]) -> Set[Key]:
                raise EngineError("worker 1 does not answer")

            importer = Importer(new.spool, elsewhere=silent)
            await importer.feed(stream)
            with pytest.raises(EngineError, match="worker 1 does not answer; 0 deliveries were taken in before"):
                await importer.end()

    asyncio.run(story())
