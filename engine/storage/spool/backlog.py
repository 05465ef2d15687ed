"""The old generation on disk: the messages of one destination together, written by the mover's thread.

    mail/<folder>/      one domain; `=small` is shared by those that have few
    sms/<folder>/       one carrier or account; the same
    shared/             contents that go to several destinations, each once

A segment is open while it is short: it is opened for each batch, appended to, synced and closed, so that thousands of
destinations need no descriptors. It is sealed at `segment_bytes`: an index is written beside it, and from then on only
its side file grows. What a crash left open is never appended to: recovery seals it (S3).

S4  after a failed write or sync a segment or its side file is never written again: it is `unsound` until what lives in
    it was moved elsewhere and it is dropped. Until then no journal file goes, so whatever lies in its tail is still
    known from there.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.base.errors import StorageError
from engine.message.content import LargeFile
from engine.storage.spool.entry import Snapshot, Spot
from engine.storage.spool.fetch import HEAD_BYTES, STATE_BYTES, read_frame, read_frames, read_states
from engine.storage.spool.files import Files
from engine.storage.spool.frame import PREFIX_BYTES, VERSION, Frame, FrameType, encode, frame_bytes
from engine.storage.spool.names import folder_of
from engine.storage.spool.records import (
    ContentRef,
    Stored,
    content_file,
    state_in,
    stored_header,
    stored_in,
    trimmed,
)
from engine.storage.spool.recovery import keep_aside
from engine.storage.spool.segment import Segment, Segments, file_of, is_side, offset_of, place_of, segment_path

#: The folder of small destinations. No encoded name begins with `=`.
SMALL = "=small"
#: Deliveries of one destination in one journal file that are worth a folder of their own.
FOLDER_FROM = 64


class Moved(NamedTuple):
    """Where it lies now. frame: of the state that is written there. content_file: 0 where the content is with it."""

    segment: Segment
    offset: int
    length: int
    frame: int
    content_file: int


class Backlog:
    """The files of the old generation. All methods in one thread, the mover's; each may raise StorageError.

    segments: of the whole spool; new ones are entered there. new_number: a number for a new file.
    """

    def __init__(
        self,
        directory: Path,
        files: Files,
        owner: str,
        segment_bytes: int,
        segments: Segments,
        new_number: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._shared = directory / "shared"
        self._files = files
        self._owner = owner
        self.segment_bytes = segment_bytes
        self._segments = segments
        self._new_number = new_number
        self._salt = secrets.randbits(32)
        self._contents: dict[int, ContentRef] = {}  #: by place of the original, while a file is emptied
        self.open: dict[Path, Segment] = {}  #: by directory
        self.unsound: dict[int, Segment] = {}
        self.written = 0  #: bytes so far, of messages and contents

    def directory_for(self, destination: str, count: int) -> Path:
        """Where so many deliveries of a destination go."""
        own = self._directory / folder_of(destination)
        worth_it = count >= FOLDER_FROM or own in self.open or self._files.size(own) is not None
        return own if worth_it else own.parent / SMALL

    def move(self, directory: Path, spots: Sequence[Spot], emptied: int) -> list[Moved | StorageError]:
        """Write these to the segment of a directory; durable when this returns. One answer for each.

        emptied: the number of the file that is to go: a content in it is moved, too. An answer that is an error tells
        of a record that cannot be read; a failed write is raised, for all of them.
        """
        answers: list[Moved | StorageError] = []
        pieces: list[bytes | memoryview] = []
        segment = self._opened(directory, ".seg")
        offset = segment.bytes
        states = read_states(self._files, self._segments, [spot.state_place for spot in spots])
        for spot, message, state in zip(spots, self._messages(spots), states, strict=True):
            try:
                stored = self._stored(spot, message)
                snapshot, frame = self._state(stored, state)
                original, shared = self._to_share(spot, stored, emptied)
            except StorageError as exc:
                answers.append(exc)
                continue
            ref, content = stored.content_ref, stored.content
            if original:
                if shared is not None:
                    self._contents[original] = self._share(shared)
                ref, content = self._contents[original], memoryview(b"")
            envelope = stored.envelope if stored.siblings == 1 else trimmed(stored.envelope, snapshot)
            header = stored_header(frame, spot.number, snapshot, ref, envelope)
            head = encode(segment.salt, FrameType.STORED, frame, header, content)
            length = len(head) + len(content)
            pieces += (head, content) if content else (head,)
            answers.append(Moved(segment, offset, length, frame, content_file(ref)))
            offset += length
        self._append(segment, pieces)
        return answers

    def set_aside(self, spot: Spot) -> None:
        """Copy what there is of a delivery's records to `damaged/` beside their files (S5)."""
        for place, length in ((spot.place, spot.length), (spot.state_place, STATE_BYTES)):
            if not place:
                continue
            segment, offset = self._segments.find(file_of(place)), offset_of(place)
            path, size = (segment.side, segment.side_bytes) if is_side(place) else (segment.path, segment.bytes)
            data = self._files.read(path, offset, min(length, size - offset))
            keep_aside(self._files, path, f"{path.stem}.{offset}", data)

    def forget_contents(self) -> None:
        """The file is empty: contents in the next one are others."""
        self._contents.clear()

    def contents_in(self, segment: Segment) -> int:
        """How many contents a file of them has, up to the first that is damaged; only where each begins is read."""
        frames = offset = 0
        while offset + PREFIX_BYTES <= segment.bytes:
            length = frame_bytes(memoryview(self._files.read(segment.path, offset, PREFIX_BYTES)), segment.salt)
            if length is None:
                break
            frames, offset = frames + 1, offset + length
        return max(0, frames - 1)

    def note(
        self, segment: Segment, dead: Sequence[int], states: Iterable[tuple[int, int]]
    ) -> list[int | StorageError]:
        """Write to the side file what became of messages of a segment; durable when this returns.

        dead: offsets. states: (offset of the message, place of the record with its state). Gives the offset in the
        side file of each state; an error for one that cannot be read.
        """
        frames: list[bytes] = []
        offsets: list[int | StorageError] = []
        end = segment.side_bytes
        if not end:
            frames.append(self._first_frame(segment))
            end = len(frames[0])
        pairs = list(states)
        found = read_states(self._files, self._segments, [place for _, place in pairs])
        for (offset, _), frame in zip(pairs, found, strict=True):
            assert frame is not None
            try:
                if isinstance(frame, StorageError):
                    raise frame
                header = [VERSION, offset, state_in(frame)]
            except StorageError as exc:
                offsets.append(exc)
                continue
            offsets.append(end)
            frames.append(encode(segment.salt, FrameType.STATE, frame.number, header))
            end += len(frames[-1])
        if dead:
            frames.append(encode(segment.salt, FrameType.DEAD, 0, [VERSION, list(dead)]))
            end += len(frames[-1])
        with self._trusted(segment):
            # A crash may have left it without a byte.
            there = segment.side_bytes or self._files.size(segment.side) is not None
            self._write(self._files.open(segment.side) if there else self._files.create(segment.side), frames)
        segment.side_bytes = end
        return offsets

    def seal(self, segment: Segment, index: bytes) -> None:
        """Write the index of a segment; nothing is appended to it any more."""
        self.close(segment)
        if self._files.size(segment.index) is not None:
            self._files.unlink(segment.index)
        self._write(self._files.create(segment.index), [index])

    def drop(self, segment: Segment) -> None:
        """Remove a segment of which nothing lives, and its folder if that was the last."""
        self.close(segment)
        # The side file goes last: without it the segment's messages would live again.
        for path in (segment.index, segment.path, segment.side):
            if self._files.size(path) is not None:
                self._files.unlink(path)
        if segment.path.suffix == ".seg":
            self._files.remove_directory(segment.path.parent)
        self.unsound.pop(segment.number, None)

    # ---- inside: reading

    def _messages(self, spots: Sequence[Spot]) -> list[Frame | StorageError | None]:
        """The frames of all but the large ones."""
        small = [spot.length <= HEAD_BYTES for spot in spots]
        wanted = [(spot.place, spot.length) for spot, is_small in zip(spots, small, strict=True) if is_small]
        found = iter(read_frames(self._files, self._segments, wanted))
        return [next(found) if is_small else None for is_small in small]

    def _stored(self, spot: Spot, frame: Frame | StorageError | None) -> Stored:
        """The delivery; of a large message that several share, without its content. frame: if it was read."""
        if isinstance(frame, StorageError):
            raise frame
        if frame is not None:
            return stored_in(frame, spot.number)
        segment = self._segments.find(file_of(spot.place))
        stored = stored_in(read_frame(self._files, segment, spot.place, HEAD_BYTES, head=True), spot.number)
        if stored.siblings > 1 and not isinstance(stored.content_ref, LargeFile):
            return stored
        return stored_in(read_frame(self._files, segment, spot.place, spot.length), spot.number)

    @staticmethod
    def _state(stored: Stored, state: Frame | StorageError | None) -> tuple[Snapshot, int]:
        """The newest state, and the frame that gave it."""
        if isinstance(state, StorageError):
            raise state
        return (stored.snapshot, stored.frame) if state is None else (state_in(state), state.number)

    def _to_share(self, spot: Spot, stored: Stored, emptied: int) -> tuple[int, memoryview | None]:
        """The place from which its content goes to a file of shared ones, and the content if it did not go already.

        0: it does not; it is in a file that stays, or goes with its message.
        """
        ref = stored.content_ref
        if isinstance(ref, LargeFile) or (ref is None and stored.siblings == 1) or (ref and ref[0] != emptied):
            return 0, None
        place, length = (place_of(ref[0], ref[1]), ref[2]) if ref else (spot.place, spot.length)
        if place in self._contents:
            return place, None
        return place, read_frame(self._files, self._segments.find(file_of(place)), place, length).body

    def _share(self, content: memoryview) -> ContentRef:
        segment = self._opened(self._shared, ".con")
        head = encode(segment.salt, FrameType.CONTENT, 0, [VERSION], content)
        offset = segment.bytes
        self._append(segment, [head, content])
        return segment.number, offset, segment.bytes - offset

    # ---- inside: writing

    def _opened(self, directory: Path, suffix: str) -> Segment:
        segment = self.open.get(directory)
        if segment is not None:
            if segment.bytes < self.segment_bytes:
                return segment
            self.close(segment)
        self._files.make_directory(directory)
        segment = Segment(segment_path(directory, self._new_number(), self._salt, suffix))
        first = self._first_frame(segment)
        descriptor = self._files.create(segment.path)
        try:
            self._write(descriptor, [first])
        except StorageError:
            with contextlib.suppress(StorageError):
                self._files.unlink(segment.path)  # or a disk that stays full gets a file with each try
            raise
        segment.bytes = len(first)
        segment.sealed = False
        self.open[directory] = self._segments[segment.number] = segment
        return segment

    def _first_frame(self, segment: Segment) -> bytes:
        return encode(segment.salt, FrameType.SEGMENT, 0, [VERSION, self._owner, segment.number, [], 0, ""])

    def _append(self, segment: Segment, pieces: Sequence[bytes | memoryview]) -> None:
        if pieces:
            with self._trusted(segment):
                self._write(self._files.open(segment.path), pieces)
            size = sum(map(len, pieces))
            segment.bytes += size
            self.written += size

    def _write(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        """Append, sync, close."""
        try:
            self._files.write(descriptor, pieces)
            self._files.sync(descriptor)
        finally:
            with contextlib.suppress(StorageError):
                self._files.close(descriptor)

    @contextlib.contextmanager
    def _trusted(self, segment: Segment) -> Iterator[None]:
        """S4: what fails in here makes the segment unsound."""
        try:
            yield
        except StorageError:
            self.close(segment)
            self.unsound[segment.number] = segment
            self._contents.clear()
            raise

    def close(self, segment: Segment) -> None:
        """Append no more to it."""
        segment.sealed = True
        if self.open.get(segment.path.parent) is segment:
            del self.open[segment.path.parent]
