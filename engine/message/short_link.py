"""Codes of short links, for SMS, where every character costs: nine characters that nobody can count through.

    52 bits: a number, of one recipient of one message (33), which of its links (2), 17 bits of nothing

are shuffled as a whole by a keyed permutation, a Feistel network of eight rounds of BLAKE2b, and written to the base of
62. Whoever guesses needs a code whose last bits come out as nothing: one in 131,072, and of those only the numbers that
are given out.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from engine.message.ids import base62, from_base62

CODE_CHARS = 9  #: 62^9 is 2^53.6
_NUMBER_BITS, _LINK_BITS, _CHECK_BITS = 33, 2, 17
MAX_NUMBER, MAX_LINKS = (1 << _NUMBER_BITS) - 1, 1 << _LINK_BITS

_HALF_BITS, _ROUNDS = 26, 8
_HALF = (1 << _HALF_BITS) - 1


class ShortLink(NamedTuple):
    """number: of one recipient of one message, among those of a node. link: which of its links, from 0."""

    number: int
    link: int


class ShortCodes:
    """Makes codes with the first of its keys, and reads those of all of them."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        """keys: secrets of 16 to 64 bytes; at least one."""
        self._rounds = [[_begun(key, number) for number in range(_ROUNDS)] for key in keys]

    def code(self, link: ShortLink) -> str:
        """Raises ValueError: there is no such number, or link."""
        number, which = link
        if not (0 <= number <= MAX_NUMBER and 0 <= which < MAX_LINKS):
            raise ValueError(f"no code for {link}")
        block = (number << _LINK_BITS | which) << _CHECK_BITS
        left, right = block >> _HALF_BITS, block & _HALF
        for begun in self._rounds[0]:
            left, right = right, left ^ _mixed(begun, right)
        return base62(left << _HALF_BITS | right, CODE_CHARS)

    def link(self, code: str) -> ShortLink | None:
        """What a code stands for; None: it is none of ours."""
        block = _read(code)
        if block is None:
            return None
        for rounds in self._rounds:
            left, right = block >> _HALF_BITS, block & _HALF
            for begun in reversed(rounds):
                left, right = right ^ _mixed(begun, left), left
            opened = left << _HALF_BITS | right
            if not opened & ((1 << _CHECK_BITS) - 1):
                opened >>= _CHECK_BITS
                return ShortLink(*divmod(opened, MAX_LINKS))
        return None


def _begun(key: bytes, number: int) -> blake2b:
    return blake2b(digest_size=4, key=key, person=b"short link", salt=bytes((number,)))


def _mixed(begun: blake2b, half: int) -> int:
    state = begun.copy()
    state.update(half.to_bytes(4))
    return int.from_bytes(state.digest()) & _HALF


def _read(code: str) -> int | None:
    """The 52 bits of a code; None: it has not the shape of one."""
    try:
        value = from_base62(f"0{code}") if len(code) == CODE_CHARS else -1
    except KeyError:
        return None
    return value if 0 <= value < 1 << 2 * _HALF_BITS else None
