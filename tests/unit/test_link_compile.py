"""Bodies with tracked links: what changes, what does not, and that no way of writing a text makes a difference.

Originals are written, and results read, by the standard library, which shares nothing with what is tested.
"""

import base64
import email
import quopri
from email.policy import SMTP

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from engine.message.ids import IdSource
from engine.message.link_compile import MOST_LINKS, Marks, compile_body
from engine.message.link_token import FIRST_LINK, HONEYPOT, OPEN, Kind, LinkTokens
from engine.message.list_unsubscribe import declared
from engine.message.text_urls import urls_in
from tests.support.clock import FakeClock

BASE = "https://click.example.org"
MARKS = Marks(BASE)
MESSAGE = IdSource("mx.example.org", 0, FakeClock()).next()
TOKENS = LinkTokens({1: b"k" * 32})


def split(message: bytes) -> tuple[bytes, bytes]:
    header, _, body = message.partition(b"\r\n\r\n")
    return header + b"\r\n", body


def rewritten(message: bytes, marks: Marks = MARKS) -> tuple[bytes, tuple[str, ...]]:
    """The message for a recipient, and the table."""
    header, body = split(message)
    compiled = compile_body(header, body, marks)
    result = compiled.body(TOKENS.made(MESSAGE, marks.recipient, compiled.numbers))
    assert len(result) == compiled.length
    return header + b"\r\n" + result, compiled.links


def tracked(number: int, recipient: int | None = None) -> str:
    """The URL that stands for this link of the table."""
    return f"{BASE}/c/{TOKENS.made(MESSAGE, recipient, [FIRST_LINK + number])[0].decode()}"


def text_of(message: bytes, kind: str = "text/html") -> bytes:
    """The text of the part of this type, decoded."""
    parts = email.message_from_bytes(message, policy=SMTP).walk()
    found = [part.get_payload(decode=True) for part in parts if part.get_content_type() == kind]
    return b"".join(each for each in found if isinstance(each, bytes))


def page(html: str, extra: str = "") -> bytes:
    return f"Content-Type: text/html; charset=utf-8\r\n{extra}\r\n".encode() + html.encode()


# --- however it is encoded --------------------------------------------------------------------------------------------

_static = st.sampled_from([
    "<p>", "</p>\r\n", "ordinary text", "é", "=", "=3D", "日本語", " ", "  \r\n", "\r\n", "\r\n.\r\n", "x" * 70,
    "y" * 200,
    "<b title='a > b'>", "<!-- <a href='http://no.test/'> -->", "&amp;", "\t", "<img src='http://img.test/'>", "From ",
])  # fmt: skip
_quote = st.sampled_from(['"', "'", ""])
_url = st.sampled_from([
    "http://a.test/", "https://b.test/?x=1&amp;y=2", "HTTPS://C.test/" + "p" * 90, "http://d.test/=3D%20", "https://e.test",
])  # fmt: skip
_attributes = st.sampled_from([" ", "\r\n", " class='x' ", ' title="=" ', " " * 60])


@st.composite
def letters(draw: st.DrawFn) -> tuple[str, str, int]:
    """A page, the same with its links tracked, and how many these are."""
    before, after, count = "", "", 0
    for _ in range(draw(st.integers(0, 6))):
        text = draw(st.lists(_static, max_size=4).map("".join))
        before, after = before + text, after + text
        if draw(st.booleans()):
            quote, url, attributes = draw(_quote), draw(_url), draw(_attributes)
            before += f"<a{attributes}href={quote}{url}{quote}>"
            after += f"<a{attributes}href={quote}{tracked(count)}{quote}>"
            count += 1
    return f"{before}.\r\n", f"{after}.\r\n", count


def fits(text: str) -> bool:
    """Whether no line of it is longer than mail allows, with a recipient's number as well."""
    return max(len(line.encode()) + 4 * line.count(BASE) for line in text.split("\r\n")) <= 998


