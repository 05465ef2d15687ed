"""How many clients there are, in all and from each address: at all listeners, and at all workers of a node.

Of a limit each worker may use an even part without a word, so that the usual client costs nothing. Where that is not
enough a key is watched: every worker asks the node before it takes one more of that key (`Turnstile`, daemon), and says
when one has left, until there are few again.

B1  never more than the limit, all workers together: even parts add up to no more, and beyond them one place decides.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from engine.base.errors import NetworkError

#: The key of all clients together; others are addresses.
ALL = ""

#: A key, and how many clients it may have on the node.
Place = tuple[str, int]


class Node(Protocol):
    """Who knows the clients of all workers."""

    async def may_enter(self, key: str, limit: int) -> bool:
        """Whether there is a place of this key, which is the caller's then. Raises NetworkError."""

    def left(self, key: str) -> None:
        """A place of a watched key is free."""


class Clients:
    """Of one worker. workers: how many share the limits; node: None with one. most: in all; 0: as listeners say."""

    def __init__(self, workers: int = 1, node: Node | None = None, most: int = 0) -> None:
        self.most = most
        self._workers = workers
        self._node = node
        self._used: Counter[str] = Counter()
        self._reserved: Counter[str] = Counter()  #: part of _used: of clients that are about to come
        self._coming: Counter[str] = Counter()  #: `room`s with a place of the key
        self._asking: Counter[str] = Counter()
        self._watched: set[str] = set()

    # What listeners ask.

    def take(self, key: str, limit: int) -> bool:
        """A place for one client, if `room` has reserved one, or if this worker may take it without asking."""
        if self._reserved[key]:
            _less(self._reserved, key)
            return True
        if self._must_ask(key, limit):
            return False
        self._used[key] += 1
        return True

    def free(self, key: str) -> None:
        """The client of a place is gone."""
        _less(self._used, key)
        if self._node is not None and key in self._watched:
            self._node.left(key)

    @asynccontextmanager
    async def room(self, places: Sequence[Place]) -> AsyncIterator[None]:
        """Reserve these places, as far as there are any, for who takes them inside; what nobody takes is free again."""
        got = [key for key, limit in places if await self._reserve(key, limit)]
        self._coming.update(got)
        try:
            yield
        finally:
            for key in got:
                _less(self._coming, key)
                if self._reserved[key] > self._coming[key]:
                    _less(self._reserved, key)
                    self.free(key)

    def used(self, key: str) -> int:
        """How many places this worker's clients have."""
        return self._used[key]

    # What the node asks.

    def watch(self, key: str) -> int:
        """From now on ask, and tell who leaves; how many there are now."""
        self._watched.add(key)
        return self._used[key]

    def unwatch(self, key: str) -> None:
        self._watched.discard(key)

    # Inside.

    def _must_ask(self, key: str, limit: int) -> bool:
        """Alone, whoever must ask has nobody to ask: the limit is reached."""
        return (
            self._used[key] >= self._limit(key, limit) // self._workers or key in self._watched or key in self._asking
        )

    def _limit(self, key: str, limit: int) -> int:
        return self.most or limit if key == ALL else limit

    async def _reserve(self, key: str, limit: int) -> bool:
        if self._must_ask(key, limit) and not await self._ask(key, limit):
            return False
        self._used[key] += 1
        self._reserved[key] += 1
        return True

    async def _ask(self, key: str, limit: int) -> bool:
        if self._node is None:
            return False
        self._asking[key] += 1
        try:
            return await self._node.may_enter(key, self._limit(key, limit))
        except NetworkError:
            return False  # the supervisor is gone, and this process about to be
        finally:
            _less(self._asking, key)


def _less(counts: Counter[str], key: str) -> None:
    """One less; no key without a count, as there are many addresses."""
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]
