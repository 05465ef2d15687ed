"""Events as lines of their journal, in the projections of frames: ids are of the frame, texts are made fit for JSON."""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import force_setattr

from engine.message.channels import channel_of
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome
from engine.storage.events.event import CLASSES, Event

#: `type` of an outcome, by the number of its status.
#: Tuples and not dicts: hashing an enum member runs Python code.
_TYPES: Final = ("", "delivered", "deferred", "failed", "unknown", "expired", "removed", "suppressed")
_TYPES_TO: Final = {
    "mail": _TYPES,
    "carrier": ("", "sent", *_TYPES[2:]),
    "account": ("", "handed-over", *_TYPES[2:]),
}
_SCOPES: Final = ("", "recipient", "message", "session", "site")
_ENCODER: Final = msgspec.json.Encoder()


def received_lines(seq: int, envelope: Envelope, destinations: Sequence[tuple[str, Sequence[int]]]) -> bytes:
    """One `received` event per recipient of an accepted message; JSON lines, each with its newline.

    destinations: (destination, positions in `envelope.recipients`), as the message was split.
    """
    events = []
    at = int(envelope.received_at * 1000) / 1000  # a third of the time of round()
    name = CLASSES[envelope.message_class]
    recipients = envelope.recipients
    tenant, stream, batch = envelope.tenant or envelope.user, envelope.stream, envelope.batch
    n = 0
    for destination, indexes in destinations:
        if envelope.channel and channel_of(destination)[0] == "account":
            continue  # no client sent it
        for index in indexes:
            events.append(
                Event(
                    f"{seq}.{n}",
                    at,
                    "received",
                    envelope.id,
                    name,
                    envelope.sender,
                    recipients[index].address,
                    destination,
                    envelope.envid,
                    tenant=tenant,
                    stream=stream,
                    batch=batch,
                )
            )
            n += 1
    return _lines(events)


def outcome_lines(
    seq: int,
    at: float,
    envelope: Envelope,
    destination: str,
    attempt: int,
    provider: str,
    outcomes: Sequence[Outcome],
) -> bytes:
    """One event per outcome of an attempt; JSON lines, each with its newline."""
    return _lines(
        [
            outcome_event(at, envelope, destination, attempt, provider, outcome, f"{seq}.{n}")
            for n, outcome in enumerate(outcomes)
        ]
    )


def outcome_event(
    at: float, envelope: Envelope, destination: str, attempt: int, provider: str, outcome: Outcome, id: str = ""
) -> Event:
    """The event of an outcome of attempt number `attempt`; 1 is the first."""
    types = _TYPES if not envelope.channel else _TYPES_TO[channel_of(destination)[0]]
    return Event(
        id,
        int(at * 1000) / 1000,
        types[outcome.status],
        envelope.id,
        CLASSES[envelope.message_class],
        envelope.sender,
        envelope.recipients[outcome.index].address,
        destination,
        envelope.envid,
        attempt,
        outcome.status_code,
        outcome.reply,
        outcome.remote,
        outcome.phase,
        _SCOPES[outcome.scope],
        provider,
        int((at - envelope.received_at) * 1000) / 1000,
        price=outcome.price,
        kind=outcome.kind,
        tenant=envelope.tenant or envelope.user,
        stream=envelope.stream,
        batch=envelope.batch,
    )


def noted_lines(seq: int, events: Sequence[Event]) -> bytes:
    """Events that were made without an id, and have one from now on; JSON lines, each with its newline."""
    for n, event in enumerate(events):
        force_setattr(event, "id", f"{seq}.{n}")
    return _lines(events)


def _lines(events: Sequence[Event]) -> bytes:
    try:
        return _ENCODER.encode_lines(events)
    except UnicodeEncodeError:
        # A lone surrogate (undecodable bytes of a peer): the event matters more than how they look in it.
        return _ENCODER.encode_lines([_printable(event) for event in events])


def _printable(event: Event) -> Event:
    def clean(value: str) -> str:
        return value.encode("utf-8", "backslashreplace").decode()

    texts = {field: value for field in event.__struct_fields__ if isinstance(value := getattr(event, field), str)}
    return msgspec.structs.replace(event, **{field: clean(value) for field, value in texts.items()})
