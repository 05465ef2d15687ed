"""Clients of several workers, counted together: B1 whatever happens in whatever order, and no place is lost."""

import asyncio
import random
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.base.errors import NetworkError
from engine.daemon.turnstile import Turnstile
from engine.intake.clients import Clients

KEY = "192.0.2.1"


class Wire:
    """What one side says to the other: in order, and as late as chance has it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._last: asyncio.Future[None] | None = None
        self.cut = False

    async def carry(self) -> None:
        """Returns when what is sent now is there. Raises NetworkError: the worker is gone."""
        before, self._last = self._last, asyncio.get_running_loop().create_future()
        mine = self._last
        try:
            if before is not None:
                await before
            for _ in range(self._rng.randrange(4)):
                await asyncio.sleep(0)
        finally:
            mine.set_result(None)
        if self.cut:
            raise NetworkError("it has gone away")


class Worker:
    """Its clients, and the wires to the node and back."""

    def __init__(self, node: "Node", number: int) -> None:
        self.node, self.number = node, number
        self.up, self.down = Wire(node.rng), Wire(node.rng)
        self.clients = Clients(node.workers, self)
        self.open = 0
        for key in node.turnstile.watched:
            node.later(self._take(self.clients.watch, key))

    async def may_enter(self, key: str, limit: int) -> bool:
        node = self.node
        await self.up.carry()
        node.asked += 1
        answer = await node.turnstile.may_enter(self.number, key, limit)
        await self.down.carry()
        return answer

    def left(self, key: str) -> None:
        self.node.later(self._left(key))

    async def _left(self, key: str) -> None:
        await self.up.carry()
        self.node.turnstile.left(self.number, key)

    async def tell(self, what: str, key: str) -> Any:
        await self.down.carry()
        answer = getattr(self.clients, what)(key)
        await self.up.carry()
        return answer

    async def _take(self, what: Any, key: str) -> None:
        await self.down.carry()
        what(key)

    async def come(self, limit: int) -> bool:
        """A client; whether it has a place."""
        async with self.clients.room([(KEY, limit)]):
            if self.up.cut or not self.clients.take(KEY, limit):
                return False
            self.open += 1
            self.node.check(limit)
            return True

    def go(self) -> None:
        self.open -= 1
        self.clients.free(KEY)


class Node:
    """All workers, and what is on the way."""

    def __init__(self, workers: int, rng: random.Random) -> None:
        self.workers, self.rng, self.asked = workers, rng, 0
        self.turnstile = Turnstile(workers, self._tell)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.all: list[Worker] = []
        self.all += [Worker(self, number) for number in range(workers)]

    def _tell(self, what: str, key: str) -> Mapping[int, Awaitable[int]]:
        return {worker.number: worker.tell(what, key) for worker in self.all}

    def later(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        return task

    async def settle(self) -> None:
        while self.tasks:
            tasks, self.tasks = self.tasks, set()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(watch.closed for watch in self.turnstile._watches.values() if watch.closed))

    def check(self, limit: int) -> None:
        assert sum(worker.open for worker in self.all) <= limit, "B1"

    def lose(self, number: int) -> None:
        """A worker dies, and another takes its place."""
        self.all[number].up.cut = self.all[number].down.cut = True
        self.turnstile.lost(number)
        self.all[number] = Worker(self, number)

    async def fill(self, limit: int, order: list[int]) -> int:
        """Clients come to workers in this order, until none is taken."""
        return sum([await self.all[number].come(limit) for number in order])


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_one_worker_may_have_all_places() -> None:
    """However unevenly clients come: the limit is that of the node, and what one leaves another may have."""

    async def story() -> None:
        node = Node(3, random.Random(1))
        one, other, _ = node.all
        assert await node.fill(10, [0] * 12) == 10
        assert not await other.come(10)
        one.go()
        await node.settle()
        assert await other.come(10)
        assert not await one.come(10)

    run(story())


def test_few_clients_cost_no_question() -> None:
    """Up to its even part a worker asks nobody; and not again, once they are few."""

    async def story() -> None:
        node = Node(2, random.Random(2))
        assert await node.fill(10, [0, 1] * 5) == 10
        assert node.asked == 0
        assert not await node.all[0].come(10)
        for _ in range(4):
            for worker in node.all:
                worker.go()
        await node.settle()
        assert node.turnstile.watched == []
        asked = node.asked
        assert await node.fill(10, [0, 1] * 4) == 8
        assert node.asked == asked

    run(story())


def test_fewer_places_than_workers() -> None:
    async def story() -> None:
        node = Node(3, random.Random(3))
        assert await node.fill(1, [2, 1, 0]) == 1
        node.all[2].go()
        await node.settle()
        assert await node.fill(1, [0, 1]) == 1

    run(story())


def test_a_place_that_nobody_takes_is_free_again() -> None:
    async def story() -> None:
        node = Node(2, random.Random(4))
        for _ in range(3):
            async with node.all[0].clients.room([(KEY, 1)]):
                pass  # it hung up before it was let in
            await node.settle()
        assert await node.all[1].come(1)

    run(story())


def test_alone_nobody_is_asked() -> None:
    async def story() -> None:
        alone = Clients()
        assert [alone.take(KEY, 2) for _ in range(3)] == [True, True, False]
        async with alone.room([(KEY, 2)]):
            assert not alone.take(KEY, 2)
        alone.free(KEY)
        assert alone.take(KEY, 2)

    run(story())


@given(st.integers(0, 1 << 32), st.integers(1, 3), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_never_more_than_the_limit(seed: int, workers: int, limit: int) -> None:
    """Clients come and go everywhere, workers die, messages are late: and at the end all places can be had."""

    async def story() -> None:
        rng = random.Random(seed)
        node = Node(workers, rng)
        for _ in range(120):
            worker = rng.choice(node.all)
            match rng.randrange(12):
                case 0:
                    node.lose(worker.number)
                case 1 | 2 | 3 | 4:
                    if worker.open:
                        worker.go()
                case _:
                    node.later(worker.come(limit))
            if rng.randrange(2):
                await asyncio.sleep(0)
        await node.settle()
        for worker in node.all:
            while worker.open:
                worker.go()
        await node.settle()
        order = [rng.randrange(workers) for _ in range(limit + 2)]
        assert await node.fill(limit, order) == limit

    run(story())
