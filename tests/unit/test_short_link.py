"""Codes of short links: each stands for one link, none tells of its neighbours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.message.short_link import CODE_CHARS, MAX_LINKS, MAX_NUMBER, ShortCodes, ShortLink

OURS = ShortCodes([b"k" * 16])
LINKS = st.builds(ShortLink, st.integers(0, MAX_NUMBER), st.integers(0, MAX_LINKS - 1))


@given(LINKS)
def test_a_code_stands_for_its_link_and_no_other_key_knows_it(link: ShortLink) -> None:
    code = OURS.code(link)
    assert len(code) == CODE_CHARS and code.isascii() and code.isalnum()
    assert OURS.link(code) == link
    assert ShortCodes([b"K" * 16, b"k" * 16]).link(code) == link  # a key that was the first before


def test_neighbours_have_nothing_in_common() -> None:
    codes = [OURS.code(ShortLink(number, 0)) for number in range(5000)]
    assert len(set(codes)) == 5000
    for at in range(1, CODE_CHARS):  # the first character has fewer values
        assert len({code[at] for code in codes}) == 62
    assert sorted(codes) != codes


def test_who_guesses_finds_next_to_nothing() -> None:
    """One guess in 131,072 is a number at all."""
    known = OURS.code(ShortLink(77, 3))
    guesses = [f"{known[:5]}{n:04d}" for n in range(10_000)] + [f"{n:09d}" for n in range(10_000)]
    assert sum(OURS.link(guess) is not None for guess in guesses if guess != known) <= 2
    assert ShortCodes([b"other key, other codes"]).link(known) is None


@given(st.text(max_size=12))
def test_any_text_is_a_code_or_is_not(text: str) -> None:
    link = OURS.link(text)
    assert link is None or OURS.code(link) == text


def test_what_has_no_code() -> None:
    assert OURS.link("") is OURS.link("zzzzzzzzz") is OURS.link("é12345678") is OURS.link("+00000000") is None
    for number, link in ((MAX_NUMBER + 1, 0), (0, MAX_LINKS), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="no code"):
            OURS.code(ShortLink(number, link))
