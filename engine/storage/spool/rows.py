"""Deliveries and rows of the table: an object as a row, a frame as a row, a row as an object again."""

from collections.abc import Mapping

from engine.message.envelope import Envelope, Recipient
from engine.message.ids import id_time, join_id, split_id
from engine.storage.spool.entry import Delivery, Message, Read, Snapshot, Spot, State
from engine.storage.spool.index import Texts
from engine.storage.spool.segment import Segments, file_of, offset_of
from engine.storage.spool.table import Column, Table, Values


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
        "tenant": texts["tenant"].number(envelope.owner),
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


def spots_in(columns: Mapping[str, Column]) -> list[Spot]:
    """Where the deliveries of these rows lie."""
    return [Spot(*values) for values in zip(*(columns[name].tolist() for name in Spot._fields), strict=True)]


def id_of(row: int, table: Table, texts: Texts) -> str:
    """The message id of a row."""
    return join_id(table.get(row, "id"), texts["node"].text(table.get(row, "node")))


def delivery_of(row: int, read: Read, table: Table, texts: Texts, segments: Segments) -> Delivery:
    """A delivery as its row and the disk tell; the row stays."""
    message = Message(read.envelope, read.content)
    delivery = Delivery(message, table.get(row, "number"), read.snapshot[0], ())
    delivery.restore(read.snapshot)
    place = table.get(row, "place")
    delivery.segment, delivery.offset = segments[file_of(place)], offset_of(place)
    for name in ("length", "state_place", "content_file", "frame", "notices"):
        setattr(delivery, name, table.get(row, name))
    delivery.via = texts["via"].text(table.get(row, "via"))
    due_at = table.get(row, "due_at")
    if seconds(delivery.due_at) != due_at:
        delivery.due_at = float(
            due_at
        )  # it was put off, or is to go at once; else the record has the fraction of the second
    delivery.state = State(table.get(row, "state"))
    return delivery


def unread(row: int, table: Table, texts: Texts, why: str = "") -> Read:
    """What the table alone says of a row whose record is damaged: how many recipients, but not who."""
    count, due_at = table.get(row, "recipients"), table.get(row, "due_at")
    envelope = Envelope(
        id_of(row, table, texts), "", (Recipient("unreadable"),) * count, id_time(table.get(row, "id")),
        table.get(row, "expires_at"), 0, table.get(row, "message_class"),
        user=texts["tenant"].text(table.get(row, "tenant")), batch=texts["batch"].text(table.get(row, "batch")),
    )  # fmt: skip
    destination, attempts = texts["destination"].text(table.get(row, "destination")), table.get(row, "attempts")
    return Read(envelope, b"", [destination, range(count), due_at, attempts, (), table.get(row, "notices"), why])
