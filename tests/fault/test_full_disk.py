"""A disk that is nearly full, simulated: mail is refused before it is full, and what makes room can always be done."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Size, SpoolSettings
from engine.message.content import LargeContent
from engine.storage.spool import journal as journal_module
from engine.storage.spool.large import LargeWriter
from engine.storage.spool.spool import Spool
from tests.support.disk import Disk, File, MemoryEvents, MemoryFiles
from tests.support.spool import cool, live, name_of, put, settle, take

ROOT = Path("/data/spool/0")
KIB = 1 << 10
CONTENT = b"Subject: x\r\n\r\n" + b"y" * 8 * KIB


def open_spool(disk: Disk, **settings: Any) -> Spool:
    limits = {"min_free": 0.1, "memory_guard": 0.0, "move_rate": Size(0), "segment_bytes": Size(256 * KIB), **settings}
    files = MemoryFiles(disk)
    spool = Spool(
        ROOT, SpoolSettings(**limits), MemoryEvents(files), Metrics(), owner="n/0", files=files
    )  # fmt: skip
    spool.start()
    return spool


def on_disk(size: int, story: Callable[[Spool, Disk], Awaitable[None]], **settings: Any) -> None:
    """A story on an empty disk of so many bytes."""

    async def whole() -> None:
        disk = Disk(size=size, directories={str(ROOT.parent.parent)})
        spool = open_spool(disk, **settings)
        await spool.load_backlog()
        await story(spool, disk)
        with contextlib.suppress(StorageError):  # of a process that was ended
            await spool.close()

    asyncio.run(whole())


async def feed(writer: LargeWriter, size: int) -> None:
    for _ in range(0, size, 256 * KIB):
        writer.feed(bytes(256 * KIB))
        await writer.room()


async def until(there: Callable[[], bool]) -> None:
    """Of work in other threads."""
    async with asyncio.timeout(10):
        while not there():  # noqa: ASYNC110  # threads have no event to wait for
            await asyncio.sleep(0.001)


def refused_for_space(spool: Spool) -> bool:
    return (spool.refusal() or "").startswith("452 4.3.1 Insufficient system storage")


def test_mail_is_refused_before_the_disk_is_full_whatever_upkeep_does() -> None:
    """Between two upkeeps a client can write many times what is left."""

    async def story(spool: Spool, disk: Disk) -> None:
        for n in range(2000):
            if spool.refusal() is not None:
                break
            await put(spool, f"m{n}", content=CONTENT)
        assert refused_for_space(spool)
        assert disk.size * 0.08 < disk.free() < disk.size * 0.1

    on_disk(8 << 20, story)


def test_a_large_content_stops_where_free_space_ends_and_is_refused() -> None:
    async def story(spool: Spool, disk: Disk) -> None:
        writer = spool.large()
        with pytest.raises(StorageError, match="Insufficient system storage"):
            await feed(writer, 16 << 20)
        assert refused_for_space(spool)
        assert disk.free() > disk.size * 0.05
        writer.abort()
        await until(lambda: not any("/large/" in name for name in disk.files))
        await spool.measure()
        assert spool.refusal() is None
        writer = spool.large()
        await feed(writer, 512 * KIB)
        assert isinstance(await writer.finish(b"x"), LargeContent)

    on_disk(8 << 20, story)


def count(disk: Disk, suffix: str) -> int:
    return sum(name.endswith(suffix) for name in disk.files)


def fill(disk: Disk) -> None:
    """Somebody else takes all that is free."""
    disk.files["/foreign"] = File(bytes(disk.free()))


async def give_up_reserve(spool: Spool, disk: Disk) -> None:
    with pytest.raises(StorageError, match="No space left"):
        await put(spool, "late", content=CONTENT)
    await spool.measure()
    assert str(ROOT / "reserve") not in disk.files
    await until(lambda: spool._journal.failure is None)
    await spool.measure()


async def purge(spool: Spool, names: Iterable[str]) -> None:
    for name in names:
        await settle(spool, await take(spool, name))


def names_in(spool: Spool, number: int) -> list[str]:
    """Of the messages that live in a file."""
    return [name_of(spool.id_of(int(row))) for rows in spool.table.in_file(number) for row in rows]


def test_on_a_full_disk_the_mover_leaves_the_reserve_to_a_purge_and_all_is_well_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What lives in a file takes more than the reserve; when most of it is purged, it takes less."""
    monkeypatch.setattr(journal_module, "RETRY_S", 0.01)

    async def story(spool: Spool, disk: Disk) -> None:
        names = [f"m{n:03}" for n in range(8 * 32)]
        for name in names:
            await put(spool, name, content=CONTENT)
        cool(spool)
        assert count(disk, ".log") == 8
        fill(disk)
        await give_up_reserve(spool, disk)
        free = disk.free()
        for _ in range(3):
            await spool.work()
            await spool.measure()
        assert (count(disk, ".log"), count(disk, ".seg")) == (9, 0), "nothing is moved; one was begun after the fault"
        assert free - 8 * KIB <= disk.free() <= 256 * KIB
        assert refused_for_space(spool)
        kept = names[::12]
        await purge(spool, [name for name in names if name not in kept])
        await spool.work()
        await spool.measure()
        assert count(disk, ".log") <= 2
        assert disk.files[str(ROOT / "reserve")].data == bytes(256 * KIB)
        assert spool.refusal() is None
        await put(spool, "new", content=CONTENT)
        assert sorted(await live(spool)) == [*kept, "new"]

    on_disk(3 << 20, story, journal_files=2)


