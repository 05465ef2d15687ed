"""Contents that several deliveries share, in the old generation."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.base.units import Size
from engine.storage.spool.segment import Segment
from tests.support.spool import FaultyFiles, contents, cool, put_many, rows_of, whole_spool

DOMAINS = "a.test", "b.test", "c.test"
SMALL_FILES = {"segment_bytes": Size(8192), "journal_files": 0}


def text(number: int) -> bytes:
    return b"shared %02d " % number * 60


def copies(path: Path) -> list[int]:
    """Of each content, how often it is there."""
    data = b"".join(file.read_bytes() for file in sorted((path / "spool" / "shared").glob("*.con")))
    return [data.count(text(number)) for number in range(2)]


def test_s4_a_content_that_cannot_be_written_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And is not taken for one that cannot be read, which would hold its journal file back until the next start."""
    disk = FaultyFiles()

    async def story() -> None:
        spool = await whole_spool(tmp_path, disk, **SMALL_FILES)
        await put_many(spool, "m00", DOMAINS, text(0))
        await put_many(spool, "m01", DOMAINS, text(1))
        cool(spool)
        before = await contents(spool)
        await spool._journal.run(spool._journal._close_file)
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
