"""Budgets of several workers and their holdings: B1 whatever happens in whatever order, and nobody starves."""

import random
from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.queue.budget import NODE, Lease
from engine.queue.holdings import Claim, Holdings, divide
from engine.queue.shares import IDLE_S, SharedBudget


class Node:
    """Workers' budgets and the holdings, with the messages between them as queues that a test empties step by step."""

    def __init__(self, workers: int, max_connections: int = 1000) -> None:
        self.now = 100.0
        self.max_connections = max_connections
        self.holdings = Holdings()
        self.budgets: dict[int, SharedBudget] = {}
        self.to_holdings: dict[int, deque[Any]] = {}
        self.to_worker: dict[int, deque[Any]] = {}
        for worker in range(workers):
            self.start(worker)

    def start(self, worker: int) -> None:
        self.budgets[worker] = SharedBudget(self.max_connections, lambda: None, lambda: self.now)
        self.to_holdings[worker], self.to_worker[worker] = deque(), deque()

    def lose(self, worker: int) -> None:
        self.holdings.lost(worker, self.now)
        self.start(worker)

    def send(self, worker: int) -> None:
        self.to_holdings[worker].extend(self.budgets[worker].report())

    def step(self, worker: int, up: bool) -> bool:
        """Carry one message of a worker; False if there is none."""
        self.send(worker)
        queue = self.to_holdings[worker] if up else self.to_worker[worker]
        if not queue:
            return False
        message = queue.popleft()
        if up:
            self.holdings.report(worker, message)
            for other, orders in self.holdings.orders().items():
                self.to_worker[other].extend(orders)
        else:
            self.budgets[worker].obey([message])
        return True

    def settle(self) -> None:
        """Carry everything, until nobody has anything to say."""
        steps = 0
        while any([self.step(worker, up) for worker in self.budgets for up in (True, False)]):
            steps += 1
            assert steps < 1000, "they never agree"

    def beat(self, seconds: float = 1.0) -> None:
        self.now += seconds
        for budget in self.budgets.values():
            budget.beat()
        self.settle()

    def held(self, worker: int, key: str) -> int:
        share = self.budgets[worker]._shares.get(key)
        return share.held if share else 0


class Queue:
    """A party with `todo` messages for one key: takes leases as it may, like a ready queue."""

    def __init__(self, node: Node, worker: int, key: str, limit: int, todo: int) -> None:
        self.budget = node.budgets[worker]
        self.key, self.limit, self.todo = key, limit, todo
        self.leases: list[Lease] = []
        self.idle = self.done = 0
        self.waits = False

    @property
    def hungry(self) -> bool:
        return self.todo > len(self.leases)

    def pump(self) -> bool:
        if not self.hungry or self.waits:
            return False
        lease = self.budget.lease(self.key, self.limit)
        if lease is None:
            self.waits = True
            self.budget.wait(self.key, self)
            return False
        self.leases.append(lease)
        return True

    def lease_freed(self) -> bool:
        self.waits = False
        return self.pump()

    def give_back(self) -> bool:
        return False

    def finish(self) -> None:
        """One message is done; the connection goes on with the next, unless others want it."""
        self.todo -= 1
        self.done += 1
        if len(self.leases) > self.todo or self.budget.wanted(self.key, self):
            self.leases.pop().release()
            self.pump()


def test_a_key_that_one_worker_uses_is_all_its_own() -> None:
    node = Node(3)
    queue = Queue(node, 0, "a", 20, 100)
    queue.pump()
    node.settle()
    while queue.pump():
        pass
    assert len(queue.leases) == 20
    assert node.holdings.out("a") == 20


def test_two_that_want_it_come_to_have_half_each() -> None:
    node = Node(2)
    first, second = (Queue(node, worker, "a", 20, 1000) for worker in (0, 1))
    for queue in (first, second):
        for _ in range(100):
            queue.pump()
            node.settle()
    assert len(first.leases) == 20
    assert len(second.leases) == 0
    for _ in range(20):
        first.finish()
        node.settle()
        second.pump()
    while second.pump():
        node.settle()
    assert (len(first.leases), len(second.leases)) == (10, 10)


