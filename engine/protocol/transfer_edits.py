"""Changes to a text behind its transfer encoding: what is decoded, is changed, and nothing else is.

    7bit, 8bit, binary   the bytes around a change stay as they are
    quoted-printable     so do they here; soft line breaks keep lines within 76 characters
    base64               written anew, as groups shift; each slot has a line of its own

What is put in has slots: places for as many ASCII characters as are said now, which become known later, and again and
again. So the result is bytes with slots between them; in base64 a slot comes with the bytes that share its groups.
"""

import re
from binascii import a2b_base64, b2a_base64
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

#: RFC 5322 2.1.1, without CRLF; RFC 2045 6.7 and 6.8.
MAX_LINE = 998
_MAX_ENCODED_LINE = 76
_MAX_BASE64_BYTES = 57

_QUOTED = re.compile(rb"=(?:([0-9A-Fa-f]{2})|[ \t]*\r\n)")
_BLANKS = b" \t\r\n"


class Slot(NamedTuple):
    """A place for `chars` characters. number: the caller's."""

    number: int
    chars: int


class Block(NamedTuple):
    """A slot whose characters are written in base64, between these bytes; no others share its groups."""

    before: bytes
    slot: Slot
    after: bytes


Piece: TypeAlias = bytes | Slot | Block


class Edit(NamedTuple):
    """Offsets in the decoded text, and what comes in place of what lies between them. Of one text: in order, apart.

    Before each slot there are two bytes or more of the same edit. CRLF: a line end.
    """

    start: int
    end: int
    put: tuple[bytes | Slot, ...]


class PlainText:
    """A text without an encoding."""

    def __init__(self, raw: bytes) -> None:
        self.data = raw

    def too_long(self, edits: Sequence[Edit]) -> set[int]:
        """Indexes of those that would make a line longer than MAX_LINE; of such a line the longest."""
        lines: dict[int, list[int]] = {}
        for index, edit in enumerate(edits):
            if edit.put[0] != b"\r\n":
                lines.setdefault(self.data.rfind(b"\n", 0, edit.start) + 1, []).append(index)
        refused: set[int] = set()
        for start, indexes in lines.items():
            end = self.data.find(b"\r\n", edits[indexes[-1]].end)
            length = (end if end >= 0 else len(self.data)) - start
            room = MAX_LINE - length
            if room < 0:
                continue  # it is too long as it is
            for index in sorted(indexes, key=lambda index: _width(edits[index])):
                room -= _width(edits[index])
                if room < 0:
                    refused.add(index)
        return refused

    def edited(self, edits: Sequence[Edit]) -> list[Piece]:
        return list(_applied(self.data, edits))


