"""URLs in plain text, as a reader takes them: without what ends the sentence, and without brackets around them."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from engine.message.link_target import MAX_TARGET_BYTES

_URL = re.compile(rb"(?<![A-Za-z0-9])https?://[A-Za-z0-9!#$%&'()*+,\-./:;=?@\[\]_~]+", re.I)
_NOT_OF_URL = b".,;:!?'*_~"
#: Behind a URL: it may go on there, for all one can know.
_GOES_ON = re.compile(rb"[{|}\\^`\x80-\xff]")
_OPENING = {b")": b"(", b"]": b"["}


class TextUrl(NamedTuple):
    """Where a URL stands. behind: where what might have been of it ends. ambiguous: it may go on."""

    start: int
    end: int
    behind: int
    ambiguous: bool


def urls_in(text: bytes) -> Iterator[TextUrl]:
    """In order. text: in any charset that holds ASCII as it is."""
    for match in _URL.finditer(text):
        start, behind = match.span()
        yield TextUrl(start, _end(text, start, behind), behind, _GOES_ON.match(text, behind) is not None)


def _end(text: bytes, start: int, end: int) -> int:
    if end - start > MAX_TARGET_BYTES:
        return end
    #: How many are closed more often than they are opened, as far as that is known.
    excess: dict[bytes, int] = {}
    while end > start:
        last = text[end - 1 : end]
        opening = _OPENING.get(last)
        if opening is not None:
            if last not in excess:
                excess[last] = text.count(last, start, end) - text.count(opening, start, end)
            if excess[last] <= 0:
                break
            excess[last] -= 1
        elif last not in _NOT_OF_URL:
            break
        end -= 1
    return end
