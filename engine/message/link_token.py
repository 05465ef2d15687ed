"""Tokens of tracked links: who was sent which link of which message, and nothing to read or to guess (T1).

    https://<click host>/c/<token>      a click
    https://<click host>/o/<token>.gif  an open
    https://<click host>/u/<token>      an unsubscribe

A token is base64url without padding of the number of the key (8 bits), the message id (88), the number of the link (a
varint), of a message with several recipients the index of this one (a varint), and a MAC of all that and the kind (64).
In a message with one recipient and at most 124 links each has 28 characters.

The MACs of eight links are slices of one keyed BLAKE2b of 64 bytes, so that the tokens of all links of a message cost a
few hashes. There is one way to write a token: what is not that is none.
"""

import base64
import re
import secrets
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from enum import Enum
from hashlib import blake2b
from hmac import compare_digest
from typing import Final, NamedTuple

from engine.message.ids import id_time, join_id, node_name, node_number, split_id

#: Numbers of links. Those of the table of a content begin at FIRST_LINK.
UNSUBSCRIBE: Final = 0
OPEN: Final = 1
HONEYPOT: Final = 2
FIRST_LINK: Final = 3
#: Of one message, with those three: what two bytes of varint hold.
MAX_LINKS: Final = 1 << 14

#: Key and message id; then link, and perhaps recipient; then the MAC.
_HEAD_BYTES: Final = 12
_MAC_BYTES: Final = 8
#: The longest there is: link and recipient in three bytes each. Longer texts are not looked at.
_MOST_CHARS: Final = 36
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{27,36}").fullmatch
_LOCAL_PART: Final = re.compile(r"[a-z2-7]{33,44}", re.IGNORECASE).fullmatch
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class Kind(Enum):
    """What a token is for: the folder of its URL, and part of what its MAC is about."""

    CLICK = b"c"
    OPEN = b"o"
    UNSUBSCRIBE = b"u"


class Token(NamedTuple):
    """What a token says. recipient: index; 0 as well where the message has but one, or the token is of a content.

    message: an id, or the number of a content that is counted without its recipients.
    """

    message: str
    link: int
    recipient: int = 0

    @property
    def at(self) -> float:
        """When the message was accepted, in unix seconds."""
        return id_time(split_id(self.message)[0])


class _Macs:
    """One key, with what all hashes of a kind have in common done."""

    __slots__ = ("_begun",)

    def __init__(self, key: bytes) -> None:
        self._begun = {kind: blake2b(key=key, person=kind.value) for kind in Kind}

    def of(self, kind: Kind, head: bytes, to: bytes, group: int) -> bytes:
        """The MACs of eight links: those with numbers from 8 * group."""
        hashed = self._begun[kind].copy()
        hashed.update(head + _PAIR[group] + to)
        return hashed.digest()


class LinkTokens:
    """Makes tokens with the newest of its keys, and reads those of all of them."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        """keys: secrets of 16 to 64 bytes by number, 0 to 255; the first one signs."""
        self._keys = {number: _Macs(key) for number, key in keys.items()}
        self._number, self._key = next(iter(self._keys.items()))
        self._decoy = _Macs(secrets.token_bytes(32))

    def made(self, message: str, recipient: int | None, links: Sequence[int]) -> list[bytes]:
        """The tokens of these links, in their order: OPEN is for an open, UNSUBSCRIBE for that, others for clicks.

        recipient: index; None: the message has but one. Raises ValueError: that is no id of a message.
        """
        packed, node = split_id(message)
        head = bytes((self._number,)) + (packed << 24 | node_number(node)).to_bytes(_HEAD_BYTES - 1)
        to = b"" if recipient is None else _varint(recipient)
        top = max(links, default=0)
        clicks = b""
        if top > OPEN:
            clicks = b"".join([self._key.of(Kind.CLICK, head, to, group) for group in range((top >> 3) + 1)])
        macs = [clicks[8 * link : 8 * link + 8] for link in links]
        for special in (UNSUBSCRIBE, OPEN):
            if special in links:
                mac = self._key.of(_kind_of(special), head, to, 0)[8 * special : 8 * special + 8]
                macs = [mac if link == special else other for link, other in zip(links, macs, strict=True)]
        start = _base64url(head)  # 12 bytes are whole groups of base64: it is the same in all tokens
        if top >= 128:
            return [start + _base64url(_varint(link) + to + mac) for link, mac in zip(links, macs, strict=True)]
        # All tails are written at once, each filled up to whole groups; what the filling makes is cut off.
        size = 1 + len(to) + _MAC_BYTES
        to_filled = bytes(-size % 3)
        text = _base64url(b"".join([_BYTE[link] + to + mac + to_filled for link, mac in zip(links, macs, strict=True)]))
        step, chars = (size + 2) // 3 * 4, -(-size * 4 // 3)
        return [start + text[at : at + chars] for at in range(0, len(text), step)]

    def read(self, kind: Kind, text: str) -> Token | None:
        """What a token of this kind says; None: it is none of ours. The same work, whatever is wrong with the MAC."""
        if not _TOKEN(text):
            return None
        try:
            data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            return None
        if _base64url(data) != text.encode():
            return None
        head, mac = data[:_HEAD_BYTES], data[-_MAC_BYTES:]
        parts = _varints(data[_HEAD_BYTES:-_MAC_BYTES])
        if not 1 <= len(parts) <= 2 or parts[0] >= MAX_LINKS or (_kind_of(parts[0]) is not kind):
            return None
        link, to = parts[0], b"".join(map(_varint, parts[1:]))
        key = self._keys.get(head[0])
        at = (link & 7) * _MAC_BYTES
        right = (key or self._decoy).of(kind, head, to, link >> 3)[at : at + _MAC_BYTES]
        if not compare_digest(mac, right) or key is None:
            return None
        number = int.from_bytes(head[1:])
        return Token(join_id(number >> 24, node_name(number & 0xFFFFFF)), link, parts[1] if to else 0)


def token_length(link: int, recipient: int | None) -> int:
    """Characters of such a token."""
    data = _HEAD_BYTES + len(_varint(link)) + (0 if recipient is None else len(_varint(recipient))) + _MAC_BYTES
    return -(-data * 4 // 3)


def as_local_part(token: str) -> str:
    """The same token for an address, where case means nothing: base32, in lower case."""
    data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    return base64.b32encode(data).decode().rstrip("=").lower()


def of_local_part(text: str) -> str:
    """The token that `as_local_part` wrote, in whatever case it comes back; "" if it is none by its shape."""
    if not _LOCAL_PART(text):
        return ""
    try:
        token = _base64url(base64.b32decode(text.upper() + "=" * (-len(text) % 8))).decode()
    except ValueError:
        return ""
    return token if as_local_part(token) == text.lower() else ""


def _kind_of(link: int) -> Kind:
    return Kind.CLICK if link > OPEN else Kind.OPEN if link == OPEN else Kind.UNSUBSCRIBE


def _base64url(data: bytes) -> bytes:
    return b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=")


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    if number < 128:
        return _BYTE[number]
    data = b""
    while number >= 128:
        data += _BYTE[number & 127 | 128]
        number >>= 7
    return data + _BYTE[number]


def _varints(data: bytes) -> list[int]:
    """All numbers in these bytes; none where one is cut off, or not written as short as can be."""
    numbers, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            if shift > 7 and not byte:
                return []
            number = shift = 0
    return [] if shift else numbers


_BYTE: Final = tuple(bytes((number,)) for number in range(256))
_PAIR: Final = tuple(number.to_bytes(2) for number in range(MAX_LINKS >> 3))
