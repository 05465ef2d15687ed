"""The throttle of a site: W1, W2, closing, and giving back."""

from hypothesis import given
from hypothesis import strategies as st

from engine.queue.throttle import BLOCK_S, CLEAN_RUN, FIRST_CLOSE_S, FIRST_WINDOW, LONGEST_S, SLOWEST, Throttle


def test_deliveries_widen_the_window_to_its_limit():
    throttle = Throttle(10, None)
    assert throttle.window(0.0) == FIRST_WINDOW
    for _ in range(200):
        throttle.delivered()
    assert throttle.window(0.0) == 10


def test_a_row_of_failed_connections_closes_the_site_longer_each_time():
    throttle = Throttle(10, None)
    now, closed = 1000.0, []
    for _ in range(10):
        while throttle.window(now):
            throttle.connect_failed(now, "refused")
        closed.append(throttle.closed_until - now)
        now = throttle.closed_until
        assert throttle.window(now) == 1, "one connection probes a site that opens again"
    assert closed[:3] == [FIRST_CLOSE_S, 2 * FIRST_CLOSE_S, 4 * FIRST_CLOSE_S]
    assert closed[-1] == LONGEST_S
    assert throttle.reason == "refused"


def test_connections_that_were_under_way_when_a_site_was_closed_do_not_close_it_again():
    throttle = Throttle(10, None)
    for _ in range(10):
        throttle.connect_failed(1000.0, "refused")
    assert throttle.closed_until == 1000.0 + FIRST_CLOSE_S


def test_one_failure_does_not_close_a_site_that_works():
    throttle = Throttle(10, None)
    for _ in range(50):
        throttle.delivered()
    throttle.connect_failed(0.0, "refused")
    assert throttle.window(0.0) == 9


def test_a_block_halves_and_clean_runs_give_back_to_the_cap_and_no_further():
    throttle = Throttle(8, 100.0)
    for _ in range(100):
        throttle.delivered()
    throttle.blocked(0.0, "421 slow down")
    assert (throttle.window(0.0), throttle.rate) == (4, 50.0)
    assert throttle.reason == "421 slow down"
    for _ in range(CLEAN_RUN * 50):
        throttle.delivered()
    assert (throttle.window(0.0), throttle.rate, throttle.reason) == (8, 100.0, "")


def test_the_floor_is_one_connection_and_one_message_a_minute():
    throttle = Throttle(10, 10.0)
    for n in range(40):
        throttle.blocked(n * BLOCK_S, "no")
    assert (throttle.window(0.0), throttle.rate) == (1, SLOWEST)


def test_what_was_under_way_when_the_site_blocked_us_is_one_block():
    throttle = Throttle(8, 100.0)
    for n in range(20):
        throttle.blocked(1000.0 + n * BLOCK_S / 40, "451 4.7.1 later")
    assert throttle.rate == 50.0
    throttle.blocked(1000.0 + BLOCK_S, "451 4.7.1 later")
    assert throttle.rate == 25.0


def test_a_closure_that_is_over_is_nothing_to_remember():
    throttle = Throttle(10, None)
    throttle.close(5000.0, "refused")
    assert throttle.learned(4999.0) is not None
    assert throttle.learned(5000.0) is None


def test_a_site_without_a_cap_gets_its_freedom_back():
    throttle = Throttle(10, None)
    throttle.blocked(0.0, "no")
    assert throttle.rate is not None
    for _ in range(CLEAN_RUN * 40):
        throttle.delivered()
    assert throttle.rate is None


def test_what_was_learned_survives_a_restart_within_the_new_caps():
    throttle = Throttle(10, 100.0)
    throttle.blocked(0.0, "no")
    throttle.close(5000.0, "stop rule")
    again = Throttle(1, 20.0)
    learned = throttle.learned(0.0)
    assert learned is not None
    again.remember(learned)
    assert (again.window(6000.0), again.rate, again.closed_until) == (1, 20.0, 5000.0)
    assert Throttle(10, 100.0).learned(0.0) is None, "nothing learned, nothing kept"


def test_an_operator_opens_a_site():
    throttle = Throttle(10, None)
    throttle.close(5000.0, "stop")
    assert throttle.window(0.0) == 0
    throttle.reopen()
    assert throttle.window(0.0) > 0


@given(
    st.integers(1, 50),
    st.one_of(st.none(), st.floats(0.1, 1000)),
    st.lists(st.sampled_from(["delivered", "failed", "blocked", "closed"]), max_size=300),
)
def test_w1_whatever_happens(limit, cap, story):
    throttle, now = Throttle(limit, cap), 0.0
    for what in story:
        now += 1
        match what:
            case "delivered":
                throttle.delivered()
            case "failed":
                throttle.connect_failed(now, "x")
            case "blocked":
                throttle.blocked(now, "x")
            case "closed":
                throttle.close(now + 5, "x")
        assert 0 <= throttle.window(now) <= limit
        assert (throttle.window(now) == 0) == (now < throttle.closed_until)
        assert throttle.rate is None or throttle.rate >= SLOWEST
        assert cap is None or (throttle.rate is not None and throttle.rate <= cap)
