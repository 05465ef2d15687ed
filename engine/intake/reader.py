"""What a client sent, cut into what the dialogue asks for: a command line, a message, so many bytes.

aiosmtpd's command loop, its AUTH and its PROXY reader run on this in place of asyncio's reader. The differences:

- A line ends in CRLF and nowhere else; a bare CR or LF in a command is an error that ends the session, because a
  peer in front of us may have cut the same bytes another way (SMTP smuggling).
- A message ends at CRLF.CRLF and nowhere else. It is found where the data arrives, so the task wakes once.
- The owner may serve a line where it arrives (`express`); the task sleeps on. Between MAIL and the end of the message
  it is not woken at all, which halves what a message costs.
- Before more input is waited for, the replies that have gathered go out (RFC 2920 3.2).
- The end of the stream is CancelledError: the task of a client that left ends, and half a message goes nowhere.

Bounds: a line by its limit, a message by its limit plus SLACK or by what may be in memory, anything else by
HIGH_WATER and flow control. A message that is longer than may be in memory is handed on in pieces while it arrives.
Every byte is searched once, however small the pieces (slow-loris costs time, not work).
"""

import asyncio
import enum
import re
from collections.abc import Callable
from typing import Any, Protocol

from engine.base.errors import ProtocolError
from engine.base.settings import Intake

HIGH_WATER = 256 << 10  #: bytes nobody asked for yet; then the transport is paused
#: Room beyond the size limit for the dots of dot-stuffing, which do not count as size. The exact size is checked after.
SLACK = 64 << 10
#: A large message is handed on in pieces of about this size, or what is there beyond it.
PIECE_BYTES = 64 << 10

_END_OF_DATA = b"\r\n.\r\n"
_CR = 13
#: A dot at the start of a line: the end of data or a stuffed one. Half the time of bytes.find.
_LEADING_DOT = re.compile(rb"\r\n\.").search


class BareLineEnd(ProtocolError):
    """A command line with CR or LF that is not its CRLF."""


class LineTooLong(ProtocolError):
    """A command line over the limit; it was consumed."""


class Express(enum.Enum):
    """What became of a line where it arrived."""

    NO = 0  #: it is for the task
    SERVED = 1
    MESSAGE = 2  #: it was DATA: a message follows; the owner takes it when it is there


# For every line: names of the module are quicker than members of a class.
_NO, _MESSAGE = Express.NO, Express.MESSAGE


class Owner(Protocol):
    """The connection that reads."""

    @property
    def held_back(self) -> bool:
        """The client does not take our replies; no more are made until `drained`."""

    async def drained(self) -> None: ...

    async def take_message(self) -> None:
        """Read the message after a DATA that was served where it arrived, and answer it."""

    def flush(self) -> None:
        """Send what was said, at once."""

    def before_wait(self) -> None:
        """More input is needed: send what was said."""

    def express(self, line: bytes, last: bool) -> Express:
        """Serve a command line, if that needs no waiting. last: nothing came behind it."""


