"""The journals of all workers of a node, read as one, in the order of time.

Ids are those of each journal: "25.0" of worker 0, "1:17.2" of worker 1. A place in all of them is therefore one id of
each, written "25.0,1:17.2"; a journal that is not named is read from its beginning. Within a journal events keep their
order whatever their times say (E1); between journals the time decides.
"""

import heapq
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.base.errors import StorageError
from engine.storage.events.event import Id
from engine.storage.events.journal import events_directory
from engine.storage.events.reader import EventReader, id_before
from engine.storage.events.retention import Gap, gap


def journals(data_dir: Path) -> list[int]:
    """Numbers of the workers that have a journal. Raises StorageError."""
    try:
        names = os.listdir(data_dir / "events")
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StorageError(f"{data_dir / 'events'}: {exc.strerror}") from exc
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


class MergedReader:
    """A place in every journal below a data directory; of journals made later, the beginning."""

    def __init__(self, data_dir: str | Path) -> None:
        self._data_dir = Path(data_dir)
        self._readers: dict[int, EventReader] = {}
        self._again: list[dict[str, Any]] = []  #: events that were read already, and are to be read next
        self._missing = 0  #: files before the oldest ones
        self._find()

    def losses(self) -> tuple[int, bool, int]:
        """What was passed over so far: events that nobody can read; whether that is exact; files that are missing."""
        readers = self._readers.values()
        return (
            sum(reader.damaged for reader in readers),
            all(reader.exact for reader in readers),
            self._missing + sum(reader.missing for reader in readers),
        )

    def seek(self, ids: Mapping[int, Id]) -> None:
        """Stand behind these events, by worker, whether they are still there or not. Raises StorageError."""
        for worker, event in ids.items():
            self._reader(worker).seek(event)

    def gaps(self, ids: Mapping[int, Id]) -> Iterator[tuple[int, Gap]]:
        """What is deleted of what comes behind these events, by worker. Raises StorageError."""
        for worker, event in ids.items():
            lost = gap(events_directory(self._data_dir, worker), event)
            if lost is not None:
                self._missing += lost.missing
                yield worker, lost

    def seek_time(self, at: float) -> None:
        """Stand before the first events of this time (unix seconds) or later. Raises StorageError."""
        for worker, reader in self._readers.items():
            reader.seek(id_before(events_directory(self._data_dir, worker), at))

    def seek_tail(self, count: int) -> None:
        """Stand before the newest `count` events of all, which are read here."""
        for reader in self._readers.values():
            reader.seek_tail(count)
        # So many of each are too many of all.
        self._again = list(self.read())[-count:] if count else []

    def read(self) -> Iterator[dict[str, Any]]:
        """The events from here to the end of what is written now; the place moves on with them."""
        again, self._again = self._again, []
        yield from again
        self._find()
        yield from heapq.merge(
            *(_numbered(worker, reader.read()) for worker, reader in sorted(self._readers.items())), key=_time_of
        )

    def _find(self) -> None:
        for worker in journals(self._data_dir):
            self._reader(worker)

    def _reader(self, worker: int) -> EventReader:
        reader = self._readers.get(worker)
        if reader is None:
            reader = self._readers[worker] = EventReader(events_directory(self._data_dir, worker))
        return reader


def _numbered(worker: int, events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if worker == 0:
        return events
    return ({**event, "id": f"{worker}:{event['id']}"} for event in events)


def _time_of(event: dict[str, Any]) -> float:
    at = event.get("at", 0)
    return at if isinstance(at, int | float) else 0.0
