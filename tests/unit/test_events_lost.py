"""Files of the event journal that are damaged or missing: said wherever events are read (E1, S5)."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.cli.main import main
from engine.feed.source import Batch, Source
from engine.storage.events.event import NO_ID, parse_id
from engine.storage.events.journal import EventJournal, events_directory
from engine.storage.events.reader import EventReader
from engine.storage.events.retention import Gap, gap
from engine.storage.events.segments import CHUNK, compressed_name, log_name, open_segment, segment_numbers
from tests.support.feed import compact, event_lines

ALL: frozenset[str] = frozenset()
Id = tuple[int, int]


def fill(path: Path, first: int, last: int, *, size: int = 2000, keep_bytes: int = 1 << 40, reply: str = "ok") -> None:
    """Events of frames first..last-1, in files of some ten events."""
    events = EventJournal(path, size, 1e9, keep_bytes=keep_bytes)
    for seq in range(first, last):
        events.write(event_lines(seq, at=float(seq), reply=reply))
    events.close()


def ids_in(path: Path, number: int) -> list[Id]:
    segment = open_segment(path, number)
    assert segment is not None
    found = [parse_id(json.loads(line)["id"]) for line in segment.read(CHUNK, 0).splitlines()]
    segment.close()
    return found


def taken(source: Source, events: int = 7, types: frozenset[str] = ALL) -> tuple[list[Id], list[tuple[Gap, Id]]]:
    """Ids of all that comes, and each gap with the first event behind it."""
    found: list[Id] = []
    gaps = []
    while True:
        batch: Batch = source.take(types, events, 1 << 20)
        own = [parse_id(json.loads(line)["id"]) for line in batch.lines]
        if batch.gap is not None:
            gaps.append((batch.gap, own[0] if own else batch.after))
        found += own
        if not batch.full:
            return found, gaps


def behind(path: Path, after: Id = NO_ID, number: int = 0, line: int = 0) -> Source:
    source = Source(path)
    source.seek(after, number, line)
    return source


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-20] ^= 0xFF
    file.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "flipped": flip,
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]) and None,
    "head only": lambda file: file.write_bytes(file.read_bytes()[:70]) and None,
    "empty": lambda file: file.write_bytes(b"") and None,
    "no head": lambda file: file.write_bytes(b"x" * file.stat().st_size) and None,
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_compressed_file_that_cannot_be_read(tmp_path: Path, how: str) -> None:
    fill(tmp_path, 1, 60)
    lost = ids_in(tmp_path, 3)
    compact(tmp_path)
    DAMAGES[how](tmp_path / compressed_name(3))
    found, [(told, following)] = taken(behind(tmp_path))
    assert found == [(n, 0) for n in range(1, 60) if (n, 0) not in lost]
    assert (told.after, told.last, following) == ((lost[0][0] - 1, 0), (lost[-1][0] + 1, 0), (lost[-1][0] + 1, 0))
    counted = how not in ("empty", "no head")
    assert (told.events, told.exact, told.damaged) == (len(lost) if counted else 0, counted, True)
    reader = EventReader(tmp_path)
    assert len(list(reader.read())) == len(found)
    assert (reader.damaged, reader.exact, reader.missing) == (told.events, counted, 0)


def test_a_frame_of_several(tmp_path: Path) -> None:
    """In the middle of a large file: only what was in it."""
    fill(tmp_path, 1, 1500, size=4 * CHUNK, reply="x" * 3000)
    fill(tmp_path, 1500, 1600, size=1)
    compact(tmp_path)
    file = tmp_path / compressed_name(1)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    found, [(told, following)] = taken(behind(tmp_path), events=100)
    assert 1 < following[0] < 1500
    assert (told.events, told.exact) == (1599 - len(found), True)
    assert told.events == following[0] - told.after[0] - 1 > 100


def test_a_line_of_a_file_that_is_written(tmp_path: Path) -> None:
    """Before the cursor it is no business of ours; behind it, it is told once, whatever the batches."""
    fill(tmp_path, 1, 10, size=1 << 20)
    file = tmp_path / log_name(1)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4][:20] + b"\0" * (len(lines[4]) - 21) + b"\n"
    file.write_bytes(b"".join(lines))
    for events in (1, 2, 4, 5, 100):
        found, [(told, following)] = taken(behind(tmp_path), events)
        assert len(found) == 8
        assert told == Gap((4, 0), (6, 0), 1, False, damaged=True)
        assert following == (6, 0)
    assert len(taken(behind(tmp_path, (4, 0), 1, 4))[1]) == 1
    assert len(taken(behind(tmp_path, (4, 0), 1, 5))[1]) == 1, "read, and nothing behind it taken"
    assert taken(behind(tmp_path, (6, 0), 1, 6))[1] == []
    assert taken(behind(tmp_path, (8, 0)))[1] == []
    [(told, _)] = taken(behind(tmp_path), 1, frozenset({"none"}))[1]
    assert told.events == 1


def test_each_gap_is_told_though_nothing_between_is_wanted(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)
    for number in (2, 4):
        (tmp_path / log_name(number)).unlink()
    _, gaps = taken(behind(tmp_path), 7, frozenset({"none"}))
    assert [told.missing for told, _ in gaps] == [1, 1]


def test_what_was_damaged_and_is_written_again_is_not_lost(tmp_path: Path) -> None:
    """After a sync that failed (S4)."""
    fill(tmp_path, 1, 6, size=1 << 20)
    file = tmp_path / log_name(1)
    data = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(data[:3]) + b"\0" * 200 + b"\n")
    (tmp_path / log_name(2)).write_bytes(b"".join(data[1:]))
    found, gaps = taken(behind(tmp_path))
    assert (found, gaps) == ([(n, 0) for n in range(1, 6)], [])
    reader = EventReader(tmp_path)
    list(reader.read())
    assert (reader.damaged, reader.exact) == (0, True)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_somebody_removed(tmp_path: Path, compressed: bool) -> None:
    fill(tmp_path, 1, 60)
    lost = ids_in(tmp_path, 3)
    if compressed:
        compact(tmp_path)
    (tmp_path / (compressed_name(3) if compressed else log_name(3))).unlink()
    before, after = lost[0][0] - 1, lost[-1][0] + 1
    found, [(told, following)] = taken(behind(tmp_path))
    assert len(found) == 59 - len(lost)
    assert told == Gap((before, 0), (after, 0), 0, False, missing=1)
    assert following == (after, 0)
    assert taken(behind(tmp_path, (after, 0), 4, 1))[1] == []
    [(told, _)] = taken(behind(tmp_path, (lost[2][0], 0), 3, 3))[1]
    assert told == Gap((lost[2][0], 0), (after, 0), 0, False, missing=1), "it was in the middle of it"
    reader = EventReader(tmp_path)
    list(reader.read())
    assert (reader.damaged, reader.exact, reader.missing) == (0, True, 1)


def test_the_oldest_file_that_somebody_removed(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)
    (tmp_path / log_name(1)).unlink()
    first = ids_in(tmp_path, 2)[0]
    [(told, _)] = taken(behind(tmp_path, (3, 0)))[1]
    assert told == Gap((3, 0), first, 0, False, missing=1)
    assert taken(behind(tmp_path, first))[1] == []
    source = Source(tmp_path)
    source.seek_oldest()
    assert taken(source)[1] == []


def test_what_retention_deletes_is_never_missing(tmp_path: Path) -> None:
    """Nor what has no events: empty files, frames without events."""
    fill(tmp_path, 1, 30)
    (tmp_path / log_name(segment_numbers(tmp_path)[-1] + 1)).touch()
    fill(tmp_path, 50, 90)
    assert taken(behind(tmp_path))[1] == []
    source = behind(tmp_path, (3, 0), 1, 3)
    fill(tmp_path, 90, 91, keep_bytes=1500)
    found, [(told, _)] = taken(source)
    assert (told.missing, told.exact, told.why()) == (0, True, "deleted")
    assert told.events == 26 + 41 - len(found)
    reader = EventReader(tmp_path)
    list(reader.read())
    assert reader.missing == 0


def test_of_an_empty_file_that_retention_deletes_nothing_is_missed(tmp_path: Path) -> None:
    fill(tmp_path, 1, 5, size=1 << 20)
    (tmp_path / log_name(2)).touch()
    os.utime(tmp_path / log_name(2), (0, 0))
    fill(tmp_path, 5, 8, size=1)
    events = EventJournal(tmp_path, 1, 1e6)
    events.close()
    assert not (tmp_path / log_name(2)).exists()
    assert gap(tmp_path, (4, 0), 1, 4) is None
    assert taken(behind(tmp_path))[1] == []


def test_a_full_disk_makes_no_hole_among_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The empty file of a write that failed is removed, and its number used again, under the eyes of a reader."""
    events = EventJournal(tmp_path, 1, 1e9)
    events.write(event_lines(1))
    reader, write = EventReader(tmp_path), os.write

    def full(fd: int, data: bytes) -> int:
        seen.extend(event["id"] for event in reader.read())
        raise OSError(errno.ENOSPC, "No space left on device")

    seen: list[str] = []
    for seq in (2, 3):
        monkeypatch.setattr(os, "write", full)
        for _ in range(3):
            with pytest.raises(StorageError, match="No space left"):
                events.write(event_lines(seq))
        monkeypatch.setattr(os, "write", write)
        events.write(event_lines(seq))
        seen.extend(event["id"] for event in reader.read())
    events.close()
    assert segment_numbers(tmp_path) == [1, 2, 3]
    assert seen == ["1.0", "2.0", "3.0"]
    assert (reader.damaged, reader.missing) == (0, 0)


