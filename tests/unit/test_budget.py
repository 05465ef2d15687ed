"""Budget: B1, and the times it answers with."""

from hypothesis import given
from hypothesis import strategies as st

from engine.queue.budget import LocalBudget


class Site:
    """A party that takes what it is told of, as long as it is hungry."""

    def __init__(self, budget, key="a", hungry=True):
        self.budget, self.key, self.hungry = budget, key, hungry
        self.told = self.asked = 0
        self.lease = None

    def lease_freed(self):
        self.told += 1
        self.lease = self.budget.lease(self.key, 1) if self.hungry else None
        return self.lease is not None

    def give_back(self):
        self.asked += 1
        return True


def test_b1_leases_never_exceed_the_limit_of_a_key_or_of_the_node():
    budget = LocalBudget(max_connections=3)
    leases = [budget.lease("a", 2) for _ in range(3)]
    assert [lease is not None for lease in leases] == [True, True, False]
    assert budget.lease("b", 2) is not None
    assert budget.lease("c", 2) is None, "the node's limit"
    assert leases[0]
    leases[0].release()
    leases[0].release()
    assert budget.connections == 2, "released twice counts once"
    assert budget.lease("c", 2) is not None


def test_a_released_lease_goes_to_whoever_waits_for_its_key_first():
    budget = LocalBudget(max_connections=10)
    lease = budget.lease("a", 1)
    full, first, second = Site(budget, hungry=False), Site(budget), Site(budget)
    for site in (full, first, second):
        budget.wait("a", site)
    assert lease
    lease.release()
    assert (full.told, first.told, second.told) == (1, 1, 0)
    assert first.lease is not None
    assert budget.used("a") == 1


def test_a_lease_freed_by_one_key_serves_another_that_waits_for_the_node():
    budget = LocalBudget(max_connections=1)
    lease = budget.lease("a", 1)
    other = Site(budget, "b")
    budget.wait("b", other)
    assert lease
    lease.release()
    assert other.told == 1
    assert budget.used("b") == 1


def test_an_idle_lease_is_asked_for_when_another_wants_it():
    budget = LocalBudget(max_connections=10)
    idle, elsewhere, busy = Site(budget), Site(budget), Site(budget)
    budget.lease("a", 1)
    budget.offer("a", idle)
    budget.offer("b", elsewhere)
    budget.wait("a", busy)
    assert (idle.asked, elsewhere.asked) == (1, 0)
    budget.withdraw("a", idle)
    budget.withdraw("a", idle)
    budget.wait("a", busy)
    assert (idle.asked, elsewhere.asked) == (1, 0)


def test_any_idle_lease_will_do_when_the_node_is_full():
    budget = LocalBudget(max_connections=1)
    idle, busy = Site(budget, "a"), Site(budget, "b")
    lease = budget.lease("a", 5)
    budget.offer("a", idle)
    budget.wait("b", busy)
    assert idle.asked == 1
    assert lease
    lease.release()
    assert busy.lease is not None


def test_a_lease_is_wanted_by_others_who_are_hungry():
    budget = LocalBudget(max_connections=10)
    mine, other = Site(budget), Site(budget, hungry=False)
    budget.lease("a", 1)
    budget.wait("a", mine)
    budget.wait("a", other)
    assert not budget.wanted("a", mine), "the other one has nothing any more"
    other.hungry = True
    assert budget.wanted("a", mine)
    assert not budget.wanted("b", mine)


def test_a_burst_is_one_second_and_not_the_whole_period():
    budget = LocalBudget(1)
    at = [budget.permit("a", 5.0, 100.0) for _ in range(7)]
    assert [round(when, 6) for when in at[:5]] == [100.0] * 5
    assert [round(when, 3) for when in at[5:]] == [100.2, 100.4]


def test_a_rate_below_one_a_second_has_no_burst():
    budget = LocalBudget(1)
    assert budget.permits_at_once("a", 1 / 60, 0.0)
    assert [budget.permit("a", 1 / 60, 0.0) for _ in range(3)] == [0.0, 60.0, 120.0]
    assert not budget.permits_at_once("a", 1 / 60, 179.0)
    assert budget.permits_at_once("a", 1 / 60, 180.0)


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 10), min_size=1, max_size=200))
def test_no_second_sees_more_than_burst_plus_rate(rate, waits):
    budget, now, times = LocalBudget(1), 0.0, []
    for wait in waits:
        now += wait
        at = budget.permit("a", rate, now)
        assert at >= now
        times.append(at)
    for at in times:
        within = [t for t in times if at <= t < at + 1.0]
        assert len(within) <= max(rate, 1.0) + rate + 2


def test_full_buckets_are_forgotten():
    budget = LocalBudget(1)
    budget.permit("a", 1.0, 0.0)
    budget.permit("b", 1.0, 50.0)
    budget.forget(10.0)
    assert budget.permit("a", 1.0, 10.0) == 10.0
    assert budget._next.keys() == {"a", "b"}
