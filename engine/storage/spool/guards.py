"""The guards: below which free space, inodes or memory nothing more is accepted.

Measured now and then; what is refused is refused with 452, and taken again by itself once there is room. With a guard
of the disk goes a reserve on it (reserve.py).
"""

from pathlib import Path

from engine.base.errors import StorageError
from engine.base.settings import SpoolSettings
from engine.storage.spool.files import Files
from engine.storage.spool.reserve import Reserve

_STATUS = Path("/proc/self/statm")
_PAGE_BYTES = 4096
#: What may limit the memory of this process: control groups of version 2 and 1, then the machine.
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Guards:
    """failure: what is short, for operators; None: nothing."""

    def __init__(self, directory: Path, files: Files) -> None:
        self._directory = directory
        self._files = files
        self._reserve = Reserve(directory, files)
        self.failure: str | None = None

    @property
    def refusal(self) -> str | None:
        """The reply to who wants to hand in a message now; None: it can be taken."""
        return None if self.failure is None else f"452 4.3.1 {self.failure}"

    def measure(self, settings: SpoolSettings, failing: bool = False) -> None:
        """Look again. failing: the journal cannot be written. Blocks for a moment. Raises StorageError."""
        space, inodes = self._files.free(self._directory)
        if space < settings.min_free:
            self.failure = f"Insufficient system storage ({space:.0%} of the disk is free)"
        elif inodes < settings.min_free:
            self.failure = f"Insufficient system storage ({inodes:.0%} of the inodes are free)"
        else:
            self.failure = _short_of_memory(settings) if settings.memory_guard else None
        if failing or not space:
            self._reserve.give_up()
        elif self.failure is None and settings.min_free:
            self._reserve.keep(settings.segment_bytes)


def _short_of_memory(settings: SpoolSettings) -> str | None:
    used, limit = _memory_used(), settings.max_memory or memory_limit()
    if used <= limit * settings.memory_guard:
        return None
    return f"Insufficient system memory ({used >> 20} MiB of {limit >> 20} MiB are in use)"


def memory_limit() -> int:
    """Bytes that this process may have, by its control group or the machine. Raises StorageError."""
    limits = [int(text) for path in _CGROUP_LIMITS if (text := _text(path)).isdecimal()]
    for line in _text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            limits.append(int(line.split()[1]) << 10)
    if not limits:
        raise StorageError("cannot find out how much memory there is")
    return min(limits)


def _memory_used() -> int:
    """Raises StorageError: there is no way to tell just now, as without a free descriptor."""
    fields = _text(_STATUS).split()
    if len(fields) < 2:
        raise StorageError(f"cannot read {_STATUS}")
    return int(fields[1]) * _PAGE_BYTES


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
