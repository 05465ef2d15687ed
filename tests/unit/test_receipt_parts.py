"""What becomes of a message when its parts are heard of: rules R1 to R5."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.receipt_parts import Fate, Parts
from engine.protocol.receipt_states import State

FAILURES = [state for state in State if state.final and state is not State.DELIVERED]
NOTHING_YET = [state for state in State if not state.final]


def three() -> Parts:
    parts = Parts(3, deadline_at=100)
    for number in (1, 2, 3):
        assert parts.accepted(number, f"id{number}") is None
    return parts


def test_a_message_is_delivered_when_its_last_part_is() -> None:
    parts = three()
    assert parts.heard(2, State.DELIVERED) is None
    assert parts.heard(3, State.DELIVERED) is None
    assert parts.missing == (1,)
    assert parts.heard(1, State.DELIVERED) is Fate.DELIVERED
    assert parts.expire(1000) is None


@pytest.mark.parametrize("failure", FAILURES)
def test_one_failed_part_fails_the_message_once_and_for_good(failure: State) -> None:
    parts = three()
    parts.heard(1, State.DELIVERED)
    assert parts.heard(2, failure) is Fate.FAILED
    assert parts.heard(3, failure) is None
    assert parts.heard(2, State.DELIVERED) is None
    assert parts.expire(1000) is None
    assert (parts.fate, parts.repeated) == (Fate.FAILED, 1)


@pytest.mark.parametrize("state", NOTHING_YET)
def test_what_is_not_final_decides_nothing(state: State) -> None:
    """ACCEPTED is not delivered; and what comes late does not undo the end."""
    parts = Parts(1, deadline_at=100)
    assert parts.heard(1, state) is None
    assert (parts.state(1), parts.missing) == (state, (1,))
    assert parts.heard(1, State.DELIVERED) is Fate.DELIVERED
    assert parts.heard(1, state) is None
    assert (parts.state(1), parts.repeated) == (State.DELIVERED, 0)


def test_the_first_final_state_of_a_part_counts_and_later_ones_are_counted() -> None:
    parts = three()
    parts.heard(1, State.DELIVERED)
    assert parts.heard(1, State.EXPIRED) is None
    assert parts.heard(1, State.DELIVERED) is None
    assert (parts.state(1), parts.repeated, parts.fate) == (State.DELIVERED, 2, Fate.WAITING)


def test_what_is_missing_at_the_deadline_is_said_once_and_may_still_come() -> None:
    parts = three()
    parts.heard(1, State.DELIVERED)
    parts.heard(3, State.ENROUTE)
    assert parts.expire(99.9) is None
    assert parts.expire(100) is Fate.MISSING
    assert parts.expire(200) is None
    assert parts.missing == (2, 3)
    assert parts.heard(2, State.DELIVERED) is None
    assert parts.heard(3, State.DELIVERED) is Fate.DELIVERED


def test_without_an_id_there_is_no_receipt_to_wait_for() -> None:
    assert Parts(1, deadline_at=100).accepted(1, "") is Fate.SENT
    parts = Parts(2, deadline_at=100)
    assert parts.accepted(1, "") is None
    assert parts.accepted(2, "id") is None
    assert parts.missing == (2,)
    assert parts.heard(2, State.DELIVERED) is Fate.SENT
    failed = Parts(2, deadline_at=100)
    failed.accepted(1, "")
    assert failed.heard(2, State.REJECTED) is Fate.FAILED


def test_a_part_must_exist() -> None:
    for number in (0, 4, -1):
        with pytest.raises(AssertionError):
            three().heard(number, State.DELIVERED)


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(State)), max_size=12))
def test_the_fate_is_that_of_the_first_final_states(story: list[tuple[int, State]]) -> None:
    parts, first, events = three(), dict[int, State](), []
    for number, state in story:
        if state.final:
            first.setdefault(number, state)
        fate = parts.heard(number, state)
        if fate is not None:
            events.append(fate)
    failed = any(state is not State.DELIVERED for state in first.values())
    want = Fate.FAILED if failed else Fate.DELIVERED if len(first) == 3 else Fate.WAITING
    assert parts.fate is want
    assert events == ([want] if want.final else [])
    assert parts.missing == tuple(sorted({1, 2, 3} - first.keys()))
    assert parts.repeated == sum(state.final for _, state in story) - len(first)
