"""Deliveries as rows of the table: from an object, and from what a frame says of one."""

from engine.message.envelope import Envelope
from engine.message.ids import split_id
from engine.storage.spool.entry import Delivery, Snapshot, State
from engine.storage.spool.index import Texts
from engine.storage.spool.table import Values


def row_of(delivery: Delivery, state: State, texts: Texts) -> Values:
    """The row of a delivery that nobody will have in hand any more."""
    message = delivery.message
    packed, node = split_id(message.id)
    return {
        "place": delivery.place,
        "length": delivery.length,
        "state_place": delivery.state_place,
        "frame": delivery.frame,
        "id": packed,
        "node": texts["node"].number(node),
        "number": delivery.number,
        "content_file": delivery.content_file,
        "due_at": seconds(delivery.due_at),
        "expires_at": seconds(message.expires_at),
        "attempts": min(delivery.attempts, 0xFFFF),
        "notices": delivery.notices,
        "recipients": len(delivery.indexes),
        "message_class": message.message_class,
        "tenant": texts["tenant"].number(message.tenant),
        "batch": texts["batch"].number(message.batch),
        "destination": texts["destination"].number(delivery.destination),
        "via": texts["via"].number(delivery.via),
        "state": state,
    }


def stored_row(
    envelope: Envelope, number: int, snapshot: Snapshot, texts: Texts, *, place: int, length: int, state_place: int,
    frame: int, content_file: int,
) -> Values:  # fmt: skip
    """The row of a delivery as its records tell."""
    packed, node = split_id(envelope.id)
    return {
        "place": place,
        "length": length,
        "state_place": state_place,
        "frame": frame,
        "id": packed,
        "node": texts["node"].number(node),
        "number": number,
        "content_file": content_file,
        "expires_at": seconds(envelope.expires_at),
        "message_class": envelope.message_class,
        "tenant": texts["tenant"].number(envelope.user),
        "batch": texts["batch"].number(envelope.batch),
        "destination": texts["destination"].number(snapshot[0]),
        "via": 0,
        **state_values(snapshot),
    }


def state_values(snapshot: Snapshot) -> Values:
    """The columns that a newer state changes."""
    _, indexes, due_at, attempts, _, notices, _ = snapshot
    return {
        "due_at": seconds(due_at),
        "attempts": min(attempts, 0xFFFF),
        "notices": notices,
        "recipients": len(indexes),
        "state": State.WAITING,
    }


def seconds(at: float) -> int:
    """A time as the table has it: whole seconds, never too early."""
    return min(max(0, -int(-at // 1)), 0xFFFF_FFFF)
