"""Space that is kept back for the day the disk is full.

Then nothing that would make room can be written: no outcome of a delivery, no operator's purge. So a file of zeros lies
in the spool; when the journal's disk refuses a write it is given up, and made again once there is room.
"""

import contextlib
import logging
from pathlib import Path

from engine.base.errors import StorageError
from engine.storage.spool.files import Files

log = logging.getLogger(__name__)

_MOST_BYTES = 16 << 20
_PIECE = bytes(1 << 20)


class Reserve:
    """Of one spool. Every call blocks for a moment, and raises StorageError: the disk cannot be looked at."""

    def __init__(self, directory: Path, files: Files) -> None:
        self._path = directory / "reserve"
        self._files = files

    def keep(self, segment_bytes: int) -> None:
        """Make it, if it is not there: as much as a file of the journal, and no more than does for a start."""
        if self._files.size(self._path) is not None:
            return
        left = min(segment_bytes, _MOST_BYTES)
        descriptor = self._files.create(self._path)
        try:
            while left > 0:
                self._files.write(descriptor, [_PIECE[:left]])
                left -= len(_PIECE)
            self._files.sync(descriptor)
        except StorageError as exc:
            log.warning("spool: no room for a reserve: %s", exc)
            with contextlib.suppress(StorageError):
                self._files.unlink(self._path)
        finally:
            with contextlib.suppress(StorageError):
                self._files.close(descriptor)

    def give_up(self) -> None:
        """For what must be written now."""
        if self._files.size(self._path) is not None:
            self._files.unlink(self._path)
            log.warning("spool: the disk is full, and the reserve is given up; it is made again when there is room")
