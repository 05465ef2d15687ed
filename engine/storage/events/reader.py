"""Reading the event journal while its owner writes it: from an id on, the newest few, or on and on.

A reader needs only the files, compressed or not. A line without its newline is not there yet; in a file that has a
successor it never will be, and is written again in that one. Damaged lines and missing files are passed over and
counted (S5). An event can come twice, with the same id (E1): what is damaged, and then comes once more, is not lost.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.base.errors import StorageError
from engine.storage.events.event import NO_ID, Id, event_id, parse_id
from engine.storage.events.retention import missing_files
from engine.storage.events.segments import CHUNK, LOST_LINE, Segment, is_lost, open_segment, segment_numbers, there

#: Numbers that are looked for one by one where a list of files has a hole.
_MOST_HOLES = 1000


def read_events(directory: Path, from_id: str | None = None) -> Iterator[dict[str, Any]]:
    """The events of a journal in order; those after `from_id` if given. Raises StorageError, ValueError (no id)."""
    reader = EventReader(directory)
    if from_id is not None:
        reader.seek(parse_id(from_id))
    yield from reader.read()


def newest_frame(directory: Path) -> int:
    """The frame of the newest event; 0: there is none. Raises StorageError."""
    return newest_id(directory)[0]


def newest_id(directory: Path) -> Id:
    """Of an empty journal, `NO_ID`. Raises StorageError."""
    reader = EventReader(directory)
    reader.seek_tail(100)  # the last ones may be damaged
    return max((parse_id(event["id"]) for event in reader.read()), default=NO_ID)


class Place(NamedTuple):
    """Where a reader stands: in a file, behind so many bytes and lines of it. Of number 0: before the oldest."""

    number: int = 0
    offset: int = 0
    line: int = 0


class LineReader:
    """Lines from a place on, with their newline; the place moves on with them. Blocks; one user at a time.

    place: may be set; `line` counts from where it was set. jumps: how often the file it stood in, or the one behind it,
    was gone. What nobody can read is one line, too, that is none (`damage`).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.place = Place()
        self.jumps = 0
        self._segment: Segment | None = None
        self._open_number = 0
        self._open_size = 0

    def seek(self, after: Id) -> None:
        """Stand at the beginning of the last file that may have something behind this event. Raises StorageError."""
        found = 0
        for number in segment_numbers(self.directory):
            first = self._first_id(number)
            if first is not None and first > after:
                break
            found = number
        self.place = Place(found)

    def seek_end(self) -> None:
        """Stand behind what is written now. Raises StorageError."""
        numbers = segment_numbers(self.directory)
        self.place = Place(numbers[-1]) if numbers else Place()
        for _ in self.lines():
            pass

    def lines(self) -> Iterator[bytes]:
        """Up to the end of what is written now. Raises StorageError."""
        while True:
            # Listed before reading: a file with a successor in this list is complete.
            numbers = segment_numbers(self.directory)
            number = self.place.number
            if number not in numbers and not (number and there(self.directory, number)):
                # Not begun yet, or deleted under us.
                self.jumps += number > 0
                following = [other for other in numbers if other > number]
                if not following:
                    return
                self.place = Place(following[0])
            yield from self._of_file()
            following = [other for other in numbers if other > self.place.number]
            if not following:
                return
            self._move(following[0])

    def _move(self, following: int) -> None:
        """To the next file. A list of names may lack one that is renamed meanwhile."""
        number = self.place.number
        between = range(number + 1, min(following, number + _MOST_HOLES))
        following = next((other for other in between if there(self.directory, other)), following)
        self.jumps += following > number + 1
        self.place = Place(following)

    def damage(self, line: bytes) -> tuple[int, bool]:
        """How many events this line was, that is none, or at least; whether that is exact. Raises StorageError.

        Of damaged frames the first in a file stands for all.
        """
        if not is_lost(line):
            return 1, False
        try:
            segment = self._at()
            return (0, False) if segment is None else segment.lost(self.place.offset - len(line))
        except OSError as exc:
            raise StorageError(f"{self.directory}: file {self.place.number}: {exc.strerror}") from exc

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def chunk(self, size: int, offset: int) -> bytes:
        """Bytes of the file of the place; none of one that is gone. Raises StorageError."""
        try:
            segment = self._at()
            return b"" if segment is None else segment.read(size, offset)
        except OSError as exc:
            raise StorageError(f"{self.directory}: file {self.place.number}: {exc.strerror}") from exc

    def size(self) -> int:
        """Bytes of the file of the place. Raises StorageError."""
        try:
            segment = self._at()
            return 0 if segment is None else segment.size()
        except OSError as exc:
            raise StorageError(f"{self.directory}: file {self.place.number}: {exc.strerror}") from exc

    def _at(self) -> Segment | None:
        """The file of the place, kept open until it is another. One that is deleted meanwhile is still read."""
        # One that is empty may be another by now: a file that could not be written to is removed, and its number used.
        if (
            self._segment is None
            or self._open_number != self.place.number
            or (not self._segment.compressed and not self._segment.size())
        ):
            self.close()
            self._segment = open_segment(self.directory, self.place.number)
            self._open_number = self.place.number
            self.jumps += self._segment is None  # deleted since the files were listed
        return self._segment

    def _of_file(self) -> Iterator[bytes]:
        while True:
            data = self.chunk(CHUNK, self.place.offset)
            end = data.rfind(b"\n") + 1
            for line in data[:end].splitlines(keepends=True):
                number, offset, count = self.place
                self.place = Place(number, offset + len(line), count + 1)
                yield line
            if not end and len(data) == CHUNK:
                # No line is that long: damage. Go on behind it.
                self.place = self.place._replace(offset=self.place.offset + CHUNK)
                yield LOST_LINE
            elif not end:
                return

    def _first_id(self, number: int) -> Id | None:
        """The id of the first event of a file that can be read."""
        self.place = Place(number)
        for line in self.chunk(CHUNK, 0).splitlines():
            try:
                return event_id(line)
            except ValueError:
                continue
        return None


