"""Return paths: what a token names, and that nothing else names anybody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.message.address import parse_mailbox
from engine.message.ids import IdSource
from engine.message.return_path import Named, ReturnPaths, looks_signed
from tests.support.clock import FakeClock

KEY, OTHER = b"k" * 32, b"o" * 32
MESSAGE = IdSource("mx.example.org", 0, FakeClock()).next()
PATHS = ReturnPaths({1: KEY})

_ids = st.text(st.characters(categories=("Lu", "Ll", "Nd"), max_codepoint=122), min_size=14, max_size=14)
_words = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789._+=~-%!/é\"' ", min_size=1, max_size=70)


def valid(message):
    try:
        PATHS.local_part(message, "a@b.test", 0)
    except ValueError:
        return False
    return True


@given(_ids.filter(valid), _words, st.sampled_from(["b.test", "mx.some.example.org"]), st.integers(0, 65535))
def test_whatever_the_recipient_the_local_part_is_one_and_names_him(message, local, domain, place):
    recipient = f"{local}@{domain}"
    text = PATHS.local_part(message, recipient, place)
    assert parse_mailbox(f"{text}@bounces.example.org", smtputf8=False), "at most 64 octets, and no strange character"
    named = PATHS.named(text)
    assert named in (Named(message, recipient, -1), Named(message, "", place))
    assert looks_signed(text)
    lower = PATHS.named(text.lower())
    assert lower is not None and lower.recipient == named.recipient.lower()
    assert (lower.message, lower.place) == (named.message, named.place)
    assert PATHS.named(text.upper()) is not None


def test_an_ordinary_recipient_can_be_read_by_people():
    text = PATHS.local_part(MESSAGE, "anna.smith=x@example.com", 0)
    assert text.endswith("=anna.smith=x=example.com") and len(text) == 57
    assert PATHS.named(text) == Named(MESSAGE, "anna.smith=x@example.com", -1)


def test_one_that_does_not_fit_is_told_by_its_place():
    text = PATHS.local_part(MESSAGE, "a" * 40 + "@example.com", 65535)
    assert len(text) == 36 and PATHS.named(text) == Named(MESSAGE, "", 65535)
    with pytest.raises(ValueError, match="recipient 65536"):
        PATHS.local_part(MESSAGE, "a" * 40 + "@example.com", 65536)


@pytest.mark.parametrize("recipient", ["b@example.net", "x" * 50 + "@example.net"])
def test_a_token_that_was_changed_names_nobody(recipient):
    text = PATHS.local_part(MESSAGE, recipient, 3)
    assert ReturnPaths({1: OTHER}).named(text) is None
    assert ReturnPaths({2: KEY}).named(text) is None
    for at in range(len(text) - 1):  # the last character of the second form has bits that mean nothing
        changed = "b" if text[at].lower() == "a" else "a"
        assert PATHS.named(text[:at] + changed + text[at + 1 :]) is None
    assert PATHS.named(text[:32] + "=somebody=example.net") is None
    assert PATHS.named(text[:32]) is None


@given(st.text())
def test_any_text_is_a_token_or_none(text):
    assert PATHS.named(text) is None
    looks_signed(text)


def test_the_first_key_signs_and_all_are_believed():
    old = PATHS.local_part(MESSAGE, "b@example.net", 0)
    both = ReturnPaths({2: OTHER, 1: KEY})
    assert both.named(old) == Named(MESSAGE, "b@example.net", -1)
    new = both.local_part(MESSAGE, "b@example.net", 0)
    assert PATHS.named(new) is None and ReturnPaths({2: OTHER}).named(new)
