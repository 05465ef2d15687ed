"""Where links stand in HTML: told by hand for what matters, and held against a real HTML parser for the rest."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from engine.protocol.html_links import find_links, mask_escapes, unescape_attribute


def values(text: bytes) -> list[str]:
    return [unescape_attribute(text[link.start : link.end].decode()) for link in find_links(text).links]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<a href="x">', ["x"]),
        ("<a href='x'>", ["x"]),
        ("<a href=x>", ["x"]),
        ("<a href=x/>", ["x/"]),
        ("<A HREF = \n'x'>", ["x"]),
        ("<a\n\tclass=b href=x>", ["x"]),
        ("<a/href=x>", ["x"]),
        ('<a class="b"href="x">', ["x"]),
        ('<a title="a > b" href="x">', ["x"]),
        ("<a title='\"' href=\"x'y\">", ["x'y"]),
        ("<a href=x'y\"z>", ["x'y\"z"]),
        ('<a href="x" href="y">', ["x"]),
        ('<a href>', [""]),
        ('<a href=>', [""]),
        ('<a href= >', [""]),
        ('<a href="">', [""]),
        ('<a =href="y" href="x">', ["x"]),
        ('<a "href="y" href="x">', ["x"]),
        ("<area shape=rect href=x>", ["x"]),
        ('<abbr href="x"><link href="x"><b a href="x"><img href=x>', []),
        ("<a xhref=x data-href=x>", []),
        ("a < b href=x <1a href=x> <-a href=x>", []),
        ("</a href=x>", []),
        ("<!-- <a href=x> -->", []),
        ("<!--> <a href=x> -->", ["x"]),
        ("<!---> <a href=x> -->", ["x"]),
        ("<!-- --!> <a href=x>", ["x"]),
        ("<!-- -- > <a href=x>", []),
        ("<!-- <a href=x>", []),
        ("<!doctype html><a href=x>", ["x"]),
        ("<!><a href=x>", ["x"]),
        ("<![CDATA[ <a href=x> ]]>", []),
        ("<![CDATA[ <b> <a href=x> ]]>", ["x"]),
        ("<?php <a href=x> ?><a href=y>", ["y"]),
        ("</ <a href=x> ><a href=y>", ["y"]),
        ("<script>'<a href=x>'</script><a href=y>", ["y"]),
        ("<script><!-- <script> </script> <a href=x> --> </script><a href=y>", ["y"]),
        ("<script><!-- </script><a href=y>", ["y"]),
        ("<script><!--><script> </script><a href=y>", ["y"]),
        ("<script></scripts></script ><a href=y>", ["y"]),
        ("<style>/* <a href=x> */</STYLE><a href=y>", ["y"]),
        ("<title><a href=x></title><a href=y>", ["y"]),
        ("<textarea><a href=x></textarea><a href=y>", ["y"]),
        ("<style><a href=x>", []),
        ("<noscript><a href=x></noscript>", ["x"]),
        ("<plaintext><a href=x>", []),
        ("<svg><a href=x></a></svg><a href=y>", ["y"]),
        ("<svg/><a href=y>", ["y"]),
        ("<svg><![CDATA[ > <a href=x> ]]></svg><a href=y>", ["y"]),
        ("<svg><title>Logo</title><g><g></g><path/></g></svg><a href=y>", ["y"]),
        ("<a href=x><svg><p></svg><a href=y>", ["x"]),
        ("<svg><title><title></svg><a href=y>", []),
        ("<svg><g></g><a href=x>", []),
        ("<b><svg><g></b><script><a href=x></script><a href=y>", []),
        ("<a href='x", []),
        ("<a href = 'x", []),
        ("<a href=x", []),
        ("<a href='x'", []),
        ("<a href='x' title='y><a href='z'>", ["x"]),
        ('<a href="?a=1&amp;b=2&copy=3&copy;&copyx;&#65;&#x42&notit;&not">', ["?a=1&b=2&copy=3©&copyx;AB&notit;¬"]),
        ("<!--[if mso]><a href=x><v:roundrect href=y><img href=z><![endif]-->", ["x", "y"]),
        ("<!--[if gte mso 9]><!-- <a href=x> <![endif]-->", []),
        ("<!--[if !mso]><!--><a href=x><!--<![endif]-->", ["x"]),
        ("<![if !mso]><a href=x><![endif]>", ["x"]),
        ("<v:roundrect href=y>", []),
        ("<!--[if mso]><a href=x>", []),
        ("<!--[if mso]><a href='x --> '><a href=y>", ["y"]),
    ],
)  # fmt: skip
def test_what_is_a_link(text, expected):
    assert values(text.encode()) == expected


@pytest.mark.parametrize(
    "tag",
    [
        "<a data-no-track href=x>", '<a href=x data-no-track="">', "<a href=x DATA-NO-TRACK=true>",
        "<a data-unsubscribe href=x>", "<a href=x rel='nofollow Unsubscribe'>", "<a clicktracking=off href=x>",
        '<a href=x disable-tracking="true">', "<a ses:no-track href=x>", "<a mc:disable-tracking href=x>",
        "<a data-pm-no-track href=x>", "<a data-msys-clicktrack=0 href=x>",
    ],
)  # fmt: skip
def test_a_link_may_say_that_it_is_not_to_be_tracked(tag):
    assert [link.no_track for link in find_links(tag.encode()).links] == [True]


@pytest.mark.parametrize("tag", ["<a href=x clicktracking=on>", "<a href=x rel=nofollow>", "<a href='data-no-track'>"])
def test_others_do_not(tag):
    assert [link.no_track for link in find_links(tag.encode()).links] == [False]


@pytest.mark.parametrize(
    ("text", "before"),
    [
        (b"<body>x</body></html>", b"</body></html>"),
        (b"<body>x</BODY\n></html>", b"</BODY\n></html>"),
        (b"<p></body> <!-- </body> --><p></body>\n", b"</body>\n"),
        (b"x</html>", b"</html>"),
        (b"<p>x", b""),
        (b"<title></body></title>", b""),
    ],
)
def test_where_the_body_ends(text, before):
    assert text[find_links(text).body_end :] == before


@pytest.mark.parametrize(
    "end",
    [
        '<a href="x', "<a href=", "<a href='x'", "<b", "</b", "</", "<!", "<!-- x", "<!-- x --", "<?x", "<title>x",
        "<style>", "<script>x</scrip", "<textarea>", "<plaintext>", "<svg>", "<svg><g></g>", "<math><mi>x", "<svg><p>",
    ],
)  # fmt: skip
def test_nothing_can_be_added_behind_markup_that_never_ends(end):
    assert find_links(f"<p>x {end}".encode()).body_end == -1
    assert find_links(f"<p>x</body>{end}".encode()).body_end == len("<p>x"), "there it can"


@pytest.mark.parametrize(
    "end", ["<", "a < b", "x<1", "<svg/>", "<svg></svg>", "<!-->", "<title></title>", "<a href=x>"]
)
def test_behind_what_is_over_something_can(end):
    assert find_links(f"<p>{end}".encode()).body_end == len(f"<p>{end}")


PIECES = [
    "<", ">", "/", "=", '"', "'", " ", "\n", "\t", "\f", "!", "-", "--", "?", "a", "x", "&", ";", "#", "é",
    "<a ", "<A\n", "</a>", "<a href=", "<a href=@", '<a href="', "<a href='", ' href="@"', " href=@ ", " HREF='@'",
    "<area href=@>",
    "<!--", "-->", "--!>", "<!-", "<![CDATA[", "]]>", "<!doctype html>", "<?", "</", "<b>", "</b>", "<p title='>'>",
    "<script>", "</script>", "<script ", "</script", "<style>", "</style >", "<title>", "</title>", "<textarea>",
    "</textarea\n>", "<noscript>", "</noscript>", "<xmp>", "</xmp>", "<iframe>", "</iframe>", "<div", "<p/", "<br/>",
    "&amp;", "&lt", "&#60;", "&#x3c", "&copy", "&copy=", "&notin;", "&notit;", "http://a.test/?b=c&d=e",
]  # fmt: skip


def numbered(pieces: list[str]) -> str:
    """One text, each @ in it another number."""
    first, *others = "".join(pieces).split("@")
    return first + "".join(f"{number}{other}" for number, other in enumerate(others))


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(numbered))
@example("<script><!-- <script> </script> --> <a href=x></script><a href=y>")
@example('<a href="x" =b c"=d e=\'f\'><a href=y>')
def test_a_real_parser_sees_the_same_links(text):
    tree = LexborHTMLParser(f"<!doctype html><body>{text}").body
    assert tree is not None
    theirs = [node.attributes["href"] or "" for node in tree.css("a[href], area[href]")]
    # An <a> that is open where a block begins or ends is there once more (13.2.4.3).
    assert list(dict.fromkeys(values(text.encode()))) == list(dict.fromkeys(theirs))


@given(st.binary() | st.lists(st.sampled_from(PIECES)).map(lambda each: "".join(each).encode()))
def test_any_bytes_have_links_in_order_that_do_not_overlap(text):
    found = find_links(text)
    places = [place for link in found.links for place in (link.start, link.end)]
    assert places == sorted(places) and -1 <= found.body_end <= len(text)


@pytest.mark.parametrize(
    "text",
    ["<", "<a ", "<a href='", "<!--", "<!--[if mso]>", "<!--[if ", "</", "<script>", "<script><!--<script>", "<title>",
     "<a b=", "<svg>", "<a =", "<a href=x ", "<![CDATA[", "<!", "<?", "\x1b$"],
)  # fmt: skip
def test_what_never_ends_takes_no_longer_for_it(text):
    """No time is measured: a quadratic scan of a megabyte would not end within that of the whole test run."""
    long = text.encode() * (1_000_000 // len(text))
    find_links(long)
    find_links(mask_escapes(long))


def test_characters_of_two_bytes_are_no_tags():
    text = "前<a href='x'>日本語かな</a><a href=y>後".encode("iso2022_jp")
    assert len(mask_escapes(text)) == len(text)
    assert values(mask_escapes(text)) == ["x", "y"]
    bogus = b"\x1b$B<a href=z>\x1b(B<a href=x>\x1b$B<a href=z>"
    assert values(mask_escapes(bogus)) == ["x"]
    assert mask_escapes(b"no escape") == b"no escape"
