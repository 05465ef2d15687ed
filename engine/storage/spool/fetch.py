"""Frames from the files of the spool, by place: one, or many at a time; neighbours in a file come with one read."""

from collections.abc import Iterator, Sequence

from engine.base.errors import StorageError
from engine.storage.spool.files import Files
from engine.storage.spool.frame import Frame, RecordDamaged, decode, frame_bytes
from engine.storage.spool.segment import Segment, Segments, file_of, is_side, offset_of

#: Enough for the header of nearly every message, and for every state.
HEAD_BYTES = 16 << 10
#: What most states take, as a guess.
STATE_BYTES = 1 << 10
#: A read takes in what lies no further apart, up to this much.
_GAP_BYTES, _READ_BYTES = 16 << 10, 1 << 20


def read_frame(files: Files, segment: Segment, place: int, length: int = HEAD_BYTES, head: bool = False) -> Frame:
    """The frame at a place of a segment. length: of the frame, as far as it is known. head: without its body.

    Raises StorageError: it cannot be read; RecordDamaged: it is damaged.
    """
    path, size = (segment.side, segment.side_bytes) if is_side(place) else (segment.path, segment.bytes)
    offset = offset_of(place)
    data = memoryview(files.read(path, offset, min(length, size - offset)))
    whole = frame_bytes(data, segment.salt) or 0
    frame = decode(data, 0, segment.salt, head=True) if head else None
    if frame is None and len(data) < whole <= size - offset:
        data = memoryview(files.read(path, offset, whole))
    if frame is None:
        frame = decode(data, 0, segment.salt, head=head)
    if frame is None:
        raise RecordDamaged(f"{path}: the record at {offset} is damaged")
    return frame


def read_frames(files: Files, segments: Segments, wanted: Sequence[tuple[int, int]]) -> list[Frame | StorageError]:
    """An answer for each place, in the same order; an error for what cannot be read, or is damaged. Blocks.

    wanted: places with the length of the frame, which may be a guess.
    """
    answers: list[Frame | StorageError] = [StorageError("not read")] * len(wanted)
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    for run in _runs(wanted, order):
        for index, frame in zip(run, _read_run(files, segments, [wanted[i] for i in run]), strict=True):
            answers[index] = frame
    return answers


def read_states(files: Files, segments: Segments, places: Sequence[int]) -> list[Frame | StorageError | None]:
    """`read_frames`, of records with a state; None where there is none (place 0)."""
    found = iter(read_frames(files, segments, [(place, STATE_BYTES) for place in places if place]))
    return [next(found) if place else None for place in places]


def _runs(wanted: Sequence[tuple[int, int]], order: Sequence[int]) -> Iterator[list[int]]:
    """Indexes of what is read at once."""
    run: list[int] = []
    start = end = 0
    for index in order:
        place, length = wanted[index]
        if run and (place > end + _GAP_BYTES or place + length - start > _READ_BYTES):
            yield run
            run = []
        if not run:
            start = place
        run.append(index)
        end = place + length
    if run:
        yield run


def _read_run(files: Files, segments: Segments, run: Sequence[tuple[int, int]]) -> list[Frame | StorageError]:
    """The frames of one run, which lies in one file: files are further apart than any gap."""
    first = run[0][0]
    try:
        segment = segments.find(file_of(first))
        path, size = (segment.side, segment.side_bytes) if is_side(first) else (segment.path, segment.bytes)
        start, end = offset_of(first), min(offset_of(run[-1][0]) + run[-1][1], size)
        data = memoryview(files.read(path, start, end - start))
    except StorageError as exc:
        return [exc] * len(run)
    frames: list[Frame | StorageError] = []
    for place, length in run:
        try:
            frame = decode(data, offset_of(place) - start, segment.salt)
            frames.append(frame or read_frame(files, segment, place, length))  # longer than was thought, or damaged
        except StorageError as exc:
            frames.append(exc)
    return frames
