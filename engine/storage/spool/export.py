"""The stream that carries a backlog from one node to another. Sans I/O: bytes out, bytes in.

Frames as in frame.py, all with the salt "PsEx"; their numbers count from 0 up. The first field of each header is the
version of the stream.

    STREAM     [version, owner of the node's first spool, unix seconds, scope]
    EXPORTED   [version, envelope, [[delivery number, snapshot]]]               body: the whole content
    END        [version, how many deliveries, SHA-256 of every byte before this frame]

One EXPORTED frame for each message of each of the node's spools, with all its deliveries there that are in the scope:
they share its content, as they do in a spool. Recipients of others are blanks in its envelope, and positions stay.
Message id and delivery number together name a delivery, on whichever node it is. A stream without its END was cut
short. In version 1 each delivery had a frame, and its content, of its own.

P1  any bytes give messages or a StreamError, nothing else.   P2  how they are cut into chunks does not matter.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from engine.base.errors import EngineError
from engine.message.address import has_controls
from engine.message.envelope import Envelope, MessageClass, Notify
from engine.message.headers import is_framed
from engine.message.ids import is_id
from engine.storage.spool.entry import Snapshot
from engine.storage.spool.frame import PREFIX_BYTES, Frame, FrameType, decode, encode, frame_bytes
from engine.storage.spool.keys import Key
from engine.storage.spool.records import decode_envelope, encode_envelope, recipients_of

STREAM_VERSION = 2
SALT = int.from_bytes(b"PsEx", "little")
#: Far above what any setting of a node allows for a message; a stream that says more is no stream of ours.
_MAX_FRAME_BYTES = 1 << 30
_LAST_NUMBER = 0xFFFF
#: The year 10000, which no date can be written of.
_LAST_SECOND = 253_402_300_800

_Checked = tuple[str, tuple[int, ...], float, int, tuple[int, ...], int, str]


class StreamError(EngineError):
    """Bytes that are no stream, or not a whole one."""


class Exported(NamedTuple):
    """One message of a stream. deliveries: by number. Recipients of others are blanks in its envelope."""

    envelope: Envelope
    deliveries: Mapping[int, Snapshot]
    content: bytes

    @property
    def keys(self) -> set[Key]:
        """The names of its deliveries."""
        return {(self.envelope.id, number) for number in self.deliveries}

    @property
    def recipients(self) -> set[int]:
        """Of all its deliveries, as positions in the envelope."""
        return recipients_of(self.deliveries)


class StreamWriter:
    """Makes a stream: `begin`, `add` for each message, `end`. Each gives bytes to be written in this order.

    count: deliveries so far.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._next = 1
        self.count = 0

    def begin(self, owner: str, at: float, scope: str) -> bytes:
        return self._counted(encode(SALT, FrameType.STREAM, 0, [STREAM_VERSION, owner, at, scope]))

    def add(self, message: Exported) -> tuple[bytes, bytes]:
        envelope, deliveries, content = message
        header = [STREAM_VERSION, encode_envelope(envelope), list(deliveries.items())]
        head = self._counted(encode(SALT, FrameType.EXPORTED, self._next, header, content))
        self._next += 1
        self.count += len(deliveries)
        return head, self._counted(content)

    def end(self) -> bytes:
        header = [STREAM_VERSION, self.count, self._digest.digest()]
        return encode(SALT, FrameType.END, self._next, header)

    def _counted(self, data: bytes) -> bytes:
        self._digest.update(data)
        return data


