"""Replies of an SMTP server: bytes in, `Reply` values out (RFC 5321 4.2).

P1: any bytes give replies or a ProtocolError.  P2: how they are cut into chunks does not matter, which is why the
parser is asked for one reply at a time: those before the fault are given out before it is raised.

Lenient where servers in the field are: a bare LF ends a line, the text may be missing, 8-bit, or full of control
characters (escaped in `Reply.text`, so that a log or a DSN may quote it). Strict where leniency hides trouble: the
code is 200..599 and the same on every line, what follows it is a space, a hyphen or nothing (Postfix is as strict;
with pipelining, skipping garbage would give one command the reply of another).
"""

import re
from typing import Final

from engine.base.errors import ProtocolError

#: RFC 5321 4.5.3.1.5 says 512; Postfix takes 2,048. Doubled once more: text of some filters is longer.
MAX_LINE_BYTES: Final = 4096
#: All lines of one reply together. The longest honest ones, of EHLO, have 30 lines.
MAX_REPLY_BYTES: Final = 64 << 10

_CODES: Final = {b"%d" % code: code for code in range(200, 600)}
_LAST_LINE: Final = {b"%d " % code: code for code in range(200, 600)}
_CR: Final = 13
_ENHANCED: Final = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}(?=[ \t]|$)")


class Reply:
    """One reply. code: 200..599. lines: what follows code and separator on each line, without line ends, raw."""

    __slots__ = ("code", "lines")

    def __init__(self, code: int, lines: tuple[bytes, ...]) -> None:
        self.code = code
        self.lines = lines

    @property
    def enhanced(self) -> str:
        """The enhanced code (RFC 2034), as "5.1.1"; "" where there is none or its class contradicts the code."""
        for line in self.lines:  # each should have it, but some servers say it on the last alone
            match = _ENHANCED.match(line)
            if match is not None and line[0] - 48 == self.code // 100:
                return match[0].decode("ascii")
        return ""

    @property
    def text(self) -> str:
        """The words in one printable line. An enhanced code repeated on each line is kept once (RFC 2034 4)."""
        raw = self.lines[0]
        if len(self.lines) > 1:
            raw = self._joined()
        text = raw.decode("utf-8", "backslashreplace")
        return text if text.isprintable() else "".join(map(_escape, text))

    def _joined(self) -> bytes:
        enhanced = _ENHANCED.match(self.lines[0])
        again = enhanced[0] if enhanced else b""
        rest = (line.removeprefix(again).strip() for line in self.lines[1:])
        return b" ".join((self.lines[0].rstrip(), *filter(None, rest)))

    def __str__(self) -> str:
        """As logs and DSNs quote it: `550 5.1.1 no such user`."""
        return f"{self.code} {self.text}".rstrip()

    def __repr__(self) -> str:
        return f"Reply({self.code}, {self.lines!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reply) and self.code == other.code and self.lines == other.lines

    def __hash__(self) -> int:
        return hash((self.code, self.lines))


def _escape(char: str) -> str:
    """A tab is a space; what a terminal or a line format could act on is written as an escape."""
    if char == "\t":
        return " "
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


class ReplyParser:
    """Cuts a stream into replies. `feed` bytes, then call `next_reply` until it gives None.

    After a ProtocolError every further call raises it again: what follows a fault has no meaning.
    """

    __slots__ = ("_buffer", "_code", "_fault", "_lines", "_reply_bytes", "_start")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0
        self._code = b""
        self._lines: list[bytes] = []
        self._reply_bytes = 0
        self._fault: ProtocolError | None = None

    @property
    def idle(self) -> bool:
        """Nothing begun: no byte of a further reply has come."""
        return self._start == len(self._buffer) and not self._lines

    def feed(self, data: bytes) -> None:
        """More bytes. Holds at most one line's limit and this chunk once `next_reply` gave None."""
        if self._fault is not None:
            return
        self._buffer = self._buffer[self._start :] + data if self._start < len(self._buffer) else data
        self._start = 0

    def next_reply(self) -> Reply | None:
        """The next complete reply, or None until more is fed. Raises ProtocolError."""
        buffer = self._buffer
        while True:
            start = self._start
            end = buffer.find(b"\n", start)
            number = _LAST_LINE.get(buffer[start : start + 4])
            if number is not None and start < end <= start + MAX_LINE_BYTES and not self._lines:
                # What nearly all replies are, without another look.
                self._start = end + 1
                return Reply(number, (buffer[start + 4 : end - 1 if buffer[end - 1] == _CR else end],))
            if (end if end >= 0 else len(buffer)) - start > MAX_LINE_BYTES:
                raise self._failed(f"a reply line of more than {MAX_LINE_BYTES} bytes")
            if end < 0:
                if self._fault is not None:
                    raise self._fault
                return None
            self._start = end + 1
            code = buffer[start : start + 3]
            stop = end - 1 if end > start and buffer[end - 1] == _CR else end
            separator = buffer[start + 3 : start + 4] if stop > start + 3 else b""
            number = _CODES.get(code)
            if number is None or separator not in (b" ", b"-", b""):
                raise self._failed(f"not a reply: {_excerpt(buffer[start:stop])}")
            self._continue(code, buffer[start + 4 : stop])
            if separator != b"-":
                reply = Reply(number, tuple(self._lines))
                self._lines.clear()
                self._reply_bytes = 0
                return reply

    def _failed(self, why: str) -> ProtocolError:
        """Remember the fault; there is nothing after it."""
        self._fault = ProtocolError(why)
        self._buffer = b""
        self._start = 0
        return self._fault

    def _continue(self, code: bytes, text: bytes) -> None:
        """One more line of a multi-line reply."""
        if self._lines and code != self._code:
            raise self._failed(f"codes {self._code.decode()} and {code.decode()} in one reply")
        self._code = code
        self._lines.append(text)
        self._reply_bytes += len(text) + 6
        if self._reply_bytes > MAX_REPLY_BYTES:
            raise self._failed(f"a reply of more than {MAX_REPLY_BYTES} bytes")


def _excerpt(line: bytes) -> str:
    """The start of a line, fit for a log."""
    text = line[:60].decode("ascii", "backslashreplace")
    return repr(text)
