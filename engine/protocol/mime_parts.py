"""The parts of a message, however broken: what reading bounces needs of MIME, in bounded time and memory.

Total (P1): any bytes are a message. Lenient where the field is: bare LF, no blank line after a header, a boundary that
is not the one announced, multiparts that never end, encodings of containers. Bounds: MAX_DEPTH levels, MAX_PARTS parts;
what is deeper or more is not looked into. The bytes of a part are copied once more for each level.
"""

import re
from collections.abc import Iterator

from engine.protocol.mime_text import decode_charset, decode_transfer, decode_words, text_of_html

#: A report in a report in a forwarded message has seven.
MAX_DEPTH = 12
MAX_PARTS = 300
#: Of one header section; Postfix's header_size_limit is 100 KiB.
MAX_HEADER_BYTES = 256 << 10
#: Of the text of one part that is read; 10,000 recipients with a reply each are 2 MiB.
MAX_TEXT_BYTES = 8 << 20

_FIELD = re.compile(r"^([!-9;-~]{1,80})[ \t]*:[ \t]*(.*(?:\n[ \t].*)*)", re.M)
_FOLD = re.compile(r"[ \t]*\n[ \t]+")
_PARAMETER = re.compile(r";\s*([a-zA-Z0-9_*-]{1,40})\s*=\s*(?:\"([^\"\n]{0,1000})\"|([^\s;\"]{0,1000}))")
#: The boundary of a multipart that announces another, or none: the first delimiter that a header follows.
_DELIMITER = re.compile(rb"^--([^\s-][^\n]{0,200}?)[ \t]*\n(?=content-[a-z-]{1,30}:)", re.I | re.M)


class Header:
    """The fields of a header section; names in lower case, values unfolded, encoded words as they stand."""

    __slots__ = ("_first", "fields")

    def __init__(self, section: bytes) -> None:
        text = decode_charset(section[:MAX_HEADER_BYTES], "utf-8")
        self.fields: list[tuple[str, str]] = [
            (name.lower(), _FOLD.sub(" ", value).strip() if "\n" in value else value.strip())
            for name, value in _FIELD.findall(text)
        ]
        self._first = dict(reversed(self.fields))

    def get(self, name: str) -> str:
        """The first field of this name (lower case), or ""."""
        return self._first.get(name, "")

    def all(self, name: str) -> list[str]:
        """All fields of this name."""
        return [value for key, value in self.fields if key == name]

    def text(self, name: str) -> str:
        """The first field with its encoded words decoded."""
        return decode_words(self.get(name))

    def __contains__(self, name: str) -> bool:
        return name in self._first


class Part:
    """One part: its header, its type ("text/plain"; parameters apart), its bytes with LF, its parts."""

    __slots__ = ("body", "depth", "header", "parameters", "parts", "type")

    def __init__(self, content: bytes, depth: int, default: str = "text/plain") -> None:
        section, self.body = split_header(content)
        self.header = Header(section)
        self.depth = depth
        self.parts: list[Part] = []
        value = self.header.get("content-type")
        kind = value.partition(";")[0].strip().lower()
        self.type = kind if "/" in kind else default
        self.parameters: dict[str, str] = (
            {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(value)} if ";" in value else {}
        )

    @property
    def data(self) -> bytes:
        """The body decoded from its transfer encoding; of a long one the start."""
        body = self.body[:MAX_TEXT_BYTES]
        encoding = self.header.get("content-transfer-encoding").partition(";")[0].strip().lower()
        return decode_transfer(body, encoding).replace(b"\r\n", b"\n") if encoding else body

    @property
    def text(self) -> str:
        """The body as a person would read it, whatever its type."""
        text = decode_charset(self.data, self.parameters.get("charset", "utf-8"))
        return text_of_html(text[: MAX_TEXT_BYTES >> 3]) if self.type == "text/html" else text

    def walk(self) -> Iterator["Part"]:
        """This part and all below, in order."""
        yield self
        for part in self.parts:
            yield from part.walk()


def read_message(content: bytes) -> Part:
    """The message and its parts, down to MAX_DEPTH. Never raises."""
    content = content.replace(b"\r\n", b"\n")
    if b"\r" in content:
        content = content.replace(b"\r", b"\n")
    if content.startswith(b"From "):  # an mbox
        content = content.partition(b"\n")[2]
    left = [MAX_PARTS]
    return _read(content.lstrip(b"\n"), 0, "text/plain", left)


def split_header(content: bytes) -> tuple[bytes, bytes]:
    """Header section and body, of a content with LF. A header that goes straight into text ends there."""
    if content.startswith(b"\n"):
        return b"", content[1:]
    end = content.find(b"\n\n")
    section = content if end < 0 else content[: end + 1]
    if _FIRST_FIELD.match(section):
        return section, b"" if end < 0 else content[end + 2 :]
    return b"", content


_FIRST_FIELD = re.compile(rb">?[!-9;-~]{1,80}[ \t]*:|>?From ")
_EMBEDDED = frozenset(("message/rfc822", "message/global", "message/news", "message/partial"))


def _read(content: bytes, depth: int, default: str, left: list[int]) -> Part:
    left[0] -= 1
    part = Part(content, depth, default)
    if depth >= MAX_DEPTH or left[0] <= 0:
        return part
    if part.type.startswith("multipart/"):
        inner = "message/rfc822" if part.type == "multipart/digest" else "text/plain"
        for piece in _pieces(part):
            if left[0] <= 0:
                break
            part.parts.append(_read(piece, depth + 1, inner, left))
    elif part.type in _EMBEDDED:
        part.parts.append(_read(part.data.lstrip(b"\n"), depth + 1, "text/plain", left))
    return part


def _pieces(part: Part) -> Iterator[bytes]:
    """The contents between delimiter lines (RFC 2046 5.1.1), the preamble left out."""
    body = part.body
    boundary = part.parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
    delimiter = b"--" + boundary
    if not boundary or not (body.startswith(delimiter) or b"\n" + delimiter in body):
        match = _DELIMITER.search(body, 0, 64 << 10)
        if match is None:
            return
        delimiter = b"--" + match[1]
    at = 0 if body.startswith(delimiter) else body.find(b"\n" + delimiter) + 1
    for _ in range(MAX_PARTS):
        line_end = body.find(b"\n", at)
        if line_end < 0 or body.startswith(b"--", at + len(delimiter)):
            return
        after = body.find(b"\n" + delimiter, line_end)
        yield body[line_end + 1 : after if after >= 0 else len(body)]
        if after < 0:
            return
        at = after + 1
