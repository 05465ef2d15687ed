"""What all requests for events share: the thread of the disk, who waits, and what wakes those who do.

Whoever waits has read all there is. What comes then is read once for all of them (`_follow`): at once when the worker's
own journal is written to (Feed), within half a second when another one is, ten times a second at most. Only who wants
some of it is woken; the others go on behind it without a look.

E1  one thread reads for all readers, a piece at a time: a crowd waits in line, and mail does not. A login that has read
    all there is has its next answer a moment later, however often it asks.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.feed.merged import MergedWalk, Piece, Places, Positions, Wanted
from engine.feed.walk import Head

log = logging.getLogger(__name__)

#: Readers at a time, in all and of one login: each may have a piece of an answer in memory that it does not read.
MOST_READERS, MOST_OF_ONE = 64, 16
#: How often journals are looked at that say nothing, and how often any, while somebody waits.
_LOOK_S, _PACE_S = 0.5, 0.1
#: With more readers than these, each login has its answers less often.
_FEW_READERS = 8
_MOST_PACED = 1000
T = TypeVar("T")


class Waiter:
    """Somebody who has read all there was. woken: there is something for him, or he is to come to an end. positions:
    there was nothing for him up to there."""

    def __init__(self, wanted: Wanted, loop: asyncio.AbstractEventLoop) -> None:
        self.wanted = wanted
        self._loop = loop
        self.positions: Positions = {}
        self.woken: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)

    def again(self) -> None:
        """He waits once more."""
        if self.woken.done():
            self.woken = self._loop.create_future()


class Desk:
    """Make it inside the loop. arm: called before journals are looked at, so that `wake` is called when there is more
    in that of this worker."""

    def __init__(self, data_dir: Path, arm: Callable[[], None], metrics: Metrics) -> None:
        self._data_dir = data_dir
        self._arm = arm
        self.metrics = metrics
        self._places = Places()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "events-pull")
        self._readers: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._waiters: set[Waiter] = set()
        self._tail: MergedWalk | None = None
        self._following: asyncio.Task[None] | None = None
        self._next_at: dict[str, float] = {}  #: by login, in the loop's time

    @property
    def readers(self) -> int:
        return self._readers.total()

    def wake(self) -> None:
        """There may be new events."""
        self._changed.set()

    def send_home(self) -> None:
        """Whoever waits comes to an end, if he is to."""
        for waiter in self._waiters:
            waiter.wake()

    @contextmanager
    def place(self, login: str) -> Iterator[bool]:
        """A place for a reader; False: there is none."""
        room = self.readers < MOST_READERS and self._readers[login] < MOST_OF_ONE
        if room:
            self._readers[login] += 1
        try:
            yield room
        finally:
            if room:
                self._readers[login] -= 1
                self._readers += Counter()  # without those of nobody

    def walk(self) -> MergedWalk:
        return MergedWalk(self._data_dir, self._places)

    async def blocking(self, call: Callable[[], T]) -> T:
        """In the thread of the disk."""
        return await self._loop.run_in_executor(self._thread, call)

    async def turn(self, login: str) -> None:
        """Until a login may have its next answer."""
        pause = self._next_at.get(login, 0.0) - self._loop.time()
        if pause > 0:
            await asyncio.sleep(pause)

    def answered(self, login: str) -> None:
        """It has all there is."""
        now = self._loop.time()
        if len(self._next_at) >= _MOST_PACED:
            self._next_at = {each: at for each, at in self._next_at.items() if at > now}
        pace = _PACE_S * max(1.0, self.readers / _FEW_READERS)
        self._next_at[login] = max(self._next_at.get(login, 0.0), now) + pace

    @asynccontextmanager
    async def waiter(self, wanted: Wanted) -> AsyncIterator[Waiter]:
        """Of what is written from now on. Look once more, then wait. Raises StorageError."""
        waiter = Waiter(wanted, self._loop)
        self._waiters.add(waiter)
        try:
            if self._tail is None:
                tail = self.walk()
                await self.blocking(tail.seek_end)
                self._tail = self._tail or tail
            if self._following is None:
                self._following = self._loop.create_task(self._follow())
            yield waiter
        finally:
            self._waiters.discard(waiter)

    async def rest(self, waiter: Waiter, gone: "asyncio.Future[None]", seconds: float) -> None:
        """Until there is something for him, or he has gone, or so long."""
        await asyncio.wait((waiter.woken, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """When nobody asks any more."""
        if (following := self._following) is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        self._thread.shutdown()

    # Inside.

    async def _follow(self) -> None:
        """While somebody waits."""
        try:
            while self._waiters and self._tail is not None:
                self._changed.clear()
                self._arm()  # not later: what is written while it looks is for the next look
                full = await self._look(self._tail)
                await asyncio.sleep(_PACE_S)
                if not full:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), _LOOK_S - _PACE_S)
        except Exception:  # top of a task
            self.metrics.internal_errors.labels("events").inc()
            log.exception("what wakes readers of events")
            self.send_home()
        finally:
            self._tail = self._following = None

    async def _look(self, tail: MergedWalk) -> bool:
        """Wake who wants what is new; whether there may be more."""
        news: set[tuple[str, str]] = set()

        def note(head: Head) -> bool:
            news.add((head.tenant, head.type))
            return False

        try:
            piece = await self.blocking(partial(tail.take, note, 1, 0))
        except StorageError:
            self.send_home()  # he sees it for himself
            return False
        heads = [Head(id="", tenant=tenant, type=type) for tenant, type in news]
        for waiter in self._waiters:
            if not waiter.woken.done():
                self._tell(waiter, heads, piece)
        return piece.full

    def _tell(self, waiter: Waiter, heads: list[Head], piece: Piece) -> None:
        if piece.gaps or any(map(waiter.wanted, heads)):
            waiter.wake()
        else:
            waiter.positions = piece.positions
