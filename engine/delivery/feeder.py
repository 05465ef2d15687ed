"""Reads a large content from its file, in threads, a little ahead of the connection it goes to."""

import asyncio
import logging
from collections.abc import Callable, Iterator

from engine.base.errors import StorageError
from engine.protocol.smtp_content import StreamedContent

log = logging.getLogger(__name__)

#: Slices that wait for the connection: one to send while the next is read.
_AHEAD = 2


class Feeder:
    """Feeds the rest of one content to one transaction; `stop` when that is over.

    slices: of a LargeContent; they block, and raise StorageError.
    arrived: called when the body has something to give again. failed: called once, when the disk does not give what
    should come next; `fault` then says why. The body is never completed in that case.
    """

    __slots__ = ("_arrived", "_body", "_failed", "_loop", "_over", "_reading", "_slices", "fault")

    def __init__(
        self,
        slices: Iterator[bytes],
        body: StreamedContent,
        arrived: Callable[[], None],
        failed: Callable[[StorageError], None],
    ) -> None:
        self._body = body
        self._arrived = arrived
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._slices = slices
        self._reading = self._over = False
        self.fault: StorageError | None = None
        body.taken = self._read
        self._read()

    def stop(self) -> None:
        self._over = True
        self._body.taken = None

    def _read(self) -> None:
        if not (self._reading or self._over) and self._body.waiting < _AHEAD and not self._body.complete:
            self._reading = True
            self._loop.run_in_executor(None, next, self._slices).add_done_callback(self._done)

    def _done(self, future: asyncio.Future[bytes]) -> None:
        self._reading = False
        error = None if future.cancelled() else future.exception()
        if self._over:
            return
        if error is None:
            self._body.feed(future.result())
            self._arrived()
            self._read()
            return
        if not isinstance(error, StorageError):
            log.error("reading a large content", exc_info=error)
            error = StorageError(f"internal error: {error!r}")
        self.fault = error
        self.stop()
        self._failed(error)
