"""Return paths that name their recipient: a signed token as the local part (VERP), so that whatever comes back there
is about that recipient and no other (F1).

    <32 characters>=<local part>=<domain>    the recipient, where it fits into 64 octets and is an ordinary address
    <40 characters>                          else a mark of it, to be found again among those of the message

The characters are base32 in lower case: a mail system may change the case of a local part, and case means nothing here.
They hold the number of the key (8 bits), the message id (88), the recipient's mark (40, in the second form), and a MAC
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

#: Key and message id; then the mark, in the second form; then the MAC.
_HEAD_BYTES, _MARK_BYTES, _MAC_BYTES = 12, 5, 8
_TOKEN_CHARS = 32  #: before the recipient
#: Recipients that every mail system lets through inside a local part.
_ORDINARY = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.+~=-]*@[A-Za-z0-9.-]+")
_TOKEN = re.compile(r"([a-z2-7]{32})(?:=([^=].*)=([^=]+)|([a-z2-7]{8}))", re.IGNORECASE)
_MAC, _MARK = b"return-path", b"recipient"


class Named(NamedTuple):
    """Whom a token names. recipient: his address, in whatever case it came back; "" where only `is_about` tells.

    key, mark: for it.
    """

    message: str
    recipient: str
    key: bytes = b""
    mark: bytes = b""

    def is_about(self, recipient: str) -> bool:
        """Whether it names him."""
        if self.recipient:
            return self.recipient.lower() == recipient.lower()
        return compare_digest(self.mark, _mark(self.key, recipient))


class ReturnPaths:
    """Makes tokens with the newest of its keys, and reads those of all of them."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        """keys: secrets of 16 to 64 bytes by number, 0 to 255; the first one signs."""
        self._keys = dict(keys)
        self._number, self._key = next(iter(self._keys.items()))

    def local_part(self, message: str, recipient: str) -> str:
        """For one recipient of a message. Raises ValueError: that is no id of one."""
        packed, node = split_id(message)
        head = bytes((self._number,)) + (packed << 24 | node_number(node)).to_bytes(_HEAD_BYTES - 1)
        if len(recipient) < MAX_LOCAL_BYTES - _TOKEN_CHARS and _ORDINARY.fullmatch(recipient):
            token = base64.b32encode(head + _mac(self._key, head, recipient))
            return f"{token.decode().lower()}={recipient.replace('@', '=')}"
        head += _mark(self._key, recipient)
        return base64.b32encode(head + _mac(self._key, head)).decode().lower()

    def named(self, local_part: str) -> Named | None:
        """Whom a local part names; None: it is no token of ours."""
        match = _TOKEN.fullmatch(local_part)
        if match is None:
            return None
        first, user, domain, second = match.groups()
        recipient = f"{user}@{domain}" if second is None else ""
        data = base64.b32decode(f"{first}{second or ''}".upper())
        head, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        key = self._keys.get(head[0])
        if key is None or not compare_digest(mac, _mac(key, head, recipient)):
            return None
        number = int.from_bytes(head[1:_HEAD_BYTES])
        message = join_id(number >> 24, node_name(number & 0xFFFFFF))
        return Named(message, recipient) if recipient else Named(message, "", key, head[_HEAD_BYTES:])


def looks_signed(local_part: str) -> bool:
    """Whether it has the shape of a token, whoever made it."""
    return _TOKEN.fullmatch(local_part) is not None


def _mac(key: bytes, head: bytes, recipient: str = "") -> bytes:
    return blake2b(head + recipient.lower().encode(), digest_size=_MAC_BYTES, key=key, person=_MAC).digest()


def _mark(key: bytes, recipient: str) -> bytes:
    return blake2b(recipient.lower().encode(), digest_size=_MARK_BYTES, key=key, person=_MARK).digest()
