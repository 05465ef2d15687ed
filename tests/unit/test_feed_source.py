"""A consumer's events, batch by batch: wanted ones, each once, in order, and what it will never see is said (E1)."""

from functools import partial
from pathlib import Path

import pytest

from engine.feed.source import Batch, Source
from engine.storage.events import reader
from engine.storage.events.event import NO_ID, event_id, id_text
from engine.storage.events.journal import EventJournal
from engine.storage.events.segments import segment_numbers
from tests.support.feed import compact, event_lines

ALL: frozenset[str] = frozenset()


def write(path: Path, *lines: bytes, size: int = 2000, keep_bytes: int = 1 << 40) -> None:
    events = EventJournal(path, size, 1e9, keep_bytes=keep_bytes)
    for line in lines:
        events.write(line)
    events.close()


def fill(path: Path, first: int, last: int, **more: int) -> None:
    write(path, *(event_lines(seq, at=float(seq)) for seq in range(first, last)), **more)


def at(path: Path, after: tuple[int, int] = NO_ID, number: int = 0, line: int = 0) -> Source:
    source = Source(path)
    source.seek(after, number, line)
    return source


def ids(batch: Batch) -> list[str]:
    return [id_text(event_id(line)) for line in batch.lines]


def drain(source: Source, types: frozenset[str] = ALL, events: int = 7, size: int = 1 << 20) -> list[Batch]:
    batches = []
    while True:
        batch = source.take(types, events, size)
        if batch.lines:
            batches.append(batch)
        if not batch.full:
            return batches


def flat(batches: list[Batch]) -> list[str]:
    return [each for batch in batches for each in ids(batch)]


def upto(first: int, last: int) -> list[str]:
    return [f"{n}.0" for n in range(first, last)]


@pytest.mark.parametrize("compressed", [False, True])
def test_batches_of_so_many_events(tmp_path: Path, compressed: bool) -> None:
    fill(tmp_path, 1, 60)
    if compressed:
        compact(tmp_path)
    batches = drain(at(tmp_path))
    assert [len(batch.lines) for batch in batches] == [7] * 8 + [3]
    assert flat(batches) == upto(1, 60)
    for batch in batches:
        assert ids(at(tmp_path, batch.after, batch.number, batch.line).take(ALL, 1, 1 << 20)) == upto(
            batch.after[0] + 1, min(batch.after[0] + 2, 60)
        ), "each ends where the next one begins"


def test_batches_of_so_many_bytes(tmp_path: Path) -> None:
    fill(tmp_path, 1, 20)
    line = len(event_lines(10, at=10.0))
    batches = drain(at(tmp_path), events=100, size=3 * line)
    assert all(sum(map(len, batch.lines)) <= 3 * line for batch in batches)
    assert flat(batches) == upto(1, 20)
    assert [ids(batch) for batch in drain(at(tmp_path), size=1)] == [[each] for each in upto(1, 20)], "at least one"


def test_types_that_are_wanted(tmp_path: Path) -> None:
    write(tmp_path, *(event_lines(n, type="failed" if n % 10 == 0 else "delivered") for n in range(1, 60)))
    source = at(tmp_path)
    [batch] = drain(source, frozenset({"failed", "bounced"}))
    assert ids(batch) == ["10.0", "20.0", "30.0", "40.0", "50.0"]
    assert batch.after == (59, 0), "those it does not want are behind it, too"
    assert source.lag(batch.number, batch.line) == 0


def test_what_is_there_twice_or_damaged(tmp_path: Path) -> None:
    """Written again after a fault of the disk (S4): given once. What is no event is passed over (S5)."""
    lines = [event_lines(n) for n in range(1, 6)]
    bad = [b"\n", b"{}\n", b'{"id":"x"}\n', lines[2][:-9] + b"\n", b"\0" * 50 + b"\n"]
    write(tmp_path, *lines[:3], *bad, lines[3].replace(b"taken", b"\xff"), *lines[1:], lines[0], event_lines(9))
    assert flat(drain(at(tmp_path))) == [*upto(1, 6), "9.0"]


def test_what_comes_later_is_read_later(tmp_path: Path) -> None:
    source = at(tmp_path)
    assert not source.take(ALL, 5, 1 << 20).lines
    for first in (1, 21, 41):
        fill(tmp_path, first, first + 20)
        assert flat(drain(source)) == upto(first, first + 20)
        assert not source.take(ALL, 5, 1 << 20).lines
        compact(tmp_path)


