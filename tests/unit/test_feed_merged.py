"""All journals read as one from a cursor on: in order, each event once, and what is gone is said."""

import json
from pathlib import Path

import pytest

from engine.feed import merged
from engine.feed.merged import MergedWalk, Piece, Places
from engine.feed.walk import Position, Walk
from engine.storage.events.event import id_text
from engine.storage.events.journal import EventJournal, events_directory
from engine.storage.events.place import parse_ids
from engine.storage.events.reader import Place
from engine.storage.events.segments import log_name, segment_numbers
from tests.support.feed import compact, event_lines


class Node:
    """Journals of a node. Event n of a worker has the time n."""

    def __init__(self, path: Path) -> None:
        self.data = path
        self.places = Places()

    def write(
        self, worker: int, *numbers: int, size: int = 2000, keep_bytes: int = 1 << 40, kind: str = "sent"
    ) -> None:
        events = EventJournal(events_directory(self.data, worker), size, 1e9, keep_bytes=keep_bytes)
        for number in numbers:
            events.write(event_lines(number, at=float(number), type=kind))
        events.close()

    def walk(self, cursor: str = "") -> MergedWalk:
        walk = MergedWalk(self.data, self.places)
        walk.seek(parse_ids(cursor) if cursor else {})
        return walk

    def read(self, cursor: str = "", limit: int = 10_000, kind: str = "") -> Piece:
        """A piece, as a request of its own."""
        return take(self.walk(cursor), limit, kind)

    def all(self, cursor: str = "", limit: int = 7, kind: str = "") -> tuple[list[str], str]:
        """Ids, and the last cursor, a request for each piece."""
        found = []
        while True:
            piece = self.read(cursor, limit, kind)
            found += ids(piece)
            cursor = piece.cursor
            if not piece.full:
                return found, cursor


def take(walk: MergedWalk, limit: int = 10_000, kind: str = "", size: int = 1 << 20) -> Piece:
    return walk.take(lambda head: not kind or head.type == kind, limit, size)


def ids(piece: Piece) -> list[str]:
    return [json.loads(line)["id"] for line in piece.lines]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_times_decide_between_journals(node: Node, limit: int) -> None:
    node.write(0, *range(2, 200, 2))
    node.write(1, *range(1, 200, 2))
    node.write(1000, 50)
    compact(events_directory(node.data, 0))
    found, cursor = node.all(limit=limit)
    assert found == [f"{'1:' * (n % 2)}{n}.0" for n in range(1, 50)] + ["50.0", "1000:50.0"] + [
        f"{'1:' * (n % 2)}{n}.0" for n in range(51, 200)
    ]
    assert cursor == "198.0,1:199.0,1000:50.0"
    assert node.all(cursor) == ([], cursor)


def test_a_journal_keeps_its_order_whatever_its_times_say(node: Node) -> None:
    node.write(0, 1, 2)
    journal = EventJournal(events_directory(node.data, 1), 2000, 1e9)
    for number, at in ((1, 5.0), (2, 0.5), (3, 9.0)):
        journal.write(event_lines(number, at=at))
    journal.close()
    assert node.all(limit=2)[0] == ["1.0", "2.0", "1:1.0", "1:2.0", "1:3.0"]


def test_any_cursor_goes_on_behind_it_with_places_and_without(node: Node) -> None:
    node.write(0, *range(1, 60))
    node.write(1, *range(1, 60))
    whole = node.all()[0]
    for places in (node.places, Places()):
        node.places = places
        for first, second in ((0, 0), (1, 30), (30, 1), (59, 59), (58, 59), (17, 99)):
            found, _ = node.all(f"{first}.0,1:{second}.0")
            behind = {"": first, "1": second}
            wanted = [each for each in whole if int(each.rpartition(":")[2][:-2]) > behind[each.rpartition(":")[0]]]
            assert found == wanted


def test_a_journal_that_is_not_named_is_read_from_its_beginning(node: Node) -> None:
    node.write(0, 1, 2)
    cursor = node.all()[1]
    node.write(3, 1)
    assert node.all(cursor) == (["3:1.0"], "2.0,3:1.0")
    assert node.all("7:1.0,2.0") == (["3:1.0"], "2.0,3:1.0"), "one that is not there is forgotten"
    walk = node.walk(cursor)
    assert ids(take(walk)) == ["3:1.0"]
    node.write(4, 1)
    assert ids(take(walk)) == ["4:1.0"], "also one that begins while somebody waits"


def test_the_end_and_what_comes_then(node: Node) -> None:
    for _ in range(2):  # without places, and with
        node.write(0, *range(len(node.all()[0]) + 1, len(node.all()[0]) + 20))
        walk = MergedWalk(node.data, node.places)
        walk.seek_end()
        piece = take(walk)
        assert (piece.lines, piece.full) == ([], False)
        last = len(node.all()[0])
        assert piece.cursor == f"{last}.0"
        node.write(0, last + 1)
        assert ids(take(walk)) == [f"{last + 1}.0"]
        assert node.all(piece.cursor)[0] == [f"{last + 1}.0"]
    empty = MergedWalk(node.data / "nothing", Places())
    empty.seek_end()
    assert take(empty) == Piece(lines=[], bytes=0, gaps=[], cursor="", positions={}, full=False)


def test_the_cursor_moves_over_what_is_not_wanted(node: Node) -> None:
    node.write(0, *range(1, 30))
    node.write(0, 30, kind="failed")
    node.write(0, *range(31, 40))
    assert node.all(kind="failed") == (["30.0"], "39.0")
    piece = node.read(limit=1, kind="failed")
    assert (ids(piece), piece.cursor, piece.full) == (["30.0"], "39.0", False)


