"""The events of durable records on their way to the event journal. All of it in the journal's thread.

E1  Each batch's events are written once the batch is durable; in busy times those of several batches together, a few
milliseconds later. What a crash cuts off between the two, recovery repeats (storage/events: the frame number is the
event's id). Events that were written since the last sync are kept, and written again when the next one fails.
"""

import contextlib
import logging
import time
from typing import Protocol

from engine.base.errors import StorageError

log = logging.getLogger(__name__)

#: Batches of so many records follow one another closely: their events can wait for those of the next, so long.
_BUSY_RECORDS, WAIT_S = 4, 0.01
#: Bytes of events that are written without waiting for more.
_ENOUGH_BYTES = 64 << 10
#: Bytes of events that are kept until a sync of their journal; more, and it is synced.
_KEPT_BYTES = 4 << 20


class EventSink(Protocol):
    """The event journal as the commit thread sees it. Both may raise StorageError."""

    def write(self, data: bytes) -> None: ...

    def sync(self) -> None: ...


class Projector:
    """See above. failure: why events cannot be written now; they are tried again with the next batch.

    told: the last frame whose events were written, or are to be. safe: the last one whose events are on disk.
    """

    def __init__(self, sink: EventSink) -> None:
        self._sink = sink
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0
        self._unwritten_since = 0.0
        self._unsynced: list[bytes] = []  #: written, and perhaps not on disk
        self._unsynced_bytes = 0
        self.told = 0
        self.safe = 0
        self.failure: str | None = None

    @property
    def wait_s(self) -> float | None:
        """When `write` is to be called, if nothing is told before; None: it need not be."""
        return WAIT_S if self._unwritten and self.failure is None else None

    def may_wait(self, records: int) -> bool:
        """The events of a batch of so many may be written a little later."""
        return records >= _BUSY_RECORDS and self.failure is None

    def tell(self, events: list[bytes], frame: int, records: int) -> None:
        """The events of a batch that is durable, up to this frame: written now, or soon."""
        now = time.monotonic()
        if not self._unwritten:
            self._unwritten_since = now
        self.told = frame
        self._unwritten += events
        self._unwritten_bytes += sum(map(len, events))
        if (
            not self.may_wait(records)
            or self._unwritten_bytes >= _ENOUGH_BYTES
            or now >= self._unwritten_since + WAIT_S
        ):
            self.write()

    def write(self) -> None:
        """Append what was told; what a full disk refuses is tried again with the next batch."""
        if not self._unwritten and self.failure is None:
            return
        data = b"".join(self._unwritten)
        try:
            self._sink.write(data)
        except Exception as exc:  # whatever it is, the batch is durable; intake stops until its events are, too
            if not isinstance(exc, StorageError):
                log.exception("writing events")
            self._write_again(exc)
            return
        self.failure = None
        self._unsynced.append(data)
        self._unsynced_bytes += len(data)
        self._unwritten.clear()
        self._unwritten_bytes = 0
        if self._unsynced_bytes > _KEPT_BYTES:
            with contextlib.suppress(StorageError):
                self.sync()

    def sync(self) -> None:
        """Everything told so far is on disk when this returns. Raises StorageError."""
        self.write()
        if self.failure is not None:
            raise StorageError(self.failure)
        try:
            self._sink.sync()
        except StorageError as exc:
            self._write_again(exc)
            raise
        self._unsynced.clear()
        self._unsynced_bytes = 0
        self.safe = self.told

    def _write_again(self, exc: Exception) -> None:
        """The file with those that were not synced is left for good."""
        self.failure = str(exc)
        self._unwritten[:0] = self._unsynced
        self._unsynced.clear()
        self._unsynced_bytes = 0
