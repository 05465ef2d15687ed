"""The redirector: a bare ASGI application. Verify, answer, then record.

    GET, HEAD  /c/<token>        302 to the target; the hit is recorded behind the answer
    GET, HEAD  /<code>           the same, of an SMS, where every character costs
    GET, HEAD  /o/<token>.gif    a picture of one pixel
    GET, HEAD  /u/<token>        the page to unsubscribe, which changes nothing (scanners fetch every link)
    POST       /u/<token>        unsubscribes at once (RFC 8058), without cookies, login or redirect
    GET        /.well-known/postrider/<nonce>    proof that this is a redirector with these keys

T1  a token is verified before anything else is looked at; a wrong one is 404, whatever is wrong with it. Targets come
    from the table of the message, and are http or https.
"""

import logging
import re
import urllib.parse
from collections.abc import Iterable
from typing import Protocol

from engine.base.clock import Clock
from engine.base.errors import EngineError
from engine.base.metrics import Metrics
from engine.intake.http_asgi import Receive, Scope, Send, reply
from engine.message.link_token import FIRST_LINK, HONEYPOT, Kind, LinkTokens, Token
from engine.message.short_link import ShortCodes, ShortLink
from engine.storage.ledger.sent import Sent
from engine.tracking import pages
from engine.tracking.clients import Peers
from engine.tracking.hit import Hit
from engine.tracking.hits import Hits
from engine.tracking.selftest import WELL_KNOWN, proof
from engine.tracking.targets import Targets, location
from engine.tracking.unsubscribe import Unsubscriber, Way
from engine.tracking.withdrawn import Withdrawn

log = logging.getLogger(__name__)

_KINDS = {kind.value.decode(): kind for kind in Kind}
#: Of a path behind the prefix; tokens have 36 characters at most.
_MAX_PATH = 200
_MAX_BODY = 4096
#: Of a user agent, in events.
_MAX_AGENT = 300
_MAX_LANGUAGES = 200
_GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,"
    b"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
