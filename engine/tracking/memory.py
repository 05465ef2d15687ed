"""The ledger, as the redirector asks it: what was asked lately at hand, and a second look before nobody knows.

A message is noted before it is sent, so that whoever has its link asks for what is in a file; but the file is read now
and then. What is not known is looked for once more, behind all that was written before the question; and if it is so
young that its note may be on its way from elsewhere, for a second.

T1  only what a verified token names is looked for.     J1  so many wait; the rest is answered by what is known.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.message.ids import id_time, split_id
from engine.storage.ledger.reader import LedgerReader
from engine.storage.ledger.sent import Sent
from engine.tracking.targets import Targets, targets_of

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Between two looks at the files, whoever asks for what is not there.
LOOK_AGAIN_S = 0.05
#: So long what is so young is waited for: a data directory that is shared over a network is behind by as much.
YOUNG_S, PATIENCE_S = 10.0, 1.0
MAX_WAITING = 500
_MAX_KNOWN = 10_000
_MAX_TABLES = 2000


class Memory:
    """See above. On the loop."""

    def __init__(self, reader: LedgerReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._known: dict[str, Sent] = {}
        self._unknown: set[str | int] = set()  #: since the last reading
        self._targets: dict[bytes, Targets] = {}
        self._looking = asyncio.Lock()
        self._looked_at = 0.0  #: by the loop's time
        self._waiting = 0

    def find(self, message: str, index: int) -> Sent | None:
        """A message, as long as this recipient of it is known, if any is. Raises StorageError."""
        sent = self._known.get(message)
        if sent is not None and _knows(sent, index):
            return sent
        sent = self._reader.find(message)
        if sent is None or not _knows(sent, index):
            return None
        if len(self._known) < _MAX_KNOWN:
            self._known[message] = sent
        return sent

    async def awaited(self, message: str, index: int) -> Sent | None:
        """What `find` does not find: it may have been noted a moment ago. Raises StorageError."""
        found = await self._awaited(message, lambda: self.find(message, index), _made_at(message))
        return found or self._reader.find(message)

    def by_short(self, number: int) -> tuple[Sent, int] | None:
        """Raises StorageError."""
        return self._reader.by_short(number)

    async def awaited_short(self, number: int) -> tuple[Sent, int] | None:
        """What `by_short` does not find. Raises StorageError."""
        return await self._awaited(number, lambda: self._reader.by_short(number), 0.0)

    def links(self, sent: Sent) -> tuple[str, ...]:
        """Raises StorageError."""
        return self._reader.links(sent)

    def targets(self, sent: Sent) -> Targets:
        """Of its links. Raises StorageError."""
        found = self._targets.get(sent.table)
        if found is None:
            found = targets_of(self._reader.links(sent))
            if found.number:  # else its table may be there in a moment
                self._targets[sent.table] = found
            if len(self._targets) > _MAX_TABLES:
                del self._targets[next(iter(self._targets))]
        return found

    def delivered_at(self, message: str, index: int) -> float | None:
        """None: not, or nobody knows."""
        try:
            return self._reader.delivered_at(message, index)
        except StorageError as exc:
            log.warning("%s", exc)
            return None

    async def refresh(self) -> None:
        """Raises StorageError."""
        self._known.clear()
        self._unknown.clear()
        await self._reader.follow()

    # ---- inside

    async def _awaited(self, key: str | int, find: Callable[[], T | None], made_at: float) -> T | None:
        if key in self._unknown or self._waiting >= MAX_WAITING:
            return None
        await asyncio.sleep(0)  # a request begins without a task (connection.py), and to wait takes one
        self._waiting += 1
        try:
            found = await self._look_for(find, made_at)
        finally:
            self._waiting -= 1
        if found is None and len(self._unknown) < _MAX_KNOWN:
            self._unknown.add(key)
        return found

    async def _look_for(self, find: Callable[[], T | None], made_at: float) -> T | None:
        time = asyncio.get_running_loop().time
        until = time() + (PATIENCE_S if self._clock.time() < made_at + YOUNG_S else 0.0)
        while True:
            asked_at = time()
            await self._look(asked_at)
            found = find()
            if found is not None or asked_at >= until:
                return found

    async def _look(self, asked_at: float) -> None:
        """What was noted before that is seen when this returns. One looks for all who have asked meanwhile."""
        time = asyncio.get_running_loop().time
        async with self._looking:
            if self._looked_at > asked_at:
                return
            await asyncio.sleep(self._looked_at + LOOK_AGAIN_S - time())
            self._looked_at = time()
            await self._reader.follow()


def _knows(sent: Sent, index: int) -> bool:
    """A delivery that was stored by itself notes its own recipients only (ledger.sent.merged)."""
    recipients = sent.recipients
    return not recipients or (index < len(recipients) and recipients[index] != "")


def _made_at(message: str) -> float:
    """When it got its id, in unix seconds."""
    return id_time(split_id(message)[0])
