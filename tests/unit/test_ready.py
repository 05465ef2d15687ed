"""The ready queue: order, connections asked for and shared, what is read ahead, and what a closed site puts down."""

import asyncio

from engine.base.settings import Source
from engine.message.envelope import Envelope, MessageClass, Recipient
from engine.queue.budget import LocalBudget
from engine.queue.ready import READ_AHEAD, ReadyQueue
from engine.queue.stock import Destination
from engine.queue.throttle import Throttle
from engine.routing.plan import Endpoint, Limits, Plan
from engine.storage.spool.entry import Delivery, Message, State
from tests.support.clock import FakeClock


class Courier:
    """Remembers what it was told to do."""

    def __init__(self):
        self.working = set()
        self.attempts = []

    def attempt(self, queue, lease):
        self.attempts.append((queue, lease))


class Store:
    """Where deliveries are when they are not in memory."""

    def __init__(self):
        self.wanted, self.down, self.stale = [], [], []

    def want(self, queue):
        self.wanted.append(queue)

    def put_down(self, deliveries):
        for delivery in deliveries:
            delivery.state, delivery.owner = State.DUE, None
            self.down.append(delivery)

    def route_again(self, queue):
        self.stale.append(queue)


class Site:
    """A clock, a budget, a courier, and queues on them."""

    def __init__(self, connections=2, max_connections=10):
        self.clock, self.courier = FakeClock(), Courier()
        self.budget = LocalBudget(max_connections)
        self.connections = connections
        self.plan_until = 9e9
        self.throttle = Throttle(connections, None)
        self.siblings, self.store = [], Store()

    def queue(self, key="site", tls="none"):
        limits = Limits(key=key, connections=self.connections, messages_per_connection=10, rate=None)
        plan = Plan(
            destination="x.test", site="site", provider="other", hosts=((Endpoint("mx", "192.0.2.1", 25),),), tls=tls,
            source=Source(name="s"), limits=limits, credentials=None, stop=(), expires_at=self.plan_until,
        )  # fmt: skip
        queue = ReadyQueue(plan, self.throttle, self.siblings, self.budget, self.courier, self.clock, self.store)
        self.siblings.append(queue)
        return queue

    def another_site(self):
        """One more site on the same budget."""
        other = Site(self.connections)
        other.clock, other.courier, other.budget = self.clock, self.courier, self.budget
        return other

    def delivery(self, expires_in=1000.0, message_class=MessageClass.BULK):
        now = self.clock.now
        recipient = (Recipient("a@x.test"),)
        message = Message(Envelope("id", "", recipient, now, now + expires_in, 0, message_class=message_class), b"")
        return Delivery(message, 0, "x.test", (0,))

    def work_off(self, number=0):
        """Do what the agent of an attempt would do: take all, end, release."""
        queue, lease = self.courier.attempts[number]
        queue.arrived()
        taken = []
        while (delivery := queue.take()) is not None:
            taken.append(delivery)
        lease.release()
        queue.left()
        return taken


def test_transactional_before_bulk_and_first_come_first_served():
    site = Site(connections=1)
    queue = site.queue()
    bulk = [site.delivery() for _ in range(3)]
    urgent = [site.delivery(message_class=MessageClass.TRANSACTIONAL) for _ in range(2)]
    for delivery in bulk + urgent:
        queue.push(delivery)
    assert len(site.courier.attempts) == 1
    assert site.work_off() == urgent + bulk
    assert site.throttle.in_use == site.budget.connections == queue.agents == 0


def test_an_idle_connection_is_used_again_and_not_a_new_one():
    async def story():
        site = Site()
        queue = site.queue()
        queue.push(site.delivery())
        queue.arrived()
        assert queue.take()
        idle = queue.wait()
        queue.push(site.delivery())
        assert await idle is True
        assert len(site.courier.attempts) == 1

    asyncio.run(story())


def test_an_idle_connection_is_given_to_another_site_of_the_provider():
    """One budget for both; with the old rule the second waited until the first had been idle long enough."""

    async def story():
        site = Site(connections=1)
        first, second = site.queue("provider"), site.another_site().queue("provider")
        first.push(site.delivery())
        first.arrived()
        assert first.take()
        idle = first.wait()
        waiting = site.delivery()
        second.push(waiting)
        assert await idle is False
        lease = site.courier.attempts[0][1]
        lease.release()
        first.left()
        assert [queue for queue, _ in site.courier.attempts] == [first, second]
        assert site.work_off(1) == [waiting]

    asyncio.run(story())


def test_an_idle_connection_is_given_to_another_queue_of_the_site():
    """The window is the site's; its queues differ by the need for TLS, say."""

    async def story():
        site = Site(connections=1)
        first, second = site.queue(), site.queue(tls="encrypt")
        first.push(site.delivery())
        first.arrived()
        assert first.take()
        idle = first.wait()
        second.push(site.delivery())
        assert await idle is False
        site.courier.attempts[0][1].release()
        first.left()
        assert site.courier.attempts[1][0] is second

    asyncio.run(story())


def test_who_has_carried_its_share_makes_room_for_who_waits():
    """Both have more than they can send: they take turns."""
    site = Site(connections=1)
    first, second = site.queue("provider"), site.another_site().queue("provider")
    for _ in range(5):
        first.push(site.delivery())
    assert not first.must_share()
    second.push(site.delivery())
    assert first.must_share()
    first.arrived()
    assert first.take()
    site.courier.attempts[0][1].release()
    first.left()
    site.work_off(1)
    assert [queue for queue, _ in site.courier.attempts] == [first, second, first]
    assert not first.must_share()


