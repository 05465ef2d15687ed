"""Whether a spool is whole: every byte of every file is read, and everything that refers to something is followed.

A fault is what a start could not put right by itself, or what no crash explains. A torn tail is none.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.base.errors import StorageError
from engine.base.units import counted
from engine.message.content import LargeContent, LargeFile
from engine.message.ids import join_id, split_id
from engine.storage.spool.frame import Damage, Frame, FrameType, frame_bytes, scan
from engine.storage.spool.index import decode_index
from engine.storage.spool.keys import KEY_COLUMNS, Key, LiveKeys
from engine.storage.spool.records import (
    Elsewhere,
    check_version,
    content_file,
    decode_envelope,
    is_message,
    message_in,
)
from engine.storage.spool.recovery import NO_EVENTS
from engine.storage.spool.segment import Segment, files_of, offset_of
from engine.storage.spool.snapshot import SnapshotFiles
from engine.storage.spool.table import Column
from engine.storage.spool.view import Part, SpoolView


class _Stored(NamedTuple):
    """A delivery in a frame."""

    id: str
    number: int
    length: int
    content_ref: Elsewhere | None


#: By offset of the frame, and delivery number.
_Frames = dict[tuple[int, int], _Stored]


class Verification:
    """What was found. faults, notes: one line each. counts: files, frames by type, live deliveries and recipients."""

    def __init__(self, directory: Path, files: SnapshotFiles, newest_event: int = NO_EVENTS) -> None:
        """Does all of it. newest_event: see view.py.

        Raises StorageError: a later program wrote the spool, or the disk does not give it back.
        """
        self.faults: list[str] = []
        self.notes: list[str] = []
        self.counts: Counter[str] = Counter()
        self._directory = directory
        self._files = files
        self._view = SpoolView(directory, files, newest_event)
        self._contents: dict[tuple[int, int], int] = {}  #: by file and offset of a CONTENT frame: its length
        self._lost: dict[str, set[Key]] = {}  #: by what is wrong with a content: who needs it
        self._large: dict[LargeFile, str | None] = {}  #: what is wrong with each that was read
        self._unlisted: list[tuple[Path, _Stored]] = []  #: not in the index, and not known to be dead
        self._live: list[dict[str, Column]] = []
        self.counts["files"] = len(files.paths)
        for segment in list(self._view.segments.values()):
            if segment.path.suffix == ".con":
                self._read_contents(segment)
        for part in self._view.parts():
            self._check_part(part)
        self.faults += self._view.lost
        self._tell_lost()
        self._check_unlisted()
        self._check_twice()

    @property
    def live(self) -> LiveKeys:
        """What a start would deliver."""
        return LiveKeys(self._live, self._view.texts["node"])

    # ---- frames

    def _scan(self, path: Path) -> Iterator[Frame]:
        """The whole frames of a file; damage is told."""
        data = self._files.read(path)
        for frame in scan(data, Segment(path).salt):
            if isinstance(frame, Frame):
                check_version(frame, path)
                self.counts[FrameType(frame.type).name.lower()] += 1
                yield frame
            else:
                self._tell_damage(path, frame)

    def _tell_damage(self, path: Path, damage: Damage) -> None:
        what = f"{damage.end - damage.offset} bytes from {damage.offset} on are no whole record"
        if damage.torn:
            self.notes.append(f"{self._name(path)}: {what}: torn by a crash, or being written just now")
        else:
            self.faults.append(f"{self._name(path)}: {what}")

    def _read_contents(self, segment: Segment) -> None:
        for frame in self._scan(segment.path):
            if frame.type == FrameType.CONTENT:
                self._contents[segment.number, frame.offset] = frame.end - frame.offset

    def _deliveries(self, segment: Segment) -> _Frames:
        """Every delivery that was ever written to a file."""
        found: _Frames = {}
        void = dict(self._view.found.void).get(segment.number)
        for frame in self._scan(segment.path):
            if not is_message(frame) or (void is not None and frame.offset >= void):
                continue
            message, length = message_in(frame), frame.end - frame.offset
            message_id = decode_envelope(message.envelope).id
            for number in message.deliveries:
                found[frame.offset, number] = _Stored(message_id, number, length, message.content_ref)
        return found

    # ---- what refers to what

    def _check_part(self, part: Part) -> None:
        rows = [rows for rows in part.table.select()]
        columns = part.table.columns(np.concatenate(rows)) if rows else {}
        if rows:
            self._live.append({name: columns[name] for name in KEY_COLUMNS})
            self.counts["deliveries"] += len(part.table)
            self.counts["recipients"] += part.table.recipients
        for segment in part.segments:
            frames = self._deliveries(segment)
            here = files_of(columns["place"]) == segment.number if rows else np.zeros(0, dtype=bool)
            live = {name: column[here] for name, column in columns.items()}
            self._check_live(segment, frames, live)
            if not segment.is_journal:
                dead = self._check_side(segment, frames)
                if segment not in part.unindexed:
                    self._check_index(segment, frames, dead)
                elif self._files.size(segment.index) is not None:
                    self._tell_bad_index(segment)

    def _check_live(self, segment: Segment, frames: _Frames, live: dict[str, Column]) -> None:
        """What a start would deliver is there, and is what the index says."""
        if not live:
            return
        name = self._name(segment.path)
        kept = (live[column].tolist() for column in ("place", "length", "number", "id", "node", "content_file"))
        for place, length, number, packed, node, number_of in zip(*kept, strict=True):
            offset = offset_of(place)
            stored = frames.get((offset, number))
            if stored is None:
                self.faults.append(f"{name}: there is no delivery {number} at {offset}, where one should be")
                continue
            ref = stored.content_ref
            if (length, number_of) != (stored.length, content_file(ref)) or (packed, node) != self._key(stored):
                self.faults.append(f"{name}: what is at {offset} is not what the index says")
            elif isinstance(ref, LargeFile):
                if ref not in self._large:
                    self._large[ref] = self._fault_of(ref)
                if (fault := self._large[ref]) is not None:
                    self._lost.setdefault(fault, set()).add((stored.id, number))
            elif ref is not None and self._contents.get((ref[0], ref[1])) != ref[2]:
                fault = f"{self._name(self._view.segments[ref[0]].path)}: there is no content at {ref[1]}"
                self._lost.setdefault(fault, set()).add((stored.id, number))

    def _tell_lost(self) -> None:
        """A line for each content, however many need it."""
        for fault, needing in self._lost.items():
            (message_id, _), *more = sorted(needing)
            which = message_id if not more else f"{counted(len(needing), 'delivery')}, {message_id} the first"
            self.faults.append(f"{fault}; needed by {which}")

    def _fault_of(self, file: LargeFile) -> str | None:
        """What is wrong with the file of a large content."""
        path = self._view.directory / "large" / file.name
        try:
            if self._files.size(path) != file.length:
                raise StorageError("it is not there, or of another length")
            for _ in LargeContent(b"", file, partial(self._files.read, path)).rest():
                pass
        except StorageError as exc:
            return f"{self._name(path)}: {exc}"
        return None

    def _check_side(self, segment: Segment, frames: _Frames) -> set[int]:
        """Whatever the side file is about is in the segment. The offsets of the dead."""
        dead: set[int] = set()
        if self._files.size(segment.side) is None:
            return dead
        offsets = {offset for offset, _ in frames}
        for frame in self._scan(segment.side):
            about: set[int] = set()
            if frame.type == FrameType.DEAD:
                about = set(frame.header[1])
                dead |= about
            elif frame.type == FrameType.STATE:
                about = {frame.header[1]}
            for offset in sorted(about - offsets):
                self.faults.append(f"{self._name(segment.side)}: it is about {offset}, where there is no delivery")
        return dead

    def _check_index(self, segment: Segment, frames: _Frames, dead: set[int]) -> None:
        """Whatever lives is in the index; that what is in it is right, `_check_live` has seen."""
        self.counts["index"] += 1
        _, columns = decode_index(segment, self._files.read(segment.index), self._view.texts)
        listed = {offset_of(place) for place in columns["place"].tolist()}
        for (offset, _), stored in frames.items():
            if offset not in listed and offset not in dead:
                self._unlisted.append((segment.path, stored))

    def _tell_bad_index(self, segment: Segment) -> None:
        data = memoryview(self._files.read(segment.index))
        length = frame_bytes(data, segment.salt)
        torn = not len(data) or (length is not None and length > len(data))
        what = f"{self._name(segment.index)} is not whole; the next start reads the segment, and writes it anew"
        (self.notes if torn else self.faults).append(what)

    def _check_unlisted(self) -> None:
        """What an index left out must have its end, or its newest copy, somewhere else."""
        found = self._view.found
        live: set[tuple[int, int, int]] = set()
        if self._unlisted:
            live = {key for part in self._live for key in zip(*(part[n].tolist() for n in part), strict=True)}
        for path, stored in self._unlisted:
            own = stored.id, stored.number
            packed, node = self._key(stored)
            elsewhere = stored.id in found.messages or own in found.taken_in or own in found.outcomes
            if not elsewhere and (packed, stored.number, node) not in live:
                self.faults.append(f"{self._name(path)}: {stored.id}: not in the index, and nothing says that it ended")

    def _check_twice(self) -> None:
        """No delivery would be sent twice after a start."""
        if not self._live:
            return
        ids, numbers, nodes = (np.concatenate([part[n] for part in self._live]) for n in ("id", "number", "node"))
        order = np.lexsort((nodes, numbers, ids))
        first, second = order[:-1], order[1:]
        same = (ids[first] == ids[second]) & (numbers[first] == numbers[second]) & (nodes[first] == nodes[second])
        for at in first[same].tolist():
            message_id = join_id(int(ids[at]), self._view.texts["node"].text(int(nodes[at])))
            self.faults.append(f"{message_id}: delivery {int(numbers[at])} lives twice")

    def _key(self, stored: _Stored) -> tuple[int, int]:
        packed, node = split_id(stored.id)
        return packed, self._view.texts["node"].number(node)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._directory))
