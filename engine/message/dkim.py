"""DKIM: what is hashed and what is written, relaxed/relaxed (RFC 6376, RFC 8463).

`prepare` reads a content once: the canonical form of the fields to sign and the hash of the body. Any number of
keys then sign it: `request` says what bytes a key must sign, `finish` writes the field around its signature.
Between the two stands the private-key operation, which is the caller's (in a thread, see delivery/signer.py).

Every name of SIGNED is in h= once more than the message has it, so that nobody adds another From or Subject to a
signed message; l= is never written, so that nobody adds to the body. Contents are CRLF lines without dot-stuffing,
as on disk; a missing last CRLF is supplied as the transport will.
"""

import base64
import hashlib
from typing import NamedTuple

from engine.message.content import Content, LargeContent, head_of

#: What is signed and over-signed, in the order of h= (reference: mail.md, DKIM).
SIGNED = (
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "reply-to",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-id",
    "feedback-id",
)
#: Also with the one blank that may stand before the colon once runs of blanks are one space.
_POSITION = {name.encode() + blank: position for position, name in enumerate(SIGNED) for blank in (b"", b" ")}
_PREFIX = tuple(name.encode() + b":" for name in SIGNED)

#: Bodies above this are hashed in pieces: no copy of 25 MiB, and no C call long enough to stall the other threads.
_PIECE = 64 << 10

#: RFC 5322 2.1.1 wants lines of at most 78 characters.
_WIDTH = 77


class Prepared(NamedTuple):
    """A content, ready for any key. fields: canonical, in the order of h=. counts: how often each of SIGNED occurs."""

    fields: bytes
    counts: tuple[int, ...]
    body_hash: bytes  #: base64 of SHA-256


class Request(NamedTuple):
    """What one key must sign (`data`) and the field up to `b=`, which `finish` completes."""

    field: bytes
    data: bytes


def _one_space(text: bytes) -> bytes:
    """Each run of spaces and tabs as one space.

    Two scans when there is nothing to do. Otherwise replace() by falling widths: a regex or a split at spaces costs
    two to four times as much, and the widths keep a long run (indented HTML) from taking a pass per halving.
    """
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    if b"  " in text:
        text = text.replace(b" " * 8, b" ").replace(b" " * 4, b" ")
        while b"  " in text:
            text = text.replace(b"  ", b" ")
    return text


def _relaxed_lines(text: bytes) -> bytes:
    """Whole lines, each ended by CRLF: runs of blanks as one space, none before CRLF."""
    text = _one_space(text)
    return text.replace(b" \r\n", b"\r\n") if b" \r\n" in text else text


def relaxed_body(body: bytes) -> bytes:
    """The canonical body (RFC 6376 3.4.4): empty, or text that ends in exactly one CRLF."""
    if not body.endswith(b"\r\n"):
        body += b"\r\n"
    body = _relaxed_lines(body).rstrip(b"\r\n")
    return body + b"\r\n" if body else b""


def body_hash(body: bytes, piece_bytes: int = _PIECE) -> bytes:
    """Base64 of the SHA-256 of the canonical body: the value of bh=. Larger bodies than piece_bytes go in pieces."""
    if len(body) <= piece_bytes:
        return base64.b64encode(hashlib.sha256(relaxed_body(body)).digest())
    hashed = BodyHash()
    for start in range(0, len(body), piece_bytes):
        hashed.update(body[start : start + piece_bytes])
    return hashed.result()


class BodyHash:
    """The same of a body that comes in pieces, wherever they are cut. Lines end in CRLF."""

    __slots__ = ("_blank_lines", "_digest", "_empty", "_held")

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._held = b""  # at most a space and a CR: what follows decides what becomes of them
        self._blank_lines = 0  # line ends that count only if text follows
        self._empty = True

    def update(self, piece: bytes) -> None:
        piece = _relaxed_lines(self._held + piece)
        text = piece.rstrip(b" \r\n")
        tail = piece[len(text) :]
        if text:
            if self._blank_lines:
                self._end_lines()
            self._digest.update(text)
            self._empty = False
        self._blank_lines += tail.count(b"\r\n")
        self._held = tail[tail.rfind(b"\n") + 1 :]

    def _end_lines(self) -> None:
        lines, self._blank_lines = self._blank_lines, 0
        while lines > 0:  # a body may be 25 MiB of empty lines
            self._digest.update(b"\r\n" * min(lines, _PIECE))
            lines -= _PIECE

    def result(self) -> bytes:
        """Base64, as `body_hash`; no more pieces come."""
        if not self._empty:
            self._digest.update(b"\r\n")
        return base64.b64encode(self._digest.digest())


def relaxed_field(field: bytes) -> bytes:
    """The canonical form of one header field, with CRLF (RFC 6376 3.4.2). field: as in the message, maybe folded."""
    name, _, value = _one_space(_unfold(field).replace(b"\r\n", b"")).partition(b":")
    return name.strip(b" ").lower() + b":" + value.strip(b" ") + b"\r\n"


