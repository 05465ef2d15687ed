"""A disk that refuses one call, of every kind, at every place: nothing acknowledged is lost, and it is got over.

S1, S2, S3, S4, E1. POSTRIDER_SEED=N repeats a run; in a soak every call of each operation fails once, in every way.
"""

import asyncio
import contextlib
import random

import pytest

from engine.base.errors import StorageError
from tests.support.clock import FakeClock
from tests.support.disk import Disk, Fault, MemoryFiles
from tests.support.seed import rounds, seeded, soaking
from tests.support.spooler import Found, Ledger, Player, end, examine, make_spool, small_scale

#: What each operation may do of its work before it fails.
WAYS = {
    "create": ("none", "all"), "open": ("none",), "write": ("none", "half", "all"), "sync": ("none", "all"),
    "truncate": ("none",), "unlink": ("none", "all"), "read": ("none",), "size": ("none",), "names": ("none",),
    "make_directory": ("none", "all"), "remove_directory": ("none",), "event_write": ("none", "half"),
    "event_sync": ("none", "all"),
}  # fmt: skip


async def begin(player: Player) -> None:
    """Start, as often as the disk makes it fail; a daemon that cannot start is started again."""
    while True:
        for file in player.files.disk.files.values():
            file.failed = False  # of another process: this one cannot know
        player.spool, player.events = make_spool(player.files)
        player.spool.accepted = player._accepted
        try:
            player.spool.start()
            await player.spool.load_backlog()
            return
        except StorageError:
            await close(player)


async def close(player: Player) -> None:
    with contextlib.suppress(StorageError):
        await player.spool.close()


async def get_well(player: Player) -> None:
    """Until intake goes on. An outcome waits for the next good batch, and intake goes on with it."""
    await player.settle(1, 0.0)
    for _ in range(1000):
        if player.spool.refusal() is None:
            return
        await player.spool.sync_events()


async def restart(player: Player) -> None:
    """Another process on what is there; faults go on counting."""
    await close(player)
    await begin(player)
    player.adopt()


async def trouble(seed: float, fault: Fault | None) -> MemoryFiles:
    """The same story each time, with one fault; then the disk is well, the power is cut, and all is there.

    The calls of the files that it gives are those that a fault could meet.
    """
    chance, ledger = random.Random(seed), Ledger()
    player = Player(MemoryFiles(Disk()), ledger, chance, FakeClock())
    files = player.files
    files.faults = [fault] if fault else []
    await begin(player)
    for _ in range(3):
        for _ in range(4):
            await player.accept(4)
            await player.settle(8, 0.3)
            player.cool(10)
            await player.work()
            await player.read(12)
            await player.settle(8, 0.7)
            await player.sync_events()
        player.cool(100)
        await player.work()
        await restart(player)
    files.faults, calls = [], files.calls.copy()
    # Well again: a batch goes through, and whatever was left undone is done.
    await get_well(player)
    await player.accept(2)
    assert player.spool.refusal() is None
    player.troubles.clear()
    player.cool(100)
    await player.work()
    await player.read(1000)
    assert not player.troubles, player.troubles
    assert set(player.hands) == player.alive(), "what is in memory is what there is"
    await player.sync_events()
    assert not files.broken, files.broken
    await end(player.spool, files)
    after = files.disk.cut(chance)
    after.now += 1
    found = await examine(after, ledger, after.now)
    await end(found.spool, found.files)
    files.calls = calls
    return files


def places(calls: int, chance: random.Random) -> list[int]:
    """Which calls of an operation fail, one in each run."""
    every = range(1, calls + 1)
    return list(every) if soaking() else sorted(chance.sample(every, min(4, calls)))


@pytest.mark.parametrize("operation", WAYS)
def test_one_failed_call_loses_nothing_and_is_got_over(operation: str) -> None:
    chance = seeded()
    seed = chance.random()
    with small_scale():
        calls = asyncio.run(trouble(seed, None)).calls[operation]
        hit = 0
        for at in places(calls, chance):
            for effect in WAYS[operation]:
                for count in (1, 5):
                    print(f"{operation} {at} of {calls}, {effect} of it done, {count} times")
                    hit += asyncio.run(trouble(seed, Fault(operation, at, effect=effect, count=count))).hit
    assert hit or not calls


def test_intake_is_refused_while_the_disk_fails_and_goes_on_by_itself() -> None:
    async def story() -> None:
        player = Player(MemoryFiles(Disk()), Ledger(), seeded(), FakeClock())
        await begin(player)
        await player.accept(1)
        player.files.faults = [Fault("sync", player.files.calls["sync"] + 1, "No space left on device", count=1 << 30)]
        await player.accept(1, sizes=(100,))  # a large one would fail in a file of its own, and alone
        assert player.spool.refusal() == "452 4.3.0 Storage failure, try again later"
        assert "No space left" in (player.spool.failure or "")
        assert len(player.hands) > 0 and not player.alive() - set(player.hands)
        player.files.faults = []
        await get_well(player)
        await player.accept(1)
        assert player.alive() == set(player.hands)
        await close(player)

    with small_scale():
        asyncio.run(story())


def test_a_disk_that_turns_read_only_loses_nothing_and_a_start_on_it_says_so() -> None:
    async def story() -> None:
        ledger, files = Ledger(), MemoryFiles(Disk())
        player = Player(files, ledger, seeded(), FakeClock())
        await begin(player)
        await player.accept(8)
        player.cool(4)
        await player.settle(2, 0.0)
        files.read_only = True
        await player.accept(3)
        assert player.spool.refusal()
        await player.work()
        await player.read(4)
        assert len(player.hands) == len(player.alive()), "what is there can be read"
        await end(player.spool, files)

        dead = MemoryFiles(files.disk)
        dead.read_only = True
        spool, _ = make_spool(dead)
        with pytest.raises(StorageError, match="Read-only file system"):
            spool.start()
        found: Found = await examine(files.disk, ledger, files.disk.now + 1)
        await end(found.spool, found.files)

    with small_scale():
        asyncio.run(story())


def test_a_clock_that_jumps_makes_no_id_twice_and_loses_no_due_time() -> None:
    """Back and forth over hours, with restarts: ids sort as they were given, and every due time comes."""

    async def story() -> None:
        chance, ledger, clock = seeded(), Ledger(), FakeClock()
        player = Player(MemoryFiles(Disk()), ledger, chance, clock)
        await begin(player)
        for _ in rounds(20):
            clock.advance(chance.choice((-7200.0, -60.0, -0.001, 0.0, 0.001, 3600.0, 86400.0)))
            await player.accept(5)
            await player.settle(5, 0.2)
            player.cool(100)
            await player.work()
            if chance.random() < 0.3:
                await restart(player)
            for maker in {name[8:12] for name in ledger.sent}:
                own = [name for name in ledger.sent if name[8:12] == maker]
                assert own == sorted(own), "ids are given out in their order"
        latest = max(step.saved[2] for key in player.alive() for step in ledger.steps[key] if step.saved)
        clock.now = latest + 1
        due = set()
        while len(rows := player.spool.table.take_due(clock.time())):
            due |= set(rows.tolist())
        assert due == set(player.rows.values())
        await close(player)

    with small_scale():
        asyncio.run(story())
