"""Recovery: what the files say was accepted and is not final yet.

S3  any prefix of the log, with any torn tail, yields a state that existed.
S5  a damaged record is copied to `damaged/` and reported; the rest goes on.

Files are read oldest first. A message frame replaces an earlier one of the same id (it was carried forward); an
outcome changes the deliveries of a message seen before, and one whose message is gone changes nothing.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from engine.base.errors import StorageError
from engine.message.content import LargeFile
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome, Scope, Status
from engine.storage.events.event import outcome_lines, received_lines
from engine.storage.spool.entry import Delivery, Message, State
from engine.storage.spool.frame import Damage, Frame, FrameType, decode, scan
from engine.storage.spool.journal import Segment

#: First field of every frame header.
VERSION = 1

#: A first frame is some dozen bytes, and as many for each tail that was ever abandoned.
_FIRST_FRAME_BYTES = 64 << 10

decode_envelope = msgspec.msgpack.Decoder(Envelope).decode


@dataclass
class Recovered:
    """What was found. events: lines that a crash kept from the event journal. problems: one line each, for the log."""

    messages: dict[str, Message] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    void: list[tuple[int, int]] = field(default_factory=list)
    last_frame: int = 0
    last_id: str = ""
    events: list[bytes] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def recover(directory: Path, last_event_frame: int) -> Recovered:
    """Read every file of a journal. last_event_frame: the events of frames from it on may be missing.

    Raises StorageError when a file cannot be read at all: better no start than a start without it.
    """
    found = Recovered()
    found.segments = _segments(directory, found.problems)
    found.void = _void_tails(found.segments)
    void = dict(found.void)
    envelopes: dict[str, Envelope] = {}  # of messages whose events are still to be written
    for segment in found.segments:
        data = _bytes_of(segment.path)
        segment.bytes = len(data)
        for frame in scan(data[: void.get(segment.number)], segment.salt):
            if isinstance(frame, Damage):
                _set_aside(found, segment.path, data[frame.offset : frame.end], frame)
            else:
                _apply(found, frame, segment, last_event_frame, envelopes)
    # Oldest first, as they were accepted: one that was carried forward may have been read later.
    found.messages = dict(sorted(found.messages.items()))
    for message in list(found.messages.values()):
        if message.live:
            message.segment.live += 1
            message.segment.live_bytes += message.length
        else:
            del found.messages[message.id]
    return found


def _apply(
    found: Recovered, frame: Frame, segment: Segment, last_event_frame: int, envelopes: dict[str, Envelope]
) -> None:
    if frame.header[:1] != [VERSION]:
        raise StorageError(f"{segment.path}: a record of a version this program does not know")
    found.last_frame = max(found.last_frame, frame.number)
    new_event = frame.number >= last_event_frame
    if frame.type == FrameType.MESSAGE:
        message, envelope, carried = read_message(frame.header)
        message.segment, message.offset, message.length = segment, frame.offset, frame.end - frame.offset
        found.messages[message.id] = message
        found.last_id = max(found.last_id, message.id)
        if new_event:
            envelopes[message.id] = envelope
            if not carried:
                splits = [(delivery.destination, delivery.indexes) for delivery in message.deliveries]
                found.events.append(received_lines(frame.number, envelope, splits))
    elif frame.type == FrameType.OUTCOME:
        _, message_id, number, at, provider, snapshot, rows = frame.header
        known = found.messages.get(message_id)
        if known is None:
            return
        restored = Delivery.restore(known, number, snapshot)
        known.live -= known.deliveries[number].state is not State.FINAL
        known.live += restored.state is not State.FINAL
        known.deliveries = (*known.deliveries[:number], restored, *known.deliveries[number + 1 :])
        if new_event and rows:
            envelope = envelopes.get(message_id) or _envelope_of(known)
            outcomes = [outcome_of(row) for row in rows]
            found.events.append(
                outcome_lines(frame.number, at, envelope, restored.destination, restored.attempts, provider, outcomes)
            )


def read_message(header: list[Any]) -> tuple[Message, Envelope, bool]:
    """The message of a MESSAGE frame's header, its envelope, and whether it was carried forward."""
    _, packed, snapshots, carried = header[:4]
    envelope = decode_envelope(packed)
    message = Message(envelope)
    message.large = large_file_of(header)
    message.deliveries = tuple(Delivery.restore(message, n, snapshot) for n, snapshot in enumerate(snapshots))
    message.live = sum(delivery.state is not State.FINAL for delivery in message.deliveries)
    return message, envelope, bool(carried)


def large_file_of(header: list[Any]) -> LargeFile | None:
    """The file that a MESSAGE frame names; its fifth field, which only large contents have."""
    return LargeFile(*header[4]) if len(header) > 4 else None


def outcome_row(outcome: Outcome) -> tuple[int, int, int, str, str, str, str]:
    """An outcome as an OUTCOME frame keeps it."""
    return (
        outcome.index, outcome.status, outcome.scope, outcome.status_code, outcome.reply, outcome.remote, outcome.phase,
    )  # fmt: skip


def outcome_of(row: list[Any]) -> Outcome:
    """What outcome_row wrote."""
    index, status, scope, status_code, reply, remote, phase = row
    return Outcome(
        index=index,
        status=Status(status),
        scope=Scope(scope),
        status_code=status_code,
        reply=reply,
        remote=remote,
        phase=phase,
    )


def _segments(directory: Path, problems: list[str]) -> list[Segment]:
    """The files of the journal, oldest first. What else lies there is left alone, and told."""
    segments = []
    for path in directory.glob("*.log"):
        try:
            segments.append(Segment(path))
        except ValueError:
            problems.append(f"{path.name} is no file of the journal; it is left as it is")
    return sorted(segments, key=lambda segment: segment.number)


def _void_tails(segments: list[Segment]) -> list[tuple[int, int]]:
    """The tails that were abandoned after a failed write, as the first frames of later files tell (S4)."""
    tails: set[tuple[int, int]] = set()
    present = {segment.number for segment in segments}
    for segment in segments:
        first = decode(memoryview(_bytes_of(segment.path, 0, _FIRST_FRAME_BYTES)), 0, segment.salt)
        if first is not None and first.type == FrameType.SEGMENT:
            tails.update((number, offset) for number, offset in first.header[3] if number in present)
    return sorted(tails)


def _envelope_of(message: Message) -> Envelope:
    data = _bytes_of(message.segment.path, message.offset, message.length)
    frame = decode(memoryview(data), 0, message.segment.salt)
    assert frame is not None  # it was whole a moment ago
    return read_message(frame.header)[1]


def _set_aside(found: Recovered, path: Path, data: bytes, damage: Damage) -> None:
    what = f"{path.name}: {damage.end - damage.offset} bytes from {damage.offset} on are no whole record"
    if damage.torn:
        found.problems.append(f"{what}: the torn tail of a crash, nothing in it was acknowledged")
        return
    copy = path.parent / "damaged" / f"{path.stem}.{damage.offset}"
    try:
        copy.parent.mkdir(mode=0o700, exist_ok=True)
        copy.write_bytes(data)
    except OSError as exc:
        raise StorageError(f"cannot set damage aside in {copy}: {exc.strerror}") from exc
    found.problems.append(f"{what}: set aside as {copy}")


def _bytes_of(path: Path, offset: int = 0, length: int = -1) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as exc:
        raise StorageError(f"cannot read {path}: {exc.strerror}") from exc