def _unfold(header: bytes) -> bytes:
    if b"\r\n " in header:
        header = header.replace(b"\r\n ", b" ")
    if b"\r\n\t" in header:
        header = header.replace(b"\r\n\t", b" ")
    return header


def split_content(content: bytes) -> tuple[bytes, bytes]:
    """Header block (ending in CRLF, or empty) and body. No blank line: all of it is header."""
    if content.startswith(b"\r\n"):
        return b"", content[2:]
    end = content.find(b"\r\n\r\n")
    if end >= 0:
        return content[: end + 2], content[end + 4 :]
    return (content if content.endswith(b"\r\n") else content + b"\r\n"), b""


def prepare(content: Content) -> Prepared:
    """Canonical fields and body hash of a content. Lines that are no fields are passed over.

    Raises StorageError: the file of a large content cannot be read, which blocks.
    """
    header, body = split_content(head_of(content))
    found: list[list[bytes]] = [[] for _ in SIGNED]
    position_of = _POSITION.get
    for line in _one_space(_unfold(header)).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        position = position_of(name.lower())
        if position is not None and colon:
            found[position].append(_PREFIX[position] + value.strip(b" "))
    fields: list[bytes] = []
    for values in found:
        # RFC 6376 5.4.2: of several fields of a name, the last one is taken first.
        fields += values if len(values) < 2 else reversed(values)
    fields.append(b"")
    hashed = body_hash(body) if isinstance(content, bytes) else _streamed_hash(body, content)
    return Prepared(b"\r\n".join(fields), tuple(map(len, found)), hashed)


def _streamed_hash(start: bytes, content: LargeContent) -> bytes:
    """The body hash of a large content, of whose body `start` is in its head."""
    hashed = BodyHash()
    hashed.update(start)
    for data in content.rest():
        for at in range(0, len(data), _PIECE):
            hashed.update(data[at : at + _PIECE])
    return hashed.result()


def _fold(tokens: list[str]) -> str:
    """Tokens as header lines of less than 78 characters; one may begin a line wherever a token begins with a space."""
    lines, line = [], ""
    for token in tokens:
        if line and len(line) + len(token) > _WIDTH:
            lines.append(line)
            line = " " + token.lstrip(" ")
        else:
            line += token
    return "\r\n".join([*lines, line])


class FieldWriter:
    """Writes the DKIM-Signature fields of one domain, selector and algorithm.

    The part up to t= depends only on which fields a message has; it is kept for the few shapes that occur.
    """

    __slots__ = ("_shapes", "_tags")
    _SHAPES = 64  #: bound of the cache; a message's counts are chosen by who sends it

    def __init__(self, domain: str, selector: str, algorithm: str) -> None:
        """domain, selector: ASCII. algorithm: `rsa-sha256` or `ed25519-sha256`."""
        self._tags = ["v=1;", f" a={algorithm};", " c=relaxed/relaxed;", f" d={domain};", f" s={selector};"]
        self._shapes: dict[tuple[int, ...], tuple[bytes, bytes]] = {}

    def request(self, prepared: Prepared, time: int, expire: int | None = None) -> Request:
        """The data to sign for this content. time, expire: unix seconds (t=, x=)."""
        shape = self._shapes.get(prepared.counts) or self._shape(prepared.counts)
        life = b"%d" % time if expire is None else b"%d; x=%d" % (time, expire)
        # Each fold of the field is CRLF and one space, so that its canonical form is the same text without CRLF.
        return Request(
            b"%b%b; bh=%b;\r\n b=" % (shape[0], life, prepared.body_hash),
            b"%b%b%b; bh=%b; b=" % (prepared.fields, shape[1], life, prepared.body_hash),
        )

    def _shape(self, counts: tuple[int, ...]) -> tuple[bytes, bytes]:
        names = [f"{name}:" for name, count in zip(SIGNED, counts, strict=True) for _ in range(count + 1)]
        names[-1] = names[-1].replace(":", ";")
        names[0] = f" h={names[0]}"
        field = (_fold(["DKIM-Signature:", *(f" {tag.strip()}" for tag in self._tags), *names]) + "\r\n t=").encode()
        canonical = field.replace(b"\r\n", b"").replace(b"DKIM-Signature: ", b"dkim-signature:", 1)
        if sum(counts) <= 4 * len(SIGNED):
            if len(self._shapes) >= self._SHAPES:
                self._shapes.clear()
            self._shapes[counts] = field, canonical
        return field, canonical


def finish(field: bytes, signature: bytes) -> bytes:
    """The whole header field, with its last CRLF. field: of the Request. signature: as the key made it."""
    text = base64.b64encode(signature)
    if len(text) <= _WIDTH - 3:
        return field + text + b"\r\n"
    lines = [text[at : at + _WIDTH - 1] for at in range(_WIDTH - 3, len(text), _WIDTH - 1)]
    return field + text[: _WIDTH - 3] + b"\r\n " + b"\r\n ".join(lines) + b"\r\n"
