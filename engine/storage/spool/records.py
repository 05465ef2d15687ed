"""What each kind of frame says: headers written, and read; their shapes are in shapes.py."""

import math
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final, NamedTuple

import msgspec

from engine.base.errors import StorageError
from engine.message.content import LargeFile
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Scope, Status
from engine.storage.events.event import event_id
from engine.storage.spool.entry import Snapshot
from engine.storage.spool.frame import VERSION, Frame, FrameType, RecordDamaged
from engine.storage.spool.shapes import DECODERS

encode_envelope: Final = msgspec.msgpack.Encoder().encode
decode_envelope: Final = msgspec.msgpack.Decoder(Envelope).decode

_NOBODY: Final = Recipient("")

#: File, offset and length of a CONTENT frame.
ContentRef = tuple[int, int, int]
#: Where a content lies if it does not lie with the message.
Elsewhere = ContentRef | LargeFile

#: What `ids.split_id` takes.
_ID: Final = re.compile("[0-9A-Za-z]{14}")
_pack: Final = msgspec.msgpack.Encoder().encode


class Written(NamedTuple):
    """A message as a frame has it. envelope: packed. deliveries: by number; frame: of their states. content: of a large
    one, the head."""

    envelope: bytes
    deliveries: dict[int, Snapshot]
    frame: int
    content: "memoryview"
    content_ref: Elsewhere | None


class Stored(NamedTuple):
    """One delivery of it."""

    snapshot: Snapshot
    frame: int
    envelope: bytes
    content: "memoryview"
    content_ref: Elsewhere | None
    siblings: int  #: deliveries in the same frame, itself included


def message_header(envelope: bytes, snapshots: Sequence[Snapshot], content_ref: Elsewhere | None) -> list[Any]:
    return [VERSION, envelope, snapshots, content_ref]


def taken_in_header(envelope: bytes, deliveries: Mapping[int, Snapshot], content_ref: Elsewhere | None) -> list[Any]:
    return [VERSION, envelope, list(deliveries.items()), content_ref]


def content_file(content_ref: Sequence[Any] | None) -> int:
    """The number of the file that a content reference names; 0: the content lies with its message."""
    if content_ref is None:
        return 0
    first = content_ref[0]
    return int(first.partition(".")[0]) if isinstance(first, str) else int(first)


def outcome_header(
    message_id: str,
    number: int,
    at: float,
    provider: str,
    snapshot: Snapshot,
    outcomes: Sequence[Outcome],
    envelope: bytes | None,
) -> list[Any]:
    return [VERSION, message_id, number, at, provider, snapshot, [_row(o) for o in outcomes], envelope]


def stored_header(
    frame: int, number: int, snapshot: Snapshot, content_ref: Elsewhere | None, envelope: bytes
) -> list[Any]:
    return [VERSION, frame, number, snapshot, content_ref, envelope]


def noted_header(events: bytes) -> list[Any]:
    return [VERSION, events]


def check_version(frame: Frame, where: object) -> None:
    """Raises StorageError: a later program wrote this."""
    if frame.header[:1] != [VERSION]:
        raise StorageError(f"{where}: a record of a version this program does not know")


def is_sound(frame: Frame) -> bool:
    """Whether a header has the shape that its kind of frame has, envelope included (P1). Unknown kinds are sound."""
    decoder = DECODERS.get(frame.type)
    if decoder is None:
        return True
    try:
        # Packed again and not `msgspec.convert`, which looks at the type anew each time: 1 us and not 20.
        header = decoder.decode(_pack(frame.header))
        if frame.type == FrameType.MESSAGE:
            return _is_envelope(header[1]) and all(map(_is_snapshot, header[2]))
        if frame.type == FrameType.TAKEN_IN:
            return _is_envelope(header[1]) and all(_is_snapshot(snapshot) for _, snapshot in header[2])
        if frame.type == FrameType.OUTCOME:
            is_id = _ID.fullmatch(header[1]) is not None
            return is_id and _is_snapshot(header[5]) and (header[7] is None or _is_envelope(header[7]))
        if frame.type == FrameType.STORED:
            return _is_envelope(header[5]) and _is_snapshot(header[3])
        if frame.type == FrameType.NOTED:
            lines = header[1].splitlines(keepends=True)
            return all(event_id(line)[0] == frame.number and line.endswith(b"\n") for line in lines)
        return frame.type != FrameType.STATE or _is_snapshot(header[2])
    except (ValueError, TypeError, OverflowError, msgspec.MsgspecError):
        return False


def _is_envelope(packed: bytes) -> bool:
    """Raises ValueError, MsgspecError: it is not."""
    envelope = decode_envelope(packed)
    return (
        _ID.fullmatch(envelope.id) is not None
        and math.isfinite(envelope.received_at)
        and math.isfinite(envelope.expires_at)
    )


