"""Which links are for unsubscribing: they stay as they are, whoever counts clicks.

One is what the message's own List-Unsubscribe names, compared as a browser would go there; or its URL says so, in a
word of path or query; or its text does. A rule of words is wrong now and then: then a click is not counted, no more.
"""

import re
from html import unescape
from urllib.parse import unquote

from engine.protocol.mime_text import decode_charset

#: Text of a link; what is longer says many things.
_MOST_TEXT = 120
MOST_LINE = 240
#: Markup of one: nobody's button has more.
_MOST_MARKUP = 2000
_IN_URL = re.compile(
    r"(?<![a-z])(?:un-?subscri(?:be|ption)|unsub|opt[-_]?out)|(?<!\w)отпис|abbestell|desinscri", re.IGNORECASE
)
_IN_TEXT = re.compile(
    r"\bun-?subscri(?:be|ption)|\bopt(?:ing)?[ -]?out\b|\bотпис(?:ат|ыв|к)|\bотказ\w* от (?:\w+ )?(?:рассыл|подпис)"
    r"|\babbestell|\bnewsletter abmelden|\bd[ée]s(?:abonn|inscri)|\bdarse de baja|\bcancelar (?:la |mi )?suscripci",
    re.IGNORECASE,
)
_TAG = re.compile(r"<[^<>]*>")
_AUTHORITY = re.compile(r"(https?)://([^/?#]+)([^#]*)")
_PORT = {"http": ":80", "https": ":443"}


def same_place(url: str) -> str:
    """A form that all ways to write a target have in common (RFC 3986 6.2.2, 6.2.3). url: of link_target.Target."""
    match = _AUTHORITY.match(url)
    if match is None:
        return url
    scheme, authority, rest = match[1], match[2], match[3]
    user, at, host = authority.rpartition("@")
    host = host.lower().removesuffix(_PORT[scheme]).removesuffix(":")
    return f"{scheme}://{user}{at}{host}{rest if rest.startswith('/') else '/' + rest}"


def says_so(url: str) -> bool:
    """Whether path or query of a target have a word for it."""
    match = _AUTHORITY.match(url)
    rest = match[3] if match is not None else ""
    return _IN_URL.search(unquote(rest) if "%" in rest else rest) is not None


def text_says_so(markup: bytes, charset: str) -> bool:
    """Whether the text of a link, with the rest of its start tag, has words for it."""
    if len(markup) > _MOST_MARKUP:
        return False
    text = _TAG.sub(" ", decode_charset(markup[markup.find(b">") + 1 :], charset))
    text = " ".join((unescape(text) if "&" in text else text).split())
    return len(text) <= _MOST_TEXT and _IN_TEXT.search(text) is not None


def line_says_so(line: bytes, charset: str) -> bool:
    """Whether a line of plain text that has a URL has words for it."""
    return len(line) <= MOST_LINE and _IN_TEXT.search(decode_charset(line, charset)) is not None
