"""A message put together from the records of its deliveries, wherever they lie, with its content read once."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

from engine.base.errors import StorageError
from engine.message.content import whole
from engine.message.envelope import Envelope, Recipient
from engine.storage.spool.entry import Snapshot, Spot
from engine.storage.spool.export import Exported
from engine.storage.spool.fetch import HEAD_BYTES, read_frame, read_states
from engine.storage.spool.files import Files
from engine.storage.spool.reader import content_of
from engine.storage.spool.records import (
    Written,
    addressed,
    decode_envelope,
    message_in,
    recipients_at,
    recipients_of,
    state_in,
)
from engine.storage.spool.segment import Segments, file_of


def collect(files: Files, segments: Segments, spots: Iterable[Spot]) -> tuple[Exported | None, list[str]]:
    """The deliveries that can be read, of those of one message at these spots; and a line for each that cannot.

    Blocks. The content is that of the first frame that gives it unharmed; all of a message have the same.
    """
    envelope: Envelope | None = None
    recipients: dict[int, Recipient] = {}
    deliveries: dict[int, Snapshot] = {}
    content: bytes | None = None
    problems: list[str] = []
    faults: list[str] = []
    for _, group in groupby(sorted(spots), attrgetter("place")):
        own = list(group)
        try:
            message = _message(files, segments, own[0], head=content is not None)
        except StorageError as exc:
            problems += [str(exc)] * len(own)
            continue
        found = _deliveries(files, segments, message, own, problems)
        if not found:
            continue
        # Not the envelopes: each has a place for every recipient of every delivery.
        envelope = decode_envelope(message.envelope)
        recipients |= recipients_at(envelope, recipients_of(found))
        deliveries |= found
        if content is None:
            try:
                content = whole(content_of(files, segments, message.content, message.content_ref))
            except StorageError as exc:
                faults += [str(exc)] * len(found)
    if envelope is None or content is None:
        return None, problems + faults
    return Exported(addressed(envelope, recipients), dict(sorted(deliveries.items())), content), problems


def _message(files: Files, segments: Segments, spot: Spot, head: bool) -> Written:
    """What the frame at a spot has; head: without a content. Raises StorageError."""
    length = min(spot.length, HEAD_BYTES) if head else spot.length
    return message_in(read_frame(files, segments.find(file_of(spot.place)), spot.place, length, head))


def _deliveries(
    files: Files, segments: Segments, message: Written, spots: Sequence[Spot], problems: list[str]
) -> dict[int, Snapshot]:
    """The newest states of those of its deliveries that these spots are of."""
    found: dict[int, Snapshot] = {}
    states = read_states(files, segments, [spot.state_place for spot in spots])
    for spot, state in zip(spots, states, strict=True):
        try:
            if isinstance(state, StorageError):
                raise state
            if spot.number not in message.deliveries:
                raise StorageError(f"there is no delivery {spot.number} in the record at {spot.place}")
            found[spot.number] = message.deliveries[spot.number] if state is None else state_in(state)
        except StorageError as exc:
            problems.append(str(exc))
    return found
