"""Reading the event journal while its owner writes it: from an id on, the newest few, or on and on.

A reader needs only the files. A line without its newline is not there yet; in a file that has a successor it never
will be. Damaged lines are passed over and counted (S5). An event can come twice, with the same id (E1).
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.base.errors import StorageError
from engine.storage.events.event import event_id, parse_id
from engine.storage.events.journal import segment_names

_CHUNK = 1 << 20

Id = tuple[int, int]


def read_events(directory: Path, from_id: str | None = None) -> Iterator[dict[str, Any]]:
    """The events of a journal in order; those after `from_id` if given. Raises StorageError, ValueError (no id)."""
    reader = EventReader(directory)
    if from_id is not None:
        reader.seek(from_id)
    yield from reader.read()


def newest_frame(directory: Path) -> int:
    """The frame of the newest event; 0: there is none. Raises StorageError."""
    reader = EventReader(directory)
    reader.seek_tail(1)
    return max((parse_id(event["id"])[0] for event in reader.read()), default=0)


class EventReader:
    """A place in a journal. A new one stands at the oldest event. damaged: lines passed over so far."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = ""
        self._offset = 0
        self._after: Id = (0, -1)
        self.damaged = 0

    def seek(self, from_id: str) -> None:
        """Stand behind the event `from_id`, whether it is still there or not. Raises ValueError, StorageError."""
        self._after = parse_id(from_id)
        self._name, self._offset = "", 0
        for name in segment_names(self._directory):
            first = self._first_id(name)
            if first is not None and first > self._after:
                break
            self._name = name

    def seek_tail(self, count: int) -> None:
        """Stand before the newest `count` events."""
        self._after = (0, -1)
        for name in reversed(segment_names(self._directory)):
            data_end, starts = self._line_starts(name, count)
            self._name = name
            self._offset = starts[0] if starts else data_end
            count -= len(starts)
            if count <= 0:
                return

    def read(self) -> Iterator[dict[str, Any]]:
        """The events from here to the end of what is written now; the place moves on with them."""
        while True:
            # Listed before reading: a file with a successor in this list is complete.
            names = segment_names(self._directory)
            if self._name not in names:
                # Not begun yet, or deleted under us.
                self._name, self._offset = next((name for name in names if name > self._name), self._name), 0
            if self._name not in names:
                return
            yield from self._read_file()
            following = [name for name in names if name > self._name]
            if not following:
                return
            self._name, self._offset = following[0], 0

    def _read_file(self) -> Iterator[dict[str, Any]]:
        fd = self._open(self._name)
        if fd is None:
            return
        try:
            while True:
                data = self._pread(fd, _CHUNK, self._offset)
                end = data.rfind(b"\n") + 1
                for line in data[:end].splitlines(keepends=True):
                    self._offset += len(line)
                    event = self._decode(line)
                    if event is not None:
                        yield event
                if not end and len(data) == _CHUNK:
                    # No line is that long: damage. Go on behind it.
                    self.damaged += 1
                    self._offset += _CHUNK
                elif not end:
                    return
        finally:
            os.close(fd)

    def _decode(self, line: bytes) -> dict[str, Any] | None:
        try:
            event = json.loads(line)
            if parse_id(event["id"]) > self._after:
                return event  # type: ignore[no-any-return]  # a mapping: it has an "id"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.damaged += 1
        return None

    def _first_id(self, name: str) -> Id | None:
        """The id of the first event of a file that can be read."""
        fd = self._open(name)
        if fd is None:
            return None
        try:
            for line in self._pread(fd, _CHUNK, 0).splitlines():
                try:
                    return event_id(line)
                except ValueError:
                    continue
        finally:
            os.close(fd)
        return None

    def _line_starts(self, name: str, count: int) -> tuple[int, list[int]]:
        """Where the whole lines of a file end, and where its last `count` of them start."""
        fd = self._open(name)
        if fd is None:
            return 0, []
        try:
            newlines: list[int] = []
            start = os.fstat(fd).st_size
            while start and len(newlines) <= count:
                size = min(start, _CHUNK)
                start -= size
                data = self._pread(fd, size, start)
                newlines[:0] = [start + i for i, byte in enumerate(data) if byte == 10]
            if not newlines:
                return 0, []
            starts = [newline + 1 for newline in newlines[:-1]]
            if not start:
                starts.insert(0, 0)
            return newlines[-1] + 1, starts[-count:] if count else []
        finally:
            os.close(fd)

    def _open(self, name: str) -> int | None:
        try:
            return os.open(self._directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise StorageError(f"{self._directory / name}: {exc.strerror}") from exc

    def _pread(self, fd: int, size: int, offset: int) -> bytes:
        try:
            return os.pread(fd, size, offset)
        except OSError as exc:
            raise StorageError(f"{self._directory / self._name}: {exc.strerror}") from exc