def test_where_to_begin(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)
    source = at(tmp_path)
    source.seek_end()
    assert source.cursor()[0] == (59, 0)
    assert drain(source) == []
    source.seek_time(30.5)
    assert ids(source.take(ALL, 2, 1 << 20)) == ["31.0", "32.0"]
    source.seek_time(0.0)
    assert ids(source.take(ALL, 1, 1 << 20)) == ["1.0"]
    source.seek_time(1e9)
    assert drain(source) == []
    fill(tmp_path, 60, 62)
    assert flat(drain(source)) == upto(60, 62)


def test_the_end_of_an_empty_journal_is_its_beginning(tmp_path: Path) -> None:
    EventJournal(tmp_path, 1000, 1000.0).close()
    source = at(tmp_path)
    source.seek_end()
    fill(tmp_path, 1, 30)
    assert flat(drain(source)) == upto(1, 30)


def test_lag_is_counted_over_files_of_both_kinds(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)
    source = at(tmp_path)
    for _ in range(2):
        assert source.lag(0, 0) == 59
        batch = source.take(ALL, 25, 1 << 20)
        assert source.lag(batch.number, batch.line) == 34
        source.seek(NO_ID)
        compact(tmp_path)
    fill(tmp_path, 60, 100)
    assert source.lag(batch.number, batch.line) == 74


@pytest.mark.parametrize("compressed", [False, True])
def test_a_cursor_behind_retention(tmp_path: Path, compressed: bool) -> None:
    """How many are gone, and which; nothing if it had read them."""
    fill(tmp_path, 1, 60)
    batch = at(tmp_path).take(ALL, 13, 1 << 20)
    if compressed:
        compact(tmp_path)
    fill(tmp_path, 60, 61, keep_bytes=1)
    source = at(tmp_path, batch.after, batch.number, batch.line)
    first = source.take(ALL, 5, 1 << 20)
    begin = event_id(first.lines[0])[0]
    assert first.gap is not None
    assert (first.gap.after, first.gap.last) == ((13, 0), (begin - 1, 0))
    assert (first.gap.events, first.gap.exact) == (begin - 14, True)
    assert source.take(ALL, 5, 1 << 20).gap is None
    assert at(tmp_path, (begin - 1, 0), 3, 3).take(ALL, 5, 1 << 20).gap is None
    everything = at(tmp_path).take(ALL, 5, 1 << 20).gap
    assert everything is not None, "who was there when nothing was"
    assert everything.events == begin - 1
    for seek in (source.seek_oldest, partial(source.seek_time, 0.0)):
        seek()
        assert source.take(ALL, 5, 1 << 20).gap is None, "who begins with what there is misses nothing"


def test_a_file_that_goes_between_a_look_and_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, 1, 60)
    numbers = segment_numbers(tmp_path)
    batch = at(tmp_path).take(ALL, 2, 1 << 20)
    source = at(tmp_path, batch.after, batch.number, batch.line)
    fill(tmp_path, 60, 61, keep_bytes=1)
    monkeypatch.setattr(reader, "segment_numbers", lambda _: numbers)
    batch = source.take(ALL, 5, 1 << 20)
    assert batch.gap is not None
    assert (batch.gap.after, batch.gap.events) == ((2, 0), batch.gap.last[0] - 2)


def test_a_file_that_could_not_even_be_read_is_said(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)
    batch = at(tmp_path).take(ALL, 2, 1 << 20)
    file = tmp_path / "000000000002.log"
    file.write_bytes(b"\0" * file.stat().st_size)
    fill(tmp_path, 60, 61, keep_bytes=1)
    lost = at(tmp_path, batch.after, batch.number, batch.line).take(ALL, 2, 1 << 20).gap
    assert lost is not None
    assert not lost.exact or lost.events < lost.last[0] - 2


def test_files_that_go_while_it_reads(tmp_path: Path) -> None:
    fill(tmp_path, 1, 60)
    source = at(tmp_path)
    assert len(source.take(ALL, 13, 1 << 20).lines) == 13
    fill(tmp_path, 60, 61, keep_bytes=1)
    batch = source.take(frozenset({"none"}), 5, 1 << 20)
    assert batch.lines == ()
    assert batch.gap is not None, "said even if nothing is wanted of what is left"
    assert batch.gap.exact
    assert batch.gap.events == batch.gap.last[0] - 13
