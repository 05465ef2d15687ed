"""Reading deliveries back from the disk, many at a time: neighbours in a file come with one read."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from engine.base.errors import StorageError
from engine.message.envelope import Envelope
from engine.storage.spool.backlog import read_frame
from engine.storage.spool.entry import Snapshot
from engine.storage.spool.files import Files
from engine.storage.spool.frame import Frame, decode
from engine.storage.spool.records import decode_envelope, state_in, stored_in
from engine.storage.spool.segment import Segments, file_of, offset_of, place_of

#: A read takes in what lies no further apart, up to this much.
_GAP_BYTES, _READ_BYTES = 16 << 10, 1 << 20


class Wanted(NamedTuple):
    """Where a delivery lies; see table.COLUMNS."""

    place: int
    length: int
    state_place: int
    number: int


class Read(NamedTuple):
    """What was there."""

    envelope: Envelope
    content: bytes
    snapshot: Snapshot


def read_deliveries(files: Files, segments: Segments, wanted: Sequence[Wanted]) -> list[Read | StorageError]:
    """An answer for each, in the same order; an error for what cannot be read, or is damaged. Blocks."""
    answers: list[Read | StorageError] = [StorageError("not read")] * len(wanted)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index].place)
    for run in _runs(wanted, order):
        for index, frame in zip(run, _frames(files, segments, [wanted[i] for i in run]), strict=True):
            try:
                if isinstance(frame, StorageError):
                    raise frame
                answers[index] = _delivery(files, segments, wanted[index], frame)
            except StorageError as exc:
                answers[index] = exc
    return answers


def _delivery(files: Files, segments: Segments, wanted: Wanted, frame: Frame) -> Read:
    stored = stored_in(frame, wanted.number)
    snapshot = stored.snapshot
    if wanted.state_place:
        snapshot = state_in(read_frame(files, segments.find(file_of(wanted.state_place)), wanted.state_place))
    content = stored.content
    if stored.content_ref is not None:
        number, offset, length = stored.content_ref
        content = read_frame(files, segments.find(number), place_of(number, offset), length).body
    return Read(decode_envelope(stored.envelope), bytes(content), snapshot)


def _runs(wanted: Sequence[Wanted], order: Sequence[int]) -> Iterator[list[int]]:
    """Indexes of what is read at once."""
    run: list[int] = []
    start = end = 0
    for index in order:
        place, length = wanted[index].place, wanted[index].length
        if run and (place > end + _GAP_BYTES or place + length - start > _READ_BYTES):
            yield run
            run = []
        if not run:
            start = place
        run.append(index)
        end = place + length
    if run:
        yield run


def _frames(files: Files, segments: Segments, run: Sequence[Wanted]) -> list[Frame | StorageError]:
    """The frames of one run, which lies in one file: files are further apart than any gap."""
    first, last = offset_of(run[0].place), offset_of(run[-1].place) + run[-1].length
    try:
        segment = segments.find(file_of(run[0].place))
        data = memoryview(files.read(segment.path, first, last - first))
    except StorageError as exc:
        return [exc] * len(run)
    frames: list[Frame | StorageError] = []
    for one in run:
        offset = offset_of(one.place)
        frame = decode(data, offset - first, segment.salt)
        frames.append(frame or StorageError(f"{segment.path}: the record at {offset} is damaged"))
    return frames
