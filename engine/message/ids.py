"""Message ids: short, sortable by time, unique over nodes and restarts.

    0Hs7kQpf 3Za2 Wq      8 characters of milliseconds since 1970, 4 of the node and worker, 2 of a counter

A burst of more than 3,844 messages in one millisecond borrows the next one. A clock set back cannot make an
id twice: the time of an id never goes below that of the last.
"""

import hashlib
from typing import Final

from engine.base.clock import Clock

#: ASCII order, so that ids sort by time.
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_COUNT: Final = len(_ALPHABET) ** 2
_TAILS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_PAIRS: Final = {tail: number for number, tail in enumerate(_TAILS)}


def base62(number: int, width: int) -> str:
    """The last `width` digits of a number to the base of 62."""
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits


def from_base62(text: str) -> int:
    """Of an even number of characters, two at a time. Raises KeyError: not base 62."""
    number = 0
    for at in range(0, len(text), 2):
        number = number * _COUNT + _PAIRS[text[at : at + 2]]
    return number


def split_id(message_id: str) -> tuple[int, str]:
    """An id as a number that sorts as ids do, below 2**60, and its node. Raises ValueError: not an id."""
    try:
        if len(message_id) == 14:
            return from_base62(message_id[:8]) << 12 | _PAIRS[message_id[12:]], message_id[8:12]
    except KeyError:
        pass
    raise ValueError(f"{message_id} is not a message id")


def is_id(text: str) -> bool:
    """Whether a text has the shape of an id."""
    return len(text) == 14 and all(char in _ALPHABET for char in text)


def join_id(packed: int, node: str) -> str:
    """The id that `split_id` took apart."""
    return base62(packed >> 12, 8) + node + base62(packed & 0xFFF, 2)


def node_number(node: str) -> int:
    """The node of an id as a number below 2**24."""
    return from_base62(node)


def node_name(number: int) -> str:
    """The node that `node_number` told."""
    return base62(number, 4)


def id_time(packed: int) -> float:
    """When the message of a packed id was accepted, in unix seconds; a burst may be some milliseconds ahead."""
    return (packed >> 12) / 1000


def least_id_at(at: float) -> int:
    """The lowest packed id of a message that is accepted at a time, in unix seconds."""
    return int(at * 1000) << 12


class IdSource:
    """Makes ids. `last`: the highest id ever given out by this spool, from recovery, or ""."""

    def __init__(self, node: str, worker: int, clock: Clock, last: str = "") -> None:
        digest = hashlib.sha256(f"{node}/{worker}".encode()).digest()
        self._node = base62(int.from_bytes(digest[:8], "big"), 4)
        self._clock = clock
        self._ms = from_base62(last[:8]) + 1 if last else 0
        self._next = 0
        self._head = base62(self._ms, 8) + self._node

    def next(self) -> str:
        now = int(self._clock.time() * 1000)
        if now > self._ms or self._next == _COUNT:
            self._ms = max(now, self._ms + 1)
            self._next = 0
            self._head = base62(self._ms, 8) + self._node
        tail = _TAILS[self._next]
        self._next += 1
        return self._head + tail
