"""Tracked links and List-Unsubscribe, at the last moment: what a message becomes for each of its recipients.

    tracked(envelope, content) -> Tracked    once for a delivery: decide, compile, note in the ledger, wait for the disk
    Tracked.content(index)                   for each recipient: tokens, a join

A body is compiled once, whatever messages it is in; of a message with several recipients what was decided is kept, too.
Both are kept within MOST_KEPT_BYTES, those used last.

Full: tokens name the message and the recipient. Anonymous: they name a number that the content got, the same for all
recipients of a batch in this process, and the ledger knows of no recipient. What is unsubscribed from names the
recipient at any level: it could not be done otherwise.

T1  a token is verified by what is in it; where it leads is on disk before the message is sent.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from crc32c import crc32c

from engine.base.clock import Clock
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.base.settings_tracking import content_number_s
from engine.delivery.noting import sent_of
from engine.message.content import Content, LargeContent, head_of
from engine.message.dkim import split_content
from engine.message.envelope import Envelope, MessageClass, Track
from engine.message.link_compile import PLACES, Compiled, Marks, compile_body
from engine.message.link_token import UNSUBSCRIBE, LinkTokens
from engine.message.list_unsubscribe import Declared, declared, unsubscribe_fields
from engine.storage.ledger.sent import Sent, table_hash
from engine.storage.ledger.writer import Ledger

log = logging.getLogger(__name__)

#: Bodies above this are sent as they are: compiling costs about 60 ms a MiB.
MOST_TRACKED_BYTES: Final = 4 << 20
#: Of bodies, compiled or not, that are at hand: a thousand newsletters of 30 KiB.
MOST_KEPT_BYTES: Final = 64 << 20
_MOST_KEPT: Final = 10_000
#: Above, compiling is a thread's work.
_LONG_BYTES: Final = 128 << 10
#: Contents that are counted without their recipients and have a number.
_MOST_NUMBERS: Final = 10_000
_NONE: Final = Track.NONE.word
_FULL: Final = Track.FULL.word
#: Indexes that take as many bytes in a token as all between two of them.
_WIDTHS: Final = (0, 1 << 7, 1 << 14)


class _Domain(NamedTuple):
    base_url: str
    marks: Marks


class Tracked:
    """A message, ready for each recipient. common: it is the same for all of them. noted: with its recipients."""

    __slots__ = ("_bodies", "_declared", "_domain", "_header", "_mailto", "_message", "_number", "_rest", "_several",
                 "_text", "_tokens", "common", "kept_bytes", "noted", "recipients")  # fmt: skip

    def __init__(
        self, tokens: LinkTokens, envelope: Envelope, content: Content, domain: _Domain, mailto: str | None,
        facts: Declared, compiled: Mapping[int | None, Compiled], number: str,
    ) -> None:  # fmt: skip
        """mailto: None: no List-Unsubscribe. compiled: by width; empty: the body stays. number: of the content, if it
        is counted without its recipients."""
        self._tokens, self._message, self._domain = tokens, envelope.id, domain
        self._several = len(envelope.recipients) > 1
        self._mailto, self._declared, self._number = mailto, facts, number
        self._bodies = compiled
        head = head_of(content)
        self._header, self._text = split_content(head)
        self._rest = content if isinstance(content, LargeContent) else None
        self.common = mailto is None and (not compiled or bool(number))
        self.noted = mailto is not None or not number
        self.recipients = envelope.recipients
        self.kept_bytes = len(head) + 1000

    def content(self, index: int) -> Content:
        """What this recipient is sent."""
        recipient = index if self._several else None
        text, token = self._text, b""
        if self._number:
            compiled = self._bodies[None]
            text = compiled.body(self._tokens.made(self._number, None, compiled.numbers))
        elif self._bodies:
            compiled = self._bodies[_width(recipient)]
            made = self._tokens.made(self._message, recipient, (*compiled.numbers, UNSUBSCRIBE))
            token = made.pop()
            text = compiled.body(made)
        fields = b""
        if self._mailto is not None:
            token = token or self._tokens.made(self._message, recipient, (UNSUBSCRIBE,))[0]
            fields = unsubscribe_fields(self._domain.base_url, token, self._mailto, not self._declared.post)
        whole = b"%b%b\r\n%b" % (self._header, fields, text)
        return whole if self._rest is None else replace(self._rest, head=whole)


class Tracker:
    """See above. One per worker, used from its loop."""

    def __init__(
        self, settings: Settings, keys: Mapping[int, bytes], ledger: Ledger, new_id: Callable[[], str],
        metrics: Metrics, clock: Clock,
    ) -> None:  # fmt: skip
        """new_id: for numbers of contents; those of messages are from the same source."""
        self._ledger, self._new_id, self._metrics, self._clock = ledger, new_id, metrics, clock
        self._compiled: OrderedDict[tuple[object, ...], tuple[bytes, Compiled]] = OrderedDict()
        self._messages: OrderedDict[str, Tracked] = OrderedDict()
        self.kept_bytes = 0  #: of what is at hand
        self._numbers: OrderedDict[tuple[object, ...], tuple[str, float]] = OrderedDict()
        self.reload(settings, keys)

    def reload(self, settings: Settings, keys: Mapping[int, bytes]) -> None:
        """Use these from the next message on."""
        tracking = settings.tracking
        self._tokens = LinkTokens(keys)
        self._settings = tracking
        self._default = self._domain(tracking.base_url)
        self._domains = {row.tenant: self._domain(row.base_url) for row in settings.click_domain}
        self._off = not tracking.base_url and not self._domains
        self._forget()

    def _domain(self, base_url: str) -> _Domain:
        tracking = self._settings
        return _Domain(base_url, Marks(base_url, tracking.text_links, tracking.opens, tracking.honeypot))

    def _forget(self) -> None:
        self._compiled.clear()
        self._messages.clear()
        self.kept_bytes = 0

    async def tracked(self, envelope: Envelope, content: Content) -> Tracked | None:
        """None: the message is sent as it is. Raises StorageError: the disk does not take the note of it."""
        if self._off or not envelope.sender:
            return None
        unsubscribe = self._settings.unsubscribe and envelope.message_class == MessageClass.BULK
        level = envelope.track or _NONE
        if level == _NONE and not unsubscribe:
            return None
        found = self._messages.get(envelope.id)
        # A delivery that was stored by itself knows its own recipients only; the ledger is to know each.
        if found is not None and found.recipients == envelope.recipients:
            self._messages.move_to_end(envelope.id)
            await self._ledger.keep()
            return found
        domain = self._domains.get(envelope.owner) or self._default
        if not domain.base_url:
            return None
        tracked = await self._decided(envelope, content, domain, level, unsubscribe)
        if tracked is not None and len(envelope.recipients) > 1:
            self._keep(envelope.id, tracked)
        await self._ledger.keep()
        return tracked

    def delivered(self, envelope: Envelope, index: int) -> None:
        """A receiver took it: what is fetched at once was not read by a person."""
        self._ledger.delivered(envelope.id, index, self._clock.time())

    async def _decided(
        self, envelope: Envelope, content: Content, domain: _Domain, level: str, unsubscribe: bool
    ) -> Tracked | None:
        header, body = split_content(head_of(content))
        facts = declared(header)
        if facts.signed:
            self._left(envelope, "signed" if level != _NONE else "")
            return None
        compiled: dict[int | None, Compiled] = {}
        if level != _NONE:
            compiled = await self._bodies(
                envelope, content, header, body, domain.marks._replace(skip=facts.urls), level
            )
        mailto = self._settings.unsubscribe_mailto if unsubscribe and not facts.unsubscribe else None
        if mailto is None and not compiled:
            return None
        first = next(iter(compiled.values()), None)
        links = first.links if first is not None else ()
        table = table_hash(links) if links else b""
        number = self._number(envelope, table, links) if first is not None and level != _FULL else ""
        tracked = Tracked(self._tokens, envelope, content, domain, mailto, facts, compiled, number)
        if tracked.noted:
            counted = number or first is None
            own = sent_of(
                envelope, content, self._clock.time(), level=_NONE if counted else level, table=b"" if number else table
            )
            self._ledger.note(own, () if number else links)
        if first is not None:
            self._metrics.links_rendered.labels(level).inc()
        return tracked

    async def _bodies(
        self, envelope: Envelope, content: Content, header: bytes, body: bytes, marks: Marks, level: str
    ) -> dict[int | None, Compiled]:
        """The body for tokens of each width that the message needs; none: it stays as it is."""
        if isinstance(content, LargeContent) or len(body) > MOST_TRACKED_BYTES:
            self._left(envelope, "large")
            return {}
        several = len(envelope.recipients) > 1 and level == _FULL
        widths = [width for width in _WIDTHS if width < len(envelope.recipients)] if several else [None]
        bodies: dict[int | None, Compiled] = {}
        for width in widths:
            compiled = await self._compile(header, body, marks._replace(recipient=width))
            if not bodies:
                for reason in (compiled.sealed, *compiled.left):
                    self._left(envelope, reason)
            if not compiled.numbers:
                return {}
            bodies[width] = compiled
        return bodies

    async def _compile(self, header: bytes, body: bytes, marks: Marks) -> Compiled:
        # What the header says of the body; the rest of it is another one in each message.
        said = b"".join(
            [line for line in header.lower().replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n")
             if line.startswith(b"content-")]
        )  # fmt: skip
        key = (crc32c(body), len(body), said, marks)
        kept = self._compiled.get(key)
        if kept is not None and kept[0] == body:
            self._compiled.move_to_end(key)
            return kept[1]
        if len(body) > _LONG_BYTES:
            compiled = await asyncio.to_thread(compile_body, header, body, marks)
        else:
            compiled = compile_body(header, body, marks)
        if key not in self._compiled:
            self._compiled[key] = (body, compiled)
            self.kept_bytes += 2 * len(body) + 1000
            self._make_room()
        return compiled

    def _keep(self, message: str, tracked: Tracked) -> None:
        other = self._messages.pop(message, None)
        self.kept_bytes += tracked.kept_bytes - (other.kept_bytes if other is not None else 0)
        self._messages[message] = tracked
        self._make_room()

    def _make_room(self) -> None:
        while self.kept_bytes > MOST_KEPT_BYTES or len(self._messages) + len(self._compiled) > _MOST_KEPT:
            if self._messages:
                self.kept_bytes -= self._messages.popitem(last=False)[1].kept_bytes
            else:
                self.kept_bytes -= 2 * len(self._compiled.popitem(last=False)[1][0]) + 1000

    def _number(self, envelope: Envelope, table: bytes, links: tuple[str, ...]) -> str:
        """What stands for the content in tokens that name nobody."""
        key = (envelope.owner, envelope.stream, envelope.batch, table)
        now = self._clock.time()
        number, made_at = self._numbers.get(key, ("", 0.0))
        if not number or now >= made_at + content_number_s(self._settings.expire_after):
            number = self._new_id()
            self._numbers.pop(key, None)
            self._numbers[key] = number, now
            if len(self._numbers) > _MOST_NUMBERS:
                self._numbers.popitem(last=False)
        self._ledger.note(
            Sent(id=number, at=now, tenant=envelope.owner, stream=envelope.stream, batch=envelope.batch,
                 level=Track.ANONYMOUS.word, table=table),
            links,
        )  # fmt: skip
        return number

    def _left(self, envelope: Envelope, reason: str) -> None:
        """Its links stay as they are, or some of them. reason: "": nobody asked for more."""
        if reason:
            self._metrics.links_left.labels(reason).inc()
            which = "some links are" if reason in PLACES else "its links are"
            log.info("%s: %s not tracked: %s", envelope.id, which, reason)


def _width(recipient: int | None) -> int | None:
    """The index that stands for all that take as many bytes."""
    return None if recipient is None else max(width for width in _WIDTHS if width <= recipient)