def quoted(text: bytes, width: int) -> bytes:
    """Quoted-printable, with soft breaks at other places than the standard library's."""
    lines = []
    for line in text.split(b"\r\n"):
        written = quopri.encodestring(line).replace(b"=\n", b"").replace(b"\t", b"=09").replace(b" ", b"=20")
        while len(written) > width:
            at = next(at for at in range(width, 0, -1) if b"=" not in written[at - 2 : at])
            lines.append(written[:at] + b"=")
            written = written[at:]
        lines.append(written)
    return b"\r\n".join(lines)


@given(letters(), st.integers(20, 75))
def test_quoted_printable_holds_the_same_but_for_the_links(letter, width):
    before, after, count = letter
    message = page("", "Content-Transfer-Encoding: quoted-printable\r\n") + quoted(before.encode(), width)
    assert text_of(message) == before.encode(), "the test's own writing is right"
    result, links = rewritten(message)
    assert text_of(result) == after.encode() and len(links) == count
    assert max(map(len, result.split(b"\r\n"))) <= 76
    assert count or result == message


def test_quoted_printable_stays_as_it_was_written_where_there_is_no_link():
    odd = "=41=\r\nlower =3d case=20=\r\n\tspaces  \r\n=ZZ = =\r\n<p=\r\n>"
    written = f'{odd}<a href=3D=\r\n"http://a=\r\n.test/?a=3Db=\r\n"=\r\n>{odd}'
    message = page(written, "Content-Transfer-Encoding: quoted-printable\r\n")
    result, links = rewritten(message)
    assert links == ("http://a.test/?a=b",)
    assert split(result)[1].decode() == f'{odd}<a href=3D=\r\n"{tracked(0)}=\r\n"=\r\n>{odd}'


@given(letters(), st.integers(1, 19), st.sampled_from(["", "\r\n", "\r\n\r\n"]))
def test_base64_holds_the_same_but_for_the_links(letter, groups, end):
    before, after, count = letter
    written = base64.b64encode(before.encode()).decode()
    lines = "\r\n".join(written[at : at + 4 * groups] for at in range(0, len(written), 4 * groups))
    message = page(lines + end, "Content-Transfer-Encoding: base64\r\n")
    result, links = rewritten(message)
    assert text_of(result) == after.encode() and len(links) == count
    assert max(map(len, result.split(b"\r\n"))) <= 76
    assert count or result == message
    assert result.endswith(end.encode())


@given(letters(), st.sampled_from(["7bit", "8bit", "BINARY", ""]))
def test_without_an_encoding_all_other_bytes_stay_where_they_are(letter, encoding):
    before, after, count = letter
    assume(fits(after))
    message = page(before, f"Content-Transfer-Encoding: {encoding}\r\n" * bool(encoding))
    result, links = rewritten(message)
    assert split(result)[1] == after.encode() and len(links) == count


@given(letters(), st.integers(0, 300))
def test_one_of_several_recipients_has_links_of_his_own(letter, recipient):
    assume(fits(letter[1]))
    header, body = split(page(letter[0]))
    compiled = compile_body(header, body, MARKS._replace(recipient=recipient))
    result = compiled.body(TOKENS.made(MESSAGE, recipient, compiled.numbers))
    expected = letter[1]
    for number in range(letter[2]):
        expected = expected.replace(tracked(number), tracked(number, recipient))
    assert result == expected.encode() and len(result) == compiled.length


@given(st.binary(), st.sampled_from(["7bit", "quoted-printable", "base64", "x-uuencode"]))
def test_any_bytes_are_a_body(body, encoding):
    for kind in ("text/html", "text/plain", "multipart/mixed; boundary=b"):
        header = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n".encode()
        for each in (body, b"--b\r\n" + body, b"<a href='http://a.test/'>" + body):
            compiled = compile_body(header, each, Marks(BASE, text_links=True, opens=True, honeypot=True))
            assert len(compiled.body(TOKENS.made(MESSAGE, None, compiled.numbers))) == compiled.length