class StreamReader:
    """Takes a stream apart: `feed` it the bytes in order, then `end`. After an error it is not used again.

    owner, scope, at: as the first frame says. count: deliveries so far. whole: the END was there and agreed.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = PREFIX_BYTES
        self._digest = hashlib.sha256()
        self._next = 0
        self._at_byte = 0
        self.owner = self.scope = ""
        self.at = 0.0
        self.count = 0
        self.whole = False

    def feed(self, data: bytes) -> Iterator[Exported]:
        """The messages that are whole with these bytes. Raises StreamError."""
        self._pieces.append(data)
        self._have += len(data)
        if self._have < self._need:
            return
        view = memoryview(b"".join(self._pieces))
        start = 0
        while len(view) - start >= PREFIX_BYTES:
            length = frame_bytes(view[start:], SALT)
            if length is None or length > _MAX_FRAME_BYTES:
                raise self._error("is no frame")
            if len(view) - start < length:
                break
            frame = decode(view[: start + length], start, SALT)
            if frame is None:
                raise self._error("is a damaged frame")
            exported = self._frame(frame)
            if frame.type != FrameType.END:
                self._digest.update(view[start : start + length])
            start += length
            self._at_byte += length
            if exported is not None:
                yield exported
        left = len(view) - start
        self._need = PREFIX_BYTES if left < PREFIX_BYTES else (frame_bytes(view[start:], SALT) or 0)
        self._pieces = [bytes(view[start:])]
        self._have = left

    def end(self) -> None:
        """There are no more bytes. Raises StreamError: there should be."""
        if not self._next:
            raise StreamError("this is no export of a spool: it is too short to be one")
        if not self.whole or self._have:
            what = "follows its end" if self.whole else f"is missing: it was cut short after {self.count} deliveries"
            raise self._error(what)

    def _frame(self, frame: Frame) -> Exported | None:
        header = frame.header
        if frame.number != self._next or self.whole or (frame.type == FrameType.STREAM) != (frame.number == 0):
            raise self._error("is out of order")
        self._next += 1
        if header[:1] != [STREAM_VERSION]:
            raise self._error(f"is of version {str(header[:1])[1:-1]}, which this program does not know")
        try:
            if frame.type == FrameType.STREAM:
                self.owner, self.at, self.scope = msgspec.convert(header[1:], tuple[str, float, str])
            elif frame.type == FrameType.EXPORTED:
                exported = _message(header, bytes(frame.body))
                self.count += len(exported.deliveries)
                return exported
            elif frame.type == FrameType.END:
                if header[1:] != [self.count, self._digest.digest()]:
                    raise ValueError("count and checksum are not those of what came before")
                self.whole = True
            else:
                raise ValueError(f"frames of type {frame.type} do not belong here")
        except (ValueError, TypeError, OverflowError, msgspec.DecodeError) as exc:
            raise self._error(f"cannot be: {exc}") from exc
        return None

    def _error(self, what: str) -> StreamError:
        if not self._at_byte and not self._next:
            return StreamError(f"this is no export of a spool: what is at its beginning {what}")
        return StreamError(f"the stream: what is at byte {self._at_byte} {what}")


def _message(header: list[Any], content: bytes) -> Exported:
    """A message whose deliveries the queue can take without a second look. Raises ValueError and others: it is none."""
    _, packed, raw = header
    envelope = decode_envelope(packed)
    pairs = msgspec.convert(raw, tuple[tuple[int, _Checked], ...])
    for number, snapshot in pairs:
        _check_delivery(envelope, number, snapshot)
    message = Exported(envelope, {number: list(snapshot) for number, snapshot in pairs}, content)
    _check(envelope.id, {
        "its id": is_id(envelope.id),
        "its class": envelope.message_class in MessageClass.__members__.values(),
        "its times": all(0 <= at < _LAST_SECOND for at in (envelope.received_at, envelope.expires_at)),
        "its addresses": _is_plain(envelope),
        "its deliveries": 0 < len(pairs) == len(message.deliveries),
        "its recipients": len(message.recipients) == sum(len(snapshot[1]) for _, snapshot in pairs),
        "its content": envelope.content_bytes == len(content) and is_framed(content),
    })  # fmt: skip
    return message


def _check_delivery(envelope: Envelope, number: int, snapshot: _Checked) -> None:
    destination, indexes, due_at, attempts, unknowns, notices, _ = snapshot
    _check(envelope.id, {
        "its number": 0 <= number <= _LAST_NUMBER,
        "its destination": bool(destination) and not has_controls(destination),
        "its times": 0 <= due_at < _LAST_SECOND,
        "its counts": 0 <= attempts < 1 << 31 and 0 <= notices <= 0xFF,
        "its recipients": _are_recipients(envelope, indexes) and set(unknowns) <= set(indexes),
    })  # fmt: skip


def _check(message_id: str, rules: Mapping[str, bool]) -> None:
    for what, holds in rules.items():
        if not holds:
            raise ValueError(f"{what} ({message_id})")


def _are_recipients(envelope: Envelope, indexes: tuple[int, ...]) -> bool:
    distinct = set(indexes)
    return bool(distinct) and len(distinct) == len(indexes) and min(distinct) >= 0 and (
        max(distinct) < len(envelope.recipients) and all(envelope.recipients[index].address for index in distinct)
    )  # fmt: skip


def _is_plain(envelope: Envelope) -> bool:
    """What goes out in MAIL and RCPT is what intake would have let in."""
    addresses = [envelope.sender, *(recipient.address for recipient in envelope.recipients)]
    return (
        envelope.body in ("7BIT", "8BITMIME", "BINARYMIME")
        and envelope.ret in ("", "FULL", "HDRS")
        and all(0 <= recipient.notify < 2 * max(Notify) for recipient in envelope.recipients)
        and not any(map(has_controls, addresses))
    )
