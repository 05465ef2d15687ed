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
        PATHS.local_part(message, "a@b.test")
    except ValueError:
        return False
    return True


@given(_ids.filter(valid), _words, st.sampled_from(["b.test", "mx.some.example.org"]))
def test_whatever_the_recipient_the_local_part_is_one_and_names_him(message, local, domain):
    recipient = f"{local}@{domain}"
    text = PATHS.local_part(message, recipient)
    assert parse_mailbox(f"{text}@bounces.example.org", smtputf8=False), "at most 64 octets, and no strange character"
    assert looks_signed(text)
    for form in (text, text.lower(), text.upper()):
        named = PATHS.named(form)
        assert named is not None and named.message == message
        assert named.recipient.lower() in ("", recipient.lower())
        assert named.is_about(recipient) and not named.is_about(f"x{recipient}")


def test_an_ordinary_recipient_can_be_read_by_people():
    text = PATHS.local_part(MESSAGE, "anna.smith=x@example.com")
    assert text.endswith("=anna.smith=x=example.com") and len(text) == 57
    assert PATHS.named(text) == Named(MESSAGE, "anna.smith=x@example.com")


def test_one_that_does_not_fit_is_told_by_a_mark():
    long = "a" * 40 + "@example.com"
    text = PATHS.local_part(MESSAGE, long)
    named = PATHS.named(text)
    assert len(text) == 40 and named is not None and (named.message, named.recipient) == (MESSAGE, "")
    assert [named.is_about(each) for each in ("b@example.com", long)] == [False, True]
    with pytest.raises(ValueError, match="not a message id"):
        PATHS.local_part("no-id", long)


@pytest.mark.parametrize("recipient", ["b@example.net", "x" * 50 + "@example.net"])
def test_a_token_that_was_changed_names_nobody(recipient):
    text = PATHS.local_part(MESSAGE, recipient)
    assert ReturnPaths({1: OTHER}).named(text) is None
    assert ReturnPaths({2: KEY}).named(text) is None
    for at in range(len(text)):
        changed = "b" if text[at].lower() == "a" else "a"
        assert PATHS.named(text[:at] + changed + text[at + 1 :]) is None
    assert PATHS.named(text[:32] + "=somebody=example.net") is None
    assert PATHS.named(text[:32]) is None


@given(st.text())
def test_any_text_is_a_token_or_none(text):
    assert PATHS.named(text) is None
    looks_signed(text)


def test_the_first_key_signs_and_all_are_believed():
    old = PATHS.local_part(MESSAGE, "b@example.net")
    both = ReturnPaths({2: OTHER, 1: KEY})
    assert both.named(old) == Named(MESSAGE, "b@example.net")
    new = both.local_part(MESSAGE, "b@example.net")
    assert PATHS.named(new) is None and ReturnPaths({2: OTHER}).named(new)