def test_a_start_without_a_byte_of_room_lets_go_of_what_is_dead_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deaths in one segment cannot be noted; another is dead as a whole, and makes the room for them."""
    monkeypatch.setattr(Spool, "_let_files_go", lambda spool: None)  # it dies before it does anything of that

    async def story(spool: Spool, disk: Disk) -> None:
        for n in range(70):
            await put(spool, f"m{n:02}", content=CONTENT)
        await put(spool, "last", content=CONTENT * 40)
        cool(spool)
        await spool.work()
        first, second = [number for number, segment in spool.segments.items() if not segment.is_journal]
        here = names_in(spool, first)
        await purge(spool, [*here[:5], *(name for name in await live(spool) if name not in here)])
        left = len(await live(spool))
        spool._files.die()  # type: ignore[attr-defined]  # of the simulated disk
        disk.files.pop(str(ROOT / "reserve"), None)
        fill(disk)
        again = open_spool(disk, journal_files=0)
        await again.load_backlog()
        await again.measure()
        await again.work()
        assert first in again.segments and second not in again.segments
        assert disk.free() > 100 * KIB
        assert len(await live(again)) == left
        await again.close()

    on_disk(8 << 20, story, journal_files=0)


@pytest.mark.parametrize("held", [0, 3])
def test_what_the_spool_filled_by_itself_opens_again_when_it_is_sent(held: int) -> None:
    """Whatever the size of a file of the journal, and though a little of it lives: nobody has to start it again."""

    async def story(spool: Spool, disk: Disk) -> None:
        for time in "abc":
            names: list[str] = []
            while spool.refusal() is None:
                names.append(f"{time}{len(names):04}")
                await put(spool, names[-1], content=CONTENT)
            assert len(names) > 100
            cool(spool)
            await purge(spool, names[held:])
            await spool.measure()
            assert refused_for_space(spool)
            await spool.work()
            await spool.measure()
            assert spool.refusal() is None
            assert sorted(await live(spool)) == sorted(names[:held])
            await purge(spool, names[:held])

    on_disk(8 << 20, story, segment_bytes=Size(64 << 20))


def test_a_file_that_lives_stays_and_a_small_one_is_not_left_again_and_again() -> None:
    async def story(spool: Spool, disk: Disk) -> None:
        for n in range(200):
            await put(spool, f"m{n}", content=CONTENT)
        cool(spool)
        fill(disk)
        await spool.measure()
        await spool.work()
        assert count(disk, ".log") == 1 and refused_for_space(spool)
        await purge(spool, [f"m{n}" for n in range(200)])
        for _ in range(3):
            await spool.measure()
            await spool.work()
        (begun,) = [name for name in disk.files if name.endswith(".log")]
        fill(disk)
        for _ in range(3):
            await spool.measure()
            await spool.work()
        assert [name for name in disk.files if name.endswith(".log")] == [begun]

    on_disk(8 << 20, story, segment_bytes=Size(64 << 20))
