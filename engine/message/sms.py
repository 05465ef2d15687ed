"""An SMS as the spool keeps it: what is to be said, not yet how a carrier wants it.

Its destination is `carrier_key` (channels.py) of the carrier that is to have it, or `account_key` of the application
that a receipt or an answer goes to. Its envelope has the sender id as sender and numbers as recipients: digits with "+"
before them where they are international.
"""

import enum
from decimal import Decimal, InvalidOperation

import msgspec


class Kind(enum.IntEnum):
    """On disk: never renumber."""

    MESSAGE = 0
    RECEIPT = 1  #: for an application: what became of a message
    ANSWER = 2  #: for an application: a message from a phone
    REPLY = 3  #: to a phone, from ourselves, about its opt-out or its cry for help: goes through the block


class Shortened(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """Links of a text that are sent as short ones. As `Sms` on disk.

    spans: where they stand in the text, in order. base_url: what the short ones begin with, without a slash. number: of
    the first recipient; each: the others have the numbers behind it, else all have this one.
    """

    spans: tuple[tuple[int, int], ...]
    base_url: str
    number: int
    each: bool = True


class Sms(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """The content of a message. On disk as an array: only append fields, with defaults.

    text: None if it is binary, or was cut into parts by the client; then body and udh are passed on as they are.
    data_coding: as in SMPP, of `body`; of a text, only its class counts. esm_class: without its mode and UDHI.
    registered: the client's registered_delivery. validity, schedule: unix seconds; 0: none. tlvs: to be passed on,
    (tag, value).
    """

    kind: Kind = Kind.MESSAGE
    source: str = ""
    source_ton: int = 0
    source_npi: int = 0
    dest_ton: int = 1
    dest_npi: int = 1
    text: str | None = None
    body: bytes = b""
    udh: bytes = b""
    data_coding: int = 0
    esm_class: int = 0
    protocol_id: int = 0
    priority: int = 0
    registered: int = 0
    service_type: str = ""
    validity: float = 0.0
    schedule: float = 0.0
    tlvs: tuple[tuple[int, bytes], ...] = ()
    short: Shortened | None = None  #: of `text`


encode_sms = msgspec.msgpack.Encoder().encode
#: Raises ValueError: it is none.
decode_sms = msgspec.msgpack.Decoder(Sms).decode


class SentPart(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A part that a carrier took, and whose receipt is waited for. As `Sms` on disk.

    carrier_id: the message_id of its response, exactly; "": the carrier gives none, and there will be no receipt.
    message, index: the id of our message, and the position of the recipient in its envelope. part: from 1, of `parts`.
    deadline: unix seconds after which a missing receipt is told. account: of the client that wants to hear of it,
    "" if nobody does; registered: its registered_delivery.
    """

    carrier: str
    carrier_id: str
    message: str
    index: int
    part: int
    parts: int
    sent_at: float
    deadline: float
    sender: str
    recipient: str
    account: str = ""
    registered: int = 0
    message_class: int = 1
    received_at: float = 0.0  #: when our client submitted it
    price: str = "0"


def price_of(price: str, parts: int) -> str:
    """The price of so many parts, exactly."""
    if parts == 1:
        return price
    try:
        return str(Decimal(price) * parts)
    except InvalidOperation:
        return price
