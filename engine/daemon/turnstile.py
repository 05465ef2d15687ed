"""How many clients all workers of a node have of the keys that are watched (intake/clients.py).

A key is watched from the first question about it, once every worker has said how many it has and answered that it will
ask from now on; until there are so few that no worker has more than half of its even part. Then all are told, and it
begins anew only when all have answered: what a worker says on its way out of one watch is never counted to the next.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from engine.base.errors import EngineError

#: Tells every worker that runs: what to do ("watch", "unwatch") and the key; answers by worker.
Tell = Callable[[str, str], Mapping[int, Awaitable[int]]]


class _Watch:
    """counts: clients of each worker. few: so many in all are not worth watching. opened: all workers know; closed."""

    __slots__ = ("closed", "counts", "few", "opened")

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.few = 0
        self.opened: asyncio.Task[None]
        self.closed: asyncio.Task[None] | None = None


class Turnstile:
    """See above. On the supervisor's loop. workers: how many share a limit."""

    def __init__(self, workers: int, tell: Tell) -> None:
        self._workers = workers
        self._tell = tell
        self._watches: dict[str, _Watch] = {}
        self._lives: Counter[int] = Counter()  #: of each worker, how many have ended

    @property
    def watched(self) -> list[str]:
        """What a worker that starts must watch."""
        return [key for key, watch in self._watches.items() if watch.closed is None]

    async def may_enter(self, worker: int, key: str, limit: int) -> bool:
        """Whether the worker may take one more client, which is counted then."""
        life = self._lives[worker]
        watch = await self._watch(key)
        watch.few = limit // self._workers // 2
        if watch.counts.total() >= limit or self._lives[worker] != life:
            self._look(key, watch)
            return False
        watch.counts[worker] += 1
        return True

    def left(self, worker: int, key: str) -> None:
        """A client of the worker is gone."""
        watch = self._watches.get(key)
        if watch is not None:
            watch.counts[worker] -= 1
            self._look(key, watch)

    def lost(self, worker: int) -> None:
        """The worker is gone, and its clients with it."""
        self._lives[worker] += 1
        for key, watch in list(self._watches.items()):
            watch.counts.pop(worker, None)
            self._look(key, watch)

    # Inside.

    async def _watch(self, key: str) -> _Watch:
        """The watch of this key, once all workers keep to it; begun if there is none."""
        loop = asyncio.get_running_loop()
        while True:
            watch = self._watches.get(key)
            if watch is None:
                watch = self._watches[key] = _Watch()
                watch.opened = loop.create_task(self._open(key, watch))
            await asyncio.shield(watch.closed or watch.opened)
            if watch.closed is None:
                return watch

    async def _open(self, key: str, watch: _Watch) -> None:
        await asyncio.gather(
            *(self._hear(worker, answer, watch) for worker, answer in self._tell("watch", key).items())
        )

    async def _hear(self, worker: int, answer: Awaitable[int], watch: _Watch) -> None:
        life = self._lives[worker]
        try:
            count = await answer
        except EngineError:
            return  # it is gone: `lost` sees to it
        if self._lives[worker] == life:
            watch.counts[worker] += count  # some may have left since

    def _look(self, key: str, watch: _Watch) -> None:
        if watch.closed is None and watch.opened.done() and watch.counts.total() <= watch.few:
            watch.closed = asyncio.get_running_loop().create_task(self._close(key))

    async def _close(self, key: str) -> None:
        await asyncio.gather(*self._tell("unwatch", key).values(), return_exceptions=True)
        del self._watches[key]
