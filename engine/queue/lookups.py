"""Routes being looked up: one look-up for a destination, however many deliveries wait for it; so many at once."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from engine.message.outcome import Status
from engine.queue.stock import Key
from engine.routing.plan import NoRoute, Plan
from engine.routing.router import Router

log = logging.getLogger(__name__)

#: Routes looked up at once; more destinations wait for their turn.
MAX_LOOKUPS = 1000


class Lookups:
    """See above. found: told what came of each."""

    def __init__(self, router: Router, found: Callable[[Key, Plan | NoRoute], None]) -> None:
        self._router = router
        self._found = found
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[Key] = deque()
        self._closed = False
        self.pending: set[Key] = set()

    def want(self, key: Key) -> None:
        if key not in self.pending:
            self.pending.add(key)
            self._waiting.append(key)
            self._start()

    def close(self) -> None:
        """Begin no more; what is under way is not waited for."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    def _start(self) -> None:
        while self._waiting and len(self._tasks) < MAX_LOOKUPS and not self._closed:
            task = asyncio.get_running_loop().create_task(self._resolve(self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._start()

    async def _resolve(self, key: Key) -> None:
        try:
            plan = await self._router.resolve(*key)
        except Exception:  # top of a task, Q3: unknown means deferred
            log.exception("looking up the route of %s", key[0])
            plan = NoRoute(Status.DEFERRED, "4.3.5", "internal error while looking up the route", 0.0)
        self.pending.discard(key)
        self._found(key, plan)
