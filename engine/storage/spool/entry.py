"""A message and its deliveries while somebody has them in hand; otherwise a delivery is a row (table.py)."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from engine.message.content import Content
from engine.message.envelope import Envelope
from engine.storage.spool.segment import Segment, place_of

#: destination, indexes, due_at, attempts, unknowns, notices, last.
Snapshot = list[Any]


class State(enum.IntEnum):
    """Q1: where a delivery is. Memory only: on disk it is the due time and the recipients that are not final."""

    STORING = 0  #: not durable yet; nobody was told
    WAITING = 1  #: for its due time
    RESOLVING = 2  #: for the route of its destination
    READY = 3  #: for a connection and a permit
    ATTEMPT = 4
    HELD = 5  #: by an operator
    FINAL = 6
    DUE = 7  #: a row whose time has come; it is read when its site can take it
    LOADING = 8  #: a row that is being read
    SEIZED = 9  #: a row that an operator's order will settle


class Message:
    """One stored message. hot: envelope and content while they are in memory. in_hand: deliveries that are objects."""

    __slots__ = (
        "batch", "expires_at", "hot", "hot_bytes", "id", "in_hand", "message_class", "received_at", "tenant",
    )  # fmt: skip

    def __init__(self, envelope: Envelope, content: Content) -> None:
        self.id = envelope.id
        self.message_class = envelope.message_class
        self.received_at = envelope.received_at
        self.expires_at = envelope.expires_at
        self.tenant = envelope.owner
        self.batch = envelope.batch
        self.hot: tuple[Envelope, Content] | None = (envelope, content)
        self.hot_bytes = 0
        self.in_hand = 0


class Delivery:
    """One content for the recipients of one destination: the unit that is queued, attempted, settled.

    indexes: recipients (positions in the envelope) that are not final yet. due_at: unix seconds. unknowns: those for
    whom an attempt ended without a reply to the end of data (D3). notices: 1 when the sender was told of the delay,
    or does not want to be. last: the last reply or trouble, for people. via: the relay an operator sent it to, instead
    of its route.
    owner: the queue that has it now (Q4). unwanted: its recipients must not be sent to, as was found on acceptance.

    Where it lies on disk: segment, offset and length of the frame with the message; content_file: the number of the
    file with the content if that lies elsewhere, else 0; state_place: of the newest record of its state (0: the frame
    with the message); frame: the number of that record. unsettled: outcomes on their way to the journal; then: what to
    do when they are there.
    """

    __slots__ = (
        "attempts", "content_file", "destination", "due_at", "frame", "indexes", "last", "length", "message", "notices",
        "number", "offset", "owner", "segment", "state", "state_place", "then", "unknowns", "unsettled", "unwanted",
        "via",
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
        self.via = ""
        self.unwanted = False
        self.state = State.STORING
        self.owner: object = None
        self.segment: Segment
        self.offset = 0
        self.length = 0
        self.content_file = 0
        self.state_place = 0
        self.frame = 0
        self.unsettled = 0
        self.then: Callable[[Delivery], None] | None = None

    @property
    def place(self) -> int:
        return place_of(self.segment.number, self.offset)

    def snapshot(self) -> list[Any]:
        """What frames keep of its state; `restore` reads it."""
        return [
            self.destination, self.indexes, self.due_at, self.attempts, self.unknowns, self.notices, self.last,
        ]  # fmt: skip

    def restore(self, snapshot: Snapshot) -> None:
        """Take up the state that `snapshot` told."""
        _, indexes, self.due_at, self.attempts, unknowns, self.notices, self.last = snapshot
        self.indexes, self.unknowns = tuple(indexes), tuple(unknowns)


class Spot(NamedTuple):
    """Where a delivery lies on disk. length: of the frame at `place`. state_place: 0 where that frame has its state."""

    place: int
    length: int
    state_place: int
    number: int


class Read(NamedTuple):
    """A delivery as its records tell."""

    envelope: Envelope
    content: Content
    snapshot: Snapshot
