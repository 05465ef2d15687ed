"""Return paths that name their recipient: a signed token as the local part (VERP), so that whatever comes back there
is about that recipient and no other (F1).

    <32 characters>=<local part>=<domain>    the recipient, where it fits into 64 octets and is an ordinary address
    <36 characters>                          else its place among the recipients of the message

The characters are base32 in lower case: a mail system may change the case of a local part, and case means nothing here.
They hold the number of the key (8 bits), the message id (88), the recipient's place (16, in the second form), and a MAC
of all that and the recipient (64): keyed BLAKE2b. Nobody without a key makes a token, and no token names anybody else.
"""

import base64
import re
from collections.abc import Mapping
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple

from engine.message.address import MAX_LOCAL_BYTES
from engine.message.ids import join_id, node_name, node_number, split_id

#: Key and message id; then the place, in the second form; then the MAC.
_HEAD_BYTES, _PLACE_BYTES, _MAC_BYTES = 12, 2, 8
_TOKEN_CHARS = 32  #: before the recipient
_LARGEST_PLACE = 0xFFFF
#: Recipients that every mail system lets through inside a local part.
_ORDINARY = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.+~=-]*@[A-Za-z0-9.-]+")
_TOKEN = re.compile(r"([a-z2-7]{32})(?:=([^=].*)=([^=]+)|([a-z2-7]{4}))", re.IGNORECASE)
_PERSON = b"return-path"


class Named(NamedTuple):
    """Whom a token names. recipient: his address, in whatever case it came back; "" where place tells it.

    place: the index among the recipients of the message's envelope; -1 where recipient tells it.
    """

    message: str
    recipient: str
    place: int


class ReturnPaths:
    """Makes tokens with the newest of its keys, and reads those of all of them."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        """keys: secrets of 16 to 64 bytes by number, 0 to 255; the first one signs."""
        self._keys = dict(keys)
        self._number, self._key = next(iter(self._keys.items()))

    def local_part(self, message: str, recipient: str, place: int) -> str:
        """For one recipient of a message. Raises ValueError: the id is none, or the place beyond 65,535."""
        packed, node = split_id(message)
        head = bytes((self._number,)) + (packed << 24 | node_number(node)).to_bytes(_HEAD_BYTES - 1)
        if len(recipient) < MAX_LOCAL_BYTES - _TOKEN_CHARS and _ORDINARY.fullmatch(recipient):
            token = base64.b32encode(head + _mac(self._key, head, recipient))
            return f"{token.decode().lower()}={recipient.replace('@', '=')}"
        if place > _LARGEST_PLACE:
            raise ValueError(f"recipient {place} of {message}")
        head += place.to_bytes(_PLACE_BYTES)
        return base64.b32encode(head + _mac(self._key, head)).decode().lower().rstrip("=")

    def named(self, local_part: str) -> Named | None:
        """Whom a local part names; None: it is no token of ours."""
        match = _TOKEN.fullmatch(local_part)
        if match is None:
            return None
        first, user, domain, second = match.groups()
        recipient = f"{user}@{domain}" if second is None else ""
        text = first + (second or "")
        data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
        length = len(data) - _MAC_BYTES
        key = self._keys.get(data[0])
        if key is None:
            return None
        head, mac = data[:length], data[length:]
        if not compare_digest(mac, _mac(key, head, recipient)):
            return None
        number = int.from_bytes(head[1:_HEAD_BYTES])
        message = join_id(number >> 24, node_name(number & 0xFFFFFF))
        return Named(message, recipient, -1 if recipient else int.from_bytes(head[_HEAD_BYTES:]))


def looks_signed(local_part: str) -> bool:
    """Whether it has the shape of a token, whoever made it."""
    return _TOKEN.fullmatch(local_part) is not None


def _mac(key: bytes, head: bytes, recipient: str = "") -> bytes:
    return blake2b(head + recipient.lower().encode(), digest_size=_MAC_BYTES, key=key, person=_PERSON).digest()
