"""How long events are kept: files go by age and by size, and what went with them is written down.

    <journal>/gone.json   the files that were deleted last: their number, their first and last id, how many events

A consumer that was not there yet can so be told which events it will never see (E1), and how many. Written before the
files are deleted: a file that is still there counts as there. One that is neither there nor written down, though those
around it are, was removed by somebody else. Of the newest one nobody can say that it is missing, only when another is
begun behind it.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.base.errors import StorageError
from engine.storage.directories import sync_directory
from engine.storage.events.event import NO_ID, Id, id_text, parse_id
from engine.storage.events.segments import (
    CHUNK,
    compressed_name,
    first_id,
    log_name,
    open_segment,
    segment_numbers,
    there,
)

log = logging.getLogger(__name__)

_FILE, _NEW_FILE = "gone.json", "gone.tmp"
#: Deleted files that are remembered; of those before, only that they were there.
_MOST = 1000
#: Missing files that are counted.
_MOST_MISSING = 1000


class _Gone(msgspec.Struct, frozen=True, array_like=True):
    """A deleted file. events: None: not known."""

    number: int
    first: str
    last: str
    events: int | None


class _Book(msgspec.Struct, frozen=True):
    """rows: the oldest first. forgotten: the last id of files that are no longer among them."""

    rows: list[_Gone]
    forgotten: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that a consumer will never see: those behind the id `after`, up to `last`.

    events: how many; exact: and no more than that. missing: files that are not there, and retention did not delete.
    damaged: some cannot be read. Nobody knows the last id of what is missing or damaged: `last` is then that of the
    next event, which is not missed.
    """

    after: Id
    last: Id
    events: int
    exact: bool
    missing: int = 0
    damaged: bool = False

    def why(self) -> str:
        """As operators read it."""
        return "damaged" if self.damaged else "in files that are missing" if self.missing else "deleted"


@dataclass(frozen=True, slots=True)
class _File:
    number: int
    bytes: int
    written_at: float


def expire(directory: Path, oldest: float, keep_bytes: int) -> None:
    """Delete the files that were last written to before `oldest`, then the oldest until the rest has `keep_bytes`.

    The newest with events stays: it says how far the journal got. Raises StorageError.
    """
    try:
        found = [file for number in segment_numbers(directory) if (file := _look(directory, number)) is not None]
        newest = max((file.number for file in found if file.bytes), default=0)
        size = sum(file.bytes for file in found)
        doomed = []
        for file in found:
            if file.number < newest and (file.written_at < oldest or size > keep_bytes):
                doomed.append(file)
                size -= file.bytes
        if doomed:
            _note(directory, [file.number for file in doomed])
            for file in doomed:
                for name in (log_name(file.number), compressed_name(file.number)):
                    (directory / name).unlink(missing_ok=True)
    except OSError as exc:
        raise StorageError(f"{directory}: {exc.strerror}") from exc


def gap(directory: Path, after: Id, number: int = 0, line: int = 0) -> Gap | None:
    """What is deleted and comes behind the event `after`; None: nothing. Raises StorageError.

    number, line: the file that was read last, if that is known, and how many lines of it.
    """
    rows, forgotten = _read(directory)
    numbers = set(segment_numbers(directory))
    rows = [row for row in rows if row.number >= number and row.number not in numbers and row.events != 0]
    # Of a file that could not be read only its number says that it comes later.
    rows = [row for row in rows if (parse_id(row.last) > after if row.last else row.number > number > 0)]
    missing = missing_files(directory, number) if number or _begins_behind(directory, after) else 0
    if not rows and not missing:
        return None
    events, exact, last = 0, forgotten <= after and not missing, after
    for row in rows:
        partly = bool(row.first) and parse_id(row.first) <= after
        if row.events is None or (partly and row.number != number):
            exact = False
        else:
            events += max(0, row.events - (line if partly else 0))
        last = max(last, parse_id(row.last) if row.last else after)
    return Gap(after, last, events, exact, missing)


def missing_files(directory: Path, number: int) -> int:
    """How many files are neither there nor deleted by retention, from this one to the next that is there; of number 0:
    before the oldest. Raises StorageError."""
    following = next((other for other in segment_numbers(directory) if other > number), 0)
    rows, _ = _read(directory)
    gone = {row.number for row in rows}
    # What is before the first row may have had one that is forgotten.
    start = max(number, 1, min(gone, default=0))
    wanted = range(start, min(following, start + _MOST_MISSING))
    return sum(other not in gone and not there(directory, other) for other in wanted)


def _begins_behind(directory: Path, after: Id) -> bool:
    """Whether the oldest file that is there has nothing up to this event. Raises StorageError."""
    for number in segment_numbers(directory):
        segment = open_segment(directory, number)
        if segment is not None:
            try:
                first = first_id(segment.read(CHUNK, 0))
            except OSError as exc:
                raise StorageError(f"{directory}: file {number}: {exc.strerror}") from exc
            finally:
                segment.close()
            if first:
                return parse_id(first) > after
    return False


def _look(directory: Path, number: int) -> _File | None:
    """None: deleted meanwhile. Of both files of a number, the size of both."""
    size, written_at, found = 0, 0.0, False
    for name in (log_name(number), compressed_name(number)):
        try:
            info = os.stat(directory / name, follow_symlinks=False)
        except FileNotFoundError:
            continue
        size, written_at, found = size + info.st_size, max(written_at, info.st_mtime), True
    return _File(number, size, written_at) if found else None


def _note(directory: Path, numbers: list[int]) -> None:
    """A disk that cannot take it is a reason to delete, not to stop."""
    try:
        rows, forgotten = _read(directory)
        rows = [row for row in rows if row.number not in numbers] + [_gone(directory, number) for number in numbers]
        forgotten = max([forgotten, *(parse_id(row.last) for row in rows[:-_MOST] if row.last)])
        data = msgspec.json.encode(_Book(rows[-_MOST:], id_text(forgotten)))
        path = directory / _NEW_FILE
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        path.rename(directory / _FILE)
        sync_directory(directory)
    except (OSError, StorageError) as exc:
        log.warning("%s: which events are deleted cannot be written down: %s", directory, exc)


def _gone(directory: Path, number: int) -> _Gone:
    try:
        segment = open_segment(directory, number)
        if segment is not None:
            try:
                summary = segment.summary()
            finally:
                segment.close()
            return _Gone(number, summary.first, summary.last, summary.events)
    except (OSError, StorageError) as exc:
        log.warning("event file %d cannot be read, and is deleted: %s", number, exc)
    return _Gone(number, "", "", None)


def _read(directory: Path) -> tuple[list[_Gone], Id]:
    """The rows, and the last id that no row knows of any more. A file that is damaged is none."""
    try:
        book = msgspec.json.decode((directory / _FILE).read_bytes(), type=_Book)
        return book.rows, parse_id(book.forgotten)
    except FileNotFoundError:
        return [], NO_ID
    except OSError as exc:
        raise StorageError(f"{directory / _FILE}: {exc.strerror}") from exc
    except (msgspec.DecodeError, ValueError) as exc:
        log.warning("%s: which events are deleted is no longer known: %s", directory, exc)
        return [], NO_ID
