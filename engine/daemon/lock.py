"""One daemon, one data directory: the second refuses."""

import fcntl
import os
import stat
import time
from pathlib import Path

from engine.base.errors import StorageError

#: Workers hold the lock as long as they live, and end a moment after a supervisor that was killed.
_ENDING_S, _LOOK_S = 10.0, 0.02


def lock_data_dir(data_dir: Path) -> int:
    """Make the directory (mode 0700) and lock it for this process; the descriptor holds the lock until it is closed.

    Raises StorageError: another daemon has it, it cannot be used, or others can write to it, and so put links into it.
    """
    path = data_dir / "lock"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if data_dir.stat().st_mode & stat.S_IWOTH:
            raise StorageError(f"everybody can write to the data directory {data_dir}: chmod 700 it")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StorageError(f"cannot use the data directory {data_dir}: {exc.strerror}") from exc
    deadline = time.monotonic() + _ENDING_S
    while not _lock(descriptor):
        owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        if _lives(owner) or time.monotonic() > deadline:
            os.close(descriptor)
            raise StorageError(f"{data_dir} is in use by another daemon (pid {owner})")
        time.sleep(_LOOK_S)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lives(owner: str) -> bool:
    """Whether there is a process of this id, or no way to tell."""
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, OSError):
        return True
    return True
