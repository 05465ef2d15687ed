"""Recovery of the journal: what its files say was accepted and is not final yet.

S3  any prefix of the log, with any torn tail, yields a state that existed.
S5  a damaged record is copied to `damaged/` and reported; the rest goes on.

Each file names the older ones that were there when it was begun (journal.py): one that is gone, or shorter than it was,
is told, and so is a journal that ends before its events do.

Files are read oldest first. An outcome changes a delivery seen before; one of a message that is not in the journal is
kept for the old generation (loading.py), which is read after intake has opened.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.message.envelope import Envelope
from engine.storage.events.lines import outcome_lines, received_lines
from engine.storage.spool.entry import Snapshot
from engine.storage.spool.files import Files
from engine.storage.spool.frame import VERSION, Damage, Frame, FrameType, decode, scan
from engine.storage.spool.index import Texts
from engine.storage.spool.records import (
    check_version,
    content_file,
    decode_envelope,
    is_sound,
    message_of,
    outcomes_in,
    state_in,
)  # fmt: skip
from engine.storage.spool.rows import stored_row
from engine.storage.spool.segment import Segment, place_of
from engine.storage.spool.table import Values

#: The first two frames are some dozen bytes, and as many for each tail that was ever abandoned, and each older file.
_FIRST_FRAMES_BYTES = 1 << 20
#: Of no frame: nothing is to be told of any.
NO_EVENTS = 1 << 64
#: What may lie beside a segment: its side file and its index, and the folder of damage that was set aside.
_BESIDE, _ASIDE = (".sta", ".idx"), "damaged"


class Loss(str):
    """A problem that `status` counts: something on the disk is gone, or is not what was written."""

    __slots__ = ()


class Young:
    """A message in the journal. states: of each delivery, as (snapshot, frame, place of the state); None: final.

    first: the number of the first of these deliveries; of one that was taken in there is no other.
    """

    __slots__ = ("content_file", "envelope", "first", "length", "place", "states")

    def __init__(
        self, frame: Frame, envelope: Envelope, segment: Segment, snapshots: Sequence[Snapshot], first: int = 0
    ) -> None:
        self.envelope = envelope
        self.place = place_of(segment.number, frame.offset)
        self.length = frame.end - frame.offset
        self.content_file = content_file(frame.header[4 if frame.type == FrameType.STORED else 3])
        self.first = first
        self.states: list[tuple[Snapshot, int, int] | None] = [(snapshot, frame.number, 0) for snapshot in snapshots]


#: By message and delivery number: the newest state, its frame and its place; None: final.
Outcomes = dict[tuple[str, int], tuple[int, Snapshot | None, int]]


@dataclass
class Recovered:
    """What was found. messages: in the journal, the final ones included. taken_in: deliveries that came from another
    spool, by message and number. outcomes: of messages that are not in the journal.

    events: lines that a crash kept from the event journal. problems: one line each, for the log; lost: those of them
    about files that are gone or cut, by number; 0: the newest, whichever that was. named: the older files that the
    newest one tells of, with their bytes. retired: those that went since.
    """

    messages: dict[str, Young] = field(default_factory=dict)
    taken_in: dict[tuple[str, int], Young] = field(default_factory=dict)
    outcomes: Outcomes = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    void: list[tuple[int, int]] = field(default_factory=list)
    events_safe: int = 0
    last_frame: int = 0
    last_id: str = ""
    events: list[bytes] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lost: dict[int, Loss] = field(default_factory=dict)
    named: dict[int, int] = field(default_factory=dict)
    retired: set[int] = field(default_factory=set)


def recover(directory: Path, files: Files, trusted: Callable[[int], int], read_only: bool = False) -> Recovered:
    """Read every file of a journal. trusted: told the frame up to which events were synced, gives the one from which
    on they may be missing.

    read_only: nothing is set aside. Raises StorageError when a file cannot be read at all: better no start than a
    start without it.
    """
    found = Recovered()
    found.segments = segments_in(directory, files, ".log", found.problems)
    _read_first_frames(found, files)
    last_event_frame = trusted(found.events_safe)
    void = dict(found.void)
    for segment in found.segments:
        if not read_only:
            make_safe(segment.path, files)
        data = files.read(segment.path)
        segment.bytes = len(data)
        named = found.named.get(segment.number, 0)
        if len(data) < named:
            found.lost[segment.number] = Loss(f"{segment.path.name} was cut: {len(data)} bytes of {named} are left")
        for frame in scan(data[: void.get(segment.number)], segment.salt):
            if isinstance(frame, Damage):
                if frame.torn:
                    segment.bytes = frame.offset
                damage = frame._replace(torn=frame.torn and frame.offset >= named)
                found.problems.append(set_aside(files, segment.path, data, damage, read_only))
            elif is_whole(frame, segment.path, files, data, found.problems, read_only):
                _apply(found, frame, segment, files, last_event_frame)
    found.last_frame = max(found.last_frame, found.events_safe)
    _look_for_gaps(found, last_event_frame)
    found.last_frame = max(found.last_frame, last_event_frame)
    return found


def _look_for_gaps(found: Recovered, last_event_frame: int) -> None:
    """What should be there and is not (S5). last_event_frame: of the newest event; NO_EVENTS: nobody looked."""
    present = {segment.number for segment in found.segments}
    for number in sorted(found.named.keys() - present - found.retired):
        found.lost[number] = Loss(f"file {number} of the journal is gone, with the messages and outcomes in it")
    if found.last_frame < last_event_frame < NO_EVENTS:
        missing = last_event_frame - found.last_frame
        found.lost[0] = Loss(f"the journal has lost its end: up to {missing} records whose events are known")
    found.problems += found.lost.values()


def rows_of(found: Recovered, texts: Texts) -> list[Values]:
    """A table row for each delivery of the journal that lives, oldest first."""
    rows = []
    young = [*found.messages.values(), *found.taken_in.values()]
    for message in sorted(young, key=lambda message: message.envelope.id):
        for number, state in enumerate(message.states, message.first):
            if state is not None:
                snapshot, frame, state_place = state
                rows.append(
                    stored_row(
                        message.envelope, number, snapshot, texts, place=message.place, length=message.length,
                        state_place=state_place, frame=frame, content_file=message.content_file,
                    )
                )  # fmt: skip
    return rows


def segments_in(directory: Path, files: Files, suffix: str, problems: list[str]) -> list[Segment]:
    """The segments in a directory, oldest first. What else lies there is left alone, and told."""
    segments = []
    for name in files.names(directory):
        path = directory / name
        if path.suffix in _BESIDE or name == _ASIDE:
            continue
        try:
            segment = Segment(path, files.size(path) or 0)
        except ValueError:
            segment = None
        if segment is not None and path.suffix == suffix:
            segments.append(segment)
        else:
            problems.append(f"{directory.name}/{name} is no file of the spool; it is left as it is")
    return sorted(segments, key=lambda segment: segment.number)


def make_safe(path: Path, files: Files) -> None:
    """Sync a file before what it says is believed: a process that was killed may have written it and not synced it.

    Else other files could go because of what this one says, and after a power cut it would not say it.
    """
    descriptor = files.open(path)
    try:
        files.sync(descriptor)
    finally:
        files.close(descriptor)


def content_segments(directory: Path, files: Files, problems: list[str]) -> list[Segment]:
    """The files that hold contents and no messages, of a spool's directory."""
    shared = segments_in(directory / "shared", files, ".con", problems)
    return shared + segments_in(directory / "large", files, ".dat", problems)


