"""A bit that flips in any file of the spool costs one record at most, and the log says so; an index costs nothing (S5).

POSTRIDER_SEED=N repeats the flips.
"""

import asyncio
import copy
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from engine.base.errors import StorageError
from engine.message.content import whole
from engine.storage.spool.frame import Frame, FrameType, scan
from engine.storage.spool.records import decode_envelope, is_message
from tests.support.clock import FakeClock
from tests.support.disk import Disk, File, MemoryFiles
from tests.support.seed import rounds, seeded
from tests.support.spooler import Key, Ledger, Player, Saved, end, make_spool, small_scale


async def worked(chance: random.Random) -> tuple[Disk, dict[Key, Saved], Ledger]:
    """A disk that a spool left in order, with files of every kind, and what lives on it."""
    while True:
        ledger = Ledger()
        player = Player(MemoryFiles(Disk()), ledger, chance, FakeClock())
        await player.begin()
        await player.play(60)
        player.cool(1000)
        await player.close()
        disk = player.files.disk
        if {Path(name).suffix for name in disk.files} >= {".log", ".seg", ".sta", ".idx", ".con", ".dat"}:
            return disk, {key: ledger.steps[key][-1].saved for key in player.alive()}, ledger


def frames(disk: Disk, name: str) -> list[Frame]:
    salt = int(Path(name).name.split(".")[1], 16)
    return [one for one in scan(bytes(disk.files[name].data), salt) if isinstance(one, Frame)]


def touched(disk: Disk, name: str, offset: int) -> set[Key]:
    """The deliveries that the record at this offset says something of; of a large content, those that need it."""
    if name.endswith(".dat"):
        return set(_needing(disk, Path(name).name))
    frame = next(one for one in frames(disk, name) if one.offset <= offset < one.end)
    match frame.type:
        case FrameType.MESSAGE:
            return {(decode_envelope(frame.header[1]).id, n) for n in range(len(frame.header[2]))}
        case FrameType.TAKEN_IN:
            return {(decode_envelope(frame.header[1]).id, n) for n, _ in frame.header[2]}
        case FrameType.OUTCOME:
            return {(frame.header[1], frame.header[2])}
        case FrameType.STORED:
            return {_key(frame)}
        case FrameType.STATE | FrameType.DEAD:
            offsets = frame.header[1] if frame.type == FrameType.DEAD else [frame.header[1]]
            stored = frames(disk, str(Path(name).with_suffix(".seg")))
            return {_key(one) for one in stored if one.offset in offsets}
        case FrameType.CONTENT:
            return set(_sharing(disk, name, frame.offset))
        case _:
            return set()


def _key(stored: Frame) -> Key:
    return decode_envelope(stored.header[5]).id, stored.header[2]


def _sharing(disk: Disk, name: str, offset: int) -> Iterator[Key]:
    number = int(Path(name).name[:12])
    for other in disk.files:
        if other.endswith(".seg"):
            for frame in frames(disk, other):
                if frame.type == FrameType.STORED and frame.header[4] and frame.header[4][:2] == [number, offset]:
                    yield _key(frame)


def _needing(disk: Disk, large: str) -> Iterator[Key]:
    for other in disk.files:
        if other.endswith((".log", ".seg")):
            for frame in frames(disk, other):
                if frame.type == FrameType.STORED and frame.header[4] and frame.header[4][0] == large:
                    yield _key(frame)
                elif is_message(frame) and frame.type != FrameType.STORED and (frame.header[3] or [""])[0] == large:
                    yield from touched(disk, other, frame.offset)


async def living(disk: Disk, ledger: Ledger) -> dict[Key, Saved]:
    """What a start finds; what cannot be read, or has another content, is found as final."""
    files = MemoryFiles(disk)
    spool, _ = make_spool(files)
    spool.start()
    await spool.load_backlog()
    found: dict[Key, Saved] = {}
    for rows in list(spool.table.select()):
        for one in await spool.reader.peek(rows.astype(np.uint32)):
            key = one.message.id, one.number
            assert key not in found, f"S3: {key} is there twice"
            same = False
            with suppress(StorageError):
                same = whole((await spool.reader.load(one))[1]) == ledger.sent[key[0]].content
            found[key] = (one.indexes, one.attempts, one.due_at, one.last) if same else None
    await end(spool, files)
    return found


@pytest.mark.parametrize("suffix", [".log", ".seg", ".sta", ".idx", ".con", ".dat"])
def test_a_flipped_bit_costs_one_record_at_most(suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    chance = seeded()

    async def story() -> None:
        for number in rounds(40):
            if number % 20 == 0:
                disk, expected, ledger = await worked(chance)
            flipped = copy.deepcopy(disk)
            name = chance.choice([name for name in sorted(disk.files) if name.endswith(suffix)])
            data = bytearray(disk.files[name].data)
            at = chance.randrange(len(data))
            data[at] ^= 1 << chance.randrange(8)
            flipped.files[name] = File(bytes(data))
            if suffix == ".seg" and chance.random() < 0.5:
                flipped.files.pop(str(Path(name).with_suffix(".idx")), None)  # a crash left it without
            caplog.clear()
            found = await living(flipped, ledger)
            may = touched(disk, name, at)
            for key in {*found, *expected} - may:
                assert found.get(key) == expected.get(key), f"{key}, after byte {at} of {name} was changed"
            if any(found.get(key, None) != expected.get(key) and key not in found for key in may):
                assert "are no whole record" in caplog.text
        assert expected

    with small_scale():
        asyncio.run(story())
