"""What a client sent, cut into what the dialogue asks for: a command line, a message, so many bytes.

aiosmtpd's command loop, its AUTH and its PROXY reader run on this in place of asyncio's reader. The differences:

- A line ends in CRLF and nowhere else; a bare CR or LF in a command is an error that ends the session, because a
  peer in front of us may have cut the same bytes another way (SMTP smuggling).
- A message ends at CRLF.CRLF and nowhere else. It is found where the data arrives, so the task wakes once.
- Whoever waits for input first sends the replies that have gathered (RFC 2920 3.2: when the input is empty).
- The end of the stream is CancelledError: the task of a client that left ends, and half a message goes nowhere.

Bounds: a line by `line_limit`, a message by its limit plus SLACK, anything else by HIGH_WATER and flow control.
Every byte is searched once, however small the pieces (slow-loris costs time, not work).
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

from engine.base.errors import ProtocolError

HIGH_WATER = 256 << 10  #: bytes nobody asked for yet; then the transport is paused
#: Room beyond the size limit for the dots of dot-stuffing, which do not count as size. The exact size is checked after.
SLACK = 64 << 10

_END_OF_DATA = b"\r\n.\r\n"
#: A dot at the start of a line: the end of data or a stuffed one. Half the time of bytes.find.
_LEADING_DOT = re.compile(rb"\r\n\.").search


class BareLineEnd(ProtocolError):
    """A command line with CR or LF that is not its CRLF."""


class LineTooLong(ProtocolError):
    """A command line over the limit; it was consumed."""


class Reader(asyncio.StreamReader):
    """The input of one connection.

    flush: sends what was written so far. line_limit, auth_limit: bytes of a command line, and of an AUTH line.
    """

    # asyncio keeps these; its stubs do not tell.
    _buffer: bytearray
    _eof: bool
    _paused: bool
    _transport: asyncio.ReadTransport | None

    def __init__(
        self, loop: asyncio.AbstractEventLoop, flush: Callable[[], None], line_limit: int, auth_limit: int
    ) -> None:
        super().__init__(limit=HIGH_WATER, loop=loop)
        self._flush = flush
        self._line_limit = line_limit
        self._auth_limit = auth_limit
        self._future = loop.create_future
        self._ready: asyncio.Future[None] | None = None
        self._arrived: Callable[[], bool] = self._line_arrived  # what a waiting task waits for
        self._scanned = 0  # bytes of the buffer known not to hold the start of what is sought
        self._wanted = 0  # bytes, when a number of them is waited for
        self._keep = 0  # bytes of a message that are kept; beyond, only its end is looked for
        self._whole = True  # nothing of the message was dropped
        self._end = -1  # where CRLF.CRLF starts
        self._dots = False  # a line before it starts with a dot
        self.in_command = False  #: waiting for a command line

    @property
    def pending(self) -> bool:
        """Whether the client sent more than was asked for."""
        return bool(self._buffer)

    def drop(self) -> None:
        """Forget what was received and not read (RFC 3207 4.2)."""
        self._buffer.clear()
        self._scanned = 0

    def stop(self) -> None:
        """Drop what was received, and end the stream for the task that reads it."""
        self.drop()
        self.feed_eof()

    # What the transport says.

    def feed_data(self, data: Any) -> None:
        if self._eof:
            return
        self._buffer += data
        if self._ready is None:
            if len(self._buffer) > HIGH_WATER and not self._paused and self._transport is not None:
                self._transport.pause_reading()
                self._paused = True
        elif self._arrived():
            self._wake()

    def feed_eof(self) -> None:
        self._eof = True
        self._wake()

    def set_exception(self, exc: Exception) -> None:
        """A broken connection is the end of the stream."""
        self.feed_eof()

    def _wake(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None and not ready.done():
            ready.set_result(None)

    def _line_arrived(self) -> bool:
        size = len(self._buffer)
        if self._buffer.find(b"\n", self._scanned) >= 0:
            return True
        self._scanned = size
        return size > self._auth_limit

    def _rest_of_line_arrived(self) -> bool:
        if self._buffer.find(b"\n") >= 0:
            return True
        self._buffer.clear()
        return False

    def _bytes_arrived(self) -> bool:
        return len(self._buffer) >= self._wanted

    def _message_arrived(self) -> bool:
        buffer = self._buffer
        dot = _LEADING_DOT(buffer, self._scanned)
        if dot is not None:
            end = start = dot.start()
            if not buffer.startswith(_END_OF_DATA, start):
                self._dots = True
                end = buffer.find(_END_OF_DATA, start)
            if end >= 0:
                self._end = end
                return True
        # Four bytes of the end may be there: the next search goes back that far.
        self._scanned = max(0, len(buffer) - 4)
        if len(buffer) > self._keep:
            del buffer[: self._scanned]
            self._scanned = 0
            self._keep = 4
            self._whole = False
        return False

    async def _wait(self, arrived: Callable[[], bool]) -> None:
        """Return when arrived() is true. Raises CancelledError at the end of the stream."""
        if arrived():
            return
        self._flush()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        if not self._eof:
            self._arrived = arrived
            self._ready = self._future()
            try:
                await self._ready
            finally:
                self._ready = None
        if self._eof and not arrived():
            raise asyncio.CancelledError

    # What the dialogue asks for.

    async def readuntil(self, separator: object = b"\n") -> bytes:
        """The next command line with its CRLF. Raises BareLineEnd, LineTooLong, CancelledError."""
        buffer = self._buffer
        end = buffer.find(b"\n")
        if end < 0:
            self.in_command = True
            try:
                await self._wait(self._line_arrived)
            finally:
                self.in_command = False
            end = buffer.find(b"\n")
            if end < 0:
                await self._wait(self._rest_of_line_arrived)
                del buffer[: buffer.find(b"\n") + 1]
                self._scanned = 0
                raise LineTooLong
        line = bytes(memoryview(buffer)[: end + 1])
        del buffer[: end + 1]
        self._scanned = 0
        if line.find(b"\r") != end - 1 or end == 0:
            raise BareLineEnd
        if end >= self._line_limit and (end >= self._auth_limit or line[:5].upper() != b"AUTH "):
            raise LineTooLong
        return line

    async def readline(self) -> bytes:
        """An answer in the AUTH dialogue: a line, as long as an AUTH line may be."""
        command_limit, self._line_limit = self._line_limit, self._auth_limit
        try:
            return await self.readuntil()
        finally:
            self._line_limit = command_limit

    async def read(self, n: int = -1) -> bytes:
        """What is there, at least one byte, at most n."""
        return await self._take(n, 1)

    async def readexactly(self, n: int) -> bytes:
        return await self._take(n, n)

    async def _take(self, most: int, least: int) -> bytes:
        self._wanted = least
        await self._wait(self._bytes_arrived)
        data = bytes(memoryview(self._buffer)[:most])
        del self._buffer[:most]
        self._scanned = 0
        return data

    async def skip(self, count: int) -> None:
        """Consume so many bytes without keeping them."""
        while count:
            count -= len(await self._take(count, 1))

    async def read_message(self, limit: int) -> bytes | None:
        """The message up to CRLF.CRLF, dots unstuffed; None: it is longer than limit (it was consumed).

        To be called with nothing pending. The framing inside is the caller's to check: CR and LF are as they came.
        """
        buffer = self._buffer
        buffer += b"\r\n"  # the end of the DATA line: a first line that is a lone dot ends the message, too
        self._keep = limit + SLACK
        self._whole = True
        self._dots = False
        await self._wait(self._message_arrived)
        end = self._end
        content = bytes(memoryview(buffer)[2 : end + 2]) if self._whole else None
        del buffer[: end + 5]
        self._scanned = 0
        if content is not None and self._dots:
            # The first line has lost its CRLF, so it is unstuffed by itself.
            content = content.removeprefix(b".").replace(b"\r\n.", b"\r\n")
        return None if content is None or len(content) > limit else content
