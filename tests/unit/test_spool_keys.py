"""What lives in a spool, by message id and delivery number."""

import asyncio
from pathlib import Path

from engine.base.units import Size
from engine.message.outcome import Status
from engine.storage.spool.keys import LiveKeys
from engine.storage.spool.names import Names
from engine.storage.spool.snapshot import SnapshotFiles
from engine.storage.spool.view import SpoolView
from tests.support.spool_tools import ALL_FIVE, bench, both_generations, name_of


def test_the_keys_of_a_spool_are_those_of_what_lives_in_either_generation(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "one") as one, bench(tmp_path / "other", segment_bytes=Size(1)) as other:
            await both_generations(one)
            for node in ("AAAA", "BBBB", "node"):
                await other.put(name_of(4, node), "one.test", "two.test")
                await other.age()
            await other.settle(name_of(4), 1, Status.DELIVERED, Status.DELIVERED)
        found = []
        for path in ("one", "other"):
            with SnapshotFiles(tmp_path / path / "spool" / "0") as files:
                found.append(LiveKeys.of(SpoolView(tmp_path / path / "spool" / "0", files)))
        here, there = found
        never = {(name_of(3), 0), (name_of(4), 1), (name_of(4, "CCCC"), 0), (name_of(9), 0)}
        assert here.among({*ALL_FIVE, *never}) == set(ALL_FIVE)
        assert there.among({(name_of(4), 0), (name_of(4, "BBBB"), 1), *never}) == {
            (name_of(4), 0),
            (name_of(4, "BBBB"), 1),
        }
        assert here.common(there) == there.common(here) == [(name_of(4), 0)]
        nothing = LiveKeys([], Names())
        assert (nothing.among(set(ALL_FIVE)), nothing.common(here), here.common(nothing)) == (set(), [], [])

    asyncio.run(story())
