"""The links of an HTML text: where their href values stand, byte by byte, and what else their tags say.

The rules are those of the HTML standard's tokenizer (13.2.5), as far as they decide where a tag is: comments, quotes,
raw text, script's escapes. Bytes in, offsets out: in every charset that holds ASCII the structure of HTML is ASCII, so
that nothing is decoded here; ISO-2022-JP, where other characters look like ASCII, goes through `mask_escapes` first.

A mail reader has no scripts, so what is inside <noscript> is ordinary. What Outlook alone reads, inside a conditional
comment, counts too, and there its drawn buttons (<v:roundrect href>) as well. Inside <svg> and <math> nothing counts;
where what is in them may end them, or be HTML again, only a tree could tell what follows, and that is left alone.

Total and linear (P1): each byte is looked at a few times, whatever never ends.
"""

import re
from collections.abc import Callable, Generator, Iterator
from html import unescape
from html.entities import html5
from typing import NamedTuple, TypeAlias

_NAME = re.compile(rb"[^\t\n\f\r />]++")
#: One attribute, or the end of the tag. Groups: the end; name; value in double, in single, and without quotes.
#: No group is possessive, here and below: where one fails Python 3.11 leaves lastindex and place as they were inside.
#: There is one way to match each, so that nothing is tried twice all the same.
_ATTRIBUTE = re.compile(
    rb"[\t\n\f\r /]*+(?:(>)|([^\t\n\f\r />][^\t\n\f\r />=]*+)"
    rb"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\t\n\f\r >\"'][^\t\n\f\r >]*+)|(?=>)))?)"
)
#: The same again and again, to the end of the tag, without a look at it. What begins in quotes that never end is none.
_REST = (
    rb"(?:[\t\n\f\r /]*+[^\t\n\f\r />][^\t\n\f\r />=]*+"
    rb"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+(?:\"[^\"]*+\"|'[^']*+'|[^\t\n\f\r >\"'][^\t\n\f\r >]*+|(?=>))"
    rb"|(?![\t\n\f\r ]*+=)))*[\t\n\f\r /]*+>"
)
_REST_OF_TAG = re.compile(_REST)
#: Text and tags that mean nothing here, as many as there are: most of a letter, in one go.
_NOTHING = re.compile(
    rb"(?:[^<]++|</?+(?!(?:a|area|body|html|iframe|math|noembed|noframes|plaintext|script|style|svg|textarea|title|xmp"
    rb"|v:[a-z]+)[\t\n\f\r />])[a-z][^\t\n\f\r />]*+" + _REST + rb")*",
    re.I,
)
_CLOSED_COMMENT = re.compile(rb"-?>|--!?>")  #: at once behind "<!--", and in general
_COMMENT_END = re.compile(rb"--!?>")
_CONDITION = re.compile(rb"\s*\[if\s[^\]<>]{1,200}\]>", re.I)
_SCRIPT = re.compile(rb"<!(?=--)|-->|<(/?)script(?=[\t\n\f\r />])", re.I)
_CLOSING = {
    name: re.compile(b"</" + name + rb"(?=[\t\n\f\r />])", re.I)
    for name in (b"style", b"xmp", b"iframe", b"noembed", b"noframes", b"textarea", b"title")
}
_FOREIGN = frozenset((b"svg", b"math"))
#: Elements in them whose content is HTML (13.2.6).
_POINTS = frozenset((b"title", b"desc", b"foreignobject", b"annotation-xml", b"mi", b"mo", b"mn", b"ms", b"mtext"))
#: Start tags that end <svg> and <math>, whatever is open there (13.2.6.5).
_BREAKOUT = frozenset(
    b"b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta "
    b"nobr ol p pre ruby s small span strong strike sub sup table tt u ul var".split()
)
_LINKS = frozenset((b"a", b"area"))
_DRAWN = re.compile(rb"(?:a|area|v:[a-z]+)", re.I).fullmatch

