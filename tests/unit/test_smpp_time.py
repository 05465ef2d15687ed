"""Times of SMPP (3.4 7.1.1), the examples of the specification among them."""

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.smpp_time import format_time, parse_time

NOW = datetime(2024, 1, 31, 12, 0, 0, tzinfo=UTC).timestamp()


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]  # year to second


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", 0.0),
        (b"240610233429000+", at(2024, 6, 10, 23, 34, 29)),
        (b"240610233429800+", at(2024, 6, 10, 23, 34, 29) + 0.8),
        (b"240610233429004+", at(2024, 6, 10, 22, 34, 29)),  # local time is an hour ahead of UTC
        (b"240610233429004-", at(2024, 6, 11, 0, 34, 29)),
        (b"000000000500000R", NOW + 300),
        (b"000002000000000R", NOW + 2 * 86400),
        (b"000100000000000R", at(2024, 2, 29, 12, 0, 0)),  # a month after the 31st is its last day
        (b"010000000000000R", at(2025, 1, 31, 12, 0, 0)),
        (b"000000000000000R", NOW),
    ],
)
def test_a_time_is_read(text: bytes, expected: float) -> None:
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [b"x", b"240610233429000", b"240610233429000X", b"241310233429000+", b"240230000000000+", b"2406102334290000+",
     b"240610253429000+", b"240610233429099+", b" 40610233429000+"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text, NOW)


@given(st.integers(946684800, 4102444799))
def test_what_is_written_is_read(second: int) -> None:
    assert parse_time(format_time(second), NOW) == second


@given(st.binary(max_size=20), st.floats(0, 4e9))
def test_any_octets_give_a_time_or_a_value_error(text: bytes, now: float) -> None:
    with contextlib.suppress(ValueError, OverflowError):
        parse_time(text, now)