def _is_snapshot(snapshot: Sequence[Any]) -> bool:
    return math.isfinite(snapshot[2])


def is_message(frame: Frame) -> bool:
    """Whether it is of a kind that has a message."""
    return frame.type in (FrameType.MESSAGE, FrameType.STORED, FrameType.TAKEN_IN)


def message_of(frame: Frame) -> Written:
    """The message in a sound frame that `is_message`."""
    if frame.type == FrameType.STORED:
        _, state, number, snapshot, content_ref, envelope = frame.header
        return Written(envelope, {number: snapshot}, state, frame.body, _content_ref(content_ref))
    _, envelope, told, content_ref = frame.header
    deliveries: dict[int, Snapshot] = dict(enumerate(told) if frame.type == FrameType.MESSAGE else told)
    return Written(envelope, deliveries, frame.number, frame.body, _content_ref(content_ref))


def message_in(frame: Frame) -> Written:
    """`message_of`, of any frame. Raises StorageError: it has no message, or is unsound."""
    if not is_sound(frame):
        raise _unsound(frame)
    if not is_message(frame):
        raise RecordDamaged(f"a frame of type {frame.type} where a message was expected")
    return message_of(frame)


def stored_in(frame: Frame, number: int) -> Stored:
    """Delivery `number` of the message in a frame. Raises StorageError: it is not there, or the frame is unsound."""
    envelope, deliveries, state, content, content_ref = message_in(frame)
    if number not in deliveries:
        raise _unsound(frame)
    return Stored(deliveries[number], state, envelope, content, content_ref, len(deliveries))


def state_in(frame: Frame) -> Snapshot:
    """The state in an OUTCOME or STATE frame. Raises StorageError: it is neither, or unsound."""
    if not is_sound(frame):
        raise _unsound(frame)
    if frame.type == FrameType.OUTCOME:
        snapshot: Snapshot = frame.header[5]
    elif frame.type == FrameType.STATE:
        snapshot = frame.header[2]
    else:
        raise RecordDamaged(f"a frame of type {frame.type} where a state was expected")
    return snapshot


def recipients_of(deliveries: Mapping[int, Snapshot]) -> set[int]:
    """The positions of all that are not final."""
    return {index for snapshot in deliveries.values() for index in snapshot[1]}


def recipients_at(envelope: Envelope, indexes: Set[int]) -> dict[int, Recipient]:
    """Those at these positions, by position; there are none behind its last."""
    return {index: envelope.recipients[index] for index in indexes if index < len(envelope.recipients)}


def addressed(envelope: Envelope, recipients: Mapping[int, Recipient]) -> Envelope:
    """The envelope with these recipients, by position: all others are blanks, and positions stay."""
    places = range(len(envelope.recipients))
    return msgspec.structs.replace(envelope, recipients=tuple(recipients.get(place, _NOBODY) for place in places))


def only(envelope: Envelope, indexes: Set[int]) -> Envelope:
    """The envelope with its own recipients at these positions and no others."""
    own = recipients_at(envelope, indexes)
    return envelope if len(own) == len(envelope.recipients) else addressed(envelope, own)


def trimmed(envelope: bytes, snapshot: Snapshot) -> bytes:
    """The envelope for a delivery that is stored by itself: other recipients are blanks, and positions stay."""
    whole = decode_envelope(envelope)
    own = only(whole, set(snapshot[1]))
    return envelope if own is whole else encode_envelope(own)


def outcomes_in(frame: Frame) -> list[Outcome]:
    """The outcomes that an OUTCOME frame records."""
    return [_outcome(row) for row in frame.header[6]]


def _unsound(frame: Frame) -> RecordDamaged:
    return RecordDamaged(f"a frame of type {frame.type} that is not what it should be")


def _content_ref(value: Any) -> Elsewhere | None:
    if value is None:
        return None
    first, second, third = value
    return LargeFile(first, second, third) if isinstance(first, str) else (first, second, third)


def _row(outcome: Outcome) -> tuple[Any, ...]:
    row = (
        outcome.index, outcome.status, outcome.scope, outcome.status_code, outcome.reply, outcome.remote, outcome.phase,
    )  # fmt: skip
    if outcome.price:
        return (*row, outcome.kind, outcome.price)
    return (*row, outcome.kind) if outcome.kind else row


def _outcome(row: list[Any]) -> Outcome:
    index, status, scope, status_code, reply, remote, phase, *more = row
    kind, price = (*more, "", "")[:2]
    return Outcome(
        index=index,
        status=Status(status),
        scope=Scope(scope),
        status_code=status_code,
        reply=reply,
        remote=remote,
        phase=phase,
        kind=kind,
        price=price,
    )
