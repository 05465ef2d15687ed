"""Hits on their way to disk: every one is there, or counted as lost; a disk that fails holds up no link for long."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.storage.events.event import Event
from engine.storage.events.journal import EventJournal
from engine.storage.events.reader import EventReader
from engine.storage.ledger.sent import Sent
from engine.tracking import hits as hitting
from engine.tracking.hit import Hit
from engine.tracking.hits import Hits
from engine.tracking.journal import JournalRecorder
from engine.tracking.judge import SETTLE_S, Judge
from tests.support.clock import ClockLoop, FakeClock

SENT = Sent(id="0Hs7kQpf3Za2Wq", at=1.0, recipients=("ada@one.test",), level="full")


class Disk:
    """A recorder that keeps what it is given, or fails as often as it is told."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.frames: list[list[Event]] = []

    async def record(self, events: Sequence[Event]) -> int:
        if self.fails:
            self.fails -= 1
            raise StorageError("no space left")
        self.frames.append(list(events))
        return len(self.frames)


def hit(clock: FakeClock, link: int = 3) -> Hit:
    return Hit(
        at=clock.time(), type="clicked", sent=SENT, index=0, link=link, target=link, targets=50, url="https://a.example/",
        client="192.0.2.1", agent="Firefox",
    )  # fmt: skip


def run(story: "object", clock: FakeClock) -> None:
    loop = ClockLoop(clock)
    try:
        loop.run_until_complete(story)  # type: ignore[arg-type]
    finally:
        loop.close()


def made(disk: Disk, clock: FakeClock) -> tuple[Hits, Metrics]:
    metrics = Metrics()
    return Hits(Judge(lambda *_: "", lambda *_: 1.0), disk, metrics, clock), metrics


def loop_of() -> ClockLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    return loop


def test_hits_of_a_moment_are_one_frame_and_verdicts_name_them() -> None:
    clock, disk = FakeClock(), Disk()

    async def story() -> None:
        hits, _ = made(disk, clock)
        hits.start()
        hits.add(hit(clock, 3))
        hits.add(hit(clock, 4))
        await loop_of().jump(0)
        assert [[event.link for event in frame] for frame in disk.frames] == [[3, 4]]
        await loop_of().jump(SETTLE_S)
        await loop_of().jump(1)
        assert [(event.hit, event.verdict) for event in disk.frames[1]] == [("1.0", "human"), ("1.1", "human")]
        await hits.stop()

    run(story(), clock)


def test_what_a_disk_did_not_take_is_written_when_it_does() -> None:
    clock, disk = FakeClock(), Disk(fails=3)

    async def story() -> None:
        hits, metrics = made(disk, clock)
        hits.start()
        for link in range(3, 8):
            hits.add(hit(clock, link))
            await loop_of().jump(0.1)
        assert (disk.frames, hits.waiting) == ([], 5)
        for _ in range(5):
            await loop_of().jump(1.0)
        assert [event.link for frame in disk.frames for event in frame if event.type == "clicked"] == [3, 4, 5, 6, 7]
        assert hits.waiting == 0
        assert metrics.registry.get_sample_value("postrider_tracking_hits_lost_total") == 0
        await hits.stop()

    run(story(), clock)


def test_a_full_buffer_has_requests_wait_for_a_second_and_counts_what_it_loses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hitting, "MAX_WAITING", 10)
    clock, disk = FakeClock(), Disk(fails=1000)

    async def story() -> None:
        hits, metrics = made(disk, clock)
        hits.start()
        for link in range(13):
            hits.add(hit(clock, 3 + link))
        assert metrics.registry.get_sample_value("postrider_tracking_hits_lost_total") == 3
        waiting = asyncio.ensure_future(hits.room())
        await loop_of().jump(0)
        await loop_of().jump(0.5)
        assert not waiting.done()
        await loop_of().jump(0.6)
        assert waiting.done(), "a link works though the disk does not"
        disk.fails = 0
        for _ in range(3):
            await loop_of().jump(1.0)
        await asyncio.wait_for(hits.room(), 0.1)
        assert sum(event.type == "clicked" for frame in disk.frames for event in frame) == 10
        await hits.stop()

    run(story(), clock)


def test_a_stop_writes_what_there_is_and_settles_it() -> None:
    clock, disk = FakeClock(), Disk()

    async def story() -> None:
        hits, _ = made(disk, clock)
        hits.start()
        await loop_of().jump(0)
        hits.add(hit(clock))
        await hits.stop()
        assert [event.type for frame in disk.frames for event in frame] == ["clicked", "verdict"]

    run(story(), clock)


def test_a_stop_on_a_dead_disk_ends_and_says_what_is_lost() -> None:
    clock, disk = FakeClock(), Disk(fails=1000)

    async def story() -> None:
        hits, metrics = made(disk, clock)
        hits.start()
        hits.add(hit(clock))
        stopping = asyncio.ensure_future(hits.stop())
        await loop_of().jump(0)
        await loop_of().jump(2.0)
        await stopping
        assert metrics.registry.get_sample_value("postrider_tracking_hits_lost_total") == 1

    run(story(), clock)


def test_ids_of_its_journal_rise_over_restarts(tmp_path: Path) -> None:
    async def write(count: int) -> list[int]:
        recorder = JournalRecorder(EventJournal(tmp_path / "events", 1 << 20, 3600.0))
        clock = FakeClock()
        frames = [await recorder.record([hit(clock).event()]) for _ in range(count)]
        recorder.close()
        return frames

    first, second = asyncio.run(write(3)), asyncio.run(write(2))
    assert max(first) < min(second)
    read = [event["id"] for event in EventReader(tmp_path / "events").read()]
    assert read == [f"{frame}.0" for frame in (*first, *second)]
