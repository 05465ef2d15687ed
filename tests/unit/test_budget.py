"""Budget: B1, and the times it answers with."""

from hypothesis import given
from hypothesis import strategies as st

from engine.queue.budget import LocalBudget


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
    woken: list[str] = []

    def waiter(name, takes):
        def wake():
            woken.append(name)
            return takes and budget.lease("a", 1) is not None

        return wake

    budget.wait("a", waiter("has nothing any more", False))
    budget.wait("a", waiter("takes it", True))
    budget.wait("a", waiter("waits on", True))
    assert lease
    lease.release()
    assert woken == ["has nothing any more", "takes it"]
    assert budget.used("a") == 1


def test_a_lease_freed_by_one_key_serves_another_that_waits_for_the_node():
    budget = LocalBudget(max_connections=1)
    lease = budget.lease("a", 1)
    taken = []
    budget.wait("b", lambda: taken.append(budget.lease("b", 1)) or True)
    assert lease
    lease.release()
    assert len(taken) == 1
    assert budget.used("b") == 1


def test_a_burst_is_one_second_and_not_the_whole_period():
    budget = LocalBudget(1)
    at = [budget.permit("a", 5.0, 100.0) for _ in range(7)]
    assert [round(when, 6) for when in at[:5]] == [100.0] * 5
    assert [round(when, 3) for when in at[5:]] == [100.2, 100.4]


def test_a_rate_below_one_a_second_has_no_burst():
    budget = LocalBudget(1)
    assert [budget.permit("a", 1 / 60, 0.0) for _ in range(3)] == [0.0, 60.0, 120.0]


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
