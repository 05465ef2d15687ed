"""The stock of a destination: rows that are due, first in, first out."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from engine.message.envelope import MessageClass
from engine.queue.stock import Destination, Stock

steps = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), st.integers(0, 10_000)),
        st.tuples(st.just("put_back"), st.integers(0, 50)),
        st.tuples(st.just("take"), st.integers(0, 6_000)),
    ),
    max_size=20,
)


@given(steps)
def test_any_story_gives_what_a_plain_queue_gives(story: list[tuple[str, int]]) -> None:
    stock, model, new = Stock(), deque[int](), 0
    for what, count in story:
        rows = list(range(new, new + count))
        if what == "extend":
            new += count
            stock.extend(rows)
            model.extend(rows)
        elif what == "put_back":
            new += count
            stock.put_back(rows)
            model.extendleft(reversed(rows))
        else:
            assert stock.take(count) == [model.popleft() for _ in range(min(count, len(model)))]
        assert len(stock) == len(model)
    assert stock.take(len(stock)) == list(model)


def test_a_destination_gives_transactional_before_bulk() -> None:
    destination = Destination("example.net", "")
    destination.stock[MessageClass.BULK].extend([1, 2])
    destination.stock[MessageClass.TRANSACTIONAL].extend([3, 4])
    assert destination.stocked == 4
    assert destination.take(3) == [3, 4, 1]
    assert destination.take(3) == [2]
    assert destination.take(3) == []


def test_a_destination_says_where_it_goes() -> None:
    assert str(Destination("example.net", "")) == "example.net"
    assert str(Destination("example.net", "192.0.2.1:25")) == "example.net via 192.0.2.1:25"
