"""What the redirector needs of others, handed down by whoever builds it."""

from collections.abc import Sequence
from typing import Protocol

from engine.storage.events.event import Event


class Recorder(Protocol):
    """An event journal, as hits are written to it."""

    async def record(self, events: Sequence[Event]) -> int:
        """Durable when done; the frame their ids begin with: event n is "<frame>.<n>". Raises StorageError."""
