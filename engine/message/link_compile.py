"""A body with tracked links, compiled: what is the same for all recipients once, and for each one a join of strings.

Of a text part the values of href change (of plain text, where asked for, the URLs) and nothing else; a picture of one
pixel and a hidden link go before </body>, where asked for, unless markup that never ends would swallow them. What
cannot be changed safely is left as it is, and `found` says why.

    compile_body(header, body, marks) -> Compiled        once for each body
    compiled.body(tokens)                                for each recipient
"""

import re
from binascii import b2a_base64
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from engine.message.leaving_links import MOST_LINE, line_says_so, same_place, says_so, text_says_so
from engine.message.link_target import Target, target_of
from engine.message.link_token import FIRST_LINK, HONEYPOT, MAX_LINKS, OPEN, Kind, token_length
from engine.message.text_urls import urls_in
from engine.protocol.html_links import find_links, mask_escapes, unescape_attribute
from engine.protocol.mime_ranges import Sealed, TextPart, text_parts
from engine.protocol.mime_text import decode_charset
from engine.protocol.transfer_edits import Base64Text, Block, Edit, Piece, PlainText, QuotedText, Slot

#: The table of a body; more links than that are left as they are.
MOST_LINKS: Final = 1000
_WIDEST: Final = FIRST_LINK + MOST_LINKS
assert _WIDEST <= MAX_LINKS

#: Anywhere: in HTML it stands behind a tag.
_INLINE_PGP: Final = re.compile(rb"-----BEGIN PGP (?:SIGNED )?MESSAGE-----")
#: Of a number of a recipient, in whatever token: what fits is to be the same for all.
_WIDEST_RECIPIENT: Final = 1 << 14
#: Charsets in which bytes below 128 are not always what they are in ASCII.
_NOT_ASCII: Final = re.compile(
    r"utf-?(?:7|16|32)|ucs-?[24]|iso-2022-(?!jp)|hz|ibm0?(?:037|500|1047)|cp0?(?:037|500)|ebcdic"
)
_ESCAPING: Final = "iso-2022-jp"
_PIXEL: Final = b'" width="1" height="1" alt="" style="border:0;width:1px;height:1px">'
_HIDDEN: Final = b'" style="display:none" tabindex="-1" aria-hidden="true" rel="nofollow"></a>'


class Marks(NamedTuple):
    """What tracking puts into a body. recipient: as of a token; any of the same width will do.

    skip: what stays as it is, as `same_place` writes it: what the header has for unsubscribing.
    """

    base_url: str
    text_links: bool = False
    opens: bool = False
    honeypot: bool = False
    recipient: int | None = None
    skip: Collection[str] = ()


class Found(NamedTuple):
    """A link of a body. number: what its tokens say; None: it is left alone, and `reason` says why."""

    kind: str  #: of its part
    url: str
    number: int | None
    reason: str = ""


#: Reasons that are of the place of a link, and not of where it leads.
PLACES: Final = frozenset(("charset", "encoding", "line", "table"))


