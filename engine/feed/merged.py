"""The events of all journals of a node from a cursor on, piece by piece, in the order of time. Blocks.

A cursor is that of `storage.events.merged`: within a journal events keep their order whatever their times say (E1),
between journals the time decides. Nothing is kept of a reader between two requests but what he keeps himself, his
cursor; where in the files that is, is remembered for all of them (`Places`), or each request would read a file from its
beginning.

Memory: the piece, an event of each journal, and a piece of one file. All of it is used by one thread.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.feed.post import numbered, place_text
from engine.feed.walk import Head, Position, Walk
from engine.storage.events.event import Id
from engine.storage.events.journal import events_directory
from engine.storage.events.merged import journals
from engine.storage.events.retention import Gap
from engine.storage.events.segments import segment_numbers

#: Bytes that are looked through for a piece, before others have their turn: some ten milliseconds.
LOOK_BYTES = 1 << 20
#: Positions that are remembered of a journal; with a GiB of events one for each MiB.
_MOST_PLACES = 1024

Wanted = Callable[[Head], bool]
#: By worker.
Positions = Mapping[int, Position]


class Places:
    """Where events are, as far as somebody has read: by worker, in order."""

    def __init__(self) -> None:
        self._known: dict[int, list[Position]] = {}

    def note(self, worker: int, position: Position) -> None:
        if not position.place.number:
            return
        known = self._known.setdefault(worker, [])
        at = bisect_left(known, position.after, key=_after)
        if at < len(known) and known[at].after == position.after:
            known[at] = max(known[at], position)
            return
        known.insert(at, position)
        if len(known) > _MOST_PLACES:
            del known[:-1:2]  # the newest is where most readers are

    def below(self, worker: int, after: Id) -> Position | None:
        """The last one that is not behind this event."""
        known = self._known.get(worker, [])
        at = bisect_right(known, after, key=_after)
        return known[at - 1] if at else None

    def above(self, worker: int, after: Id) -> Position | None:
        """The first one that is behind it."""
        known = self._known.get(worker, [])
        at = bisect_right(known, after, key=_after)
        return known[at] if at < len(known) else None

    def newest(self, worker: int) -> Position | None:
        known = self._known.get(worker)
        return known[-1] if known else None

    def forget(self, worker: int, position: Position) -> None:
        """It is wrong."""
        self._known[worker] = [each for each in self._known.get(worker, []) if each != position]


def _after(position: Position) -> Id:
    return position.after


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """lines: of the journals, `numbered`, of so many bytes. gaps: what readers will never see, by worker.

    cursor: behind all that, and where that is. full: there may be more at once.
    """

    lines: list[bytes]
    bytes: int
    gaps: list[tuple[int, Gap]]
    cursor: str
    positions: Positions
    full: bool


class _Lane:
    """One journal. head, line: its next wanted event, if it is known; behind: the last that was given or passed over.

    ended: there is none now.
    """

    __slots__ = ("_lines", "behind", "ended", "head", "line", "walk", "worker")

    def __init__(self, worker: int, walk: Walk) -> None:
        self.worker, self.walk = worker, walk
        self.head: Head | None = None
        self.line = b""
        self.behind = walk.position()
        self.ended = False
        self._lines: Iterator[tuple[Head | None, bytes]] | None = None

    def look(self, wanted: Wanted, most_bytes: int, gaps: list[tuple[int, Gap]]) -> int:
        """Look for the next one; the bytes that were looked through. A gap before what is passed over is told."""
        walk, looked = self.walk, 0
        if self._lines is None:
            self._lines = walk.heads()
        while looked < most_bytes:
            before = walk.position()
            found = next(self._lines, None)
            if found is None:
                self.behind, self.ended, self._lines = walk.position(), True, None
                return looked
            head, line = found
            looked += len(line)
            if head is not None and wanted(head):
                self.head, self.line, self.behind = head, line, before
                return looked
            if head is not None:
                self._tell(gaps)
        self.behind = walk.position()
        return looked

    def give(self, gaps: list[tuple[int, Gap]]) -> bytes:
        self._tell(gaps)
        self.head, self.behind = None, self.walk.position()
        return numbered(self.line, self.worker)

    def skip(self, position: Position) -> None:
        if self.head is None and position.after > self.behind.after and self.walk.resume(position):
            self.behind, self._lines = position, None

    def rest(self) -> None:
        """Hold no file and no piece of it."""
        self._lines = None
        self.walk.close()

    def _tell(self, gaps: list[tuple[int, Gap]]) -> None:
        if self.walk.gap is not None:
            gaps.append((self.worker, self.walk.gap))
            self.walk.gap = None


class MergedWalk:
    """See above. Raises StorageError."""

    def __init__(self, data_dir: Path, places: Places) -> None:
        self._data_dir, self._places = data_dir, places
        self._lanes: dict[int, _Lane] = {}

    def seek(self, ids: Mapping[int, Id]) -> None:
        """Stand behind these events, by worker; in a journal that is not named, before all that is kept."""
        for worker in journals(self._data_dir):
            self._lanes[worker] = _Lane(worker, self._walk_from(worker, ids.get(worker)))

    def seek_end(self) -> None:
        """Stand behind what is written now."""
        for worker in journals(self._data_dir):
            self._lanes[worker] = _Lane(worker, self._walk_to_end(worker))

    def skip(self, positions: Positions) -> None:
        """Stand there, where that is further: nothing is wanted of what is between. After a piece without events."""
        for worker, position in positions.items():
            if (lane := self._lanes.get(worker)) is not None:
                lane.skip(position)

    def take(self, wanted: Wanted, most_events: int, most_bytes: int) -> Piece:
        """The next events that are wanted: so many, and of so many bytes, but for the first."""
        for worker in journals(self._data_dir):
            if worker not in self._lanes:
                self._lanes[worker] = _Lane(worker, self._walk_from(worker, None))
        lanes = [lane for _, lane in sorted(self._lanes.items())]
        try:
            return self._take(lanes, wanted, most_events, most_bytes)
        finally:
            for lane in lanes:
                lane.rest()
                self._places.note(lane.worker, lane.behind)

    # Inside.

    def _take(self, lanes: list[_Lane], wanted: Wanted, most_events: int, most_bytes: int) -> Piece:
        lines: list[bytes] = []
        gaps: list[tuple[int, Gap]] = []
        size, left, full = 0, LOOK_BYTES, False
        for lane in lanes:
            if lane.head is None:
                lane.ended = False
                left -= lane.look(wanted, left, gaps)
        while True:
            if any(lane.head is None and not lane.ended for lane in lanes):
                full = True  # it may have one that comes before those of others
                break
            first = min((lane for lane in lanes if lane.head is not None), key=_at, default=None)
            if first is None:
                break
            if len(lines) >= most_events or (lines and size + len(first.line) > most_bytes):
                full = True
                break
            size += len(first.line)
            lines.append(first.give(gaps))
            left -= first.look(wanted, left, gaps)
        cursor = ",".join(place_text(lane.behind.after, lane.worker) for lane in lanes)
        positions = {lane.worker: lane.behind for lane in lanes}
        return Piece(lines=lines, bytes=size, gaps=gaps, cursor=cursor, positions=positions, full=full)

    def _walk_from(self, worker: int, after: Id | None) -> Walk:
        directory = events_directory(self._data_dir, worker)
        walk = Walk(directory)
        if after is None:
            walk.seek_oldest()
            return walk
        known = self._places.below(worker, after)
        if known is not None and known.after < after:
            above = self._places.above(worker, after)
            last = above.place.number if above is not None else max(segment_numbers(directory), default=0)
            if known.place.number < last:  # the event may be files behind it
                walk.seek(after)
                if known.place.number < walk.position().place.number:
                    return walk
        if known is not None:
            if walk.resume(known, after):
                return walk
            self._places.forget(worker, known)
        walk.seek(after)
        return walk

    def _walk_to_end(self, worker: int) -> Walk:
        directory = events_directory(self._data_dir, worker)
        walk = Walk(directory)
        known, numbers = self._places.newest(worker), segment_numbers(directory)
        if known is not None and numbers and known.place.number == numbers[-1] and walk.resume(known):
            for _ in walk.heads():
                pass
        else:
            walk.seek_end()
        walk.close()
        return walk


def _at(lane: _Lane) -> float:
    assert lane.head is not None
    return lane.head.at
