"""A message over `[spool] large_bytes` on its way from a client to a file of its own.

The header, up to its empty line, stays in memory for admission to work on; what follows goes to the store's writer
as it comes. Nothing else is kept, so a session costs the same however long its message is.
"""

import contextlib
from typing import Protocol

from engine.base.errors import StorageError
from engine.message.content import Content
from engine.protocol.smtp_content import Reframer

#: What decides about the length of a header (engine/message/headers.py) looks no further beyond its limit.
_BEYOND = 4


class LargeWriter(Protocol):
    """Where the store takes a large content; see engine/storage/spool/large.py."""

    def feed(self, piece: bytes) -> None: ...

    async def room(self) -> None: ...

    async def beginning(self, most: int) -> tuple[bytes, bool]: ...

    async def finish(self, head: bytes) -> Content: ...

    def abort(self) -> None: ...


class Incoming:
    """One message as it arrives.

    head: the header with its empty line, once that has come; a header that is too long, cut off behind the limit.
    size: bytes that were fed. seven_bit: none of those behind the head is above 127.
    """

    def __init__(self, writer: LargeWriter, max_header_bytes: int, *, framed: bool) -> None:
        """framed: what is fed has CRLF and nothing else, and no piece ends inside one; otherwise it is reframed."""
        self._writer = writer
        self._head_limit = max_header_bytes + _BEYOND
        self._head_complete = False
        self._reframer = None if framed else Reframer()
        self.head = b""
        self.size = 0
        self.seven_bit = True

    async def feed(self, piece: bytes) -> None:
        """Take a piece; returns when there is room for more. Raises StorageError: the disk did not take it."""
        self.size += len(piece)
        if self._reframer is not None:
            piece = self._reframer.feed(piece)
        self._pass_on(piece)
        await self._writer.room()

    def _pass_on(self, piece: bytes) -> None:
        if not self._head_complete:
            piece = self._behind_head(piece)
        if piece:
            self.seven_bit = self.seven_bit and piece.isascii()
            self._writer.feed(piece)

    def _behind_head(self, piece: bytes) -> bytes:
        """Keep what belongs to the head; the rest."""
        start = max(0, len(self.head) - 3)
        head = self.head + piece
        empty_line = -2 if head.startswith(b"\r\n") else head.find(b"\r\n\r\n", start)
        end = len(head) if empty_line == -1 else empty_line + 4
        self._head_complete = empty_line != -1 or end > self._head_limit
        self.head = head[:end]
        return head[end:]

    def end(self) -> None:
        """No more pieces come: what was held back is passed on, and the head is what it is."""
        if self._reframer is not None:
            with contextlib.suppress(StorageError):  # `finish` says it
                self._pass_on(self._reframer.end())

    async def beginning(self, most: int) -> tuple[bytes, bool]:
        """The first bytes of it all, `most` at most, behind `end`; and whether they are all. Raises StorageError."""
        if len(self.head) > most:
            return self.head[:most], False
        rest, whole = await self._writer.beginning(most - len(self.head))
        return self.head + rest, whole

    async def finish(self, head: bytes) -> Content:
        """The content, durable; `head` is what admission made of ours. Raises StorageError."""
        return await self._writer.finish(head)

    def abort(self) -> None:
        """Forget it, unless it was finished. May be said twice."""
        self._writer.abort()