def test_what_is_not_used_goes_back_by_itself() -> None:
    node = Node(2)
    queue = Queue(node, 0, "a", 5, 1)
    queue.pump()
    node.settle()
    queue.finish()
    node.beat(IDLE_S / 2)
    assert node.held(0, "a") == 5
    node.beat(IDLE_S)
    assert node.held(0, "a") == 0
    assert node.holdings.out("a") == node.holdings.out(NODE) == 0


def test_one_connection_is_taken_in_turns() -> None:
    """Nobody starves, whoever came first: after a message the connection moves on."""
    node = Node(3)
    queues = [Queue(node, worker, "a", 1, 10) for worker in range(3)]
    for queue in queues:
        queue.pump()
        node.settle()
    order = []
    while any(queue.todo for queue in queues):
        (has,) = (place for place, queue in enumerate(queues) if queue.leases)
        queues[has].finish()
        order.append(has)
        node.settle()
    assert order[:9] == [0, 1, 2] * 3
    assert all(queue.done == 10 for queue in queues)


def test_the_limit_of_the_node_is_shared_like_any_other() -> None:
    node = Node(2, max_connections=1)
    first, second = Queue(node, 0, "a", 5, 3), Queue(node, 1, "b", 5, 3)
    for _ in range(3):
        for queue in (first, second):
            queue.pump()
            node.settle()
    assert (len(first.leases), len(second.leases)) == (1, 0)
    for _ in range(6):
        (first if first.leases else second).finish()
        node.settle()
    assert (first.todo, second.todo) == (0, 0)


def test_an_idle_connection_is_asked_back() -> None:
    node = Node(2)
    asked = []

    class Idle(Queue):
        def give_back(self) -> bool:
            asked.append(1)
            if self.idle:
                self.idle -= 1
                self.budget.withdraw(self.key, self)
                self.leases.pop().release()
                return True
            return False

    idle, other = Idle(node, 0, "a", 1, 1), Queue(node, 1, "a", 1, 1)
    idle.pump()
    node.settle()
    assert len(idle.leases) == 1
    idle.todo, idle.idle = 0, 1
    idle.budget.offer("a", idle)
    other.pump()
    node.settle()
    assert asked
    assert (len(idle.leases), len(other.leases)) == (0, 1)


def test_shares_of_a_worker_that_is_lost_come_back() -> None:
    node = Node(2)
    dead, waits = Queue(node, 0, "a", 1, 1), Queue(node, 1, "a", 1, 1)
    for queue in (dead, waits):
        queue.pump()
        node.settle()
    assert (len(dead.leases), len(waits.leases)) == (1, 0)
    node.lose(0)
    node.holdings.forget(node.now)
    for worker, orders in node.holdings.orders().items():
        node.to_worker[worker].extend(orders)
    node.settle()
    assert len(waits.leases) == 1


def test_the_rate_goes_with_the_shares() -> None:
    """Two workers with half of the connections each have half of the rate each; alone, one has it all."""
    node = Node(2)
    queues = [Queue(node, worker, "a", 2, 100) for worker in (0, 1)]
    queues[0].pump()
    node.settle()
    permits = [node.budgets[0].permit("a", 10.0, node.now) for _ in range(12)]
    assert [round(at - node.now, 3) for at in permits] == [0.0] * 10 + [0.1, 0.2]
    node.now += 100
    queues[1].pump()
    node.settle()
    assert (node.held(0, "a"), node.held(1, "a")) == (1, 1)
    for budget in node.budgets.values():
        permits = [budget.permit("a", 10.0, node.now) for _ in range(7)]
        assert [round(at - node.now, 3) for at in permits] == [0.0] * 5 + [0.2, 0.4]


def test_a_share_that_moves_takes_its_debt_along() -> None:
    """Once a minute is once a minute, whoever of two workers has the one connection."""
    node = Node(2)
    first, second = (Queue(node, worker, "a", 1, 1) for worker in (0, 1))
    first.pump()
    node.settle()
    assert node.budgets[0].permit("a", 1 / 60, node.now) == node.now
    first.finish()
    node.beat(10.0)
    second.pump()
    node.settle()
    assert round(node.budgets[1].permit("a", 1 / 60, node.now) - node.now) == 50
    node.holdings.forget(node.now)