_PRIVATE = ((b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer"))
#: RFC 8058 3.1 as multipart/form-data.
_ONE_CLICK_PART = re.compile(
    rb'name="?list-unsubscribe"?[^\r\n]*\r?\n(?:[^\r\n]+\r?\n)*\r?\n\s*one-click', re.IGNORECASE
)
_MOST_FIELDS = 20
_CHOICES: tuple[Way, ...] = ("stream", "all", "pause", "not-me")


class Known(Protocol):
    """What was sent (memory.py)."""

    def find(self, message: str, index: int, /) -> Sent | None: ...

    async def awaited(self, message: str, index: int, /) -> Sent | None: ...

    def by_short(self, number: int, /) -> tuple[Sent, int] | None: ...

    async def awaited_short(self, number: int, /) -> tuple[Sent, int] | None: ...

    def links(self, sent: Sent, /) -> tuple[str, ...]: ...

    def targets(self, sent: Sent, /) -> Targets: ...


class Request:
    """What is asked of a request but its path."""

    __slots__ = ("agent", "client", "head", "language", "post", "prefetch")

    def __init__(self, scope: Scope, peers: Peers) -> None:
        self.head, self.post = scope["method"] == "HEAD", scope["method"] == "POST"
        self.agent = self.language = ""
        self.prefetch = False
        forwarded = ""
        for name, value in scope["headers"]:
            if name == b"user-agent":
                self.agent = _printable(value, _MAX_AGENT)
            elif name == b"accept-language":
                self.language = value[:_MAX_LANGUAGES].decode("latin-1")
            elif name in _PREFETCHES:
                self.prefetch = self.prefetch or b"prefetch" in value or b"preview" in value or b"prerender" in value
            elif name == b"x-forwarded-for":
                forwarded = f"{forwarded},{value.decode('latin-1')}" if forwarded else value.decode("latin-1")
        peer = scope.get("client")
        self.client = peers.client(peer[0], forwarded) if peer else ""


_PREFETCHES = frozenset((b"sec-purpose", b"purpose", b"x-purpose", b"x-moz"))


class Redirector:
    """See above. What it works with is replaced by a reload: tokens, peers, prefixes."""

    def __init__(
        self,
        tokens: LinkTokens,
        ledger: Known,
        withdrawn: Withdrawn,
        hits: Hits,
        unsubscriber: Unsubscriber,
        peers: Peers,
        metrics: Metrics,
        clock: Clock,
        *,
        keys: dict[int, bytes],
        prefixes: Iterable[str],
        expire_after_s: float,
    ) -> None:
        """prefixes: what paths may begin with, of all base URLs; "" always may."""
        self._ledger = ledger
        self._withdrawn = withdrawn
        self._hits = hits
        self._unsubscriber = unsubscriber
        self._refused = metrics.tracking_refused
        self._unsubscribes = metrics.unsubscribes
        self._errors = metrics.internal_errors
        self._clock = clock
        self.use(tokens, peers, keys, prefixes, expire_after_s)

    def use(
        self, tokens: LinkTokens, peers: Peers, keys: dict[int, bytes], prefixes: Iterable[str], expire_after_s: float
    ) -> None:
        """From now on."""
        self._tokens, self._peers, self._keys = tokens, peers, keys
        self._codes = ShortCodes(keys.values())
        self._prefixes = {"", *prefixes}
        self._expire_after_s = expire_after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Answers whatever comes."""
        if scope["type"] != "http":
            return
        try:
            await self._answer(scope, receive, send)
        except Exception:  # top of a request
            self._errors.labels("tracking").inc()
            log.exception("a request to the redirector")
            await reply(send, 500, _PRIVATE)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        method = scope["method"]
        if len(path) > _MAX_PATH + max(map(len, self._prefixes)):
            return await self._refuse(send, "path")
        front, _, text = path.rpartition("/")
        prefix, _, word = front.rpartition("/")
        kind = _KINDS.get(word)
        if kind is None or prefix not in self._prefixes:
            return await self._elsewhere(scope, front, text, send)
        if kind is Kind.OPEN:
            text = text.removesuffix(".gif")
        token = self._tokens.read(kind, text)  # before anything else: nobody learns more by asking otherwise
        if token is None:
            return await self._refuse(send, "token")
        if method not in ("GET", "HEAD") and not (method == "POST" and kind is Kind.UNSUBSCRIBE):
            allowed = b"GET, HEAD, POST" if kind is Kind.UNSUBSCRIBE else b"GET, HEAD"
            return await self._refuse(send, "method", 405, (b"allow", allowed))
        request = Request(scope, self._peers)
        if kind is Kind.UNSUBSCRIBE:
            await self._unsubscribe(token, request, receive, send)
        else:
            await self._follow(kind, token, request, send)

    # ---- clicks and opens

    async def _follow(self, kind: Kind, token: Token, request: Request, send: Send) -> None:
        now = self._clock.time()
        sent = self._ledger.find(token.message, token.recipient)
        if sent is None:
            sent = await self._ledger.awaited(token.message, token.recipient)
        if sent is None:
            return await self._gone("expired", request, send)
        links = self._ledger.links(sent)
        url = links[token.link - FIRST_LINK] if FIRST_LINK <= token.link < FIRST_LINK + len(links) else ""
        firsts, targets = self._ledger.targets(sent)
        gone = ""
        if now > sent.at + self._expire_after_s:
            gone = "expired"
        elif self._withdrawn.holds(sent, token.link, url):
            gone = "withdrawn"
        where = location(url) if url and not gone else None
        if kind is Kind.CLICK and token.link != HONEYPOT and where is None and not gone:
            return await self._refuse(send, "target")
        await self._hits.room()
        if gone:
            await self._gone(gone, request, send)
        elif kind is Kind.OPEN:
            await reply(send, 200, ((b"content-type", b"image/gif"), *_PRIVATE), _GIF)
        elif where is None:
            await reply(send, 200, pages.HEADERS)  # the hidden link: whoever sees it sees nothing
        else:
            await reply(send, 302, ((b"location", where), *_PRIVATE))
        self._hits.add(
            Hit(
                at=now,
                type="opened" if kind is Kind.OPEN else "clicked",
                sent=sent,
                index=token.recipient,
                link=token.link,
                target=FIRST_LINK + firsts[token.link - FIRST_LINK] if url else token.link,
                targets=targets,
                url=url,
                client=request.client,
                agent=request.agent,
                head=request.head,
                prefetch=request.prefetch,
                gone=gone,
            )
        )

    async def _gone(self, reason: str, request: Request, send: Send) -> None:
        self._refused.labels(reason).inc()
        await reply(send, 410, pages.HEADERS, pages.gone(pages.language(request.language)))

    async def _follow_short(self, short: ShortLink, request: Request, method: str, send: Send) -> None:
        if method not in ("GET", "HEAD"):
            return await self._refuse(send, "method", 405, (b"allow", b"GET, HEAD"))
        found = self._ledger.by_short(short.number) or await self._ledger.awaited_short(short.number)
        if found is None:
            return await self._gone("expired", request, send)
        sent, index = found
        await self._follow(Kind.CLICK, Token(sent.id, FIRST_LINK + short.link, index), request, send)

    # ---- unsubscribing

    async def _unsubscribe(self, token: Token, request: Request, receive: Receive, send: Send) -> None:
        """As long as it is known who got the message: a link to leave does not expire before that."""
        sent = self._ledger.find(token.message, token.recipient)
        if sent is None:
            sent = await self._ledger.awaited(token.message, token.recipient)
        address = sent.recipients[token.recipient] if sent and token.recipient < len(sent.recipients) else ""
        if sent is None or not address:
            return await self._gone("expired", request, send)
        language = pages.language(request.language)
        if not request.post:
            return await reply(send, 200, pages.HEADERS, pages.unsubscribe(language, address, sent.stream))
        body = await _body(receive)
        if body is None:
            return await self._refuse(send, "body", 413)
        way = _way(body)
        if way is None or (way == "stream" and not sent.stream):
            page = pages.unsubscribe(language, address, sent.stream, asked=True)
            return await reply(send, 400, pages.HEADERS, page)
        try:
            new = await self._unsubscriber.act(way, sent, token.recipient, request.client, request.agent)
        except EngineError as exc:
            log.error("%s: an unsubscribe failed: %s", token.message, exc)
            self._unsubscribes.labels(way, "failed").inc()
            return await reply(send, 503, (*pages.HEADERS, (b"retry-after", b"60")), pages.failed(language))
        self._unsubscribes.labels(way, "done" if new else "kept").inc()
        page = pages.done(language, way if new else "kept", address, sent.stream)
        await reply(send, 200, pages.HEADERS, page)

    # ---- all else

    async def _elsewhere(self, scope: Scope, front: str, text: str, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if front in self._prefixes and (short := self._codes.link(text)) is not None:
            return await self._follow_short(short, Request(scope, self._peers), method, send)
        if path == "/robots.txt":
            return await reply(send, 200, ((b"content-type", b"text/plain"),), b"User-agent: *\nDisallow: /\n")
        own = front.endswith(WELL_KNOWN) and front.removesuffix(WELL_KNOWN) in self._prefixes
        if method == "GET" and own and (proved := proof(self._keys, text)) is not None:
            return await reply(send, 200, ((b"content-type", b"text/plain"), *_PRIVATE), proved.encode())
        await self._refuse(send, "path")

    async def _refuse(self, send: Send, reason: str, status: int = 404, *more: tuple[bytes, bytes]) -> None:
        self._refused.labels(reason).inc()
        await reply(send, status, ((b"content-type", b"text/plain"), *_PRIVATE, *more), _REFUSALS[status])


_REFUSALS = {404: b"not found\n", 405: b"not that way\n", 413: b"too long\n"}


async def _body(receive: Receive) -> bytes | None:
    """Of a form; None: it is longer than any of ours, or the client has gone."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += bytes(message.get("body", b""))
        if len(body) > _MAX_BODY:
            return None
        if not message.get("more_body"):
            return body


def _way(body: bytes) -> Way | None:
    """What a form asks for: RFC 8058 3.1 in either of its forms, or a button of the page."""
    try:
        fields = urllib.parse.parse_qsl(body.decode("latin-1").strip(), max_num_fields=_MOST_FIELDS)
    except ValueError:
        fields = []
    said = {name.lower(): value.strip().lower() for name, value in reversed(fields)}
    if said.get("list-unsubscribe") == "one-click" or _ONE_CLICK_PART.search(body) is not None:
        return "one-click"
    return next((way for way in _CHOICES if way == said.get("do")), None)


def _printable(value: bytes, most: int) -> str:
    """A header's value as an event may have it."""
    text = value[:most].decode("latin-1")
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
