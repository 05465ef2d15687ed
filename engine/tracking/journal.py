"""The event journal of `postrider redirect`: its own, so that it needs no daemon; the daemon posts it to webhooks.

A frame is written and synced before the next one, so a crash leaves at most one that is torn, which readers pass over
(S5); the next number is above whatever may have been read of it.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from engine.base.errors import StorageError
from engine.storage.events.event import Event
from engine.storage.events.journal import EventJournal
from engine.storage.events.lines import noted_lines

#: Frames that a crash may have torn, and somebody read before.
_SPARE = 2


class JournalRecorder:
    """See above (ports.Recorder). It owns the journal."""

    def __init__(self, journal: EventJournal) -> None:
        self._journal = journal
        self._next = journal.last_seq + _SPARE
        self._thread = ThreadPoolExecutor(1, "events")

    async def record(self, events: Sequence[Event]) -> int:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, events)

    def close(self) -> None:
        self._thread.shutdown()
        self._journal.close()

    def _write(self, events: Sequence[Event]) -> int:
        """A frame that could not be written leaves a gap: nobody can tell how much of it is on disk (S4)."""
        frame, self._next = self._next, self._next + 1
        try:
            self._journal.write(noted_lines(frame, events))
            self._journal.sync()
        except OSError as exc:
            raise StorageError(f"event journal: {exc.strerror}") from exc
        return frame
