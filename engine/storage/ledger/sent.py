"""What the ledger knows of a message."""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

_HASH_BYTES = 16


class Sent(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """A message that was sent, or is about to be. On disk as an array: only append fields, with defaults.

    id: of the message. at: unix seconds, of the note. sender: of the envelope. recipients: addresses as they were sent
    to, by index in the envelope; "" of one whose address this note does not have. message_id: of the header, without
    <>. level: a word of envelope.Track, of its links. table: `table_hash` of these, b"" if there are none. channel:
    "mail" or "sms".
    """

    id: str
    at: float
    sender: str = ""
    recipients: tuple[str, ...] = ()
    tenant: str = ""
    stream: str = ""
    batch: str = ""
    message_id: str = ""
    level: str = "none"
    table: bytes = b""
    channel: str = "mail"


encode_sent = msgspec.msgpack.Encoder().encode
decode_sent = msgspec.msgpack.Decoder(Sent).decode
_encode = msgspec.msgpack.Encoder().encode
_decode_links = msgspec.msgpack.Decoder(tuple[str, ...]).decode


def table_hash(links: Sequence[str]) -> bytes:
    """What names a table of links: the same links in the same order, the same name."""
    return blake2b(_encode(links), digest_size=_HASH_BYTES).digest()


def encode_table(table: bytes, links: Sequence[str]) -> bytes:
    return table + _encode(links)


def decode_table(payload: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Its hash, and its links. Raises ValueError: it is none."""
    return payload[:_HASH_BYTES], _decode_links(payload[_HASH_BYTES:])


def merged(notes: Sequence[Sent]) -> Sent:
    """What several notes of a message say together. notes: one or more, the newest first.

    A note may lack addresses (a delivery that was stored by itself knows its own recipients only), and one that is
    made for the sake of bounces says nothing of links.
    """
    newest = notes[0]
    if len(notes) == 1:
        return newest
    recipients = [""] * max(len(note.recipients) for note in notes)
    for note in reversed(notes):
        for index, address in enumerate(note.recipients):
            recipients[index] = address or recipients[index]
    tracked = next((note for note in notes if note.level != "none"), newest)
    return msgspec.structs.replace(
        newest, recipients=tuple(recipients), level=tracked.level, table=tracked.table,
        message_id=newest.message_id or tracked.message_id,
    )  # fmt: skip
