"""The events of one journal for one consumer, batch by batch, behind its cursor. Blocks: for a thread of its own.

What retention has deleted is said (`Batch.gap`), never passed over, and so is what is damaged or missing. Memory: a
batch, and a piece of a file.
"""

from dataclasses import dataclass
from pathlib import Path

from engine.base.errors import StorageError
from engine.feed.walk import Walk
from engine.storage.events.event import Id
from engine.storage.events.retention import Gap
from engine.storage.events.segments import CHUNK, open_segment, segment_numbers

#: Bytes that are looked through for events of the wanted types before others have their turn.
_LOOK_BYTES = 4 << 20


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


class Source(Walk):
    """See above. Raises StorageError."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._counted: dict[int, tuple[int, int]] = {}  #: file: bytes that are counted (-1: all), lines in them

    def take(self, types: frozenset[str], most_events: int, most_bytes: int) -> Batch:
        """The next events of these types, or of all if there are none; none at the end of what is written now."""
        lines: list[bytes] = []
        size, looked, first_at, full, lost = 0, 0, 0.0, False, None
        before = self.cursor()
        place = self._reader.place
        for head, line in self.heads():
            if head is None:
                continue
            wanted = not types or head.type in types
            gone = self.gap is not None and (lines or lost)
            if gone or (lines and wanted and size + len(line) > most_bytes):
                self._after, self._place, self._reader.place = before[0], place, place
                self.gap = None  # found again
                full = True
                break
            lost, self.gap = self.gap or lost, None
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
