"""Behind an event of one journal, and on from there: each event once, and what will never come is said. Blocks.

Ids only rise, so that what a journal has twice after a fault of the disk is given once. What retention has deleted, and
what is damaged or missing, is a gap before the next event. Memory: a piece of a file.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.storage.events.event import NO_ID, Id, parse_id
from engine.storage.events.reader import LineReader, Place, id_before
from engine.storage.events.retention import Gap, gap
from engine.storage.events.segments import segment_numbers


class Head(msgspec.Struct):
    """What must be known of a line."""

    id: str
    at: float = 0.0
    type: str = ""
    tenant: str = ""


_DECODER = msgspec.json.Decoder(Head)


class Position(NamedTuple):
    """Behind an event, and where that is."""

    after: Id = NO_ID
    place: Place = Place()


class Walk:
    """See above. Raises StorageError. A new one stands before all that is kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reader = LineReader(directory)
        self._after = NO_ID  #: the last event that was read
        self._place = Place()  #: behind it
        self._jumps = 0
        self._damage: list[tuple[int, bool]] = []  #: what cannot be read before the next event
        self._sound = Place()  #: before that
        self.gap: Gap | None = None  #: before the next event; whoever tells of it sets it to None

    def seek(self, after: Id, number: int = 0, line: int = 0) -> None:
        """Stand behind an event; number, line: as its cursor has them, if it is known."""
        self._reader.seek(after)
        self._after, self._place = after, self._reader.place
        if self._place.number == number:
            self._place = Place(number, 0, line)
        self.gap, self._damage = gap(self._directory, after, number, line), []

    def seek_oldest(self) -> None:
        """Stand before all that is kept; what is not is no gap."""
        self.seek(NO_ID)
        self.gap = None

    def seek_time(self, at: float) -> None:
        """Stand before the first event of this time or later."""
        before = id_before(self._directory, at)
        if before > NO_ID:
            self.seek(before)
        else:
            self.seek_oldest()

    def seek_end(self) -> None:
        """Stand behind what is written now."""
        self._after, self._place, self.gap = NO_ID, Place(), None
        for number in reversed(segment_numbers(self._directory)):
            self._reader.place = Place(number)
            for _ in self.heads():
                pass
            self.gap, self._damage = None, []
            if self._after > NO_ID:
                return

    def cursor(self) -> tuple[Id, int, int]:
        """Where it stands, for `seek`."""
        return self._after, self._place.number, self._place.line

    def position(self) -> Position:
        """Where it stands, for `resume`: before what is damaged and not yet said."""
        return Position(self._after, self._sound if self._damage else self._reader.place)

    def resume(self, position: Position, after: Id | None = None) -> bool:
        """Stand where a walk of this journal stood, without looking for it; or go from there to the event `after`.

        False: the file is gone, and `seek` says what went with it; or it is another one, cut after a crash, say.
        """
        place, reader = position.place, self._reader
        if place.number not in segment_numbers(self._directory):
            return False
        reader.place = place
        if place.offset and reader.chunk(1, place.offset - 1) != b"\n":
            return False
        self._after, self._place, self.gap, self._damage = after or position.after, place, None, []
        return True

    def heads(self) -> Iterator[tuple[Head | None, bytes]]:
        """Lines from here to the end of what is written now. None: it is no event (S5), or was read before."""
        before = self._reader.place
        for line in self._reader.lines():
            if self._reader.jumps != self._jumps:
                self._jumps = self._reader.jumps
                self.gap = self.gap or gap(self._directory, self._after, self._place.number, self._place.line)
            # After a seek the lines of its file that were read before are read again.
            self._place = max(self._place, self._reader.place, key=lambda place: (place.number, place.line))
            head = _head(line)
            if head is None:
                if not self._damage:
                    self._sound = before
                self._damage.append(self._reader.damage(line))
                yield None, line
            elif (found := parse_id(head.id)) <= self._after:
                self._damage.clear()  # before the place it stands behind, or written again
                yield None, line
            else:
                self._mind(found)
                self._after = found
                yield head, line
            before = self._reader.place

    def close(self) -> None:
        """Hold no file open, until it goes on."""
        self._reader.close()

    def _mind(self, following: Id) -> None:
        """What was damaged before this event will never come."""
        if self._damage:
            lost = self.gap or Gap(self._after, self._after, 0, True)
            self.gap = replace(
                lost,
                events=lost.events + sum(events for events, _ in self._damage),
                exact=lost.exact and all(exact for _, exact in self._damage),
                damaged=True,
                last=following,
            )
            self._damage.clear()
        elif self.gap is not None and self.gap.missing:
            self.gap = replace(self.gap, last=following)


def _head(line: bytes) -> Head | None:
    """None: it is damaged."""
    try:
        head = _DECODER.decode(line)
        parse_id(head.id)
        if not line.isascii():
            line.decode()
    except (msgspec.DecodeError, ValueError):
        return None
    return head
