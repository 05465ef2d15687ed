"""What memory knows of a stored message and its deliveries: where it lies and when it is due, never its bytes."""

import enum
from typing import Any

from engine.message.content import Content, LargeFile
from engine.message.envelope import Envelope
from engine.storage.spool.journal import Segment


class State(enum.IntEnum):
    """Q1: where a delivery is. Memory only: on disk it is the due time and the recipients that are not final."""

    STORING = 0  #: not durable yet; nobody was told
    WAITING = 1  #: for its due time
    RESOLVING = 2  #: for the route of its destination
    READY = 3  #: for a connection and a permit
    ATTEMPT = 4
    HELD = 5  #: by an operator
    FINAL = 6


class Message:
    """One stored message. hot: envelope and content while they are still in memory. large: its file, if it has one."""

    __slots__ = (
        "deliveries", "expires_at", "hot", "id", "large", "length", "live", "message_class", "offset", "received_at",
        "segment",
    )  # fmt: skip

    def __init__(self, envelope: Envelope) -> None:
        self.id = envelope.id
        self.message_class = envelope.message_class
        self.received_at = envelope.received_at
        self.expires_at = envelope.expires_at
        self.deliveries: tuple[Delivery, ...] = ()
        self.live = 0  #: deliveries that are not final
        self.segment: Segment
        self.offset = 0
        self.length = 0  #: bytes of its frame
        self.hot: tuple[Envelope, Content] | None = None
        self.large: LargeFile | None = None


class Delivery:
    """One content for the recipients of one destination: the unit that is queued, attempted, settled.

    indexes: recipients (positions in the envelope) that are not final yet. due_at: unix seconds. unknowns: those for
    whom an attempt ended without a reply to the end of data (D3). notices: 1 when the sender was told of the delay.
    last: the last reply or trouble, for people. owner: the queue that has it now (Q4).
    """

    __slots__ = (
        "attempts", "destination", "due_at", "indexes", "last", "message", "notices", "number", "owner", "state",
        "unknowns",
    )  # fmt: skip

    def __init__(self, message: Message, number: int, destination: str, indexes: tuple[int, ...]) -> None:
        self.message = message
        self.number = number
        self.destination = destination
        self.indexes = indexes
        self.due_at = message.received_at
        self.attempts = 0
        self.unknowns: tuple[int, ...] = ()
        self.notices = 0
        self.last = ""
        self.state = State.STORING
        self.owner: object = None

    def snapshot(self) -> list[Any]:
        """What a MESSAGE frame keeps of it; `restore` reads it."""
        return [
            self.destination, self.indexes, self.due_at, self.attempts, self.unknowns, self.notices, self.last,
        ]  # fmt: skip

    @staticmethod
    def restore(message: Message, number: int, snapshot: list[Any]) -> "Delivery":
        destination, indexes, due_at, attempts, unknowns, notices, last = snapshot
        delivery = Delivery(message, number, destination, tuple(indexes))
        delivery.due_at, delivery.attempts, delivery.unknowns = due_at, attempts, tuple(unknowns)
        delivery.notices, delivery.last = notices, last
        delivery.state = State.WAITING if delivery.indexes else State.FINAL
        return delivery
