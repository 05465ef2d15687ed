"""A disk that is nearly full, simulated: mail is refused before it is full, and what makes room can always be done."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Size, SpoolSettings
from engine.message.content import LargeContent
from engine.storage.spool.large import LargeWriter
from engine.storage.spool.spool import Spool
from tests.support.disk import Disk, MemoryEvents, MemoryFiles
from tests.support.spool import put

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
