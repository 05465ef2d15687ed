"""To whom a message went, by the event journals of a node: for a token that has no room for an address."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from engine.message.ids import id_time, split_id
from engine.storage.events.merged import MergedReader

#: A burst gives ids some milliseconds ahead, and workers' clocks are one.
_WITHIN_S = 2.0


async def recipients_of(data_dir: Path, message: str) -> list[str]:
    """The recipients of a message, as far as its events are kept. Raises StorageError, ValueError: it is no id."""
    at = id_time(split_id(message)[0])
    return await asyncio.to_thread(lambda: list(_found(data_dir, message, at)))


def _found(data_dir: Path, message: str, at: float) -> Iterator[str]:
    reader = MergedReader(data_dir)
    reader.seek_time(at - _WITHIN_S)
    for event in reader.read():
        if event["at"] > at + _WITHIN_S:
            return
        if event["message"] == message and event["type"] == "received":
            yield event["recipient"]