def id_before(directory: Path, at: float) -> Id:
    """The id of the event before the first one of this time (unix seconds) or later. Raises StorageError."""
    reader = LineReader(directory)
    try:
        begin = 0
        for number in segment_numbers(directory):
            reader.place = Place(number)
            first = next(filter(None, map(_head, reader.chunk(CHUNK, 0).splitlines())), None)
            if first is not None and first[1] >= at:
                break
            begin = number
        before, reader.place = NO_ID, Place(begin)
        for head in filter(None, map(_head, reader.lines())):
            if head[1] >= at:
                break
            before = head[0]
        return before
    finally:
        reader.close()


def _head(line: bytes) -> tuple[Id, float] | None:
    """Id and time of an event; None: it is none."""
    try:
        head = _DECODER.decode(line)
        return parse_id(head.id), head.at
    except (msgspec.DecodeError, ValueError):
        return None


class _Head(msgspec.Struct):
    id: str
    at: float = 0.0


_DECODER = msgspec.json.Decoder(_Head)


class EventReader:
    """A place in a journal. A new one stands at the oldest event.

    damaged: events that nobody can read, so far. exact: and no more than that. missing: files that are not there.
    """

    def __init__(self, directory: Path) -> None:
        self._lines = LineReader(directory)
        self._after = NO_ID
        self._highest = NO_ID
        self._found: list[tuple[int, bool]] = []  #: damage behind the highest event
        self.damaged, self.exact, self.missing = 0, True, 0

    def seek(self, after: Id) -> None:
        """Stand behind this event, whether it is still there or not. Raises StorageError."""
        self._after = self._highest = after
        self._lines.seek(after)

    def seek_tail(self, count: int) -> None:
        """Stand before the newest `count` events. Raises StorageError."""
        self._after = NO_ID
        for number in reversed(segment_numbers(self._lines.directory)):
            self._lines.place = Place(number)
            data_end, starts = self._line_starts(count)
            self._lines.place = Place(number, starts[0] if starts else data_end)
            count -= len(starts)
            if count <= 0:
                return

    def read(self) -> Iterator[dict[str, Any]]:
        """The events from here to the end of what is written now; the place moves on with them."""
        number, jumps = self._lines.place.number, self._lines.jumps
        for line in self._lines.lines():
            if self._lines.jumps != jumps:
                jumps = self._lines.jumps
                self.missing += missing_files(self._lines.directory, number)
            number = self._lines.place.number
            event = self._decode(line)
            if event is not None:
                yield event
        self._count()
        self._lines.close()  # one that waits holds no file that is deleted

    def _decode(self, line: bytes) -> dict[str, Any] | None:
        try:
            event = json.loads(line)
            found = parse_id(event["id"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._found.append(self._lines.damage(line))
            return None
        if found > self._highest:
            self._highest = found
            self._count()
        else:
            self._found.clear()  # before the place it stands behind, or written again
        return event if found > self._after else None  # a mapping: it has an "id"

    def _count(self) -> None:
        """What was found is behind what was wanted, and lost."""
        for events, exact in self._found:
            self.damaged += events
            self.exact = self.exact and exact
        self._found.clear()

    def _line_starts(self, count: int) -> tuple[int, list[int]]:
        """Where the whole lines of a file end, and where its last `count` of them start."""
        newlines: list[int] = []
        start = self._lines.size()
        while start and len(newlines) <= count:
            size = min(start, CHUNK)
            start -= size
            data = self._exactly(size, start)
            newlines[:0] = [start + i for i, byte in enumerate(data) if byte == 10]
        if not newlines:
            return 0, []
        starts = [newline + 1 for newline in newlines[:-1]]
        if not start:
            starts.insert(0, 0)
        return newlines[-1] + 1, starts[-count:] if count else []

    def _exactly(self, size: int, offset: int) -> bytes:
        """Over the edges of compressed frames."""
        data = b""
        while len(data) < size and (more := self._lines.chunk(size - len(data), offset + len(data))):
            data += more
        return data
