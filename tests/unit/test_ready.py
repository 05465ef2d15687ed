"""The ready queue: order, connections asked for and shared, and what becomes too old while a site is closed."""

import asyncio
import random

from engine.base.settings import Source
from engine.message.envelope import Envelope, MessageClass, Recipient
from engine.queue.budget import LocalBudget
from engine.queue.ready import ReadyQueue
from engine.queue.throttle import Throttle
from engine.routing.plan import Endpoint, Limits, Plan
from engine.storage.spool.entry import Delivery, Message, State
from tests.support.clock import FakeClock


class Courier:
    """Remembers what it was told to do."""

    def __init__(self):
        self.working = set()
        self.attempts = []
        self.given_up = []

    def attempt(self, queue, lease):
        self.attempts.append((queue, lease))

    def give_up(self, delivery, provider, reason):
        self.given_up.append(delivery)


class Site:
    """A clock, a budget, a courier, and queues on them."""

    def __init__(self, connections=2, max_connections=10):
        self.clock, self.courier = FakeClock(), Courier()
        self.budget = LocalBudget(max_connections)
        self.connections = connections
        self.throttle = Throttle(connections, None)
        self.siblings, self.stale = [], []

    def queue(self, key="site", tls="none"):
        limits = Limits(key=key, connections=self.connections, messages_per_connection=10, rate=None)
        plan = Plan(
            destination="x.test", site="site", provider="other", hosts=((Endpoint("mx", "192.0.2.1", 25),),), tls=tls,
            source=Source(name="s"), limits=limits, credentials=None, stop=(), expires_at=9e9,
        )  # fmt: skip
        queue = ReadyQueue(plan, self.throttle, self.siblings, self.budget, self.courier, self.clock, self.stale.append)
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
        message = Message(Envelope("id", "", recipient, now, now + expires_in, 0, message_class=message_class))
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


def test_a_closed_site_begins_nothing_and_gives_up_what_is_too_old():
    """Whatever the order they came in: the one in the middle expires first."""

    async def story():
        site = Site()
        site.throttle.close(site.clock.now + 7200, "451 [TS04] later")
        queue = site.queue()
        deliveries = [site.delivery(expires) for expires in (3000.0, 0.5, 2000.0)]
        rest = [site.delivery(random.Random(number).uniform(3000, 4000)) for number in range(10)]
        for delivery in deliveries + rest:
            queue.push(delivery)
        assert queue.take() is None
        assert not queue.hungry
        loop = asyncio.get_running_loop()
        assert queue._timer is not None
        assert queue._timer.when() - loop.time() <= 1.0, "it wakes for the first that expires, not when the site opens"
        site.clock.advance(1.0)
        queue._timer.cancel()
        queue._wake()
        assert site.courier.given_up == [deliveries[1]]
        assert deliveries[1].state is State.ATTEMPT
        assert 1990 <= queue._timer.when() - loop.time() <= 2000
        site.clock.advance(7200)
        queue._timer.cancel()
        queue._wake()
        assert (len(queue), len(site.courier.attempts)) == (12, 1), "an open site has one try for the others as well"

    asyncio.run(story())


def test_after_reopening_the_old_ones_have_a_try():
    async def story():
        site = Site()
        site.throttle.close(site.clock.now + 7200, "451 [TS04] later")
        queue = site.queue()
        queue.push(site.delivery(100.0))
        site.clock.advance(200.0)
        site.throttle.reopen()
        queue.reopen()
        assert (len(site.courier.given_up), len(site.courier.attempts)) == (0, 1)

    asyncio.run(story())
