"""The events of one journal for one consumer, batch by batch, behind its cursor. Blocks: for a thread of its own.

Ids only rise, so that what a journal has twice after a fault of the disk is given once. What retention has deleted is
said (`Batch.gap`), never passed over, and so is what is damaged or missing. Memory: a batch, and a piece of a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from engine.base.errors import StorageError
from engine.storage.events.event import NO_ID, Id, parse_id
from engine.storage.events.reader import LineReader, Place, id_before
from engine.storage.events.retention import Gap, gap
from engine.storage.events.segments import CHUNK, open_segment, segment_numbers

#: Bytes that are looked through for events of the wanted types before others have their turn.
_LOOK_BYTES = 4 << 20


class _Head(msgspec.Struct):
    """What must be known of a line."""

    id: str
    at: float = 0.0
    type: str = ""


_DECODER = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """lines: of wanted events. after, number, line: of the cursor once they are taken. first_at: of the first event.

    full: there may be more at once. gap: events before these that are gone.
    """

    lines: tuple[bytes, ...]
    after: Id
    number: int
    line: int
    first_at: float = 0.0
    full: bool = False
    gap: Gap | None = None


class Source:
    """See above. Raises StorageError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reader = LineReader(directory)
        self._after = NO_ID  #: the last event that was read
        self._place = Place()  #: behind it
        self._jumps = 0
        self._gap: Gap | None = None  #: before the next event
        self._damage: list[tuple[int, bool]] = []  #: and what cannot be read before it
        self._counted: dict[int, tuple[int, int]] = {}  #: file: bytes that are counted (-1: all), lines in them

    def seek(self, after: Id, number: int = 0, line: int = 0) -> None:
        """Stand behind an event; number, line: as its cursor has them, if it is known."""
        self._reader.seek(after)
        self._after, self._place = after, self._reader.place
        if self._place.number == number:
            self._place = Place(number, 0, line)
        self._gap, self._damage = gap(self._directory, after, number, line), []

    def seek_oldest(self) -> None:
        """Stand before all that is kept; what is not is no gap."""
        self.seek(NO_ID)
        self._gap = None

    def seek_time(self, at: float) -> None:
        """Stand before the first event of this time or later."""
        before = id_before(self._directory, at)
        if before > NO_ID:
            self.seek(before)
        else:
            self.seek_oldest()

    def seek_end(self) -> None:
        """Stand behind what is written now."""
        self._after, self._place, self._gap = NO_ID, Place(), None
        for number in reversed(segment_numbers(self._directory)):
            self._reader.place = Place(number)
            for _ in self._heads():
                pass
            self._gap, self._damage = None, []
            if self._after > NO_ID:
                return

    def cursor(self) -> tuple[Id, int, int]:
        """Where it stands, for `seek`."""
        return self._after, self._place.number, self._place.line

    def take(self, types: frozenset[str], most_events: int, most_bytes: int) -> Batch:
        """The next events of these types, or of all if there are none; none at the end of what is written now."""
        lines: list[bytes] = []
        size, looked, first_at, full, lost = 0, 0, 0.0, False, None
        before = self.cursor()
        place = self._reader.place
        for head, line in self._heads():
            wanted = not types or head.type in types
            gone = self._gap is not None and (lines or lost)
            if gone or (lines and wanted and size + len(line) > most_bytes):
                self._after, self._place, self._reader.place = before[0], place, place
                self._gap = None  # found again
                full = True
                break
            lost, self._gap = self._gap or lost, None
            if wanted:
                first_at = first_at or head.at
                lines.append(line)
                size += len(line)
            looked += len(line)
            before, place = self.cursor(), self._reader.place
            if len(lines) >= most_events or looked > _LOOK_BYTES:
                full = True
                break
        after, number, count = self.cursor()
        return Batch(
            lines=tuple(lines), after=after, number=number, line=count, first_at=first_at, full=full, gap=lost
        )  # fmt: skip

    def lag(self, number: int, line: int) -> int:
        """Events behind a place, of all types."""
        numbers = segment_numbers(self._directory)
        self._counted = {each: count for each, count in self._counted.items() if each in numbers}
        behind = sum(self._count(each) for each in numbers if each >= number)
        return max(0, behind - (line if number in numbers else 0))

    def close(self) -> None:
        self._reader.close()

    def _heads(self) -> Iterator[tuple[_Head, bytes]]:
        """Events behind the last one that was read."""
        for line in self._reader.lines():
            if self._reader.jumps != self._jumps:
                self._jumps = self._reader.jumps
                self._gap = self._gap or gap(self._directory, self._after, self._place.number, self._place.line)
            # After a seek the lines of its file that were read before are read again.
            self._place = max(self._place, self._reader.place, key=lambda place: (place.number, place.line))
            try:
                head = _DECODER.decode(line)
                found = parse_id(head.id)
                if not line.isascii():
                    line.decode()
            except (msgspec.DecodeError, ValueError):
                self._damage.append(self._reader.damage(line))  # S5
                continue
            if found > self._after:
                self._mind(found)
                self._after = found
                yield head, line
            else:
                self._damage.clear()  # before the cursor, or written again

    def _mind(self, following: Id) -> None:
        """What was damaged before this event will never come."""
        if self._damage:
            lost = self._gap or Gap(self._after, self._after, 0, True)
            self._gap = replace(
                lost,
                events=lost.events + sum(events for events, _ in self._damage),
                exact=lost.exact and all(exact for _, exact in self._damage),
                damaged=True,
                last=following,
            )
            self._damage.clear()
        elif self._gap is not None and self._gap.missing:
            self._gap = replace(self._gap, last=following)

    def _count(self, number: int) -> int:
        """Lines of a file; of one that grows, only the new ones are read, and one that is compressed is asked once."""
        size, lines = self._counted.get(number, (0, 0))
        if size < 0:
            return lines
        segment = open_segment(self._directory, number)
        if segment is None:
            return 0
        try:
            if segment.compressed:
                self._counted[number] = -1, segment.summary().events
                return self._counted[number][1]
            while data := segment.read(CHUNK, size):
                size, lines = size + len(data), lines + data.count(b"\n")
        except OSError as exc:
            raise StorageError(f"{self._directory}: file {number}: {exc.strerror}") from exc
        finally:
            segment.close()
        self._counted[number] = size, lines
        return lines
