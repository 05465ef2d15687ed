"""What waits for a carrier or an application lies in folders of its own, under sms/, and is found as all else is."""

import asyncio
from pathlib import Path

from engine.message.outcome import Status
from engine.queue.scope import Scope
from engine.storage.spool.backlog import FOLDER_FROM
from engine.storage.spool.extract import Extract
from engine.storage.spool.names import folder_name, folder_of
from engine.storage.spool.segment import number_in
from engine.storage.spool.snapshot import SnapshotFiles
from engine.storage.spool.survey import NEEDED, Survey
from engine.storage.spool.view import SpoolView
from tests.support.spool_tools import Bench, bench, exported, killed, name_of, names, take_in, verified

#: Few of everything, and many for one carrier, which is also the name of a domain.
FEW = ("sms:alpha", "account:shop", "one.test")
MANY = "sms:one.test"
#: Many are those of one file of the journal.
ONE_FILE = {"segment_bytes": 1 << 20}


async def fill(spool: Bench) -> None:
    for number, destination in enumerate(FEW, 1):
        await spool.put(name_of(number), destination)
    for number in range(FOLDER_FROM):
        await spool.put(name_of(10 + number), MANY)
    await spool.age()


def segments(directory: Path) -> list[str]:
    return sorted(str(path.parent.relative_to(directory)) for path in directory.glob("*/*/*.seg"))


def test_the_folder_of_a_destination() -> None:
    assert folder_of("example.org") == Path("mail/example.org")
    assert folder_of("sms:alpha") == Path("sms/alpha")
    assert folder_of("sms:Alpha/../x") == Path("sms") / folder_name("Alpha/../x")
    assert folder_of("account:shop") == Path("sms/account%3ashop")
    assert folder_of("sms:=small") == Path("sms/%3dsmall"), "not that of the small ones"


def test_few_share_a_folder_many_have_their_own_and_a_restart_finds_them(tmp_path: Path) -> None:
    async def story() -> None:
        spool = Bench(tmp_path, **ONE_FILE)
        await spool.spool.load_backlog()
        await fill(spool)
        assert segments(spool.directory) == ["mail/=small", "sms/=small", "sms/one.test"]
        live = await spool.live()
        await killed(spool)
        async with bench(tmp_path) as again:
            assert await again.live() == live
            assert len(live) == FOLDER_FROM + 3
            assert again.spool.damaged == 0
        async with bench(tmp_path) as indexed:
            assert await indexed.live() == live
        assert verified(spool.directory).faults == []

    asyncio.run(story())


def test_no_number_of_a_file_is_given_out_twice(tmp_path: Path) -> None:
    """The highest may be one of these."""

    async def story() -> None:
        async with bench(tmp_path, **ONE_FILE) as spool:
            await fill(spool)
        highest = max(number_in(path.name) for path in spool.directory.glob("sms/*/*.seg"))
        for path in spool.directory.glob("journal/*.log"):
            assert number_in(path.name) != highest
        async with bench(tmp_path) as again:
            assert again.spool._numbers.new() > highest

    asyncio.run(story())


def test_a_folder_goes_with_its_last_message(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            await spool.put(name_of(1), "sms:alpha")
            await spool.age()
            assert segments(spool.directory) == ["sms/=small"]
            await spool.settle(name_of(1), 0, Status.DELIVERED, Status.DELIVERED)
            await spool.age()
            assert segments(spool.directory) == []
            assert list((spool.directory / "sms").iterdir()) == []

    asyncio.run(story())


def test_a_segment_that_is_gone_is_told_and_what_is_left_of_it_set_aside(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path, **ONE_FILE) as spool:
            await fill(spool)
        [segment] = spool.directory.glob("sms/one.test/*.seg")
        segment.unlink()
        told = f"sms/one.test/{segment.name} is gone; its index lists {FOLDER_FROM} deliveries"
        assert verified(spool.directory).faults == [told]
        async with bench(tmp_path) as again:
            assert again.spool.damaged == 1
            assert len(await again.live()) == 3
        assert [path.name for path in spool.directory.glob("sms/one.test/damaged/*.idx")] == [f"{segment.stem}.idx"]

    asyncio.run(story())


def test_what_a_crash_left_of_a_dropped_segment_is_cleared_away(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            folder = spool.directory / "sms" / "alpha"
            folder.mkdir()
            (folder / "000000000777.0000abcd.sta").touch()
        async with bench(tmp_path) as again:
            assert not folder.exists()
            assert again.spool._numbers.new() > 777

    asyncio.run(story())


def test_figures_name_the_folders_apart(tmp_path: Path) -> None:
    async def story() -> dict[str, int]:
        async with bench(tmp_path, **ONE_FILE) as spool:
            await fill(spool)
            survey = Survey(spool.spool.segments)
            for rows in spool.spool.table.select():
                survey.add(spool.spool.table.columns(rows, NEEDED))
        return {one["folder"]: one["deliveries"] for one in survey.row(0.0, None)["folders"]}

    assert asyncio.run(story()) == {"=small": 1, "sms/=small": 2, "sms/one.test": FOLDER_FROM}


def test_an_export_has_them_and_an_import_puts_them_where_they_belong(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await fill(old)
            live, stream = await old.live(), exported(old.directory)
        with SnapshotFiles(old.directory) as files:
            extract = Extract([SpoolView(old.directory, files)], Scope.parse("account:shop", None).rows)
            part = b"".join(extract.pieces("old.test/0", 3000.0, "account:shop"))
        assert names(part) == [(name_of(2), 0)]
        async with bench(tmp_path / "new") as new:
            assert await take_in(new, stream) == (len(live), 0)
            await new.age()
            assert await new.live() == live
            assert segments(new.directory) == ["mail/=small", "sms/=small", "sms/one.test"]

    asyncio.run(story())
