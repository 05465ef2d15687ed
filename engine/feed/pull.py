"""Events are pulled: GET /events from any cursor, at once if there are any, else when there are. An ASGI application.

    {"events":[
    {"id":"1042.0",...},
    ...
    ],"after":"1042.0,1:17.2","missed":[{"worker":0,"after":"17.0","last":"1041.0","events":1024,"exact":true}]}

Events are lines of the journals, as webhooks get them (post.py). `after` is what to ask with next; it is the last field
but for `missed`, which is there if some behind the cursor were deleted, damaged or lost, and `more`, which is there
(true) if there may be more at once. So a whole answer is one that can be gone on from, and a torn one is no JSON.

An answer of more than a piece is read from the disk as the client reads it; so a reader costs the memory of a piece.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from engine.base.errors import StorageError
from engine.base.settings import Settings
from engine.feed.merged import MergedWalk, Piece, Wanted
from engine.feed.post import place_text
from engine.feed.pull_desk import Desk
from engine.feed.pull_login import Logins, Refused, tenant_of
from engine.feed.pull_query import Asked, parse_query
from engine.feed.walk import Head
from engine.intake.http_asgi import Receive, Scope, Send, reply
from engine.storage.events.retention import Gap

log = logging.getLogger(__name__)

#: Of the lines of an answer, and of what is read, and written, at a time.
ANSWER_BYTES, PIECE_BYTES = 4 << 20, 512 << 10
#: Pieces in a row (of merged.LOOK_BYTES) without an event that is wanted, before a client is told to ask again.
_LOOKS = 8
_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_TEXT = (*_HEADERS, (b"content-type", b"text/plain"))
_JSON = (*_HEADERS, (b"content-type", b"application/json"))


class Pull:
    """settings: of now. closing: whether readers are to come to an end."""

    def __init__(
        self, desk: Desk, logins: Logins, settings: Callable[[], Settings], closing: Callable[[], bool]
    ) -> None:
        self._desk, self._logins = desk, logins
        self._settings, self._closing = settings, closing
        self._results, self._told = desk.metrics.event_pulls, desk.metrics.event_pulls_told
        self._loop = asyncio.get_running_loop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Answers whatever comes."""
        if scope["type"] != "http":
            return
        try:
            result = await self._answer(scope, receive, send)
        except Refused as exc:
            result = exc.result
            await reply(send, exc.status, (*_TEXT, *exc.headers), f"{exc}\n".encode())
        except StorageError as exc:
            log.error("events: %s", exc)
            result = "failed"
            await reply(send, 503, (*_TEXT, (b"retry-after", b"10")), b"events cannot be read now\n")
        except Exception:  # top of a request
            self._desk.metrics.internal_errors.labels("events").inc()
            log.exception("a request for events")
            result = "failed"
            await reply(send, 500, _TEXT, b"something is wrong here\n")
        self._results.labels(result).inc()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> str:
        """For metrics, what became of it. Raises Refused, StorageError: nothing is said yet."""
        if scope["path"] != "/events":
            raise Refused(404, "path", "there is /events and nothing else")
        if scope["method"] != "GET":
            raise Refused(405, "method", "GET it", (b"allow", b"GET"))
        settings = self._settings()
        login = await self._logins.login(scope, settings)
        try:
            asked = parse_query(scope["query_string"])
        except ValueError as exc:
            raise Refused(400, "query", str(exc)) from exc
        with self._desk.place(login) as room:
            if not room or self._closing():
                raise Refused(503, "busy", "too many readers", (b"retry-after", b"5"))
            await self._desk.turn(login)
            wanted = _wanted(asked.types, tenant_of(login, settings))
            walk = self._desk.walk()
            await self._desk.blocking(walk.seek_end if asked.end else partial(walk.seek, asked.after))
            gone = self._loop.create_task(_until_gone(receive))
            try:
                piece = await self._first(walk, asked, wanted, gone)
                if gone.done():
                    return "gone"
                result = await self._tell(walk, asked, wanted, piece, send, whole=scope["http_version"] == "1.0")
                if not piece.full:
                    self._desk.answered(login)
                return result
            finally:
                gone.cancel()

    async def _first(self, walk: MergedWalk, asked: Asked, wanted: Wanted, gone: "asyncio.Task[None]") -> Piece:
        """What there is; if there is nothing, what comes in time."""
        take = partial(walk.take, wanted, asked.limit, PIECE_BYTES)
        until = self._loop.time() + asked.wait_s
        piece = await self._look(take)
        if not asked.wait_s or self._is_answer(piece, gone):
            return piece
        async with self._desk.waiter(wanted) as waiter:
            piece = await self._look(take)  # nobody has told of what came meanwhile
            while not self._is_answer(piece, gone) and (left := until - self._loop.time()) > 0:
                await self._desk.rest(waiter, gone, left)
                positions = waiter.positions
                waiter.again()
                await self._desk.blocking(partial(walk.skip, positions))
                piece = await self._look(take)
        return piece

    async def _look(self, take: Callable[[], Piece]) -> Piece:
        """A piece with events, or one at the end of what is written, or the last of so many without any."""
        for _ in range(_LOOKS):
            piece = await self._desk.blocking(take)
            if piece.lines or piece.gaps or not piece.full:
                break
        return piece

    def _is_answer(self, piece: Piece, gone: "asyncio.Task[None]") -> bool:
        return bool(piece.lines or piece.gaps or piece.full or gone.done() or self._closing())

    async def _tell(
        self, walk: MergedWalk, asked: Asked, wanted: Wanted, piece: Piece, send: Send, *, whole: bool
    ) -> str:
        """whole: the client has no chunks (HTTP/1.0), and gets one piece."""
        count, size = len(piece.lines), piece.bytes
        if whole or not piece.full or count >= asked.limit or not count:
            body = b'{"events":[' + _body(piece.lines, first=True) + _tail(piece, piece.gaps)
            await reply(send, 200, _JSON, body)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": _JSON})
            await send(_part(b'{"events":[' + _body(piece.lines, first=True)))
            gaps, looks = piece.gaps, 0
            while piece.full and count < asked.limit and size < ANSWER_BYTES and looks < _LOOKS and not self._closing():
                room = min(PIECE_BYTES, ANSWER_BYTES - size)
                try:
                    piece = await self._desk.blocking(partial(walk.take, wanted, asked.limit - count, room))
                except StorageError as exc:
                    log.error("events: %s", exc)
                    break  # up to here it is good
                count, size, looks = count + len(piece.lines), size + piece.bytes, 0 if piece.lines else looks + 1
                gaps = gaps + piece.gaps
                await send(_part(_body(piece.lines)))
            await send({"type": "http.response.body", "body": _tail(piece, gaps)})
        self._told.inc(count)
        return "events" if count else "empty"


def _wanted(types: frozenset[str], tenant: str | None) -> Wanted:
    def wanted(head: Head) -> bool:
        return (tenant is None or head.tenant == tenant) and (not types or head.type in types)

    return wanted


def _body(lines: list[bytes], *, first: bool = False) -> bytes:
    """Lines as items of a list that was begun."""
    between = b"" if first or not lines else b","
    return between + b"".join((b"\n", b",\n".join(line.rstrip(b"\n") for line in lines))) if lines else b""


def _tail(piece: Piece, gaps: list[tuple[int, Gap]]) -> bytes:
    rest: dict[str, Any] = {"after": piece.cursor}
    if gaps:
        rest["missed"] = [
            {
                "worker": worker, "after": place_text(gap.after, worker), "last": place_text(gap.last, worker),
                "events": gap.events, "exact": gap.exact,
            }
            for worker, gap in gaps
        ]  # fmt: skip
    if piece.full:
        rest["more"] = True
    return b"\n]," + msgspec.json.encode(rest)[1:] + b"\n"


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _until_gone(receive: Receive) -> None:
    """Until the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
