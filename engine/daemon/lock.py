"""One daemon, one data directory: the second refuses."""

import fcntl
import os
from pathlib import Path

from engine.base.errors import StorageError


def lock_data_dir(data_dir: Path) -> int:
    """Make the directory (mode 0700) and lock it for this process; the descriptor holds the lock until it is closed.

    Raises StorageError: another daemon has it, or it cannot be used.
    """
    path = data_dir / "lock"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StorageError(f"cannot use the data directory {data_dir}: {exc.strerror}") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StorageError(f"{data_dir} is in use by another daemon (pid {owner})") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