_markup = st.lists(st.sampled_from([
    "<a href=", ' href="@"', "<a href='@'>", "<a href=@>", '<a class=x href="@">', "</a>", "<b>", "</b>",
    "<p title='>'>", "<!--", "-->", "<script>", "</script>", "<style>", "</style>", "<textarea>", "</textarea>",
    "<svg>", "</svg>", "'", '"', "<", ">", "=", "text", " ", "&amp;", "<img src='@'>", "<area href=@ alt>",
    "<!DOCTYPE x>", "<td", "/>", "<title>",
]), max_size=30)  # fmt: skip


@given(_markup)
def test_a_real_parser_sees_the_same_page_but_for_where_its_links_lead(pieces):
    first, *others = "".join(pieces).split("@")
    text = first + "".join(f"http://{number}.test/{other}" for number, other in enumerate(others))
    before = f"<!doctype html><body>{text}"
    result, links = rewritten(page(before))
    trees = [LexborHTMLParser(each) for each in (before, split(result)[1].decode())]
    targets = {tracked(number): url for number, url in enumerate(links)}
    for node in trees[1].css("a, area"):
        value = node.attributes.get("href")
        if value in targets:
            node.attrs["href"] = targets[value]
    assert trees[0].html == trees[1].html


# --- which parts ------------------------------------------------------------------------------------------------------

LINK = '<a href="http://a.test/">'


def mixed(*parts: str, kind: str = "multipart/mixed") -> bytes:
    """A message of these parts, each a header, an empty line, a text."""
    pieces = "".join(f"--b1\r\n{part}\r\n" for part in parts)
    return (
        f'Content-Type: {kind}; boundary="b1"\r\n\r\nhttp://preamble.test {LINK}\r\n{pieces}--b1--\r\n{LINK}'.encode()
    )


HTML = f"Content-Type: text/html\r\n\r\n{LINK}"


@pytest.mark.parametrize("kind", ["multipart/mixed", "multipart/alternative", "multipart/related", "multipart/x-new"])
def test_links_of_parts_are_numbered_one_after_the_other(kind):
    nested = f"Content-Type: multipart/alternative; boundary=b1x\r\n\r\n--b1x\r\n{HTML}\r\n--b1x--\r\n"
    message = mixed("Content-Type: text/plain\r\n\r\nhttp://no.test/", HTML, nested, kind=kind)
    result, links = rewritten(message)
    first, second = (f'<a href="{tracked(number)}">' for number in (0, 1))
    parts = message.split(LINK.encode())
    assert len(parts) == 5, "preamble and epilogue are no parts"
    expected = parts[0] + LINK.encode() + parts[1] + first.encode() + parts[2] + second.encode() + parts[3]
    assert result == expected + LINK.encode() and links == ("http://a.test/", "http://a.test/")


@pytest.mark.parametrize(
    "part",
    [
        f"Content-Type: text/html\r\nContent-Disposition: ATTACHMENT; filename=x.html\r\n\r\n{LINK}",
        f"Content-Type: message/rfc822\r\n\r\nContent-Type: text/html\r\n\r\n{LINK}",
        f"Content-Type: application/xhtml+xml\r\n\r\n{LINK}",
        f"Content-Type: text/x-amp-html\r\n\r\n{LINK}",
        f"Content-Type: text/html; charset=utf-16\r\n\r\n{LINK}",
        f"Content-Type: text/html; charset=UTF-7\r\n\r\n{LINK}",
        f"Content-Type: text/html\r\n\r\n\0{LINK}",
        f"Content-Type: text/html\r\nContent-Type: text/plain\r\n\r\n{LINK}",
        f"Content-Type: text/html; charset=utf-8; charset=utf-16\r\n\r\n{LINK}",
        f"Content-Type: text/html\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n{LINK}",
        f"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n{LINK}",
        f"Content-Type: html\r\n\r\n{LINK}",
        "Content-Type: multipart/mixed; boundary=b2\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        f"--b2\r\n{HTML}\r\n--b2--",
        f"Content-Type: multipart/digest; boundary=b2\r\n\r\n--b2\r\n\r\n{HTML}\r\n--b2--",
        f"Content-Type: multipart/mixed\r\n\r\n{LINK}",
        f"\r\n{LINK}",
        f"X: y\r\n{LINK}",
    ],
)
def test_what_is_no_html_that_is_shown_stays_as_it_is(part):
    message = mixed(part, HTML)
    result, links = rewritten(message)
    assert links == ("http://a.test/",), "of the other part"
    assert result.count(LINK.encode()) == message.count(LINK.encode()) - 1


