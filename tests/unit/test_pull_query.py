"""What a request for events says, and who asks: parsing, without a server."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.feed.pull_query import Asked, parse_basic, parse_query


def test_a_query_with_everything() -> None:
    assert parse_query(b"after=25.0,1:17.2&types=delivered,failed&limit=10&wait=2.5") == Asked(
        after={0: (25, 0), 1: (17, 2)}, types=frozenset({"delivered", "failed"}), limit=10, wait_s=2.5
    )


@pytest.mark.parametrize("query", [b"", b"after=", b"after=oldest", b"limit=1000&wait=0"])
def test_without_a_cursor_all_that_is_kept(query: bytes) -> None:
    assert parse_query(query) == Asked(after={}, limit=1000, wait_s=0.0)


def test_now_is_the_end() -> None:
    assert parse_query(b"after=now") == Asked(after={}, end=True)


def test_percents_are_read() -> None:
    assert parse_query(b"after=25.0%2C1%3A17.2").after == {0: (25, 0), 1: (17, 2)}


@pytest.mark.parametrize(
    ("query", "which"),
    [
        (b"after=x", "after: 'x' is not a cursor"), (b"after=25", "after:"), (b"after=1.0,", "after:"),
        (b"after=-1.0", "after:"), (b"after=x:1.0", "after:"), (b"after=1.0;2.0", "after:"),
        (b"after=" + b"9" * 5000 + b".0", "after:"), (b"after=1:" + b"9" * 4090 + b".0", "after:"),
        (b"after=2h", "after:"), (b"after=now,1.0", "after:"), (b"after=%D9%A1.0", "after:"),
        (b"types=", "types: no event is ''"), (b"types=delivered,", "types:"), (b"types=Delivered", "types:"),
        (b"limit=0", "limit: '0' is not 1 to 10000"), (b"limit=10001", "limit:"), (b"limit=-1", "limit:"),
        (b"limit=1e3", "limit:"), (b"limit=", "limit:"), (b"limit=%D9%A1", "limit:"), (b"limit=000001", "limit:"),
        (b"wait=61", "wait: '61' is not 0 to 60 seconds"), (b"wait=60.001", "wait:"), (b"wait=nan", "wait:"),
        (b"wait=inf", "wait:"), (b"wait=-1", "wait:"), (b"wait=", "wait:"),
        (b"wait=1&wait=2", "wait: given twice"), (b"waits=1", "'waits': there are after, types, limit and wait"),
        (b"&".join(b"a=b" for _ in range(100)), "the query cannot be read"), (b"after=%FF", "the query cannot be read"),
        (b"\xff", "the query cannot be read"),
    ],
)  # fmt: skip
def test_a_mistake_says_which(query: bytes, which: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(which)}"):
        parse_query(query)


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: b"after=" + text.encode("utf-8", "replace")))
def test_any_bytes_are_a_query_or_a_mistake_in_one_printable_line(query: bytes) -> None:
    said = ""
    try:
        asked = parse_query(query)
    except ValueError as exc:
        said = str(exc)
    else:
        assert 1 <= asked.limit <= 10_000
        assert 0 <= asked.wait_s <= 60
    assert said.isascii()
    assert said.isprintable() or not said
    assert len(said) < 1000


def field(text: bytes, scheme: bytes = b"Basic ") -> bytes:
    return scheme + base64.b64encode(text)


def test_logins_and_passwords() -> None:
    assert parse_basic(field(b"ops:secret")) == ("ops", "secret")
    assert parse_basic(field("größe:päss: word".encode(), b"bAsIc   ")) == ("größe", "päss: word")
    assert parse_basic(field(b":")) == ("", "")


@pytest.mark.parametrize(
    "value",
    [b"", b"Basic", b"Basic ", b"Bearer b3BzOng=", b"Basic b3BzOng", b"Basic !b3BzOng=", field(b"ops"), b"b3BzOng=",
     b"Basic \xff\xff"],
)  # fmt: skip
def test_what_is_none(value: bytes) -> None:
    assert parse_basic(value) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_login_or_none(value: bytes) -> None:
    for data in (value, b"Basic " + value, field(value)):
        found = parse_basic(data)
        assert found is None or len(found) == 2
