"""What a supervisor and its workers say to each other: requests with an answer, and notes without, over a socket pair.

A frame is four bytes of length and msgpack: [number, kind, what]. Number 0 is a note; the answer to a request carries
its number and the kind "done" or "error". Both ends are processes of this program, of the same version.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from engine.base.errors import EngineError, NetworkError
from engine.base.settings import Settings

log = logging.getLogger(__name__)

_LENGTH = struct.Struct(">I")

Handler = Callable[[str, Any], Awaitable[Any]]
Note = Callable[[str, Any], None]


class Channel(asyncio.Protocol):
    """One end. answer: what a request comes to; EngineError becomes the error of who asked. note: takes notes."""

    def __init__(self, answer: Handler, note: Note) -> None:
        self._answer = answer
        self._note = note
        self._data = bytearray()
        self._number = 0
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.WriteTransport | None = None

    async def open(self, sock: socket.socket) -> None:
        """Use this socket, which is the channel's from now on."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    async def ask(self, kind: str, what: Any = None) -> Any:
        """The answer of the other end. Raises EngineError: what it says is wrong; NetworkError: it went away."""
        if self._transport is None:
            raise NetworkError("it has gone away")
        self._number += 1
        self._asked[self._number] = future = asyncio.get_running_loop().create_future()
        number = self._number
        self._send(number, kind, what)
        try:
            return await future
        finally:
            self._asked.pop(number, None)

    def tell(self, kind: str, what: Any = None) -> None:
        """A note; nothing happens if the other end is gone."""
        if self._transport is not None:
            self._send(0, kind, what)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are no subclasses

    def data_received(self, data: bytes) -> None:
        self._data += data
        start = 0
        while len(self._data) >= start + 4:
            end = start + 4 + int(_LENGTH.unpack_from(self._data, start)[0])
            if len(self._data) < end:
                break
            self._take(*msgspec.msgpack.decode(self._data[start + 4 : end]))
            start = end
        del self._data[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for future in self._asked.values():
            if not future.done():
                future.set_exception(NetworkError("it has gone away"))

    # Inside.

    def _take(self, number: int, kind: str, what: Any) -> None:
        if number == 0:
            self._note(kind, what)
        elif kind in ("done", "error"):
            future = self._asked.get(number)
            if future is not None and not future.done():
                if kind == "done":
                    future.set_result(what)
                else:
                    future.set_exception(EngineError(what))
        else:
            task = asyncio.get_running_loop().create_task(self._serve(number, kind, what))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, number: int, kind: str, what: Any) -> None:
        try:
            said, result = "done", await self._answer(kind, what)
        except EngineError as exc:
            said, result = "error", str(exc)
        except Exception as exc:  # top of a task: who asked is told, the trace is in the log
            log.exception("could not %s", kind)
            said, result = "error", f"internal error: {exc!r}"
        if self._transport is not None:
            self._send(number, said, result)

    def _send(self, number: int, kind: str, what: Any) -> None:
        assert self._transport is not None
        body = msgspec.msgpack.encode([number, kind, what])
        self._transport.write(_LENGTH.pack(len(body)) + body)


def pack_settings(settings: Settings) -> bytes:
    """Settings for another process of this program."""
    return msgspec.msgpack.encode(settings, enc_hook=_plain)


def unpack_settings(data: bytes) -> Settings:
    return msgspec.msgpack.decode(data, type=Settings, dec_hook=lambda kind, value: kind(value))


def _plain(value: Any) -> int | float:
    """Sizes, durations and rates are numbers with a name."""
    return int(value) if isinstance(value, int) else float(value)
