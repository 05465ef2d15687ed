"""Space that is kept back for the day the disk is full.

Then nothing that would make room can be written: no outcome of a delivery, no operator's purge. So a file of zeros lies
in the spool; when the journal's disk refuses a write it is given up, and made again once there is room.
"""

import contextlib
import logging
from pathlib import Path

from engine.base.errors import StorageError
from engine.storage.spool.files import Files, Room

log = logging.getLogger(__name__)

#: As much as a file of the journal, and no more than does for a start, nor than this part of the disk.
_MOST_BYTES, _MOST_OF_DISK = 16 << 20, 8
_PIECE = bytes(1 << 20)


class Reserve:
    """Of one spool. Every call blocks for a moment, and raises StorageError: the disk cannot be looked at."""

    def __init__(self, directory: Path, files: Files) -> None:
        self._path = directory / "reserve"
        self._files = files
        self.is_there = False

    def keep(self, segment_bytes: int, room: Room) -> None:
        """Make it, if it is not there and as much again would be left."""
        self.is_there = self._files.size(self._path) is not None
        left = min(segment_bytes, _MOST_BYTES, room.total // _MOST_OF_DISK)
        if self.is_there or room.free < 2 * left:
            return
        descriptor = self._files.create(self._path)
        try:
            while left > 0:
                self._files.write(descriptor, [_PIECE[:left]])
                left -= len(_PIECE)
            self._files.sync(descriptor)
            self.is_there = True
        except StorageError as exc:
            log.warning("spool: no room for a reserve: %s", exc)
            with contextlib.suppress(StorageError):
                self._files.unlink(self._path)
        finally:
            with contextlib.suppress(StorageError):
                self._files.close(descriptor)

    def give_up(self) -> None:
        """For what must be written now."""
        self.is_there = False
        if self._files.size(self._path) is not None:
            self._files.unlink(self._path)
            log.warning("spool: the disk is full, and the reserve is given up; it is made again when there is room")