def test_a_late_permit_makes_hungry_and_draws_what_others_do_not_use() -> None:
    node = Node(2)
    busy, calm = (Queue(node, worker, "a", 10, 1) for worker in (0, 1))
    busy.pump()
    node.settle()
    calm.pump()
    node.settle()
    assert (node.held(0, "a"), node.held(1, "a")) == (5, 5)
    for _ in range(5):
        for _ in range(200):
            node.budgets[0].permit("a", 100.0, node.now)
        node.beat(0.1)
    assert (node.held(0, "a"), node.held(1, "a")) == (9, 1)


def test_the_slow_rate_of_a_site_is_cut_like_the_key_it_belongs_to() -> None:
    node = Node(2)
    for worker in (0, 1):
        Queue(node, worker, "gmail", 2, 1).pump()
        node.settle()
    permits = [node.budgets[0].permit("slow gmail mx.example", 2.0, node.now) for _ in range(2)]
    assert [round(at - node.now, 3) for at in permits] == [0.0, 1.0]


def test_a_smaller_limit_asks_shares_back() -> None:
    node = Node(1)
    queue = Queue(node, 0, "a", 10, 10)
    queue.pump()
    node.settle()
    while queue.pump():
        pass
    assert len(queue.leases) == 10
    queue.limit = 4
    queue.todo = 100
    queue.pump()
    node.settle()
    while len(queue.leases) > 4:
        queue.leases.pop().release()
        queue.pump()
        node.settle()
    assert len(queue.leases) == 4
    assert node.holdings.out("a") == 4


@given(st.data())
def test_b1_division_never_exceeds_the_limit_and_uses_it_where_it_is_wanted(data) -> None:  # type: ignore[no-untyped-def]
    limit = data.draw(st.integers(1, 30))
    claims = [
        Claim(
            held=data.draw(st.integers(0, 30)),
            used=data.draw(st.integers(0, 30)),
            hungry=data.draw(st.booleans()),
            turn=turn,
        )
        for turn in range(data.draw(st.integers(1, 5)))
    ]
    targets = divide(limit, claims)
    assert sum(targets) <= limit
    hungry = [place for place, claim in enumerate(claims) if claim.hungry]
    if hungry and len(claims) <= limit:
        assert all(targets[place] >= 1 for place in hungry)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 4), st.integers(1, 6), st.integers(1, 12))
def test_b1_holds_in_whatever_order_messages_come_and_everything_is_sent(seed, workers, limit, node_limit) -> None:  # type: ignore[no-untyped-def]
    """Delays, deaths and a crowd: never more leases than the limit, and every queue is worked off in the end."""
    chance = random.Random(seed)
    node = Node(workers, max_connections=node_limit)
    keys = ("a", "b", "c")
    queues = [Queue(node, worker, key, limit, chance.randrange(5)) for worker in range(workers) for key in keys]

    def check() -> None:
        for key in keys:
            leased = sum(len(queue.leases) for queue in queues if queue.key == key)
            assert leased <= limit
        assert sum(len(queue.leases) for queue in queues) <= node_limit

    for _ in range(chance.randrange(300)):
        match chance.randrange(6):
            case 0 | 1:
                node.step(chance.randrange(workers), chance.random() < 0.5)
            case 2 | 3:
                chance.choice(queues).pump()
            case 4:
                queue = chance.choice(queues)
                if queue.leases:
                    queue.finish()
            case 5:
                node.now += chance.random()
                chance.choice(list(node.budgets.values())).beat()
                if chance.random() < 0.05:
                    worker = chance.randrange(workers)
                    node.lose(worker)
                    for other, orders in node.holdings.orders().items():
                        node.to_worker[other].extend(orders)
                    for place, queue in enumerate(queues):
                        if place // len(keys) == worker:
                            queues[place] = Queue(node, worker, queue.key, limit, queue.todo)
        check()
    for _ in range(2000):
        for queue in queues:
            queue.pump()
            node.settle()
            check()
            if queue.leases:
                queue.finish()
            node.settle()
            check()
        node.beat()
        if not any(queue.todo for queue in queues):
            break
    assert [queue.todo for queue in queues] == [0] * len(queues)
    for _ in range(5):
        node.beat()
    assert all(node.holdings.out(key) == 0 for key in (*keys, NODE)), "what nobody uses came back"