def test_the_queues_of_a_site_take_turns():
    site = Site(connections=1)
    queues = [site.queue(), site.queue(tls="encrypt"), site.queue(tls="verify")]
    for queue in queues * 2:
        queue.push(site.delivery())
    served = []
    for number in range(6):
        queue, lease = site.courier.attempts[number]
        queue.arrived()
        assert queue.take()
        served.append(queue)
        lease.release()
        queue.left()
    assert served == queues * 2


def test_a_closed_site_begins_nothing_and_puts_everything_down_until_it_opens():
    """Nothing of it stays in memory, however much there is, and the queue wakes when the site opens."""

    async def story():
        site = Site()
        queue = site.queue()
        queue.push(site.delivery())
        queue.arrived()
        assert queue.take()
        idle = queue.wait()
        site.throttle.close(site.clock.now + 7200, "451 [TS04] later")
        waiting = [site.delivery() for _ in range(10)]
        for delivery in waiting:
            queue.push(delivery)
        assert await idle, "who is connected looks for itself"
        assert queue.take() is None
        queue.pump()
        assert site.store.down == waiting
        assert (len(queue), queue.hungry, queue.takes_more(0, True), len(site.courier.attempts)) == (0, False, False, 1)
        assert queue._timer is not None
        assert queue._timer.when() - asyncio.get_running_loop().time() <= 7200
        destination = Destination("x.test", "")
        destination.stock[MessageClass.BULK].extend(range(10))
        queue.feed(destination)
        assert site.store.wanted == [], "what a closed site has is not read"
        site.clock.advance(7200)
        queue._timer.cancel()
        queue._wake()
        assert site.store.wanted == [queue]
        assert not queue.unused

    asyncio.run(story())


def test_after_reopening_what_was_put_down_is_read():
    async def story():
        site = Site()
        site.throttle.close(site.clock.now + 7200, "451 [TS04] later")
        queue = site.queue()
        destination = Destination("x.test", "")
        destination.stock[MessageClass.BULK].add(7)
        queue.feed(destination)
        assert queue._timer is not None
        site.throttle.reopen()
        queue.reopen()
        assert site.store.wanted == [queue]

    asyncio.run(story())


def test_a_queue_whose_plan_is_too_old_when_its_site_opens_is_routed_again():
    async def story():
        site = Site()
        site.plan_until = site.clock.now + 60
        site.throttle.close(site.clock.now + 7200, "451 [TS04] later")
        queue = site.queue()
        destination = Destination("x.test", "")
        destination.stock[MessageClass.BULK].add(7)
        queue.feed(destination)
        site.clock.advance(7200)
        queue._timer.cancel()
        queue._wake()
        assert (site.store.stale, site.store.wanted) == ([queue], [])

    asyncio.run(story())


def test_what_is_next_is_in_memory_and_no_more():
    site = Site(connections=1)
    queue = site.queue()
    for _ in range(READ_AHEAD):
        assert queue.takes_more(0, False)
        queue.push(site.delivery())
    assert not queue.takes_more(0, False), "its content would be read again, one by one"
    assert queue.takes_more(0, True)
    destination = Destination("x.test", "")
    destination.stock[MessageClass.BULK].extend(range(10_000))
    queue.feed(destination)
    assert site.store.wanted == [], "there is enough"
    queue.arrived()
    while len(queue) >= READ_AHEAD // 2:
        assert queue.take()
    assert site.store.wanted[-1] is queue
    rows = queue.take_stock()
    assert rows == list(range(READ_AHEAD - len(queue)))
    assert list(queue.feeders) == [destination]


def test_what_arrives_stays_in_memory_while_a_connection_is_at_work_and_goes_to_disk_in_order_when_the_site_closes():
    async def story():
        site = Site(connections=1)
        queue = site.queue()
        waiting = [site.delivery() for _ in range(3 * READ_AHEAD)]
        for delivery in waiting:
            assert queue.takes_more(0, True)
            queue.push(delivery)
        site.throttle.close(site.clock.now + 60, "451 later")
        queue.pump()
        assert site.store.down == waiting[-READ_AHEAD:], "a slice in a turn"
        for _ in range(3):
            await asyncio.sleep(0)
        assert site.store.down == [*waiting[-READ_AHEAD:], *waiting[READ_AHEAD:-READ_AHEAD], *waiting[:READ_AHEAD]]
        assert not len(queue)

    asyncio.run(story())


def test_what_is_on_disk_goes_before_what_comes_later():
    """A delivery that is just accepted goes behind those that wait on disk, and so onto the disk as well."""
    site = Site()
    queue = site.queue()
    destination = Destination("x.test", "")
    destination.stock[MessageClass.BULK].add(1)
    queue.feed(destination)
    assert not queue.takes_more(0, True)
    assert queue.take_stock() == [1]
    assert queue.takes_more(0, True) and not queue.feeders


def test_destinations_of_a_site_are_read_in_turn():
    site = Site(connections=1)
    queue = site.queue()
    first, second = Destination("a.test", ""), Destination("b.test", "")
    first.stock[MessageClass.BULK].extend(range(10))
    second.stock[MessageClass.BULK].extend(range(10, 20))
    queue.feed(first)
    queue.feed(second)
    assert queue.take_stock() == [0, 1], "few without a connection"
    assert list(queue.feeders) == [second, first]
    assert queue.take_stock() == [10, 11]


def test_a_delivery_that_somebody_took_away_is_passed_over():
    site = Site(connections=1)
    queue = site.queue()
    taken, stays = site.delivery(), site.delivery()
    queue.push(taken)
    queue.push(stays)
    taken.state, taken.owner = State.HELD, None
    assert site.work_off() == [stays]
