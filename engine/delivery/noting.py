"""What the ledger is told of mail, at the last moment before it is sent."""

from engine.message.content import Content, head_of
from engine.message.envelope import Envelope
from engine.message.header_ids import message_id_of
from engine.storage.ledger.sent import Sent


def sent_of(envelope: Envelope, content: Content, at: float, *, level: str = "none", table: bytes = b"") -> Sent:
    """The note of a message. at: unix seconds. level, table: of its links, see `Sent`."""
    return Sent(
        id=envelope.id, at=at, sender=envelope.sender,
        recipients=tuple([recipient.address for recipient in envelope.recipients]), tenant=envelope.owner,
        stream=envelope.stream, batch=envelope.batch, message_id=message_id_of(head_of(content)), level=level,
        table=table,
    )  # fmt: skip
