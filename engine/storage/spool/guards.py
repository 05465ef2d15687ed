"""The guards: below which free space, inodes or memory nothing more is accepted.

Measured now and then, and free space also after so many bytes were written; what is refused is refused with 452, and
taken again by itself once there is room. With a guard of the disk goes a reserve on it (reserve.py): without it nothing
is accepted, or the room that was made by giving it up would go to new messages.
"""

import contextlib
from pathlib import Path
from typing import Final

from engine.base.errors import StorageError
from engine.base.memory import give_back
from engine.base.memory_limit import memory_limit
from engine.base.settings import SpoolSettings
from engine.storage.spool.files import Files, Room
from engine.storage.spool.reserve import Reserve

_STATUS: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = 4096
_STORAGE: Final = "Insufficient system storage"
#: With less than this SQLite may be unable to write down an operator's word: as good as full.
_FULL_BYTES: Final = 256 << 10
#: Free space is looked at after this part of what may still be accepted was written, within these bounds.
_LOOK_AFTER: Final = 1 / 8
_LEAST_UNSEEN_BYTES: Final = 64 << 10
_MOST_UNSEEN_BYTES: Final = 4 << 20
#: Looks that find memory short, every which time it is trimmed: the journal's thread does it, and 250s wait.
_GIVE_BACK_EVERY: Final = 6


class Guards:
    """All but the properties in the threads that write: they only miss that another looked as well."""

    def __init__(self, directory: Path, files: Files) -> None:
        self._directory = directory
        self._files = files
        self._reserve = Reserve(directory, files)
        self._min_free = 0.0
        self._disk: str | None = None
        self._memory: str | None = None
        self._looks_short = 0  #: in a row
        self._unseen = 0  #: bytes written since free space was looked at
        self._look_after = _MOST_UNSEEN_BYTES

    @property
    def failure(self) -> str | None:
        """What is short, for operators; None: nothing."""
        return self._disk or self._memory

    @property
    def wants_room(self) -> bool:
        """Nothing is accepted until there is more of it on the disk."""
        return self._disk is not None

    @property
    def refusal(self) -> str | None:
        """The reply to who wants to hand in a message now; None: it can be taken."""
        return None if self.failure is None else f"452 4.3.1 {self.failure}"

    def measure(self, settings: SpoolSettings, failing: bool = False) -> None:
        """Look again, at all of it. failing: the journal cannot be written. Blocks a moment. Raises StorageError."""
        self._min_free = settings.min_free
        room = self._files.room(self._directory)
        if failing or room.free < _FULL_BYTES:
            self._reserve.give_up()
        elif settings.min_free and self._short_of(room) is None:
            self._reserve.keep(settings.segment_bytes, room)
        self.look()
        self._memory = _short_of_memory(settings)
        self._looks_short = self._looks_short + 1 if self._memory is not None else 0
        if self._looks_short % _GIVE_BACK_EVERY == 1:
            give_back()
            self._memory = _short_of_memory(settings)

    def look(self) -> int:
        """Look at the disk only: bytes that are free. Raises StorageError."""
        room = self._files.room(self._directory)
        margin = int((room.free - self._min_free * room.total) * _LOOK_AFTER)
        self._look_after = min(max(margin, _LEAST_UNSEEN_BYTES), _MOST_UNSEEN_BYTES)
        self._unseen = 0
        without_reserve = self._min_free and not self._reserve.is_there
        self._disk = self._short_of(room) or (f"{_STORAGE} (no room for the reserve)" if without_reserve else None)
        return room.free

    def wrote(self, size: int) -> None:
        """So many bytes more are on the disk."""
        self._unseen += size
        if self._unseen >= self._look_after:
            with contextlib.suppress(StorageError):
                self.look()

    def spend(self, size: int) -> None:
        """So many bytes of a new message are about to be written. Raises StorageError: they are too many."""
        self.wrote(size)
        if self._disk is not None:
            raise StorageError(self._disk)

    def _short_of(self, room: Room) -> str | None:
        if (space := room.free / max(room.total, 1)) < self._min_free:
            return f"{_STORAGE} ({space:.0%} of the disk is free)"
        if room.inodes < self._min_free:
            return f"{_STORAGE} ({room.inodes:.0%} of the inodes are free)"
        return None


def _short_of_memory(settings: SpoolSettings) -> str | None:
    if not settings.memory_guard:
        return None
    used, allowed = _memory_used(), int((settings.max_memory or memory_limit()) * settings.memory_guard)
    if used <= allowed:
        return None
    return f"Insufficient system memory ({used >> 20} MiB of {allowed >> 20} MiB are in use)"


def _memory_used() -> int:
    """Raises StorageError: there is no way to tell just now, as without a free descriptor."""
    try:
        fields = _STATUS.read_text().split()
    except OSError as exc:
        raise StorageError(f"cannot read {_STATUS}: {exc.strerror}") from exc
    if len(fields) < 2:
        raise StorageError(f"cannot read {_STATUS}")
    return int(fields[1]) * _PAGE_BYTES