@pytest.mark.parametrize(
    "part",
    [
        "Content-Type: multipart/signed; boundary=b2\r\n\r\n--b2\r\n\r\nx\r\n--b2--",
        "Content-Type: multipart/encrypted; boundary=b2\r\n\r\n--b2\r\n\r\nx\r\n--b2--",
        "Content-Type: application/pkcs7-mime; name=smime.p7m\r\n\r\nMIAG",
        "Content-Type: application/x-pkcs7-signature\r\nContent-Disposition: attachment\r\n\r\nMIAG",
        "Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1",
        "Content-Type: text/plain\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n",
        "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.b64encode(b"Hi\r\n-----BEGIN PGP MESSAGE-----\r\n").decode(),
    ],
)
def test_a_message_that_is_signed_or_encrypted_is_left_alone(part):
    message = mixed(HTML, part)
    assert rewritten(message) == (message, ())
    assert compile_body(*split(message), MARKS).sealed


def test_depth_and_number_of_parts_are_bounded():
    deep, wide = HTML, mixed(*[HTML] * 400)
    for level in range(200):
        deep = f"Content-Type: multipart/mixed; boundary=l{level}\r\n\r\n--l{level}\r\n{deep}\r\n--l{level}--"
    assert rewritten(deep.encode())[1] == ()
    assert len(rewritten(wide)[1]) == 300


@pytest.mark.parametrize("codec", ["utf-8", "shift_jis", "euc_jp", "gb18030", "big5", "iso2022_jp", "koi8-r", "cp1251"])
def test_charsets_make_no_difference(codec):
    words = "Привет" if codec in ("koi8-r", "cp1251") else "前後" if codec == "big5" else "日本語ソ表"
    text = f"{words}<a title='{words}' href='http://a.test/'>{words}</a>".encode(codec)
    result, links = rewritten(f"Content-Type: text/html; charset={codec}\r\n\r\n".encode() + text)
    assert links == ("http://a.test/",)
    assert split(result)[1] == text.replace(b"http://a.test/", tracked(0).encode())


@pytest.mark.parametrize(("codec", "kept"), [("utf-8", True), ("koi8-r", True), ("windows-1251", True)])
def test_a_target_is_read_in_the_charset_of_its_part(codec, kept):
    text = "<a href='http://пример.test/путь?q=да'>".encode(codec)
    links = rewritten(f"Content-Type: text/html; charset={codec}\r\n\r\n".encode() + text)[1]
    assert links == ("http://xn--e1afmkfd.test/%D0%BF%D1%83%D1%82%D1%8C?q=%D0%B4%D0%B0",)


# --- which links ------------------------------------------------------------------------------------------------------


def test_what_is_left_alone_is_told_with_the_reason():
    html = "".join(
        f'<a href="{value}">'
        for value in ["mailto:a@b.test", "tel:1", "#top", "//x.test/", "javascript:alert(1)", "page.html", "",
                      "{{url}}", "http://x.test/*|ID|*", f"{BASE}/u/abc", "http://list.test/leave", "http://a b.test/",
                      "http://x.test/" + "y" * 5000, "http://good.test/"]
    ) + "<a data-no-track href='http://x.test/'>"  # fmt: skip
    header, body = split(page(html))
    compiled = compile_body(header, body, MARKS._replace(skip={"http://list.test/leave"}))
    assert compiled.links == ("http://good.test/",)
    assert [found.reason for found in compiled.found] == [
        "scheme", "scheme", "fragment", "no-scheme", "scheme", "relative", "empty", "template", "template", "ours",
        "unsubscribe", "malformed", "long", "", "no-track",
    ]  # fmt: skip


