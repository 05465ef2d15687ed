"""Pixel and hidden link: only where a reader's program sees them as what they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from engine.message.link_compile import Compiled, Marks, compile_body
from engine.message.link_token import FIRST_LINK, HONEYPOT, OPEN

HEADER = b"Content-Type: text/html; charset=utf-8\r\n"
MARKS = Marks("https://go.test", opens=True, honeypot=True)
LINK = '<a href="http://a.test/">x</a>'
PIECES = [
    "<", ">", "/", "</", "=", '"', "'", " ", "!", "--", "-->", "<!--", "<?", "x", "<a href=", LINK, "<p>", "</p>", "<b",
    "<title>", "</title>", "<style>", "</style>", "<script>", "</script>", "<textarea>", "</textarea>", "<svg>",
    "</svg>", "</body>", "</html>", "<g>", "<desc>",
]  # fmt: skip


def compiled(html: str) -> Compiled:
    return compile_body(HEADER, html.encode(), MARKS)


@pytest.mark.parametrize("end", ['<a href="x', "<b ", "<!-- ", "<style>p {", "<title>"])
def test_they_are_not_put_into_markup_that_never_ends(end: str) -> None:
    assert compiled(f"<p>{LINK}{end}").numbers == (FIRST_LINK,)
    assert compiled(f"<p>{LINK}</body>{end}").numbers == (FIRST_LINK, HONEYPOT, OPEN)


def test_another_part_has_them_then() -> None:
    header = b"Content-Type: multipart/alternative; boundary=b\r\n"
    parts = [f"--b\r\nContent-Type: text/html\r\n\r\n{html}\r\n" for html in (f"{LINK}<b ", LINK)]
    body = "".join([*parts, "--b--\r\n"]).encode()
    assert compile_body(header, body, MARKS).numbers == (FIRST_LINK, FIRST_LINK + 1, HONEYPOT, OPEN)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_a_parser_sees_both_of_them_or_there_is_none(html: str) -> None:
    body = compiled(html)
    text = body.body([b"%028d" % number for number in body.numbers]).decode()
    tree = LexborHTMLParser(f"<!doctype html><body>{text}")
    hidden = tree.css(f'a[href="https://go.test/c/{HONEYPOT:028d}"][rel=nofollow]')
    pixel = tree.css(f'img[src="https://go.test/o/{OPEN:028d}.gif"][width="1"]')
    expected = int(HONEYPOT in body.numbers)
    assert (len(hidden), len(pixel)) == (expected, expected)
    assert (HONEYPOT in body.numbers) == (OPEN in body.numbers)
