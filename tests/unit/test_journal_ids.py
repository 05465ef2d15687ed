"""The highest id of a message outlives every file of the journal, or a clock set back would give one out twice."""

import asyncio
from pathlib import Path

import pytest

from tests.support.spool import live, put, settle, whole_spool


@pytest.mark.parametrize("stays", [False, True], ids=["delivered", "moved"])
def test_a_start_after_which_nothing_is_accepted_does_not_forget_it(tmp_path: Path, stays: bool) -> None:
    async def story() -> None:
        spool = await whole_spool(tmp_path, journal_files=1)
        delivery = await put(spool, "m1")
        highest = delivery.message.id
        if not stays:
            await settle(spool, delivery)
        await spool.close()
        for _ in range(3):
            spool = await whole_spool(tmp_path, journal_files=1)
            await spool.work(at_once=True)
            assert spool.last_id == highest
            await spool.close()
        spool = await whole_spool(tmp_path)
        assert len(await live(spool)) == int(stays)
        await spool.close()

    asyncio.run(story())