def test_a_line_that_would_become_too_long_keeps_those_links_that_do_not_fit():
    line = f"{LINK}{'x' * 900}{LINK}"
    html = f"{line}\r\n{LINK}\r\n{LINK}{'y' * 1000}\r\n"
    header, body = split(page(html))
    compiled = compile_body(header, body, MARKS)
    assert [found.reason for found in compiled.found] == ["", "line", "", ""], "too long before is no worse"
    assert compiled.left == ("line",)
    first, rest = compiled.body(TOKENS.made(MESSAGE, None, compiled.numbers)).split(b"\r\n", 1)
    assert first.endswith(f"{'x' * 900}{LINK}".encode()) and len(first) <= 998
    assert rest.count(BASE.encode()) == 2
    full = f"{LINK}{'x' * 945}{LINK}"
    assert rewritten(page(full)) == (page(full), ())
    assert len(rewritten(page(html, "Content-Transfer-Encoding: quoted-printable\r\n"))[1]) == 4


@pytest.mark.parametrize("filling", range(915, 935))
def test_what_fits_into_a_line_is_the_same_for_every_recipient(filling):
    """There is one table for all, whatever the number of a recipient takes."""
    header, body = split(page(f"{LINK}{'x' * filling}\r\n<a href='http://b.test/'>"))
    forms = [compile_body(header, body, MARKS._replace(recipient=index)) for index in (0, 1 << 7, 1 << 14)]
    assert len({form.links for form in forms}) == 1
    for index, form in zip((0, 1 << 7, 1 << 14), forms, strict=True):
        lines = form.body(TOKENS.made(MESSAGE, index, form.numbers)).split(b"\r\n")
        assert max(map(len, lines)) <= 998


def test_unsubscribe_links_of_the_header_stay_however_they_are_written():
    header = (
        b"List-Unsubscribe: <https://List.test/leave?id=1&\r\n\tx=2>, <mailto:a@b.test>,\r\n <\r\n https://go.test>,"
        b" <https://p.test:443/x>\r\n"
    )
    assert declared(header).urls == {"https://list.test/leave?id=1&x=2", "https://go.test/", "https://p.test/x"}
    html = (
        "<a href='https://list.TEST/leave?id=1&amp;x=2#top'>x</a><a href='HTTPS://GO.test'>x</a><a href='https://go.test/#a'>"
        "x</a><a href='https://P.test/x'>x</a><a href='https://go.test/other'>x</a><a href='https://list.test/leave'>x</a>"
    )
    before, body = split(page(html))
    compiled = compile_body(before, body, MARKS._replace(skip=declared(header).urls))
    assert [found.reason for found in compiled.found] == ["unsubscribe"] * 4 + ["", ""]


@pytest.mark.parametrize(
    "link",
    [
        "<a href='http://a.test/unsubscribe?u=1'>here</a>", "<a href='http://a.test/x?action=Unsubscribe'>here</a>",
        "<a href='http://a.test/list-unsubscribe.php'>here</a>", "<a href='http://a.test/optout/7'>here</a>",
        "<a href='http://a.test/opt-out'>here</a>", "<a href='http://a.test?unsub=7'>here</a>",
        "<a href='http://a.test/%D0%BE%D1%82%D0%BF%D0%B8%D1%81%D0%B0%D1%82%D1%8C%D1%81%D1%8F'>here</a>",
        "<a href='http://a.test/отписка'>here</a>", "<a href='http://a.test/7'>Unsubscribe</a>",
        "<a href='http://a.test/7' title='x > y'><b>un</b><span>subscribe</span>: Unsubscribe here</a>",
        "<a href='http://a.test/7'>Отписаться от рассылки</a>", "<a href='http://a.test/7'>opt out</a>",
        "<a href='http://a.test/7'>Отказаться от этой рассылки</a>", "<a href='http://a.test/7'>&#1054;тписаться</a>",
        "<a rel=unsubscribe href='http://a.test/7'>bye</a>",
    ],
)  # fmt: skip
def test_links_that_say_that_they_unsubscribe_stay(link):
    result, links = rewritten(page(f"<p>{link}<a href='http://b.test/'>b</a></p>"))
    assert links == ("http://b.test/",)
    assert link.encode() in result


