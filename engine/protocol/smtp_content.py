"""Message content on its way to a server: lines that end in CRLF and nothing else, dots stuffed (RFC 5321 4.5.2).

Whatever is handed in comes out framed: a bare CR or LF becomes a CRLF and the last line is ended, so that no
content can end the data early or smuggle a command past a server that reads line ends in its own way. The spool
holds pure CRLF already; that is found out in a few scans, and it goes out as it is.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import Final

#: Contents up to this size go out in one write, with the envelope where the server offers CHUNKING.
WHOLE_BYTES: Final = 64 << 10
#: Larger ones go out in slices of this size; each is a BDAT chunk.
SLICE_BYTES: Final = 256 << 10

_BARE_CR: Final = re.compile(rb"\r[^\n]").search
_DOT_LINE: Final = b"\r\n."
#: The same, in half the time.
_LEADING_DOT: Final = re.compile(rb"\r\n\.").search


def is_framed(data: bytes) -> bool:
    """Every CR is followed by LF and every LF follows a CR."""
    # Framed is what comes out the same when its lines are ended anew: 2 us for 4 KiB, where looking for each fault
    # takes 7 and a pattern for both 75. Makes two copies.
    return data.replace(b"\r", b"").replace(b"\n", b"\r\n") == data


def is_framed_between(data: bytes, start: int, end: int) -> bool:
    """`is_framed`, of a part of a large content, without a copy."""
    # No CR without LF, and as many of one as of the other: no LF without CR either.
    return (
        data.count(b"\r", start, end) == data.count(b"\n", start, end)
        and _BARE_CR(data, start, end) is None
        and not data.endswith(b"\r", start, end)
    )


def needs_nothing(data: bytes) -> bool:
    """Framed, its last line ended, and no line begins with a dot: goes out as it is, stuffed or not."""
    return is_framed(data) and _LEADING_DOT(data) is None and data.endswith(b"\r\n") and not data.startswith(b".")


def reframed(data: bytes) -> bytes:
    """Every CRLF, bare CR and bare LF as CRLF."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


class Reframer:
    """The same for a content that comes in pieces: no piece it gives ends inside a CRLF."""

    __slots__ = ("_cr", "_in_line")

    def __init__(self) -> None:
        self._cr = False  #: a CR at the end of the last piece waits for what follows it
        self._in_line = False

    def feed(self, data: bytes) -> bytes:
        if self._cr:
            data = b"\r" + data
        self._cr = data.endswith(b"\r")
        if self._cr:
            data = data[:-1]
        if not is_framed(data):
            data = reframed(data)
        if data:
            self._in_line = not data.endswith(b"\r\n")
        return data

    def end(self) -> bytes:
        """What is missing after the last piece: the end of its last line, or nothing."""
        unended, self._cr, self._in_line = self._cr or self._in_line, False, False
        return b"\r\n" if unended else b""


class Content:
    """A prefix of header fields and a content, given out once, as one piece or in slices.

    size: bytes before stuffing, for SIZE=. stuffed: for DATA; else for BDAT.
    """

    __slots__ = ("_data", "_in_line", "_next", "_parts", "_position", "size")

    def __init__(self, prefix: bytes, content: bytes) -> None:
        if prefix and not prefix.endswith(b"\r\n"):
            prefix = reframed(prefix).removesuffix(b"\r\n") + b"\r\n"
        self.size = len(prefix) + len(content)
        if self.size <= WHOLE_BYTES:
            self._parts: tuple[bytes, ...] = (prefix + content if prefix else content,)
        else:
            self._parts = (prefix, content) if prefix else (content,)
        self._data = self._parts[0]
        self._next = 1
        self._position = 0
        self._in_line = False  #: the last piece ended inside a line

    @property
    def small(self) -> bool:
        return self.size <= WHOLE_BYTES

    def whole(self, stuffed: bool) -> bytes:
        """All of a small content, framed; without the final dot."""
        data = self._parts[0]
        if needs_nothing(data):
            return data
        if not is_framed(data):
            data = reframed(data)
        if data and not data.endswith(b"\r\n"):
            data += b"\r\n"
        return dot_stuffed(data) if stuffed else data

    def take(self, stuffed: bool) -> tuple[bytes | memoryview, bool] | None:
        """The next slice, framed, and whether it is the last; None: it is not there yet.

        No copy is made of a slice that needs no change.
        """
        start = self._position
        data = self._data
        end = _cut(data, start)
        self._position = end
        last = end == len(data) and self._next == len(self._parts)
        if end == len(data) and not last:
            self._data, self._position = self._parts[self._next], 0
            self._next += 1
        piece: bytes | memoryview
        if is_framed_between(data, start, end) and not (stuffed and self._needs_stuffing(data, start, end)):
            piece = memoryview(data)[start:end]
        else:
            part = reframed(data[start:end])
            piece = _stuffed(part, self._in_line) if stuffed else part
        self._in_line = end > start and data[end - 1] not in b"\r\n"
        if last and self._in_line:
            piece = bytes(piece) + b"\r\n"
        return piece, last

    def _needs_stuffing(self, data: bytes, start: int, end: int) -> bool:
        at_start = not self._in_line and data[start : start + 1] == b"."
        return at_start or data.find(_DOT_LINE, start, end) >= 0


class StreamedContent(Content):
    """The same for a content that comes in pieces, as they are read.

    waiting: pieces that were fed and not taken. taken: called after each `take` that gave something.
    """

    __slots__ = ("_frame", "_left", "_pieces", "taken")

    def __init__(self, start: bytes, more_bytes: int) -> None:
        """start: prefix and first piece. more_bytes: so much will be fed; at least one."""
        self._frame = Reframer()
        self._in_line = False
        self._left = more_bytes
        self._pieces = deque((start,))
        self.size = len(start) + more_bytes
        self.taken: Callable[[], None] | None = None

    @property
    def small(self) -> bool:
        return False

    @property
    def waiting(self) -> int:
        return len(self._pieces)

    @property
    def complete(self) -> bool:
        """All of it was fed."""
        return self._left <= 0

    def feed(self, data: bytes) -> None:
        self._left -= len(data)
        self._pieces.append(data)

    def take(self, stuffed: bool) -> tuple[bytes | memoryview, bool] | None:
        if not self._pieces:
            return None
        data = self._frame.feed(self._pieces.popleft())
        last = self.complete and not self._pieces
        if last:
            data += self._frame.end()
        piece = _stuffed(data, self._in_line) if stuffed else data
        if data:
            self._in_line = not data.endswith(b"\r\n")
        if self.taken is not None:
            self.taken()
        return piece, last


def _cut(data: bytes, start: int) -> int:
    """Where the slice from start ends: never between a CR and its LF."""
    end = min(start + SLICE_BYTES, len(data))
    if data[end - 1 : end + 1] == b"\r\n":
        end += 1
    return end


def dot_stuffed(data: bytes) -> bytes:
    """Framed content with a dot before each line's own first dot."""
    return _stuffed(data, False)


def _stuffed(data: bytes, in_line: bool) -> bytes:
    if _DOT_LINE in data:
        data = data.replace(_DOT_LINE, b"\r\n..")
    return b"." + data if not in_line and data.startswith(b".") else data