def is_whole(frame: Frame, path: Path, files: Files, data: bytes, problems: list[str], read_only: bool) -> bool:
    """Whether a frame is what it should be; if not it is damage, however right its checksum is (S5, P1).

    Raises StorageError: a later program wrote it.
    """
    check_version(frame, path)
    if is_sound(frame):
        return True
    problems.append(set_aside(files, path, data, Damage(frame.offset, frame.end, torn=False), read_only))
    return False


def set_aside(files: Files, path: Path, data: bytes, damage: Damage, read_only: bool) -> str:
    """Copy damage to `damaged/` beside the file, unless it is a torn tail: what to tell of it."""
    what = f"{path.name}: {damage.end - damage.offset} bytes from {damage.offset} on are no whole record"
    if damage.torn:
        return f"{what}: the torn tail of a crash"
    if read_only:
        return Loss(what)
    copy = keep_aside(files, path, f"{path.stem}.{damage.offset}", memoryview(data)[damage.offset : damage.end])
    return Loss(f"{what}: set aside as {copy}")


def keep_aside(files: Files, path: Path, name: str, data: bytes | memoryview) -> Path:
    """A durable copy of what a file has, under this name in `damaged/` beside it; where it lies."""
    copy = path.parent / _ASIDE / name
    if (size := files.size(copy)) == len(data):
        return copy
    files.make_directory(copy.parent)
    if size is not None:
        files.unlink(copy)  # a crash cut it short
    descriptor = files.create(copy)
    try:
        files.write(descriptor, [data])
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    return copy