@pytest.mark.parametrize(
    "link",
    [
        "<a href='http://a.test/subscribe'>Subscribe</a>", "<a href='http://a.test/laptop-outlet'>Laptop outlet</a>",
        "<a href='http://unsubscribe.test/'>A host</a>", "<a href='http://a.test/options'>Options</a>",
        "<a href='http://a.test/'>Подписаться</a>", "<a href='http://a.test/#unsubscribe'>Part of a page</a>",
        "<a href='http://a.test/'>" + "A long text, " * 20 + "that says how to unsubscribe</a>",
        "<a href='http://a.test/'>Buy</a> or unsubscribe",
    ],
)  # fmt: skip
def test_links_that_do_not_are_tracked(link):
    assert len(rewritten(page(link))[1]) == 1


def test_a_letter_in_plain_text_says_so_in_the_line_of_the_link():
    text = "See http://a.test/1\r\nTo unsubscribe go to http://a.test/2 now.\r\nhttp://a.test/3\r\n"
    message = b"Content-Type: text/plain\r\n\r\n" + text.encode()
    assert rewritten(message, MARKS._replace(text_links=True))[1] == ("http://a.test/1", "http://a.test/3")


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Type: text/html (a page; charset=utf-16 (or not\\)) ); charset=utf-8",
        'Content-Type: (first) text/html; charset=utf-8; x="(no) comment"',
        "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit (as it is)",
    ],
)
def test_comments_in_fields_say_nothing(fields):
    assert rewritten(f"{fields}\r\n\r\n{LINK}".encode())[1] == ("http://a.test/",)


def test_a_comment_that_never_ends_is_no_type():
    assert rewritten(f"Content-Type: text/html (a page\r\n\r\n{LINK}".encode())[1] == ()


@pytest.mark.parametrize("kind", ["SIGNED MESSAGE", "MESSAGE"])
def test_what_pgp_has_signed_inside_html_is_left_alone(kind):
    html = f"{LINK}<pre>-----BEGIN PGP {kind}-----\r\nHash: SHA256\r\n\r\n{LINK}\r\n</pre>"
    header, body = split(page(html))
    assert compile_body(header, body, MARKS).sealed == "inline PGP"


def test_brackets_behind_a_url_are_counted_once():
    """Linear: each of these took as many looks at all as it has brackets."""
    text = b" ".join([b"http://x/" + b")" * 4000] * 50)
    seen = 0

    class Counted(bytes):
        def count(self, *arguments):  # type: ignore[override]
            nonlocal seen
            seen += 1
            return super().count(*arguments)

    assert [text[start:end] for start, end, *_ in urls_in(Counted(text))] == [b"http://x/"] * 50
    assert seen == 100
    nested = b"http://x/(a_(b)) http://x/(a)) http://x/[a](b)]). http://x/(a"
    found = [nested[start:end] for start, end, *_ in urls_in(nested)]
    assert found == [b"http://x/(a_(b))", b"http://x/(a)", b"http://x/[a](b)", b"http://x/(a"]


def test_the_table_is_bounded():
    header, body = split(page(LINK * (MOST_LINKS + 5), "Content-Transfer-Encoding: quoted-printable\r\n"))
    compiled = compile_body(header, body, MARKS)
    assert len(compiled.links) == MOST_LINKS
    assert [found.reason for found in compiled.found][MOST_LINKS:] == ["table"] * 5
    result = compiled.body(TOKENS.made(MESSAGE, None, compiled.numbers))
    assert quopri.decodestring(result).count(BASE.encode()) == MOST_LINKS


