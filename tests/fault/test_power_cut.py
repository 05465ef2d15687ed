"""Power cuts at any moment, on a disk that drops, tears and reorders what was not synced. S1, S2, S3, E1.

One story of restarts, kills and cuts: a spool is worked (tests/support/spooler.py), images of the disk as a cut could
leave it are taken all the while, a spool is started on each and held against the ledger; then the story goes on from
one of them. POSTRIDER_SEED=N repeats it; the image that failed is laid down in the test's directory.
"""

import asyncio
import contextlib
import random
from pathlib import Path

from engine.base.errors import StorageError
from tests.support.clock import FakeClock
from tests.support.disk import Disk, MemoryFiles
from tests.support.seed import rounds, seeded
from tests.support.spooler import Found, Ledger, Player, end, examine, small_scale, tidy

#: Images of one chapter, and how likely a moment is one.
IMAGES, OFTEN = 60, 0.15


class Camera:
    """Takes images of a disk, by chance; ends the process when its time has come."""

    def __init__(self, chance: random.Random, files: MemoryFiles) -> None:
        self.chance = chance
        self.images: list[Disk] = []
        self._files = files
        self._death = files.disk.now + chance.randrange(600)
        self.died = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def moment(self, disk: Disk) -> None:
        if disk.now >= self._death:
            self._files.die()
            self._loop.call_soon_threadsafe(self.died.set)
        if len(self.images) < IMAGES and self.chance.random() < OFTEN:
            self.images.append(disk.cut(self.chance))


async def story(path: Path, chance: random.Random) -> int:
    """How many cuts were survived."""
    ledger, clock, cuts = Ledger(), FakeClock(), 0
    player = Player(MemoryFiles(Disk()), ledger, random.Random(chance.random()), clock)
    await player.begin()
    for chapter in rounds(8):
        camera = Camera(random.Random(chance.random()), player.files)
        player.files.moment = camera.moment
        work = asyncio.ensure_future(player.play(chance.randint(10, 60)))
        ending = chance.choice(("close", "kill", "cut", "cut"))
        files = player.files
        death = asyncio.ensure_future(camera.died.wait())
        await asyncio.wait([work, death], return_when=asyncio.FIRST_COMPLETED)
        if not files.dead:
            work.result()
        if ending == "close" and not files.dead:
            with contextlib.suppress(StorageError):
                await player.close()
            files.die()
        else:
            await end(player.spool, files)
        work.cancel()
        death.cancel()
        await asyncio.gather(work, death, return_exceptions=True)
        assert not files.broken, files.broken

        for number, image in enumerate(camera.images):
            await survive(image, ledger, path, f"{chapter}.{number}", again=chance.random() < 0.3)
        cuts += len(camera.images)
        last = files.disk.cut(chance) if ending == "cut" else files.disk
        last.now += 1
        player.take_over(await examine_or_keep(last, ledger, path, f"{chapter}.{ending}"))
    await end(player.spool, player.files)
    return cuts


async def survive(image: Disk, ledger: Ledger, path: Path, name: str, again: bool) -> None:
    moment = image.now
    found = await examine_or_keep(image, ledger, path, name)
    await tidy(found)
    await end(found.spool, found.files)
    if again:
        second = await examine_or_keep(image, ledger, path, f"{name}.again", moment)
        await end(second.spool, second.files)
        assert second.saved == found.saved, "a second recovery gives another state"


async def examine_or_keep(disk: Disk, ledger: Ledger, path: Path, name: str, moment: int | None = None) -> Found:
    """`examine`; a disk that fails is laid down."""
    before = disk.cut(random.Random(0)) if any(f.pending for f in disk.files.values()) else None
    try:
        return await examine(disk, ledger, disk.now if moment is None else moment)
    except BaseException:
        (before or disk).lay_down(path / name)
        print(f"the disk is laid down in {path / name}")
        raise


def test_no_cut_loses_doubles_or_revives_anything(tmp_path: Path) -> None:
    chance = seeded()
    with small_scale():
        cuts = asyncio.run(story(tmp_path, chance))
    print(f"{cuts} cuts")
    assert cuts > 100