def test_work_is_bounded_and_goes_on_where_it_was(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is wanted is passed over when a look ends before it has found anything."""
    monkeypatch.setattr(merged, "LOOK_BYTES", 1000)
    node.write(0, *range(1, 60))
    node.write(1, *range(1, 60))
    node.write(1, 60, kind="failed")
    node.write(0, 61, kind="failed")
    piece = node.read(kind="failed")
    assert (piece.lines, piece.full) == ([], True)
    assert piece.cursor != "0.0,1:0.0"
    found, cursor = node.all(kind="failed")
    assert (found, cursor) == (["1:60.0", "61.0"], "61.0,1:60.0")
    walk, got = node.walk(), []
    for _ in range(100):
        got += ids(take(walk, limit=3, kind="failed"))
    assert got == ["1:60.0", "61.0"], "and so does one request"
    node.places = Places()
    assert node.all("40.0,1:59.0", kind="failed")[0] == ["1:60.0", "61.0"], "what is read again is work, too"


def test_pieces_of_so_many_bytes(node: Node) -> None:
    node.write(0, *range(10, 30))
    line = len(event_lines(10, at=10.0, type="sent"))
    walk, found = node.walk(), []
    while (piece := take(walk, size=3 * line)).lines:
        assert piece.bytes == sum(map(len, piece.lines)) <= 3 * line
        found += ids(piece)
    assert found == [f"{n}.0" for n in range(10, 30)]
    assert ids(take(node.walk(), size=1)) == ["10.0"], "at least one"


def test_what_is_gone_is_said_once_and_only_to_who_had_a_cursor(node: Node) -> None:
    node.write(0, *range(1, 60))
    directory = events_directory(node.data, 0)
    cursor = node.read(limit=5).cursor
    assert cursor == "5.0"
    node.write(0, 60, keep_bytes=4000)
    oldest = ids(node.read(limit=1))[0]
    assert oldest != "1.0"
    for places in (node.places, Places()):
        node.places = places
        piece = node.read(cursor, limit=1)
        assert ids(piece) == [oldest]
        [(worker, gap)] = piece.gaps
        assert (worker, gap.after, id_text(gap.last)) == (0, (5, 0), f"{int(oldest[:-2]) - 1}.0")
        assert not gap.exact and 0 < gap.events <= gap.last[0] - 5
        assert node.read(piece.cursor).gaps == []
        assert node.read().gaps == []
        piece = node.read(cursor, kind="failed")
        assert len(piece.gaps) == 1, "also to who does not want what follows"
        assert node.read(piece.cursor, kind="failed").gaps == []
    assert segment_numbers(directory)[0] > 1


def test_a_gap_is_said_with_the_event_behind_it(node: Node) -> None:
    """Not with an earlier one of another journal: the cursor would not be behind it, and it would be said again."""
    node.write(0, *range(1, 60))
    node.write(1, 1, 2)
    node.write(0, 60, keep_bytes=4000)
    piece = node.read("3.0", limit=2)
    assert (ids(piece), piece.gaps) == (["1:1.0", "1:2.0"], [])
    assert piece.cursor == "3.0,1:2.0"
    assert len(node.read(piece.cursor, limit=1).gaps) == 1


def test_a_file_that_was_cut_is_read_again(node: Node) -> None:
    """After a crash a journal may be shorter than it was read, and be written again, not byte by byte the same."""
    node.write(0, 1, 2, 3)
    cursor = node.all()[1]
    [path] = events_directory(node.data, 0).glob("*.log")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{" + lines[1] + lines[2] + event_lines(4))
    assert node.all(cursor)[0] == ["4.0"]
    path.write_bytes(lines[0])
    assert node.all(cursor)[0] == []
    path.write_bytes(b"".join(lines) + event_lines(4) + event_lines(5))
    assert node.all("4.0")[0] == ["5.0"]


def test_places_are_few_and_in_order() -> None:
    places = Places()
    for number in range(5000, 0, -1):
        places.note(0, Position((number, 0), Place(1, number, number)))
    places.note(0, Position((1, 0), Place()))
    assert places.newest(0) == Position((5000, 0), Place(1, 5000, 5000))
    assert places.newest(1) is None
    assert places.below(0, (0, 0)) is None
    below, above = places.below(0, (2500, 5)), places.above(0, (2500, 5))
    assert below is not None and above is not None
    assert below.after <= (2500, 5) < above.after
    assert len(places._known[0]) <= 1024
    assert places.above(0, (5000, 0)) is None


def test_a_place_far_below_is_not_where_reading_begins(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a cursor in the newest of many files would have all of them read."""
    node.write(0, *range(1, 200))
    node.read(limit=1)
    began = []
    heads = Walk.heads

    def noted(walk: Walk) -> object:
        began.append(walk.position().place.number)
        return heads(walk)

    monkeypatch.setattr(Walk, "heads", noted)
    assert ids(node.read("190.0", limit=1)) == ["191.0"]
    assert began[0] > 10


def test_what_is_damaged_is_said_with_the_next_event_however_often_it_was_asked_before(node: Node) -> None:
    node.write(0, 1, 2)
    directory = events_directory(node.data, 0)
    with (directory / log_name(segment_numbers(directory)[-1])).open("ab") as file:
        file.write(b"no event\n")
    _, cursor = node.all()
    for _ in range(2):
        piece = node.read(cursor)
        assert (piece.lines, piece.gaps, piece.cursor) == ([], [], cursor)
    node.write(0, 4)
    piece = node.read(cursor)
    assert ids(piece) == ["4.0"]
    [(worker, gap)] = piece.gaps
    assert (worker, gap.after, gap.last, gap.damaged) == (0, (2, 0), (4, 0), True)