# --- plain text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("See http://a.test/x.", ["http://a.test/x"]),
        ("(http://a.test/x_(y)) <https://b.test/>, https://c.test!", ["http://a.test/x_(y)", "https://b.test/", "https://c.test"]),
        ("HTTP://A.test/?a=b&c=d;e", ["http://A.test/?a=b&c=d;e"]),
        ("[text](http://a.test/) *http://b.test/*", ["http://a.test/", "http://b.test/"]),
        ("xhttp://a.test/ http:// ftp://a.test/ www.a.test a@b.test", []),
        ("http://a.test/{{id}} http://a.test/é http://a.test/%%x%% http://a.test/*|X|*", []),
    ],
)  # fmt: skip
def test_urls_of_plain_text(text, urls):
    message = f"Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n".encode()
    assert rewritten(message) == (message, ())
    result, links = rewritten(message, MARKS._replace(text_links=True))
    assert list(links) == urls
    pieces = split(message)[1]
    for number, url in enumerate(urls):
        pieces = pieces.replace(url.encode().replace(b"http://A", b"HTTP://A"), tracked(number).encode())
    assert split(result)[1] == pieces


def test_flowed_text_that_may_go_on_in_the_next_line_is_left_alone():
    text = "http://a.test/lo \r\nng http://b.test/ x\r\nhttp://c.test/ \r\n"
    for parameter, count in (("delsp=yes", 1), ("delsp=no", 3)):
        message = f"Content-Type: text/plain; format=flowed; {parameter}\r\n\r\n{text}".encode()
        assert len(rewritten(message, MARKS._replace(text_links=True))[1]) == count


def test_base64_text_that_ends_with_a_url():
    texts = [base64.b64encode(b"x" * n + b" http://a.test/").decode() for n in range(6)]
    part = "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    result, links = rewritten(mixed(*(part + text for text in texts)), MARKS._replace(text_links=True))
    assert len(links) == 6
    decoded = text_of(result, "text/plain").split(b" ")
    expected = [tracked(n) + "x" * (n + 1) * (n < 5) for n in range(6)]
    assert [each.decode() for each in decoded] == ["", *expected]


# --- opens and the hidden link ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable", "base64"])
@pytest.mark.parametrize("tail", ["</body></html>\r\n", "</html>\r\n", "", "<!-- </body> -->"])
def test_pixel_and_hidden_link_go_before_the_end_of_the_body_of_the_first_html_part(encoding, tail):
    html = f"<html><body>{LINK}{tail}"
    written = {"base64": base64.b64encode, "quoted-printable": lambda text: quoted(text, 75)}.get(encoding, bytes)
    text = written(html.encode()).decode()
    part = f"Content-Type: text/html\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{text}"
    result, links = rewritten(mixed(part, HTML), MARKS._replace(opens=True, honeypot=True))
    (honeypot, opened) = (each.decode() for each in TOKENS.made(MESSAGE, None, [HONEYPOT, OPEN]))
    added = (
        f'\r\n<a href="{BASE}/c/{honeypot}" style="display:none" tabindex="-1" aria-hidden="true" rel="nofollow"></a>'
        f'\r\n<img src="{BASE}/o/{opened}.gif" width="1" height="1" alt="" style="border:0;width:1px;height:1px">\r\n'
    )
    first = html.replace("http://a.test/", tracked(0))
    at = len(first) - len(tail) if tail.startswith("</") else len(first)
    assert text_of(result).decode() == first[:at] + added + first[at:] + LINK.replace("http://a.test/", tracked(1))
    assert TOKENS.read(Kind.OPEN, opened) is not None and len(links) == 2
    assert max(map(len, result.split(b"\r\n"))) <= (76 if encoding == "base64" else 200)


def test_with_nothing_to_follow_there_is_still_the_pixel():
    result, links = rewritten(page("<p>x</p></body>"), MARKS._replace(opens=True))
    assert links == () and b".gif" in result
    message = b"Content-Type: text/plain\r\n\r\nx"
    assert rewritten(message, MARKS._replace(opens=True, honeypot=True)) == (message, ())