class Reader(asyncio.StreamReader):
    """The input of one connection. limits: of lines and messages. memory_limit: bytes of a message given as a whole."""

    # asyncio keeps these; its stubs do not tell.
    _buffer: bytearray
    _eof: bool
    _paused: bool
    _transport: asyncio.ReadTransport | None

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner, limits: Intake, memory_limit: int) -> None:
        super().__init__(limit=HIGH_WATER, loop=loop)
        self._owner = owner
        self._line_limit = limits.max_command_bytes
        self._auth_limit = limits.max_auth_bytes
        self._message_limit = limits.max_message_bytes
        self._memory_limit = memory_limit
        self._future = loop.create_future
        self._ready: asyncio.Future[None] | None = None
        self._arrived: Callable[[], bool] = self._line_arrived  # what a waiting task waits for
        self._scanned = 0  # bytes of the buffer known not to hold the start of what is sought
        self._wanted = 0  # bytes, when a number of them is waited for
        self._keep = 0  # bytes of a message that are kept; beyond, only its end is looked for
        self._whole = True  # nothing of the message was dropped
        self._large = False  # the message is handed on in pieces, if it is long enough
        self._at_start = False  # no piece of it was
        self._end = -1  # where CRLF.CRLF starts
        self._dots = False  # a line before it starts with a dot
        self._begun = False  # the input is a message
        self._ignoring = False
        self.in_command = False  #: waiting for a command line

    @property
    def pending(self) -> bool:
        """Whether the client sent more than was asked for."""
        return bool(self._buffer)

    def drop(self) -> None:
        """Forget what was received and not read (RFC 3207 4.2)."""
        self._buffer.clear()
        self._scanned = 0

    def ignore(self) -> None:
        """Drop what was received and all that comes; the task that reads waits for the end of the stream."""
        self.drop()
        self._ignoring = True

    def stop(self) -> None:
        """Drop what was received, and end the stream for the task that reads it."""
        self.drop()
        self.feed_eof()

    # What the transport says.

    def feed_data(self, data: Any) -> None:
        if self._eof or self._ignoring:
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
        """Whether there is a line for the task; lines for the express lane are served on the way."""
        buffer = self._buffer
        owner = self._owner
        while (end := buffer.find(b"\n", self._scanned)) >= 0:
            if end >= self._line_limit or owner.held_back:
                return True
            last = end + 1 == len(buffer)
            served = owner.express(bytes(buffer) if last else bytes(memoryview(buffer)[: end + 1]), last)
            if served is _NO:
                return True
            self._scanned = 0
            del buffer[: end + 1]
            if served is _MESSAGE:
                self.expect_message()
                self._arrived = self._message_arrived
                if self._ready is not None:
                    owner.before_wait()
                return False
        self._scanned = len(buffer)
        if self._ready is not None:
            owner.before_wait()
        return len(buffer) > self._auth_limit

    def _answer_arrived(self) -> bool:
        return self._buffer.find(b"\n") >= 0 or len(self._buffer) > self._auth_limit

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
            # Whoever is woken looks again, from here.
            end = start = self._scanned = dot.start()
            if not buffer.startswith(_END_OF_DATA, start):
                self._dots = True
                end = buffer.find(_END_OF_DATA, start)
            if end >= 0:
                self._end = end
                return True
        # Four bytes of the end may be there: the next search goes back that far.
        self._scanned = max(0, len(buffer) - 4)
        if len(buffer) > self._keep:
            if self._large:
                self._end = -1
                return True
            del buffer[: self._scanned]
            self._scanned = 0
            self._keep = 4
            self._whole = False
        return False

    async def _wait(self, arrived: Callable[[], bool]) -> None:
        """Return when arrived() is true. Raises CancelledError at the end of the stream."""
        self._arrived = arrived
        if arrived():
            return
        self._owner.before_wait()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        if not self._eof:
            self._ready = self._future()
            try:
                await self._ready
            finally:
                self._ready = None
        if self._eof and not self._arrived():
            self._owner.flush()  # the task ends before the turn of what was said last
            raise asyncio.CancelledError

    # What the dialogue asks for.

    async def readuntil(self, separator: object = b"\n") -> bytes:
        """The next command line with its CRLF that is not served where it arrives.

        Raises BareLineEnd, LineTooLong, CancelledError.
        """
        owner = self._owner
        while True:
            if owner.held_back:
                await owner.drained()
            self.in_command = True
            try:
                await self._wait(self._line_arrived)
            finally:
                self.in_command = False
            if not self._begun:
                return await self._line(self._line_limit)
            await owner.take_message()

    async def readline(self) -> bytes:
        """An answer in the AUTH dialogue, as long as an AUTH line may be."""
        await self._wait(self._answer_arrived)
        return await self._line(self._auth_limit)

    async def _line(self, limit: int) -> bytes:
        buffer = self._buffer
        end = buffer.find(b"\n")
        if end < 0:
            await self._wait(self._rest_of_line_arrived)
            end = buffer.find(b"\n")
            del buffer[: end + 1]
            self._scanned = 0
            raise LineTooLong
        line = bytes(memoryview(buffer)[: end + 1])
        del buffer[: end + 1]
        self._scanned = 0
        if line.find(b"\r") != end - 1 or end == 0:
            raise BareLineEnd
        if end >= limit and (end >= self._auth_limit or line[:5].upper() != b"AUTH "):
            raise LineTooLong
        return line

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

    def expect_message(self) -> None:
        """From here on the input is a message. To be called with nothing pending."""
        # The end of the DATA line: a first line that is a lone dot ends the message, too.
        self._buffer[:0] = b"\r\n"
        self._begun = True
        self._large = self._memory_limit < self._message_limit
        self._keep = 2 + self._memory_limit if self._large else self._message_limit + SLACK
        self._whole = True
        self._dots = False
        self._at_start = True

    async def read_message(self) -> bytes | None:
        """The message up to CRLF.CRLF, dots unstuffed.

        None: it is longer than the limit (it was consumed), or, if `in_message`, than what may be in memory; then it
        is read in pieces or discarded. The framing inside is the caller's to check: CR and LF are as they came.
        """
        if not self._begun:
            self.expect_message()
        await self._wait(self._message_arrived)
        buffer = self._buffer
        end = self._end
        if end < 0:
            self._keep = 2 + PIECE_BYTES
            return None
        self._begun = False
        content = bytes(memoryview(buffer)[2 : end + 2]) if self._whole else None
        del buffer[: end + 5]
        self._scanned = 0
        if content is not None and self._dots:
            # The first line has lost its CRLF, so it is unstuffed by itself.
            content = content.removeprefix(b".").replace(b"\r\n.", b"\r\n")
        return None if content is None or len(content) > self._message_limit else content

    @property
    def in_message(self) -> bool:
        """The end of the message that `read_message` began has not been read."""
        return self._begun

    async def next_piece(self) -> bytes | None:
        """The next piece of a large message, dots unstuffed; None after its end. No piece ends with a cut CRLF."""
        if not self._begun:
            return None
        await self._wait(self._message_arrived)
        buffer = self._buffer
        last = self._end >= 0
        if last:
            cut = self._end + 2
        else:
            # The last four bytes may belong to the end; and the CRLF before a dot stays with the dot.
            cut = len(buffer) - 4
            if buffer.endswith(b"\r\n", 0, cut):
                cut -= 2
            elif buffer[cut - 1] == _CR:
                cut -= 1
        piece = bytes(memoryview(buffer)[:cut])
        if self._dots:
            piece = piece.replace(b"\r\n.", b"\r\n")
        if self._at_start:
            piece = piece[2:]
            self._at_start = False
        if last:
            self._begun = False
            del buffer[: cut + 3]
            self._scanned = 0
        else:
            del buffer[:cut]
            self._scanned = max(0, self._scanned - cut)
        return piece

    async def discard_message(self) -> None:
        """Consume the rest of a large message."""
        self._large = False
        self._keep = 4
        if self._begun:
            await self._wait(self._message_arrived)
            self._begun = False
            del self._buffer[: self._end + 5]
            self._scanned = 0


class Writer(asyncio.StreamWriter):
    """aiosmtpd's. Closes once: the second time, asyncio's TLS (Python 3.11.2) forgets what it would have to abort."""

    def close(self) -> None:
        if not self.transport.is_closing():
            super().close()