def _apply(found: Recovered, frame: Frame, segment: Segment, files: Files, last_event_frame: int) -> None:
    found.last_frame = max(found.last_frame, frame.number)
    if frame.type == FrameType.RETIRED:
        found.retired.add(frame.header[1])
        return
    new_event = frame.number >= last_event_frame
    if frame.type == FrameType.NOTED and new_event:
        found.events.append(frame.header[1])
    if frame.type == FrameType.MESSAGE:
        envelope = decode_envelope(frame.header[1])
        found.messages[envelope.id] = message = Young(frame, envelope, segment, frame.header[2])
        found.last_id = max(found.last_id, envelope.id)
        if new_event:
            splits = [(state[0][0], state[0][1]) for state in message.states if state is not None]
            found.events.append(received_lines(frame.number, envelope, splits))
    elif frame.type in (FrameType.TAKEN_IN, FrameType.STORED):
        _take_in(found, frame, segment, new_event)
    elif frame.type == FrameType.OUTCOME:
        _, message_id, number, at, provider, snapshot, rows, packed = frame.header
        place = place_of(segment.number, frame.offset)
        known = found.taken_in.get((message_id, number)) if found.taken_in else None
        known = known or found.messages.get(message_id)
        if known is None:
            found.outcomes[message_id, number] = frame.number, state_in(frame) if snapshot[1] else None, place
        elif number - known.first < len(known.states):
            known.states[number - known.first] = (snapshot, frame.number, place) if snapshot[1] else None
        if new_event and rows:
            if packed is None and known is None:
                return
            envelope = known.envelope if packed is None and known is not None else decode_envelope(packed)
            if not all(row[0] < len(envelope.recipients) for row in rows):
                return  # of another message
            found.events.append(
                outcome_lines(frame.number, at, envelope, snapshot[0], snapshot[3], provider, outcomes_in(frame))
            )


def _take_in(found: Recovered, frame: Frame, segment: Segment, new_event: bool) -> None:
    """Deliveries that came from another spool; they may have been here before, and then this is what counts."""
    message = message_of(frame)
    envelope = decode_envelope(message.envelope)
    before = found.messages.get(envelope.id)
    for number, snapshot in message.deliveries.items():
        if before is not None and number < len(before.states):
            before.states[number] = None
        found.outcomes.pop((envelope.id, number), None)
        found.taken_in[envelope.id, number] = Young(frame, envelope, segment, [snapshot], number)
    if new_event:
        splits = [(snapshot[0], snapshot[1]) for snapshot in message.deliveries.values()]
        found.events.append(received_lines(frame.number, envelope, splits))


def _read_first_frames(found: Recovered, files: Files) -> None:
    """What the first frames of files tell: the tails of older ones that were abandoned after a failed write (S4), up to
    which frame the events were safe, and the highest id until then.
    """
    segments = found.segments
    tails: set[tuple[int, int]] = set()
    present = {segment.number for segment in segments}
    for segment in segments:
        head = files.read(segment.path, 0, min(segment.bytes, _FIRST_FRAMES_BYTES))
        first = decode(memoryview(head), 0, segment.salt)
        if first is not None and first.type == FrameType.SEGMENT and first.header[:1] == [VERSION] and is_sound(first):
            tails.update((number, offset) for number, offset in first.header[3] if number in present)
            found.events_safe = max(found.events_safe, first.header[4])
            found.last_id = max(found.last_id, first.header[5])
            second = decode(memoryview(head), first.end, segment.salt)
            if second is not None and second.type == FrameType.JOURNAL and is_sound(second):
                found.last_frame = max(found.last_frame, second.header[1])
                found.named = dict(second.header[2])
    found.void = sorted(tails)
