"""Message ids: sortable by time, unique, and packed into a number and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.message.ids import IdSource, id_time, join_id, least_id_at, split_id
from tests.support.clock import FakeClock

heads = st.integers(0, 62**8 - 1)
tails = st.integers(0, 62**2 - 1)
nodes = st.text(alphabet="0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", min_size=4, max_size=4)


@given(heads, tails, nodes)
def test_an_id_is_packed_and_back(head: int, tail: int, node: str) -> None:
    packed = head << 12 | tail
    made = join_id(packed, node)
    assert len(made) == 14
    assert split_id(made) == (packed, node)
    assert packed < 2**60


@given(st.tuples(heads, tails), st.tuples(heads, tails), nodes)
def test_packed_ids_sort_as_ids_do(one: tuple[int, int], other: tuple[int, int], node: str) -> None:
    packed = [head << 12 | tail for head, tail in (one, other)]
    assert (join_id(packed[0], node) < join_id(packed[1], node)) == (packed[0] < packed[1])


def test_what_a_source_makes_is_packed_and_back() -> None:
    clock = FakeClock()
    source = IdSource("mx.example.org", 0, clock)
    made = [source.next() for _ in range(5000)]
    assert made == sorted(set(made))
    assert [join_id(*split_id(message_id)) for message_id in made] == made
    assert id_time(split_id(made[0])[0]) == clock.now
    assert least_id_at(clock.now) == split_id(made[0])[0]
    assert clock.now <= id_time(split_id(made[-1])[0]) <= clock.now + 0.002, "a burst borrows the next millisecond"


@pytest.mark.parametrize(
    "text", ["", "example.org", "x" * 13, "x" * 15, "0000000!TEST00", "0Hs7kQpf3Za2Wé", "a@b.example.org"]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a message id|substring not found"):
        split_id(text)
