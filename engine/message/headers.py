"""What admission does to the header of a message, and what it learns from it.

Added: Received on top; Date and Message-ID at the end of the header where they are missing or empty. Removed: Bcc,
Resent-Bcc and Return-Path (RFC 5322 3.6.3, RFC 5321 4.4: not for the receiver's eyes, not ours to make) and
the X-Postrider fields that are for us: Class, Batch, Tenant, Stream and Track. Learned: what these say, the domain of
From.

Duplicates: a second From is refused, because receivers disagree which one they show and which one they check; of Date
and Message-ID the first one stays. What is no header field ends the header, as in Postfix: the rest becomes body.
The body is never looked at, and copied once.

Pure; linear in the size of the header, which the caller limits.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from mypy_extensions import mypyc_attr

from engine.base.errors import EngineError
from engine.message.envelope import MessageClass, Track
from engine.message.header_from import domain_of_from
from engine.protocol import smtp_content

CLASS_FIELD: Final = "X-Postrider-Class"
BATCH_FIELD: Final = "X-Postrider-Batch"
TENANT_FIELD: Final = "X-Postrider-Tenant"
STREAM_FIELD: Final = "X-Postrider-Stream"
TRACK_FIELD: Final = "X-Postrider-Track"
_CLASSES: Final = {b"transactional": MessageClass.TRANSACTIONAL, b"bulk": MessageClass.BULK}

_TRACKS: Final = {track.word.encode(): track for track in Track}

_IS_NAME: Final = re.compile(rb"[!-~]{1,64}").fullmatch

# What a field name means here; the two that are filled in when missing are bits of what was seen.
_OTHER: Final = 0
_DATE: Final = 1
_MESSAGE_ID: Final = 2
_FROM: Final = 4
_RECEIVED: Final = 8
_REMOVE: Final = 16
_MALFORMED: Final = 32
#: These are for us.
_CLASS: Final = 64
_BATCH: Final = 65
_TENANT: Final = 66
_STREAM: Final = 67
_TRACK: Final = 68
_MEANING: Final = {
    b"from": _FROM,
    b"date": _DATE,
    b"message-id": _MESSAGE_ID,
    b"received": _RECEIVED,
    b"bcc": _REMOVE,
    b"resent-bcc": _REMOVE,
    b"return-path": _REMOVE,
    CLASS_FIELD.lower().encode(): _CLASS,
    BATCH_FIELD.lower().encode(): _BATCH,
    TENANT_FIELD.lower().encode(): _TENANT,
    STREAM_FIELD.lower().encode(): _STREAM,
    TRACK_FIELD.lower().encode(): _TRACK,
}
_LONGEST_NAME: Final = 997  # bytes; with its colon a line of 998, the most that RFC 5322 2.1.1 allows
_NAME_BYTES: Final = bytes(range(33, 127)).replace(b":", b"")  # RFC 5322 2.2


@mypyc_attr(native_class=False)
class HeaderError(EngineError):
    """A header that cannot go out. `reply`: "554 5.4.6 ..."; `reason`: a word for the metric."""

    def __init__(self, reason: str, reply: str) -> None:
        super().__init__(reply)
        self.reason = reason
        self.reply = reply


class Asked(NamedTuple):
    """What a message says to us. None, or "": nothing."""

    message_class: MessageClass | None = None
    batch: str = ""
    tenant: str = ""
    stream: str = ""
    track: Track | None = None


_NOTHING: Final = Asked()


class Admitted(NamedTuple):
    """A message ready for the spool.

    utf8_header: there are 8-bit bytes in its header. seven_bit: there are none in the whole message.
    """

    content: bytes
    header_from: str
    utf8_header: bool
    seven_bit: bool
    asked: Asked


def reframe(content: bytes) -> bytes:
    """The content with every line ended by CRLF, whatever ended it: LF, CR, CRLF, or nothing at the very end."""
    if is_framed(content):
        return content
    content = smtp_content.reframed(content)
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def is_framed(content: bytes) -> bool:
    """Whether CR and LF appear only as CRLF, and the content, unless empty, ends with it."""
    return smtp_content.is_framed(content) and (content.endswith(b"\r\n") or not content)


def admit_header(
    content: bytes,
    received: bytes,
    date: bytes,
    message_id: bytes,
    max_bytes: int,
    max_received: int,
    *,
    trusted: bool = True,
) -> Admitted:
    """Do the header work.

    content: framed by CRLF. received, date, message_id: whole fields with their CRLF; the last two go in where the
    message has none. max_bytes: of the header. max_received: fields; more is a loop. trusted: what it says to us
    counts; if not, it is removed unread. Raises HeaderError.
    """
    lines, end = _header_lines(content, max_bytes)
    seen = received_count = 0
    from_at = -1
    asked = _NOTHING
    dropped: list[int] = []
    body_mark = b""
    for index, line in enumerate(lines):
        if line[0] in b" \t" and index:
            continue
        meaning = _meaning_of(line)
        if meaning == _OTHER:
            continue
        if meaning == _RECEIVED:
            received_count += 1
        elif meaning == _MALFORMED:
            end = sum(map(len, lines[:index])) + 2 * index
            del lines[index:]
            body_mark = b"\r\n"
            break
        elif meaning == _FROM:
            if from_at >= 0:
                raise HeaderError("header-duplicate", "550 5.6.0 The message has more than one From field")
            from_at = index
        elif meaning >= _CLASS:
            if trusted:
                asked = _with(asked, meaning, _value(lines, index).strip())
            dropped.append(index)
        elif meaning == _REMOVE or seen & meaning or not _value(lines, index).strip():
            dropped.append(index)  # an empty Date or Message-ID is none
        else:
            seen |= meaning
    if received_count > max_received:
        raise HeaderError("loop", f"554 5.4.6 Too many hops: more than {max_received} Received fields")
    extra = (b"" if seen & _DATE else date) + (b"" if seen & _MESSAGE_ID else message_id) + body_mark
    if dropped or extra:
        head = b"".join(_kept(lines, dropped))
        whole = b"".join((received, head, extra, memoryview(content)[end:]))
    else:
        whole = received + content
    header_from = domain_of_from(_value(lines, from_at)) if from_at >= 0 else ""
    seven_bit = whole.isascii()
    utf8_header = not seven_bit and not content[:end].isascii()
    return Admitted(whole, header_from, utf8_header, seven_bit, asked)


def _header_lines(content: bytes, max_bytes: int) -> tuple[list[bytes], int]:
    """The lines of the header, none empty, and where it ends: at the empty line or the end of the content."""
    if content.startswith(b"\r\n") or not content:
        return [], 0
    end = content.find(b"\r\n\r\n", 0, max_bytes + 2)
    end = end + 2 if end >= 0 else len(content)
    if end > max_bytes:
        first = content[: content.find(b"\r\n")]
        if _meaning_of(first) == _MALFORMED:
            return [first], len(first) + 2  # no header at all, so no limit to it
        raise HeaderError("header-size", f"552 5.3.4 The header is longer than {max_bytes} bytes")
    head = content[: end - 2]
    if b"\0" in head:
        raise HeaderError("header-nul", "550 5.6.0 The header contains a NUL")
    return head.split(b"\r\n"), end


def _meaning_of(line: bytes) -> int:
    """What to do with the field that this line begins."""
    colon = line.find(b":", 0, _LONGEST_NAME + 1)
    return _meaning(line[:colon]) if colon > 0 else _MALFORMED


@lru_cache(maxsize=1024)
def _meaning(name: bytes) -> int:
    """What to do with a field of this name; names repeat from message to message."""
    name = name.rstrip(b" \t")  # allowed before the colon by the obsolete syntax
    if not name or name.translate(None, _NAME_BYTES):
        return _MALFORMED
    return _MEANING.get(name.lower(), _OTHER)


def _value(lines: list[bytes], at: int) -> bytes:
    """The body of the field that starts at `at`, folded."""
    stop = at + 1
    while stop < len(lines) and lines[stop][0] in b" \t":
        stop += 1
    field = b"\r\n".join(lines[at:stop]) if stop > at + 1 else lines[at]
    return field.partition(b":")[2]


def _with(asked: Asked, meaning: int, word: bytes) -> Asked:
    """With what one more field says. Raises HeaderError."""
    if meaning == _CLASS:
        return asked._replace(message_class=_class_of(word.partition(b"\r\n")[0].rstrip()))
    if meaning == _TRACK:
        track = _track_of(word)
        return asked._replace(track=track if asked.track is None else min(track, asked.track))
    if meaning == _BATCH:
        return asked._replace(batch=_name_of(word, BATCH_FIELD, "batch"))
    if meaning == _TENANT:
        return asked._replace(tenant=_name_of(word, TENANT_FIELD, "tenant"))
    return asked._replace(stream=_name_of(word, STREAM_FIELD, "stream"))


def _class_of(word: bytes) -> MessageClass:
    if word.lower() not in _CLASSES:
        raise HeaderError("class", f"550 5.6.0 {CLASS_FIELD} must be transactional or bulk")
    return _CLASSES[word.lower()]


def _track_of(word: bytes) -> Track:
    if word.lower() not in _TRACKS:
        raise HeaderError("track", f"550 5.6.0 {TRACK_FIELD} must be none, anonymous or full")
    return _TRACKS[word.lower()]


def _name_of(word: bytes, field: str, reason: str) -> str:
    if _IS_NAME(word) is None:
        raise HeaderError(reason, f"550 5.6.0 {field} must be 1 to 64 printable ASCII characters without space")
    return word.decode()


def _kept(lines: list[bytes], dropped: list[int]) -> Iterator[bytes]:
    """The lines with their CRLF, without the fields that start at `dropped`."""
    starts = set(dropped)
    dropping = False
    for index, line in enumerate(lines):
        if line[0] not in b" \t" or not index:
            dropping = index in starts
        if not dropping:
            yield line
            yield b"\r\n"