def test_commands_give_the_rest_and_say_what_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[node]\nname = "mx.test"\ndata_dir = "{tmp_path}"\n')
    path = events_directory(tmp_path)
    path.mkdir(parents=True)

    def run(*argv: str) -> tuple[int, int, str]:
        status = main(["events", *argv, "--config", str(config)])
        said = capsys.readouterr()
        return status, len(said.out.splitlines()), said.err

    fill(path, 1, 60)
    commands = (("list",), ("replay", "--from", "oldest"), ("tail", "-n", "100"))
    for command in commands:
        assert run(*command) == (0, 59, "")
    two, four = len(ids_in(path, 2)), len(ids_in(path, 4))
    compact(path)
    flip(path / compressed_name(2))
    for command in commands:
        assert run(*command) == (1, 59 - two, f"postrider: {two} events damaged, and passed over\n"), command
    (path / compressed_name(4)).unlink()
    missing = "postrider: 1 file of events missing\n"
    for command in commands:
        status, lines, said = run(*command)
        assert (status, lines) == (1, 59 - two - four)
        assert said.endswith(missing)
    assert run("list", "--from", "50.0") == (0, 9, "")
    (path / compressed_name(2)).write_bytes(b"")
    assert run("list")[2] == f"postrider: events damaged, and passed over\n{missing}"