#: Attributes that say that a link is not to be tracked: ours, and what the senders of the field have in their letters.
_NO_TRACK: dict[bytes, frozenset[bytes] | None] = {
    b"data-no-track": None,
    b"data-unsubscribe": None,
    b"data-pm-no-track": None,
    b"ses:no-track": None,
    b"mc:disable-tracking": None,
    b"clicktracking": frozenset((b"off", b"false", b"0")),
    b"disable-tracking": frozenset((b"true", b"1", b"")),
    b"data-msys-clicktrack": frozenset((b"0", b"false")),
}
#: A name with its semicolon, or any other reference.
_REFERENCE = re.compile(r"&(?:#(?:[xX][0-9a-fA-F]+|[0-9]+);?|[A-Za-z][A-Za-z0-9]*+(?:;|(?!=)))")
#: From the sequence that begins a set of two bytes a character to the one that ends it, or the line, which does, too.
_TWO_BYTES = re.compile(rb"\x1b\$[^\r\n]*?(?=\x1b\(|[\r\n]|\Z)")


class Href(NamedTuple):
    """A link. start, end: of its value, without quotes; start == end where it is empty. no_track: its tag says so.

    text_end: where its end tag begins; -1: it has none.
    """

    start: int
    end: int
    no_track: bool
    text_end: int = -1


class HtmlLinks(NamedTuple):
    """links: in order. body_end: where </body> stands that ends the body, or </html>, or the end of the text.

    body_end is -1 where the text ends within a tag, a comment or the like: what is added there would be part of that.
    """

    links: list[Href]
    body_end: int


def find_links(text: bytes) -> HtmlLinks:
    """The links of a text in a charset that holds ASCII. Never raises."""
    links: list[Href] = []
    ends = {b"body": -1, b"html": -1}
    at_end = -1
    is_open = False
    for name, start, href in _tags(text, 0, len(text), _LINKS.__contains__):
        if href is not None:
            links.append(href)
            is_open = name == b"a"
        elif name == b"a":
            if is_open:
                links[-1] = Href(*links[-1][:3], start)
            is_open = False
        elif name in ends:
            ends[name] = start
        elif not name:
            at_end = start
    body_end = ends[b"body"] if ends[b"body"] >= 0 else ends[b"html"]
    return HtmlLinks(links, body_end if body_end >= 0 else at_end)


def mask_escapes(text: bytes) -> bytes:
    """A text in ISO-2022-JP, as long as before, with nothing in place of the characters that look like ASCII."""
    return _TWO_BYTES.sub(lambda match: b"\x80" * len(match[0]), text)


def unescape_attribute(value: str) -> str:
    """The value with its character references resolved as in an attribute: "?a=1&copy=2" has none (13.2.5.73)."""
    return _REFERENCE.sub(_resolved, value) if "&" in value else value


def _resolved(match: re.Match[str]) -> str:
    reference = match[0]
    return unescape(reference) if reference[1] == "#" else html5.get(reference[1:], reference)


_Found: TypeAlias = tuple[bytes, int, Href | None]


def _tags(text: bytes, at: int, end: int, wanted: Callable[[bytes], object]) -> Iterator[_Found]:
    """Links, and end tags, by name and start, between two offsets; last b"" and the end, if text may follow there."""
    foreign: list[bytes] = []  # elements that are open, from <svg> or <math> on
    while (at := _next(text, at, end, bool(foreign))) >= 0:
        follows = text[at + 1 : at + 2]
        if follows == b"!":
            stop = yield from _declaration(text, at, end, bool(foreign))
        elif follows.isalpha():
            name, inside, stop = _tag(text, at + 1, end)
            if stop >= 0 and (foreign or name in _FOREIGN):
                if name in _BREAKOUT or (foreign and foreign[-1] in _POINTS):
                    return
                if not text.endswith(b"/>", at, stop):
                    foreign.append(name)
            elif stop >= 0:
                if wanted(name):
                    attributes = _attributes(text, inside, stop)
                    href = attributes.get(b"href")
                    if href is not None:
                        yield name, at, Href(*href, _no_track(text, attributes))
                stop = _after_raw_text(text, name, stop, end)
        elif follows == b"/" and text[at + 2 : at + 3].isalpha():
            name, _, stop = _tag(text, at + 2, end)
            if stop >= 0:
                if foreign and not _closed(foreign, name):
                    return
                yield name, at, None
        elif follows == b"?" or (follows == b"/" and at + 2 < end):
            stop = _after(text, b">", at + 2, end)
        else:
            stop = at + 1
        if stop < 0:
            return
        at = stop
    if not foreign and not text.endswith(b"</", 0, end):
        yield b"", end, None


