"""What a crash in the middle of dropping a segment leaves is cleared away at the next start, and nothing else is."""

import asyncio
from pathlib import Path

import pytest

from tests.support.spool import put, whole_spool

NAME = "000000000007.0000000a"


@pytest.mark.parametrize(
    ("there", "stays"), [([".sta"], []), ([".idx"], [".idx"]), ([".idx", ".sta"], [".idx", ".sta"])]
)
def test_a_side_file_without_a_segment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, there: list[str], stays: list[str]
) -> None:
    folder = tmp_path / "spool" / "mail" / "one.test"
    folder.mkdir(parents=True)
    for suffix in there:
        (folder / (NAME + suffix)).write_bytes(b"anything")

    async def story() -> None:
        spool = await whole_spool(tmp_path)
        await put(spool, "m1")
        await spool.close()

    asyncio.run(story())
    left = sorted(path.suffix for path in folder.iterdir()) if folder.exists() else []
    assert left == stays
    assert folder.exists() == bool(stays)
    assert ("its segment is gone" in caplog.text) == (".idx" in there)
