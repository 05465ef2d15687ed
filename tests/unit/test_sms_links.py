"""Links of SMS: which are short, what a recipient gets; and numbers that are never given out twice."""

from pathlib import Path

import pytest
from hypothesis import given

from engine.base.errors import StorageError
from engine.message.short_link import CODE_CHARS, MAX_LINKS, ShortCodes, ShortLink
from engine.message.sms import Shortened, Sms, decode_sms, encode_sms
from engine.message.sms_links import links_in, with_short_links
from engine.storage.numbers import RESERVED, Numbers
from tests.support.sms import texts

CODES = ShortCodes([b"k" * 16])
OURS = "https://s.test"


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("https://a.test/x?y=1", ["https://a.test/x?y=1"]),
        ("Nur heute: http://a.test/ü — oder (http://b.test).", ["http://b.test"]),  # the first may go on, who knows
        ("Распродажа https://a.test/1, ещё https://b.test/2!", ["https://a.test/1", "https://b.test/2"]),
        ("👍 https://a.test/1\nhttps://a.test/1", ["https://a.test/1", "https://a.test/1"]),
        (f"{OURS}/abc and {OURS.upper()}/abc and a.test and javascript:1 and ftp://a.test", []),
        ("https://a.test/{{name}} mailto:x@a.test //a.test", []),
        (" ".join(f"https://a.test/{n}" for n in range(9)), [f"https://a.test/{n}" for n in range(MAX_LINKS)]),
    ],
)
def test_what_is_a_link(text: str, links: list[str]) -> None:
    spans, targets = links_in(text, OURS)
    assert list(targets) == links and [text[start:end] for start, end in spans] == links


@given(texts(40))
def test_all_but_the_links_stays(text: str) -> None:
    text = f"{text} https://a.test/1 {text} http://b.test/2 "
    spans, targets = links_in(text, OURS)
    sms = Sms(text=text, short=Shortened(spans=spans, base_url=OURS, number=77))
    for index in (0, 1):
        placed = with_short_links(decode_sms(encode_sms(sms)), index, CODES)
        assert placed.short is None and placed.text is not None
        for link, target in enumerate(targets):
            short = f"{OURS}/{CODES.code(ShortLink(77 + index, link))}"
            assert placed.text.count(short) == 1
            placed = Sms(text=placed.text.replace(short, target))
            assert placed.text is not None
        assert placed.text == text


def test_recipients_have_their_own_links_or_one_for_all() -> None:
    text = "https://a.test/1"
    for each in (True, False):
        sms = Sms(text=text, short=Shortened(spans=((0, len(text)),), base_url=OURS, number=5, each=each))
        sent = [with_short_links(sms, index, CODES).text or "" for index in range(3)]
        assert len(set(sent)) == (3 if each else 1) and {len(one) for one in sent} == {len(OURS) + 1 + CODE_CHARS}
    plain = Sms(text=text)
    assert with_short_links(plain, 0, CODES) is plain


def test_numbers_are_given_out_once_whatever_happens(tmp_path: Path) -> None:
    path, taken = tmp_path / "numbers", []
    for count in (1, 3, RESERVED - 10, 20, 3 * RESERVED):
        numbers = Numbers(path)  # as after a kill: nobody says goodbye
        for _ in range(2):
            first = numbers.take(count)
            taken += range(first, first + count)
    assert len(set(taken)) == len(taken)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_of_numbers_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_text("x")
    with pytest.raises(StorageError, match="cannot be read"):
        Numbers(path)
    path.unlink()
    numbers = Numbers(path)
    path.mkdir()
    with pytest.raises(StorageError):
        numbers.take(1)
    path.rmdir()
    assert numbers.take(1) == 0