def _next(text: bytes, at: int, end: int, foreign: bool) -> int:
    """The "<" of the next tag that may mean something; -1: there is none."""
    if not foreign:  # else a tag like any other may be the end of that
        match = _NOTHING.match(text, at, end)
        assert match is not None
        at = match.end()
    return text.find(b"<", at, end)


def _closed(foreign: list[bytes], name: bytes) -> bool:
    """Close the last open element of this name, and what is open in it; False: there is none."""
    for at in range(len(foreign) - 1, -1, -1):
        if foreign[at] == name:
            del foreign[at:]
            return True
    return False


def _declaration(text: bytes, at: int, end: int, foreign: bool) -> Generator[_Found, None, int]:
    """A comment, doctype, CDATA section, at "<!": links in it, where Outlook reads it; returns where it ends, or -1."""
    if text.startswith(b"<!--", at, end):
        closed = _CLOSED_COMMENT.match(text, at + 4, end)
        if closed is not None:
            return closed.end()
        match = _COMMENT_END.search(text, at + 4, end)
        condition = _CONDITION.match(text, at + 4, match.start() if match else end)
        if match is None:
            return -1
        if condition is not None and not foreign:
            for found in _tags(text, condition.end(), match.start(), _DRAWN):
                if found[2] is not None:
                    yield found
        return match.end()
    if foreign and text.startswith(b"<![CDATA[", at, end):
        return _after(text, b"]]>", at + 9, end)
    return _after(text, b">", at + 2, end)


def _tag(text: bytes, at: int, end: int) -> tuple[bytes, int, int]:
    """The tag whose name begins here: name in lower case, where that ends, what follows the tag; -1: it has no end."""
    name = _NAME.match(text, at, end)
    assert name is not None
    match = _REST_OF_TAG.match(text, name.end(), end)
    return name[0].lower(), name.end(), match.end() if match is not None else -1


def _attributes(text: bytes, at: int, end: int) -> dict[bytes, tuple[int, int]]:
    """Where the values of the attributes of a tag are, by name in lower case; the first of a name counts."""
    attributes: dict[bytes, tuple[int, int]] = {}
    while (match := _ATTRIBUTE.match(text, at, end)) is not None and match.lastindex != 1:
        group, at = match.lastindex or 2, match.end()
        attributes.setdefault(match[2].lower(), match.span(group) if group > 2 else (at, at))
    return attributes


def _after_raw_text(text: bytes, name: bytes, at: int, end: int) -> int:
    """Behind the text of an element that holds no tags; where it begins if the element holds some; -1: no end."""
    if name in _CLOSING:
        match = _CLOSING[name].search(text, at, end)
        return match.start() if match else -1
    if name == b"plaintext":
        return -1
    return _after_script(text, at, end) if name == b"script" else at


def _after_script(text: bytes, at: int, end: int) -> int:
    """The start of the end tag of a script. In "<!-- <script>" the next end tag is not its own (13.2.5.19 on)."""
    commented = doubled = False
    for match in _SCRIPT.finditer(text, at, end):
        if match[1] is None:
            commented, doubled = match[0] != b"-->", False
        elif not match[1]:
            doubled = doubled or commented
        elif doubled:
            doubled = False
        else:
            return match.start()
    return -1


def _after(text: bytes, what: bytes, at: int, end: int) -> int:
    found = text.find(what, at, end)
    return found + len(what) if found >= 0 else -1


def _no_track(text: bytes, attributes: dict[bytes, tuple[int, int]]) -> bool:
    if b"rel" in attributes and b"unsubscribe" in text[slice(*attributes[b"rel"])].lower().split():
        return True
    for name in attributes.keys() & _NO_TRACK.keys():
        values = _NO_TRACK[name]
        if values is None or text[slice(*attributes[name])].strip().lower() in values:
            return True
    return False
