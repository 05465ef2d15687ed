"""Files of the event journal once they are closed: compressed, read as ever, deleted by age and size, missed loudly."""

import asyncio
import os
from pathlib import Path

import pytest

from engine.base.clock import SystemClock
from engine.base.settings import Events
from engine.base.units import Size
from engine.storage.events.compact import Compactor, due
from engine.storage.events.event import parse_id
from engine.storage.events.journal import EventJournal
from engine.storage.events.reader import EventReader, id_before, read_events
from engine.storage.events.retention import gap
from engine.storage.events.segments import CHUNK, open_segment, segment_numbers
from tests.support.clock import FakeClock
from tests.support.feed import compact, event_lines


def journal(path: Path, clock: FakeClock | None = None, size: int = 2000, **more: int) -> EventJournal:
    return EventJournal(path, size, 1000.0, clock, **more)


def fill(path: Path, first: int, last: int, size: int = 2000) -> None:
    """Events of frames first..last-1, in files of some ten events."""
    events = journal(path, size=size)
    for seq in range(first, last):
        events.write(event_lines(seq, at=float(seq)))
    events.close()


def ids(path: Path, after: str | None = None) -> list[str]:
    return [event["id"] for event in read_events(path, after)]


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def test_all_but_the_newest_are_compressed_and_read_as_before(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)
    whole, count = list(read_events(tmp_path)), len(segment_numbers(tmp_path))
    assert count > 3
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    compact(tmp_path)
    assert [name[-4:] for name in names(tmp_path)] == [".zst"] * (count - 1) + [".log"]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < size / 2
    assert list(read_events(tmp_path)) == whole
    for after in ("0.0", "1.0", "31.0", "58.0", "59.0"):
        assert ids(tmp_path, after) == [f"{n}.0" for n in range(parse_id(after)[0] + 1, 60)]
    for newest in (0, 1, 30, 59, 100):
        reader = EventReader(tmp_path)
        reader.seek_tail(newest)
        assert [event["id"] for event in reader.read()] == [f"{n}.0" for n in range(max(1, 60 - newest), 60)]
    assert id_before(tmp_path, 31.0) == (30, 0)
    assert (tmp_path / names(tmp_path)[0]).stat().st_mode & 0o777 == 0o600


def test_zstd_itself_can_read_them(tmp_path: Path) -> None:
    """With a file of several frames."""
    events = journal(tmp_path, size=4 * CHUNK)
    line = event_lines(1, reply="x" * 3000)
    raw = b"".join(line.replace(b'"1.0"', b'"%d.0"' % n) for n in range(1, 1000))
    events.write(raw)
    events.write(event_lines(5000) * 9000)
    events.close()
    compact(tmp_path)
    import zstandard

    with (tmp_path / "000000000001.zst").open("rb") as file:
        assert zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read() == raw
    segment = open_segment(tmp_path, 1)
    assert segment is not None
    assert segment.size() == len(raw) > 2 * CHUNK
    assert segment.summary().events == 999
    segment.close()


def test_a_reader_is_not_disturbed(tmp_path: Path) -> None:
    """Its file is compressed, or deleted, while it is in the middle of it."""
    fill(tmp_path, 1, 60)
    reader = EventReader(tmp_path)
    events = reader.read()
    first = [next(events)["id"] for _ in range(25)]
    compact(tmp_path)
    assert first + [event["id"] for event in events] == [f"{n}.0" for n in range(1, 60)]
    other = EventReader(tmp_path)
    events = other.read()
    first = [next(events)["id"] for _ in range(25)]
    events.close()
    fill(tmp_path, 60, 90)
    compact(tmp_path)
    assert first + [event["id"] for event in other.read()] == [f"{n}.0" for n in range(1, 90)]


def test_a_damaged_frame_costs_what_was_in_it(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)
    compact(tmp_path)
    file = tmp_path / names(tmp_path)[1]
    data = bytearray(file.read_bytes())
    data[-20] ^= 0xFF
    file.write_bytes(data)
    reader = EventReader(tmp_path)
    found = [parse_id(event["id"])[0] for event in reader.read()]
    assert found[0] == 1
    assert found[-1] == 59
    assert 0 < 59 - len(found) < 20
    assert (reader.damaged, reader.exact) == (59 - len(found), True)


