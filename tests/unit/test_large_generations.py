"""Large contents when their messages grow old, move to another spool, or are looked at: one file, as long as needed."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.base.errors import EngineError, StorageError
from engine.base.units import Size
from engine.message.content import head_of
from engine.message.outcome import Status
from engine.queue.scope import Scope
from engine.storage.spool import mover
from engine.storage.spool.extract import Extract
from engine.storage.spool.importer import Importer
from engine.storage.spool.snapshot import SnapshotFiles
from engine.storage.spool.spool import Spool
from engine.storage.spool.view import SpoolView
from tests.support.large import HEAD, REST, large_files, written
from tests.support.spool_tools import CONTENT, Bench, bench, exported, killed, name_of, take_in, verified

LARGE = HEAD + REST
DELIVERED = Status.DELIVERED, Status.DELIVERED
REMOVED = Status.REMOVED, Status.REMOVED
THREE = "one.test", "two.test", "three.test"


def old_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("mail/*/*.seg"))


async def put_large(spool: Bench, name: str, *destinations: str) -> None:
    await spool.put(name, *destinations, content=await written(spool.spool))


async def contents(spool: Bench) -> dict[tuple[str, int], bytes]:
    return {key: found[-1] for key, found in (await spool.live()).items()}


# Growing old.


@pytest.mark.parametrize("journal_files", [0, 1])
@pytest.mark.parametrize("in_order", [True, False])
def test_a_file_for_several_destinations_stays_until_the_last_of_them_is_final(
    tmp_path: Path, journal_files: int, in_order: bool
) -> None:
    """Moved to the old generation, after restarts in order or by a crash between two deliveries."""

    async def story() -> None:
        limits = {"journal_files": journal_files, "segment_bytes": Size(2048)}
        one = Bench(tmp_path, **limits)
        await one.spool.load_backlog()
        await put_large(one, name_of(1), *THREE)
        (file,) = large_files(one.directory)
        for number in range(2, 5):  # enough for more journal files than may be
            await one.put(name_of(number), "other.test")
            await one.age()
        await one.age()
        assert sum(path.stat().st_size for path in old_files(one.directory)) < 20_000, "no content was moved"
        assert not [d for d in one.spool.segments.values() if d.is_journal and d.live_bytes > 2048]

        for left, number in ((2, 1), (1, 0), (0, 2)):
            await (one.close() if in_order else killed(one))
            one = Bench(tmp_path, **limits)
            await one.spool.load_backlog()
            await one.age()
            assert large_files(one.directory) == [file]
            own = {key: content for key, content in (await contents(one)).items() if key[0] == name_of(1)}
            assert len(own) == left + 1
            assert set(own.values()) == {LARGE}
            await one.settle(name_of(1), number, *DELIVERED)
            await one.age()
            assert large_files(one.directory) == [file] * bool(left)
        await one.close()
        assert verified(one.directory).faults == []

    asyncio.run(story())


def test_a_segment_that_is_emptied_hands_on_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mover, "_WORTH_EMPTYING", 1)

    async def story() -> None:
        async with bench(tmp_path, segment_bytes=Size(16 << 10)) as spool:
            await put_large(spool, name_of(1), "one.test", "two.test")
            for number in range(2, 42):
                await spool.put(name_of(number), "one.test", content=b"Subject: x\r\n\r\n" + b"x" * 400 + b"\r\n")
            await spool.age()
            (file,), first = large_files(spool.directory), old_files(spool.directory)[0]
            for number in range(2, 42):
                await spool.settle(name_of(number), 0, *DELIVERED)
            await spool.age()
            assert first not in old_files(spool.directory), "it was mostly dead"
            assert large_files(spool.directory) == [file]
            assert set((await contents(spool)).values()) == {LARGE}
        async with bench(tmp_path) as spool:
            assert await contents(spool) == {(name_of(1), 0): LARGE, (name_of(1), 1): LARGE}
            assert verified(spool.directory).faults == []
            await spool.settle(name_of(1), 0, *DELIVERED)
            await spool.age()
            assert large_files(spool.directory) == [file]
            await spool.settle(name_of(1), 1, *REMOVED)
        assert large_files(spool.directory) == []

    asyncio.run(story())


def test_s2_a_file_that_went_is_missed_by_nobody_after_a_crash(tmp_path: Path) -> None:
    """The message is in the old generation, its end in the journal alone."""

    async def story() -> None:
        one = Bench(tmp_path)
        await one.spool.load_backlog()
        await put_large(one, name_of(1), "one.test")
        await one.age()
        await one.settle(name_of(1), 0, *DELIVERED)
        await one.spool.work(at_once=True)
        assert large_files(one.directory) == []
        await killed(one)
        assert verified(one.directory).faults == []
        async with bench(tmp_path) as again:
            assert await again.live() == {}

    asyncio.run(story())


@pytest.mark.parametrize("aged", [False, True])
def test_a_message_whose_file_is_gone_can_be_purged_and_harms_no_other(tmp_path: Path, aged: bool) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            await put_large(spool, name_of(1), "one.test", "two.test")
            await spool.put(name_of(2), "one.test")
            if aged:
                await spool.age()
        large_files(spool.directory)[0].unlink()
        async with bench(tmp_path) as spool:
            await put_large(spool, name_of(3), "one.test")
            await spool.age()
            for number in (0, 1):
                await spool.settle(name_of(1), number, *REMOVED)
            await spool.age()
            assert set(await contents(spool)) == {(name_of(2), 0), (name_of(3), 0)}
            assert (await contents(spool))[name_of(3), 0] == LARGE
        assert verified(spool.directory).faults == []
        async with bench(tmp_path) as spool:
            assert set(await contents(spool)) == {(name_of(2), 0), (name_of(3), 0)}

    asyncio.run(story())


# Looking.


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (Path.unlink, "1 delivery whose content is gone"),
        (shorten, f"it is not there, or of another length; needed by {name_of(1)}"),
        (lengthen, f"it is not there, or of another length; needed by {name_of(1)}"),
        (flip, f"is damaged: its checksum is wrong; needed by {name_of(1)}"),
    ],
)
@pytest.mark.parametrize("aged", [False, True])
def test_verify_finds_a_large_content_that_is_gone_or_damaged(
    tmp_path: Path, damage: Callable[[Path], None], told: str, aged: bool
) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            await put_large(spool, name_of(1), "one.test")
            await spool.put(name_of(2), "one.test")
            if aged:
                await spool.age()
            whole = verified(spool.directory)
            assert (whole.faults, whole.notes, whole.counts["deliveries"]) == ([], [], 2)
        damage(large_files(spool.directory)[0])
        (fault,) = verified(spool.directory).faults
        assert told in fault

    asyncio.run(story())


# To another spool.


async def a_stream(path: Path) -> bytes:
    """Of large contents in both generations, and of small ones."""
    async with bench(path) as old:
        await put_large(old, name_of(1), "one.test", "two.test")
        await old.put(name_of(2), "one.test", "two.test")
        await old.age()
        await put_large(old, name_of(3), "one.test")
        await old.put(name_of(4), "two.test")
        stream = exported(old.directory)
        live = await contents(old)
    assert exported(old.directory) == stream, "running or stopped"
    assert sorted(key for key, content in live.items() if content == LARGE) == [
        (name_of(1), 0), (name_of(1), 1), (name_of(3), 0),
    ]  # fmt: skip
    return stream


@pytest.mark.parametrize("large_bytes", [100 << 10, 1 << 20])
def test_large_contents_come_whole_to_another_spool_and_lie_there_as_if_they_had_come_by_smtp(
    tmp_path: Path, large_bytes: int
) -> None:
    async def story() -> None:
        stream = await a_stream(tmp_path / "old")
        limits = {"large_bytes": Size(large_bytes)}
        async with bench(tmp_path / "old", **limits) as old:
            live = await old.live()
        new = Bench(tmp_path / "new", **limits)
        await new.spool.load_backlog()
        assert await take_in(new, stream) == (6, 0)
        assert await take_in(new, stream) == (0, 6)
        large = {name_of(1), name_of(3)} if large_bytes < len(LARGE) else set()
        assert len(large_files(new.directory)) == len(large)
        assert await new.live() == live
        await killed(new)
        async with bench(tmp_path / "new", journal_files=10, **limits) as new:
            await new.spool.work(at_once=True)
            assert await new.live() == live, "from the journal"
        async with bench(tmp_path / "new", **limits) as new:
            await new.age()
            assert await new.live() == live
            assert exported(new.directory, "two.test") != b""
            assert verified(new.directory).faults == []
        async with bench(tmp_path / "new", **limits) as new:
            assert await new.live() == live
            for name, number, gone in [(name_of(1), 1, False), (name_of(3), 0, True), (name_of(1), 0, True)]:
                assert len(large_files(new.directory)) == len(large)
                await new.settle(name, number, *DELIVERED)
                await new.age()
                large -= {name} if gone else set()
            assert large_files(new.directory) == []

    asyncio.run(story())


def test_an_import_that_cannot_store_a_large_content_stops_there_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        stream = await a_stream(tmp_path / "old")
        stores = Spool.apart

        async def full(spool: Spool, content: bytes) -> object:
            if len(content) == len(LARGE):
                raise StorageError("No space left on device")
            return await stores(spool, content)

        async with bench(tmp_path / "new", large_bytes=Size(100 << 10)) as new:
            with monkeypatch.context() as patch:
                patch.setattr(Spool, "apart", full)
                importer = Importer(new.spool)
                await importer.feed(stream)  # less than is stored at once
                with pytest.raises(EngineError, match=r"No space left on device; \d deliveries were taken in before"):
                    await importer.end()
                taken = len(await new.live())
                assert importer.taken == taken < 6
            assert await take_in(new, stream) == (6 - taken, taken)
        assert len(large_files(new.directory)) == 2

    asyncio.run(story())


def test_a_content_without_an_end_of_its_header_is_taken_in_as_it_is(tmp_path: Path) -> None:
    async def story() -> None:
        odd = b"no header ends here\r\n" * 100
        async with bench(tmp_path / "old") as old:
            await old.put(name_of(1), "one.test", content=odd)
            stream = exported(old.directory)
        async with bench(tmp_path / "new", large_bytes=Size(1000)) as new:
            assert await take_in(new, stream) == (1, 0)
            assert await contents(new) == {(name_of(1), 0): odd}
            assert large_files(new.directory) == []

    asyncio.run(story())


@pytest.mark.parametrize("gone", [False, True])
def test_an_export_leaves_out_what_it_cannot_read_and_tells(tmp_path: Path, gone: bool) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            await put_large(spool, name_of(1), "one.test")
            (file,) = large_files(spool.directory)
            await put_large(spool, name_of(2), "one.test")
            await spool.put(name_of(3), "one.test")
        (Path.unlink if gone else flip)(file)
        with SnapshotFiles(spool.directory) as files:
            extract = Extract([SpoolView(spool.directory, files)], Scope.parse("*", None).rows)
            stream = b"".join(extract.pieces("old.test/0", 3000.0, "*"))
        damaged = f"large content {file.name} is damaged: its checksum is wrong"
        assert extract.problems == ["journal: 1 delivery whose content is gone" if gone else damaged]
        async with bench(tmp_path / "new") as new:
            assert await take_in(new, stream) == (2, 0)
            assert set(await contents(new)) == {(name_of(2), 0), (name_of(3), 0)}

    asyncio.run(story())


# Their files.


def test_a_header_without_a_body_needs_no_file_however_long(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path, large_bytes=Size(10)) as spool:
            for content in (b"Subject: a long one\r\n", b"Subject: a long one\r\n\r\n"):
                assert await spool.spool.apart(content) == content
            assert list((spool.directory / "large").iterdir()) == []
            bodies = [await spool.spool.apart(b"\r\n" + CONTENT), await spool.spool.apart(CONTENT)]
            assert [head_of(body) for body in bodies] == [b"\r\n", b"Subject: x\r\n\r\n"]

    asyncio.run(story())


def test_after_a_restart_no_file_has_the_number_of_a_large_one(tmp_path: Path) -> None:
    """The newest file of all may be a large content's."""

    async def story() -> None:
        async with bench(tmp_path, large_bytes=Size(1000)) as spool:
            await spool.put(name_of(1), "one.test")
            await spool.put(name_of(2), "one.test", content=await spool.spool.apart(LARGE))
            before = {int(file.name[:12]) for file in spool.directory.rglob("*.*.*")}
        async with bench(tmp_path) as spool:
            await spool.put(name_of(3), "one.test")
            files = [int(file.name[:12]) for file in spool.directory.rglob("*.*.*")]
            assert sorted(files) == sorted(set(files))
            assert max(files) > max(before)

    asyncio.run(story())
