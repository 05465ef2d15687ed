"""Where the texts of a message lie: offsets of the bodies of its parts, nothing copied, nothing decoded.

For who changes a text and nothing else. Strict where `mime_parts`, which reads what others broke, is lenient: a part
that could be read in two ways is not listed, and a message with a signature in it, or encrypted, not looked into.

Lines end in CRLF. Bounds: MAX_DEPTH levels, MAX_PARTS parts; what is deeper or more is not listed.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_DEPTH = 20
MAX_PARTS = 300

_FIELD = re.compile(rb"^(content-[a-z-]{1,40})[ \t]*:([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*)", re.I | re.M)
_TYPE = re.compile(r"\s*([a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+)\s*(?:;|$)", re.I)
_PARAMETER = re.compile(r";\s*([a-zA-Z0-9_*-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]*))")
#: What a structured field is made of, as far as comments matter (RFC 5322 3.2.2).
_WORD = re.compile(r"\"(?:[^\"\\]|\\.)*\"|\\.|[^\"()\\]+|.", re.S)
_QUOTED_PAIR = re.compile(r"\\(.)")
#: RFC 1847, RFC 3156, RFC 8551; and reports, whose text is about what follows it.
_SEALED = re.compile(
    r"multipart/(?:signed|encrypted|report)|application/(?:x-)?(?:pkcs7-(?:mime|signature)|pgp-(?:encrypted|signature))"
)
_ENCODINGS = frozenset(("7bit", "8bit", "binary", "quoted-printable", "base64"))


class Sealed(Exception):
    """The message is signed or encrypted; the argument says by what type of part."""


class TextPart(NamedTuple):
    """start, end: of its body. kind: "text/html", in lower case. parameters: of Content-Type, names in lower case."""

    start: int
    end: int
    kind: str
    parameters: dict[str, str]
    encoding: str

    @property
    def charset(self) -> str:
        return self.parameters.get("charset", "us-ascii").strip().lower()


class _Header(NamedTuple):
    kind: str
    parameters: dict[str, str]
    encoding: str
    attached: bool


def text_parts(header: bytes, body: bytes) -> list[TextPart]:
    """The texts of a message that are shown, not attached, in order. header: with CRLF, without the empty line.

    Raises Sealed.
    """
    found: list[TextPart] = []
    _collect(found, _read(header, "text/plain"), body, 0, len(body), [MAX_DEPTH, MAX_PARTS])
    return found


def _collect(found: list[TextPart], header: _Header | None, body: bytes, start: int, end: int, left: list[int]) -> None:
    if header is None:
        return
    kind, parameters, encoding, attached = header
    if _SEALED.fullmatch(kind):
        raise Sealed(kind)
    if kind.startswith("text/"):
        if not attached and encoding in _ENCODINGS:
            found.append(TextPart(start, end, kind, parameters, encoding))
        return
    # A container is of 7bit, 8bit or binary (RFC 2045 6.4).
    if not kind.startswith("multipart/") or encoding in ("quoted-printable", "base64") or not left[0]:
        return
    left[0] -= 1
    default = "message/rfc822" if kind == "multipart/digest" else "text/plain"
    for begins, ends in _pieces(parameters.get("boundary", ""), body, start, end):
        if not left[1]:
            break
        left[1] -= 1
        inner, text = _split(body, begins, ends)
        _collect(found, _read(body[begins:inner], default), body, text, ends, left)
    left[0] += 1


def _pieces(boundary: str, body: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where what lies between delimiter lines begins and ends (RFC 2046 5.1.1)."""
    if not boundary or not boundary.isascii():
        return
    line = re.compile(rb"^--" + re.escape(boundary.rstrip().encode()) + rb"(--)?[ \t]*\r?$", re.M)
    begins = -1
    for match in line.finditer(body, start, end):
        if begins >= 0:
            yield begins, max(begins, match.start() - 2)  # the CRLF before it belongs to the delimiter
        if match[1]:
            return
        begins = match.end() + 1
    if 0 <= begins <= end:
        yield begins, end


def _split(body: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the header of a part ends, and where its text begins."""
    if body.startswith(b"\r\n", start, end):
        return start, start + 2
    at = body.find(b"\r\n\r\n", start, end)
    return (at + 2, at + 4) if at >= 0 else (end, end)


def _read(header: bytes, default: str) -> _Header | None:
    """None: it says one thing twice, or a type that is none."""
    fields: dict[bytes, str] = {}
    for name, value in _FIELD.findall(header):
        if name.lower() in fields:
            return None
        fields[name.lower()] = _without_comments(value.decode("latin-1").replace("\r\n", ""))
    content_type = fields.get(b"content-type", default)
    match = _TYPE.match(content_type)
    if match is None:
        return None
    parameters: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(content_type):
        if parameters.setdefault(name.lower(), _QUOTED_PAIR.sub(r"\1", quoted) or plain) != (
            _QUOTED_PAIR.sub(r"\1", quoted) or plain
        ):
            return None
    encoding = fields.get(b"content-transfer-encoding", "7bit").strip().lower()
    attached = fields.get(b"content-disposition", "").strip().lower().startswith("attachment")
    return _Header(match[1].lower(), parameters, encoding, attached)


def _without_comments(value: str) -> str:
    """A field without its comments, which may have others in them. One that never ends is what it is."""
    if "(" not in value:
        return value
    kept: list[str] = []
    depth = 0
    for match in _WORD.finditer(value):
        word = match[0]
        if word == "(":
            depth += 1
        elif word == ")" and depth:
            depth -= 1
            kept.append(" ")
        elif not depth:
            kept.append(word)
    return value if depth else "".join(kept)
