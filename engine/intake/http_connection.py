"""A connection of HTTP: uvicorn's HTTP/1.1 (httptools) inside our limits.

It is counted before it says anything, TLS included. A request must be here within a time and a size, whole, and what
the client does not read is not kept for it: slow clients are cut off by their listener, which looks once a second.
"""

import asyncio
import logging
import ssl
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, Protocol, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from engine.intake.policy import Address, parse_address
from engine.net.late_tls import start_tls

log = logging.getLogger(__name__)

#: From the connection, TLS included, or from the first byte of a next request, to the end of the answer; where answers
#: have a time of their own (Doorkeeper.answer_s), to the end of the request.
REQUEST_S = 10.0
#: Without a request. Browsers keep connections; a person who clicks comes once, a program that asks again does so soon.
IDLE_S = 5
#: Of a request with all its fields; nginx allows 32 KiB, and cookies are none of ours.
MAX_HEAD_BYTES = 16 << 10
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_BAD = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Doorkeeper(Protocol):
    """What the listener decides."""

    tls: ssl.SSLContext | None
    answer_s: float  #: for an answer, once its request is here; 0.0: what is left of REQUEST_S

    def enter(self, connection: "Connection", descriptor: int, address: Address) -> bool: ...

    def leave(self, connection: "Connection", /) -> None: ...


class _Begun:
    """A coroutine that has begun: what it waits for, then the rest of it (PEP 492)."""

    def __init__(self, run: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._run, self._waits_for = run, waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            try:
                value = yield waits_for
            except BaseException as exc:  # of what it waits for, or it is cancelled: its own affair
                step = partial(self._run.throw, exc)
            else:
                step = partial(self._run.send, value)
            try:
                waits_for = step()
            except StopIteration:
                return


async def _rest(run: Coroutine[Any, Any, None], waits_for: Any) -> None:
    await _Begun(run, waits_for)


class Connection(HttpToolsProtocol):
    """See above."""

    def __init__(self, door: Doorkeeper, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._door = door
        self._plain: asyncio.Transport | None = None  #: below TLS
        self._early = b""
        self._handshake: asyncio.Task[None] | None = None
        self._taken = 0  #: bytes of the request that is not complete
        self._answering: RequestResponseCycle | None = None
        self.deadline = self.loop.time() + REQUEST_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        plain = cast(asyncio.Transport, transport)
        if self._plain is not None:
            super().connection_made(plain)
            return
        peer = plain.get_extra_info("peername")
        self._plain = plain
        if not peer or not self._door.enter(self, plain.get_extra_info("socket").fileno(), parse_address(peer[0])):
            plain.abort()
        elif self._door.tls is not None:
            self._handshake = self.loop.create_task(self._start_tls(plain, self._door.tls))
        else:
            super().connection_made(plain)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.transport is not None:
            if (cycle := self._answering) is not None:  # uvicorn tells the last of several requests, which may wait
                cycle.disconnected = True
                cycle.message_event.set()
            super().connection_lost(exc)
        self._door.leave(self)

    def data_received(self, data: bytes) -> None:
        if self.transport is None:
            self._early += data
            return
        self._unset_keepalive_if_required()
        if not self._taken:
            self.deadline = self.loop.time() + REQUEST_S
        self._taken += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.shutdown()  # it has its answer in HTTP, and nothing that follows is read
        except httptools.HttpParserError:
            self._end(_BAD)
            return
        if self._taken > MAX_HEAD_BYTES:
            self._end(_TOO_LARGE)

    def on_message_complete(self) -> None:
        self._taken = 0
        if self._door.answer_s and (self.cycle is None or not self.cycle.response_complete):
            self.deadline = self.loop.time() + self._door.answer_s
        super().on_message_complete()

    def on_response_complete(self) -> None:
        more = bool(self.pipeline)
        super().on_response_complete()
        if more and self._door.answer_s:
            self.deadline = self.loop.time() + self._door.answer_s
        elif not self._taken and not self.pipeline:
            self.deadline = self.loop.time() + REQUEST_S + IDLE_S

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begun at once: most answers wait for nothing, and need neither a task nor a turn of the loop."""
        self._answering = cycle
        run = cycle.run_asgi(app)
        try:
            waits_for = run.send(None)
        except StopIteration:
            return
        task = self.loop.create_task(_rest(run, waits_for))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def shut_down(self) -> None:
        """As soon as what is asked is answered."""
        if self.transport is None:
            self.abort()
        else:
            self.shutdown()

    def abort(self) -> None:
        """Now."""
        if self._plain is not None:
            self._plain.abort()
        self._door.leave(self)

    # ---- inside

    def _end(self, answer: bytes) -> None:
        """What comes cannot be read: say so, if nothing is being said, and hang up."""
        if not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(answer)
            self.transport.close()

    async def _start_tls(self, plain: asyncio.Transport, context: ssl.SSLContext) -> None:
        secured = None
        try:
            secured = await start_tls(plain, self, context, self._take_early, REQUEST_S)
        except (OSError, TimeoutError) as exc:
            log.debug("http: TLS: %s", exc)
        if secured is None:
            self.abort()
        else:
            self.connection_made(secured)

    def _take_early(self) -> bytes:
        data, self._early = self._early, b""
        return data
