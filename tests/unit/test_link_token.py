"""Tokens of tracked links: each says what was put in, in one way, and nobody makes one without a key."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.message.address import parse_mailbox
from engine.message.ids import IdSource
from engine.message.link_token import (
    FIRST_LINK,
    HONEYPOT,
    MAX_LINKS,
    OPEN,
    UNSUBSCRIBE,
    Kind,
    LinkTokens,
    Token,
    as_local_part,
    of_local_part,
    token_length,
)
from tests.support.clock import FakeClock

KEY, OTHER = b"k" * 32, b"o" * 32
CLOCK = FakeClock()
MESSAGE = IdSource("mx.example.org", 0, CLOCK).next()
TOKENS = LinkTokens({1: KEY})

_links = st.lists(st.integers(0, MAX_LINKS - 1), max_size=40)
_recipients = st.none() | st.integers(0, 300) | st.integers(0, 100_000)


def kind_of(link):
    return {UNSUBSCRIBE: Kind.UNSUBSCRIBE, OPEN: Kind.OPEN}.get(link, Kind.CLICK)


@given(_links, _recipients)
def test_each_token_says_what_was_put_in_to_its_own_kind_alone(links, recipient):
    tokens = TOKENS.made(MESSAGE, recipient, links)
    assert len(tokens) == len(links)
    for link, token in zip(links, tokens, strict=True):
        text = token.decode()
        assert len(text) == token_length(link, recipient)
        for kind in Kind:
            said = TOKENS.read(kind, text)
            assert said == (Token(MESSAGE, link, recipient or 0) if kind is kind_of(link) else None)


def test_an_ordinary_one_has_28_characters_and_knows_its_time():
    (text,) = TOKENS.made(MESSAGE, None, [FIRST_LINK])
    token = TOKENS.read(Kind.CLICK, text.decode())
    assert len(text) == 28 and token is not None
    assert abs(token.at - CLOCK.time()) < 0.01
    assert TOKENS.made(MESSAGE, None, [127, 3]) == [TOKENS.made(MESSAGE, None, range(130))[link] for link in (127, 3)]


def test_all_tokens_of_a_message_are_different():
    made = [TOKENS.made(MESSAGE, recipient, range(200)) for recipient in (None, 0, 1)]
    assert len({token for tokens in made for token in tokens}) == 600
    macs = {base64.urlsafe_b64decode(token)[-8:] for token in TOKENS.made(MESSAGE, None, range(128))}
    assert len(macs) == 128, "no two links share a MAC"


@pytest.mark.parametrize(("link", "recipient"), [(0, None), (1, None), (2, 0), (5, 7), (300, 2000)])
def test_what_was_changed_cut_or_lengthened_is_no_token(link, recipient):
    (token,) = TOKENS.made(MESSAGE, recipient, [link])
    text, kind = token.decode(), kind_of(link)
    assert LinkTokens({1: OTHER}).read(kind, text) is None
    assert LinkTokens({2: KEY}).read(kind, text) is None, "the number of the key is part of it"
    for at in range(len(text)):
        for other in "AB":
            if text[at] != other:
                assert TOKENS.read(kind, text[:at] + other + text[at + 1 :]) is None
        assert TOKENS.read(kind, text[:at]) is None
        assert TOKENS.read(kind, text[at + 1 :]) is None
    for more in ("A", "=", "\n", ".", "AAAA", "A" * 100_000):
        assert TOKENS.read(kind, text + more) is None
        assert TOKENS.read(kind, more + text) is None


def test_there_is_one_way_to_write_a_token():
    """Else a withdrawn link, or a count by token, could be got around: the spare bits of base64, long varints."""
    (token,) = TOKENS.made(MESSAGE, 3, [FIRST_LINK])
    text = token.decode()
    same = [text[:-1] + chr(char) for char in range(33, 127) if _decoded(text[:-1] + chr(char)) == _decoded(text)]
    assert len(same) > 1 and [each for each in same if TOKENS.read(Kind.CLICK, each)] == [text]
    data = _decoded(text)
    assert data[12:14] == b"\x03\x03"
    for longer in (b"\x83\x00\x03", b"\x03\x83\x00", b"\x03\x03\x00", b"\x83", b"\x03\x83"):
        forged = base64.urlsafe_b64encode(data[:12] + longer + data[14:]).decode().rstrip("=")
        assert TOKENS.read(Kind.CLICK, forged) is None


def _decoded(text):
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None


@given(st.text(), st.sampled_from(Kind))
def test_any_text_is_a_token_or_none(text, kind):
    assert TOKENS.read(kind, text) is None
    assert as_local_part(of_local_part(text)) in ("", text.lower())


@given(st.binary(min_size=20, max_size=27), st.sampled_from(Kind))
def test_any_bytes_are_a_token_or_none(data, kind):
    assert TOKENS.read(kind, base64.urlsafe_b64encode(data).decode().rstrip("=")) is None


def test_the_first_key_signs_and_all_are_believed():
    old = TOKENS.made(MESSAGE, None, [4])[0].decode()
    both = LinkTokens({2: OTHER, 1: KEY})
    assert both.read(Kind.CLICK, old) == Token(MESSAGE, 4)
    new = both.made(MESSAGE, None, [4])[0].decode()
    assert TOKENS.read(Kind.CLICK, new) is None
    assert LinkTokens({2: OTHER}).read(Kind.CLICK, new) == Token(MESSAGE, 4)


@pytest.mark.parametrize("recipient", [None, 0, 127, 128, 70_000])
def test_a_token_goes_into_an_address_and_comes_back_in_any_case(recipient):
    text = TOKENS.made(MESSAGE, recipient, [UNSUBSCRIBE])[0].decode()
    local = as_local_part(text)
    assert parse_mailbox(f"{local}@unsubscribe.example.org", smtputf8=False)
    assert {of_local_part(form) for form in (local, local.upper(), local.title())} == {text}
    assert text not in (of_local_part(local[:-1]), of_local_part(local + "a"))


def test_what_is_no_message_has_no_tokens():
    with pytest.raises(ValueError, match="not a message id"):
        TOKENS.made("no-id", None, [HONEYPOT])
