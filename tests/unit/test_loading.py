"""The old generation is read while the engine works: nothing of it is taken for something else."""

import asyncio
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.base.units import Size
from engine.storage.spool import names as names_module
from engine.storage.spool.backlog import FOLDER_FROM
from engine.storage.spool.names import Names
from engine.storage.spool.segment import MAX_NUMBER, Numbers
from engine.storage.spool.spool import Spool
from tests.support.spool import rows_of
from tests.support.spool_tools import Bench, bench, name_of


def test_texts_are_forgotten_when_there_are_twice_as_many_as_were_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "_MANY", 10)
    names, looks = Names(), list[str]()

    def used(name: str) -> list[int]:
        looks.append(name)
        return list(range(12))

    for n in range(1, 30):
        names.number(f"t{n}")
        names_module.forget_unused({"texts": names}, used)
    assert len(looks) == 2, "at eleven, when nothing could be forgotten, and at twenty-three"
    assert len(names) == 12 + 7


def test_a_text_that_is_not_in_the_table_yet_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number would go to the next destination, whose mail an order would take for its own."""
    monkeypatch.setattr(names_module, "_MANY", 0)
    domains = [f"d{n}.test" for n in range(30)]

    async def first() -> None:
        async with bench(tmp_path, segment_bytes=Size(1 << 20)) as own:
            for n in range(FOLDER_FROM):
                await own.put(name_of(n), *domains)
            await own.age()

    async def second() -> None:
        own = Bench(tmp_path)
        spool = own.spool
        loading = asyncio.create_task(spool.load_backlog())
        while not loading.done():
            spool.texts["destination"].kept = 0  # so that each look finds them many
            spool.forget_unused_texts()
            await asyncio.sleep(0)
        await loading
        assert await by_destination(spool) == dict.fromkeys(domains, FOLDER_FROM)
        await own.close()

    asyncio.run(first())
    asyncio.run(second())


def test_a_file_that_only_looks_like_one_of_ours_takes_no_number(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as own:
            await own.put(name_of(1), "one.test")
        strays = [own.directory / "large" / "202611261930.tar", own.directory / "journal" / "999999999999.12345678.log"]
        for path in strays:
            path.touch()
        async with bench(tmp_path) as own:
            await own.put(name_of(2), "one.test")
            assert max(own.spool._segments) < 10
            assert len(own.rows()) == 2
        assert all(path.exists() for path in strays)

    asyncio.run(story())


def test_who_needs_no_file_takes_no_number(tmp_path: Path) -> None:
    """Or a client that gives up again and again would use them up."""

    async def story() -> None:
        async with bench(tmp_path) as own:
            before = own.spool._numbers.new()
            for _ in range(5):
                writer = own.spool.large()
                writer.feed(b"x" * 100)
                writer.abort()
            assert own.spool._numbers.new() == before + 1

    asyncio.run(story())


def test_numbers_end_with_an_error() -> None:
    numbers = Numbers()
    numbers.pass_over(MAX_NUMBER - 1)
    assert numbers.new() == MAX_NUMBER
    with pytest.raises(StorageError, match="no more numbers"):
        numbers.new()


async def by_destination(spool: Spool) -> dict[str, int]:
    """How many rows the table has for each destination, after a look at each whether its record says the same."""
    found: dict[str, int] = {}
    destinations = spool.texts["destination"]
    for one in await spool.reader.peek(rows_of(spool)):
        found[one.destination] = found.get(one.destination, 0) + 1
    told = {name: sum(map(len, spool.table.select(destination=destinations.find(name)))) for name in found}
    assert told == found
    return found
