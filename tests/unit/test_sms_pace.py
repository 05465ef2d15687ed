"""A1, and how near the adapted rate comes to what a carrier takes: simulated, one part after the other."""

import heapq
import math
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.delivery.sms_pace import (
    FIRST_PAUSE_S,
    FIRST_SILENCE_S,
    LONGEST_PAUSE_S,
    LONGEST_SILENCE_S,
    SLOWEST,
    Pace,
    Pause,
)
from engine.tools.sink_rules import Pace as Bucket

SECONDS = 60.0

_STORY = st.lists(st.tuples(st.sampled_from(["taken", "refused", "late", "permit"]), st.floats(0, 3)), max_size=300)


@given(st.none() | st.floats(0.01, 10_000), _STORY)
def test_A1_the_rate_stays_between_its_floor_and_the_setting(cap: float | None, story: list[tuple[str, float]]) -> None:
    pace, now, top = Pace(cap), 1000.0, math.inf if cap is None else cap
    for what, seconds in story:
        now += seconds
        if what == "taken":
            pace.taken(now)
        elif what == "permit":
            assert pace.permit(now, 3) >= now
        else:
            pace.refused(now - 3 * (what == "late"), now)
        assert min(SLOWEST, top) <= pace.rate <= top


@given(st.none() | st.floats(0.01, 10_000), _STORY)
def test_good_answers_bring_the_full_rate_back(cap: float | None, story: list[tuple[str, float]]) -> None:
    pace, now = Pace(cap), 1000.0
    for what, seconds in story:
        now += seconds
        if what == "taken":
            pace.taken(now)
        elif what != "permit":
            pace.refused(now, now)
    for _ in range(5000):
        pace.taken(now)
    assert not pace.slowed
    assert pace.permit(now, 100) == now


def test_a_refusal_halves_the_rate_once_for_all_that_was_on_the_wire() -> None:
    pace = Pace(300.0)
    pace.taken(0.0)
    for _ in range(10):
        pace.refused(1.0, 1.1)
        pace.refused(1.05, 1.2)
    assert pace.rate == pytest.approx(135)
    assert pace.permit(1.1, 1) == pytest.approx(1.1 + 1 / pace.rate), "no burst"
    assert pace.permit(1.1, 3) == pytest.approx(1.1 + 2 / pace.rate)
    assert pace.permit(1.1, 1) == pytest.approx(1.1 + 5 / pace.rate), "parts of one message are counted each"


def test_pauses_grow_while_nothing_is_taken() -> None:
    pause, now, told = Pause(), 0.0, []
    assert pause.refused(now, now + 0.1) == 0.0, "once is not for long"
    assert not pause.alone
    for _ in range(12):
        now += 100.0
        told.append(pause.refused(now, now + 0.1))
        assert pause.refused(now, now + 0.2) == 0.0
        assert pause.alone and pause.left(now + 0.1) == pytest.approx(told[-1])
    assert told[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert told[-1] == LONGEST_PAUSE_S
    pause.taken()
    assert not pause.alone


class Seen(NamedTuple):
    """Submits a second, of the second half."""

    taken: float
    refused: float


def simulate(cap: float | None, takes: Callable[[float], bool], round_trip_s: float = 0.01, window: int = 10) -> Seen:
    """A minute of a link that always has something to send. takes: what the carrier does with a submit at a time."""
    pace, pause, now, due = Pace(cap), Pause(), 0.0, 0.0
    wire: list[tuple[float, float, bool]] = []
    counts = [0, 0]

    def hear(until: float) -> None:
        while wire and wire[0][0] <= until:
            at, sent_at, good = heapq.heappop(wire)
            counts[good] += at > SECONDS / 2
            if good:
                pace.taken(at)
                pause.taken()
            else:
                pace.refused(sent_at, at)
                pause.refused(sent_at, at)

    while now < SECONDS:
        hear(now)
        if len(wire) >= window or (pause.alone and wire):
            now = wire[0][0]
        elif (left := pause.left(now)) > 0:
            now += left
        else:
            at = max(due, pace.permit(now, 1), now)
            hear(at)
            now = max(at, at + pause.left(at))
            due = now + 1 / cap if cap else now
            heapq.heappush(wire, (now + round_trip_s, now, takes(now)))
    return Seen(counts[True] * 2 / SECONDS, counts[False] * 2 / SECONDS)


@pytest.mark.parametrize(("round_trip_s", "window"), [(0.001, 10), (0.05, 50)])
def test_a_carrier_that_refuses_one_in_a_hundred_has_nearly_the_full_rate(round_trip_s: float, window: int) -> None:
    dice = random.Random(1)
    seen = simulate(300, lambda now: dice.random() >= 0.01, round_trip_s, window)
    assert seen.taken > 270


@pytest.mark.parametrize("cap", [300.0, None])
def test_what_a_carrier_takes_is_found_with_few_refusals(cap: float | None) -> None:
    seen = simulate(cap, Bucket(100).take)
    assert 95 <= seen.taken <= 101
    assert seen.refused < 5


def test_a_carrier_that_counts_by_the_second_is_followed() -> None:
    counts: dict[int, int] = {}

    def takes(now: float) -> bool:
        counts[int(now)] = counts.get(int(now), 0) + 1
        return counts[int(now)] <= 100

    seen = simulate(300, takes)
    assert seen.taken > 80 and seen.refused < 15


def test_after_some_seconds_without_any_the_rate_is_soon_as_it_was() -> None:
    seen = simulate(300, lambda now: not 1 < now < 5)
    assert seen == Seen(pytest.approx(300, abs=1), 0)


def test_a_link_that_answers_nothing_is_left_alone_and_looked_at_again_ever_later() -> None:
    pause = Pause()
    assert [pause.unanswered(0.0, 60.0) for _ in range(5)] == [0.0, 0.0, FIRST_SILENCE_S, 0.0, 0.0]
    assert pause.alone and pause.left(60.0) == FIRST_SILENCE_S
    assert pause.unanswered(59.0, 119.0) == 0.0, "it was on the wire when the pause began"
    seconds, now = FIRST_SILENCE_S, 60.0
    while seconds < LONGEST_SILENCE_S:
        sent_at = now + seconds
        now, seconds = sent_at + 60, min(2 * seconds, LONGEST_SILENCE_S)
        assert pause.unanswered(sent_at, now) == seconds
    pause.taken()
    assert (pause.seconds, pause.silent, pause.alone) == (0.0, 0, False)


def test_one_answer_among_many_missing_ones_is_a_sign_of_life() -> None:
    pause = Pause()
    for round_at in range(0, 600, 60):
        assert pause.unanswered(round_at, round_at + 60) == pause.unanswered(round_at, round_at + 60) == 0.0
        pause.taken()


def test_a_new_connection_is_not_judged_by_the_silence_of_the_old_one() -> None:
    pause = Pause()
    for _ in range(3):
        pause.unanswered(0.0, 60.0)
    pause.bound()
    assert (pause.left(60.0) <= 0, pause.seconds, pause.silent) == (True, 0.0, 0)
    pause.refused(61.0, 61.1)
    pause.refused(61.2, 61.3)
    pause.bound()
    assert pause.left(61.3) > 0, "it said that we are too fast"