class Compiled:
    """links: the table, the first with number FIRST_LINK. numbers: whose tokens `body` takes, in that order.

    left: why some links stay as they are that would lead by way of us, but for their place: reasons of `found`.
    """

    __slots__ = ("_blocks", "_even", "_static", "found", "left", "length", "links", "numbers", "sealed")

    def __init__(self, pieces: Sequence[Piece], links: Sequence[str], found: Sequence[Found], sealed: str = "") -> None:
        """sealed: why nothing of the body may change; "": it may."""
        self.links, self.found, self.sealed = tuple(links), tuple(found), sealed
        self.left = tuple(sorted({each.reason for each in found} & PLACES))
        static: list[bytes] = []
        texts: list[bytes] = []
        slots: list[Slot] = []
        self._blocks: list[tuple[int, bytes, bytes]] = []
        self.length = 0
        for piece in pieces:
            if isinstance(piece, bytes):
                texts.append(piece)
                self.length += len(piece)
                continue
            slot = piece.slot if isinstance(piece, Block) else piece
            if isinstance(piece, Block):
                self._blocks.append((len(slots), piece.before, piece.after))
                self.length += -(-(len(piece.before) + slot.chars + len(piece.after)) // 3) * 4
            else:
                self.length += slot.chars
            static += (b"".join(texts), b"")
            texts = []
            slots.append(slot)
        self._static = [*static, b"".join(texts)]
        self.numbers = tuple(slot.number for slot in slots)
        #: All blocks but the last are whole groups: they can be encoded in one go.
        self._even = all(
            (len(before) + slots[at].chars + len(after)) % 3 == 0 for at, before, after in self._blocks[:-1]
        )

    def body(self, tokens: Sequence[bytes]) -> bytes:
        """With the tokens of `numbers`, each as long as was said at compile time."""
        if self._blocks:
            tokens = self._encoded(tokens)
        parts = self._static.copy()
        parts[1::2] = tokens
        return b"".join(parts)

    def _encoded(self, tokens: Sequence[bytes]) -> list[bytes]:
        """The tokens, those in base64 parts as their groups."""
        changed = list(tokens)
        if not self._even:
            for at, before, after in self._blocks:
                changed[at] = b2a_base64(b"%b%b%b" % (before, tokens[at], after), newline=False)
            return changed
        groups = [b"%b%b%b" % (before, tokens[at], after) for at, before, after in self._blocks]
        text, start = b2a_base64(b"".join(groups), newline=False), 0
        for (at, _, _), group in zip(self._blocks, groups, strict=True):
            end = start + (len(group) + 2) // 3 * 4
            changed[at] = text[start:end]
            start = end
        return changed


def compile_body(header: bytes, body: bytes, marks: Marks) -> Compiled:
    """header: with CRLF, without the empty line. Total: any bytes are a body, perhaps one with nothing to track."""
    try:
        parts = text_parts(header, body)
        return _Compiler(body, marks).compiled(parts)
    except Sealed as sealed:
        return Compiled([body], (), (), str(sealed))


class _Compiler:
    def __init__(self, body: bytes, marks: Marks) -> None:
        self._body, self._marks = body, marks
        self._base = marks.base_url.encode()
        self._ours = tuple(f"{marks.base_url.lower()}/{kind.value.decode()}/" for kind in Kind)
        self._links: list[str] = []
        self._found: list[Found] = []
        self._marked = False  #: pixel and hidden link are in; the first HTML part that can has them

    def compiled(self, parts: Sequence[TextPart]) -> Compiled:
        """Raises Sealed."""
        pieces: list[Piece] = []
        at = 0
        for part in parts:
            pieces.append(self._body[at : part.start])
            pieces += self._part(part, self._body[part.start : part.end])
            at = part.end
        pieces.append(self._body[at:])
        return Compiled(pieces, self._links, self._found)

    def _part(self, part: TextPart, raw: bytes) -> Sequence[Piece]:
        try:
            text = _TEXTS.get(part.encoding, PlainText)(raw)
        except ValueError:
            return self._left(part, raw, "encoding")
        if b"-----BEGIN PGP " in text.data and _INLINE_PGP.search(text.data):
            raise Sealed("inline PGP")
        if part.kind not in ("text/html", "text/plain") or (part.kind == "text/plain" and not self._marks.text_links):
            return (raw,)
        charset = part.charset
        if _NOT_ASCII.match(charset) or b"\0" in text.data:
            return self._left(part, raw, "charset")
        readable = mask_escapes(text.data) if charset.startswith(_ESCAPING) else text.data
        links = self._html(part, text.data, readable) if part.kind == "text/html" else self._plain(part, readable)
        wanted = [edit for edit, target in links if not target.reason]
        refused = {wanted[index].start for index in text.too_long(wanted)}
        edits = self._numbered(part, links, refused)
        if part.kind == "text/html" and not self._marked and (hidden := self._hidden()):
            at = find_links(readable).body_end
            self._marked = at >= 0
            if self._marked:
                edits = sorted([*edits, Edit(at, at, hidden)], key=lambda edit: edit.start)
        return text.edited(edits) if edits else (raw,)

    def _left(self, part: TextPart, raw: bytes, reason: str) -> Sequence[Piece]:
        self._found.append(Found(part.kind, "", None, reason))
        return (raw,)

    def _html(self, part: TextPart, text: bytes, readable: bytes) -> list[tuple[Edit, Target]]:
        """Edits whose slot has not its number yet, and what they would track, or why they must not be."""
        links, put, room = [], self._widest(), MOST_LINKS - len(self._links)
        for link in find_links(readable).links:
            value = unescape_attribute(decode_charset(text[link.start : link.end], part.charset))
            target = Target(value, "no-track") if link.no_track else self._target(value) if room else _full(value)
            if not target.reason:
                if link.text_end >= 0 and text_says_so(text[link.end : link.text_end], part.charset):
                    target = Target(value, "unsubscribe")
                else:
                    room -= 1
            links.append((Edit(link.start, link.end, put), target))
        return links

    def _hidden(self) -> tuple[bytes | Slot, ...]:
        marks = self._marks
        put: tuple[bytes | Slot, ...] = ()
        if marks.honeypot:
            put += (b"\r\n", b'<a href="', *self._put(Kind.CLICK, HONEYPOT), _HIDDEN)
        if marks.opens:
            put += (b"\r\n", b'<img src="', *self._put(Kind.OPEN, OPEN), b".gif" + _PIXEL)
        return (*put, b"\r\n") if put else ()

    def _plain(self, part: TextPart, text: bytes) -> list[tuple[Edit, Target]]:
        broken = part.parameters.get("delsp", "").lower() == "yes"  # RFC 3676 4.1: a word may go on in the next line
        links, put, room = [], self._widest(), MOST_LINKS - len(self._links)
        for start, end, behind, ambiguous in urls_in(text):
            value = text[start:end].decode()
            goes_on = ambiguous or (broken and text.startswith(b" \r\n", behind))
            target = Target(value, "ambiguous") if goes_on else self._target(value) if room else _full(value)
            if not target.reason:
                if line_says_so(_line_around(text, start, end), part.charset):
                    target = Target(value, "unsubscribe")
                else:
                    room -= 1
            links.append((Edit(start, end, put), target))
        return links

    def _widest(self) -> tuple[bytes | Slot, ...]:
        """In place of a link, while it has no number: what no other is longer than, for any recipient."""
        recipient = None if self._marks.recipient is None else _WIDEST_RECIPIENT
        return b"%b/%b/" % (self._base, Kind.CLICK.value), Slot(_WIDEST, token_length(_WIDEST, recipient))

    def _target(self, value: str) -> Target:
        target = target_of(value)
        if target.reason:
            return Target(value, target.reason)
        if target.url.lower().startswith(self._ours):
            return Target(value, "ours")
        leaving = says_so(target.url) or (self._marks.skip and same_place(target.url) in self._marks.skip)
        return Target(value, "unsubscribe") if leaving else target

    def _put(self, kind: Kind, number: int) -> tuple[bytes | Slot, ...]:
        return b"%b/%b/" % (self._base, kind.value), Slot(number, token_length(number, self._marks.recipient))

    def _numbered(self, part: TextPart, links: Sequence[tuple[Edit, Target]], refused: Collection[int]) -> list[Edit]:
        """Those that are carried out, each with its number; all are noted. refused: by start."""
        kept = []
        for edit, target in links:
            reason = target.reason or ("line" if edit.start in refused else "")
            if reason or len(self._links) >= MOST_LINKS:
                self._found.append(Found(part.kind, target.url, None, reason or "table"))
                continue
            number = FIRST_LINK + len(self._links)
            self._links.append(target.url)
            self._found.append(Found(part.kind, target.url, number))
            kept.append(edit._replace(put=self._put(Kind.CLICK, number)))
        return kept


def _full(value: str) -> Target:
    """Nobody looks where it leads."""
    return Target(value, "table")


def _line_around(text: bytes, start: int, end: int) -> bytes:
    """As far as it is looked at; of a longer line too much of it."""
    begin, stop = max(0, start - MOST_LINE), end + MOST_LINE
    line_end = text.find(b"\r\n", end, stop)
    return text[max(text.rfind(b"\n", begin, start) + 1, begin) : line_end if line_end >= 0 else stop]


_TEXTS: Final[dict[str, type[PlainText] | type[QuotedText] | type[Base64Text]]] = {
    "quoted-printable": QuotedText,
    "base64": Base64Text,
}