class QuotedText:
    """A quoted-printable one. Where an escape is none it stands for itself."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        #: Where each run of bytes begins that are written one for one, and each escape: decoded, and as it is written.
        self._decoded: list[int] = []
        self._written: list[int] = []
        parts: list[bytes] = []
        at = decoded = 0
        for match in _QUOTED.finditer(raw):
            if match.start() > at:
                self._run(decoded, at)
                parts.append(raw[at : match.start()])
                decoded += match.start() - at
            if match[1]:
                self._run(decoded, match.start())
                parts.append(bytes((int(match[1], 16),)))
                decoded += 1
            at = match.end()
        if at < len(raw):
            self._run(decoded, at)
            parts.append(raw[at:])
        self.data = b"".join(parts)

    def _run(self, decoded: int, written: int) -> None:
        self._decoded.append(decoded)
        self._written.append(written)

    def too_long(self, edits: Sequence[Edit]) -> set[int]:
        """None."""
        return set()

    def edited(self, edits: Sequence[Edit]) -> list[Piece]:
        out = _QuotedWriter()
        at = 0
        places = [self._place(edit) for edit in edits]
        for index, (edit, (start, end)) in enumerate(zip(edits, places, strict=True)):
            out.keep(self._raw[at:start])
            for put in edit.put:
                out.put(put)
            at = end
            line_end = self._raw.find(b"\r\n", end)
            stop = line_end if line_end >= 0 else len(self._raw)
            # What is left of the line, or one more than what is left of it until the next change.
            room = min(stop, places[index + 1][0] + 1) if index + 1 < len(places) else stop
            if out.column + room - end > _MAX_ENCODED_LINE:
                out.soft_break()
        out.keep(self._raw[at:])
        return out.pieces

    def _place(self, edit: Edit) -> tuple[int, int]:
        """Where the text of an edit is written: without soft breaks before and behind it."""
        start = self._at(edit.start) if edit.start < len(self.data) else len(self._raw)
        if edit.end == edit.start:
            return start, start
        last = self._at(edit.end - 1)
        return start, last + (3 if self._is_escape(last) else 1)

    def _at(self, offset: int) -> int:
        run = bisect_right(self._decoded, offset) - 1
        return self._written[run] + offset - self._decoded[run]

    def _is_escape(self, written: int) -> bool:
        match = _QUOTED.match(self._raw, written)
        return match is not None and match[1] is not None


class _QuotedWriter:
    """Pieces of quoted-printable, and how long the last line is."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.column = 0

    def keep(self, written: bytes) -> None:
        self.pieces.append(written)
        end = written.rfind(b"\n")
        self.column = len(written) - end - 1 if end >= 0 else self.column + len(written)

    def soft_break(self) -> None:
        self.pieces.append(b"=\r\n")
        self.column = 0

    def put(self, what: bytes | Slot) -> None:
        """Slots are whole; text is broken where it must be. One column is kept for the sign of a soft break."""
        if isinstance(what, Slot):
            self._make_room(what.chars)
            self.pieces.append(what)
            self.column += what.chars
        elif what == b"\r\n":
            self.keep(what)
        else:
            for byte in what:
                written = b"=%02X" % byte if byte == 0x3D or not 32 <= byte < 127 else bytes((byte,))
                self._make_room(len(written))
                self.pieces.append(written)
                self.column += len(written)

    def _make_room(self, chars: int) -> None:
        if self.column and self.column + chars >= _MAX_ENCODED_LINE:
            self.soft_break()


class Base64Text:
    """A text in base64."""

    def __init__(self, raw: bytes) -> None:
        """Raises ValueError: that is no base64, or there is something behind it."""
        written = raw.translate(None, _BLANKS)
        self.data = a2b_base64(written, strict_mode=True)
        stripped = raw.strip(_BLANKS)
        at = raw.find(stripped)
        self._before, self._after = raw[:at], raw[at + len(stripped) :]

    def too_long(self, edits: Sequence[Edit]) -> set[int]:
        """None."""
        return set()

    def edited(self, edits: Sequence[Edit]) -> list[Piece]:
        pieces: list[Piece] = [self._before]
        waiting, slot = b"", None
        for each in _merged(_applied(self.data, edits)):
            if isinstance(each, Slot):
                whole = len(waiting) // 3 * 3
                pieces.append(_lines(waiting[:whole]))
                waiting, slot = waiting[whole:], each
                continue
            if slot is None:
                waiting += each
                continue
            lacking = -(len(waiting) + slot.chars) % 3
            pieces += (Block(waiting, slot, each[:lacking]), b"\r\n")
            waiting, slot = each[lacking:], None
        pieces.append(_lines(waiting) if slot is None else Block(waiting, slot, b""))
        last = pieces[-1]
        if isinstance(last, bytes):
            pieces[-1] = last.removesuffix(b"\r\n")
            if not last and pieces[-2] == b"\r\n":
                del pieces[-2]
        pieces.append(self._after)
        return pieces


def _applied(data: bytes, edits: Sequence[Edit]) -> list[bytes | Slot]:
    pieces: list[bytes | Slot] = []
    at = 0
    for edit in edits:
        pieces += (data[at : edit.start], *edit.put)
        at = edit.end
    pieces.append(data[at:])
    return pieces


def _merged(pieces: Sequence[bytes | Slot]) -> list[bytes | Slot]:
    """The same with no two texts side by side."""
    merged: list[bytes | Slot] = []
    texts: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, Slot):
            merged += (b"".join(texts), piece)
            texts = []
        else:
            texts.append(piece)
    return [*merged, b"".join(texts)]


def _lines(data: bytes) -> bytes:
    """Base64, each line ended."""
    return b"".join(
        b2a_base64(data[at : at + _MAX_BASE64_BYTES], newline=False) + b"\r\n"
        for at in range(0, len(data), _MAX_BASE64_BYTES)
    )


def _width(edit: Edit) -> int:
    """By how much an edit makes its line longer."""
    put = sum(each.chars if isinstance(each, Slot) else len(each) for each in edit.put)
    return put - (edit.end - edit.start)
