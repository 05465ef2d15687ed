"""What a crash amid dropping a segment leaves is cleared away at the next start; what none leaves is set aside (S5)."""

import asyncio
from pathlib import Path

import pytest

from tests.support.spool import put, whole_spool
from tests.support.spool_tools import bench, both_generations, name_of

NAME = "000000000007.0000000a"


@pytest.mark.parametrize(
    ("there", "kept"), [([".sta"], []), ([".idx"], [".idx"]), ([".idx", ".sta"], [".idx", ".sta"])]
)
def test_a_side_file_without_a_segment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, there: list[str], kept: list[str]
) -> None:
    folder = tmp_path / "spool" / "mail" / "one.test"
    folder.mkdir(parents=True)
    for suffix in there:
        (folder / (NAME + suffix)).write_bytes(b"anything")

    async def story() -> None:
        spool = await whole_spool(tmp_path)
        await put(spool, "m1")
        assert spool.damaged == bool(kept)
        await spool.close()

    asyncio.run(story())
    assert sorted(path.suffix for path in folder.glob("damaged/*")) == kept
    assert [path.name for path in folder.glob("*")] == ["damaged"] * bool(kept)
    assert folder.exists() == bool(kept)
    assert (".seg is gone" in caplog.text) == (".idx" in there)


def test_the_index_of_a_segment_that_is_gone_is_set_aside_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            await both_generations(spool)
            assert spool.spool.damaged == 0
        segment = next(spool.directory.glob("mail/*/*.seg"))
        index = segment.with_suffix(".idx").read_bytes()
        segment.unlink()
        async with bench(tmp_path) as spool:
            assert {spool.spool.id_of(row) for row in spool.rows()} == {name_of(4), name_of(5)}
            assert spool.spool.damaged == 1
        assert f"{segment.name} is gone; its index lists 3 deliveries; set aside as" in caplog.text
        assert (segment.parent / "damaged" / segment.with_suffix(".idx").name).read_bytes() == index
        assert not list(spool.directory.glob("mail/*/*.idx"))
        async with bench(tmp_path) as spool:
            assert spool.spool.damaged == 0

    asyncio.run(story())


def test_a_missing_file_of_contents_is_told_once_with_the_deliveries_that_need_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            for number in range(3):
                await spool.put(name_of(number), "one.test", "two.test")
            await spool.age()
        [path] = spool.directory.glob("shared/*.con")
        path.unlink()
        async with bench(tmp_path) as spool:
            assert (len(spool.rows()), spool.spool.damaged) == (6, 1)
        assert caplog.text.count("is gone") == caplog.text.count("is gone: 6 deliveries") == 1

    asyncio.run(story())