@pytest.mark.parametrize("cut", [0, 5, 30, 60, -1])
def test_a_cut_file_is_no_end(tmp_path: Path, cut: int) -> None:
    fill(tmp_path, 1, 60)
    compact(tmp_path)
    file = tmp_path / names(tmp_path)[1]
    file.write_bytes(file.read_bytes()[:cut])
    found = ids(tmp_path)
    assert found[-1] == "59.0"
    assert len(found) < 59


def test_the_journal_goes_on_behind_a_compressed_file(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)
    compact(tmp_path)
    (tmp_path / names(tmp_path)[-1]).unlink()
    last = parse_id(ids(tmp_path)[-1])
    events = journal(tmp_path)
    assert events.last_id == last
    events.distrust(0)
    events.write(event_lines(70))
    events.close()
    assert ids(tmp_path)[-2:] == [f"{last[0]}.0", "70.0"]


def test_what_a_crash_may_leave(tmp_path: Path) -> None:
    """Both files, or half of the new one: each event is there once."""
    fill(tmp_path, 1, 60)
    old = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    compact(tmp_path)
    first = min(old)
    (tmp_path / first).write_bytes(old[first])
    (tmp_path / "000000000002.tmp").write_bytes(b"half")
    assert ids(tmp_path) == [f"{n}.0" for n in range(1, 60)]
    assert due(tmp_path) == [1]
    compact(tmp_path)
    assert due(tmp_path) == []
    assert {first, "000000000002.tmp"} & set(names(tmp_path)) == set()
    assert ids(tmp_path) == [f"{n}.0" for n in range(1, 60)]


def test_files_go_by_age_and_compressing_makes_none_younger(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)
    for number in segment_numbers(tmp_path):
        os.utime(tmp_path / f"{number:012}.log", (500.0 * number, 500.0 * number))
    compact(tmp_path)
    events = journal(tmp_path, FakeClock(2600.0))
    assert segment_numbers(tmp_path)[0] == 4
    events.close()


def test_what_is_left_of_a_worker_that_is_no_more_goes_by_age_and_size_too(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)

    async def run() -> None:
        compactor = Compactor([tmp_path], SystemClock(), left=[tmp_path])
        await compactor.work(Events(keep_bytes=Size(1)))
        compactor.close()

    asyncio.run(run())
    assert len(segment_numbers(tmp_path)) == 1


def test_files_go_by_size(tmp_path: Path) -> None:
    fill(tmp_path, 1, 600)
    compact(tmp_path)
    left = 5000
    events = journal(tmp_path, keep_bytes=left)
    events.close()
    assert sum(file.stat().st_size for file in tmp_path.glob("0*")) <= left
    assert ids(tmp_path)[-1] == "599.0"
    events = journal(tmp_path, keep_bytes=1)
    events.close()
    assert len(segment_numbers(tmp_path)) == 1, "the newest stays"


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_deleted_is_written_down(tmp_path: Path, compressed: bool) -> None:
    fill(tmp_path, 1, 60)
    if compressed:
        compact(tmp_path)
    assert gap(tmp_path, (1, 0), 1, 1) is None
    journal(tmp_path, keep_bytes=1).close()
    first = parse_id(ids(tmp_path)[0])[0]
    lost = gap(tmp_path, (3, 0), 1, 3)
    assert lost is not None
    assert (lost.after, lost.last, lost.events, lost.exact) == ((3, 0), (first - 1, 0), first - 4, True)
    unsure = gap(tmp_path, (3, 0))
    assert unsure is not None
    assert not unsure.exact
    assert 0 < unsure.events < first - 4
    assert gap(tmp_path, (first - 1, 0), 1, 3) is None
    assert gap(tmp_path, (first + 5, 0)) is None


def test_a_damaged_book_of_what_is_gone_keeps_nothing_up(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)
    (tmp_path / "gone.json").write_bytes(b"{")
    journal(tmp_path, keep_bytes=1).close()
    assert len(segment_numbers(tmp_path)) == 1
    assert gap(tmp_path, (1, 0), 1, 1) is not None
