"""Typographic characters in the default alphabet, and what that saves."""

import pytest
from hypothesis import given

from engine.protocol.sms_alphabets import encode_septets
from engine.protocol.sms_rules import TextRules
from engine.protocol.sms_text import TextTooLong
from engine.protocol.sms_translit import preview, transliterate
from tests.support.sms import texts


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("“Don’t” «say» ‚so‘", '"Don\'t" "say" \'so\''),
        ("a – b — c ‑ d − e", "a - b - c - d - e"),
        ("wait…", "wait..."),
        ("a\u00a0b\u2009c\u3000d\te", "a b c d e"),
        ("a\u200bb\u00adc\ufeff", "abc"),
        ("• one\u2028▪ two", "* one\n* two"),
        ("Ｈｅｌｌｏ！", "Hello!"),
        ("ﬁnd ﬂow", "find flow"),
        ("cafe\u0301", "café"),
        ("𝐁𝐢𝐠", "Big"),
        ("© 2026 ™ №5", "(c) 2026 (TM) No.5"),
        ("©️", "(c)"),
        ("10² 1½ naïve ça", "10² 1½ naïve ça"),
        ("Привет", "Привет"),
        ("❤️ 👍🏽 1️⃣", "❤️ 👍🏽 1️⃣"),
        ("e\u0301\u0323", "e\u0301\u0323"),
        ("Grüße €5 [ok] {§}", "Grüße €5 [ok] {§}"),
    ],
)
def test_what_says_the_same_and_nothing_else(text: str, plain: str) -> None:
    assert transliterate(text) == plain


def test_a_preview_tells_changes_and_parts_saved() -> None:
    text = "“Hello” – it’s “us”" + "." * 60
    shown = preview(text, TextRules())
    assert (len(shown.before.parts), len(shown.after.parts), shown.parts_saved) == (2, 1, 1)
    assert (shown.before.coding.charset, shown.after.coding.charset) == ("ucs-2", "gsm")
    assert shown.changes == (("“", '"', 2), ("”", '"', 2), ("–", "-", 1), ("’", "'", 1))


def test_a_preview_shows_also_a_text_that_only_transliteration_lets_in() -> None:
    shown = preview("a" * 150 + "…", TextRules(max_parts=1))
    assert (len(shown.before.parts), shown.parts_saved) == (3, 2)
    with pytest.raises(TextTooLong):
        preview("…" * 100, TextRules(max_parts=1))


def test_more_parts_are_told_as_below_zero() -> None:
    assert preview("ж…" * 35, TextRules()).parts_saved == -2


@given(texts(100))
def test_it_is_done_once_and_never_takes_a_text_out_of_the_alphabet(text: str) -> None:
    plain = transliterate(text)
    if encode_septets(text) is not None:
        assert plain == text
    if encode_septets(plain) is not None:
        assert transliterate(plain) == plain
