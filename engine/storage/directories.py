"""What spool and events both do with directories."""

import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
