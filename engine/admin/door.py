"""What both sides of the operator's door know, without importing the engine behind it."""

import os
from pathlib import Path

from engine.base.units import counted

#: The Unix socket in data_dir.
SOCKET_NAME = "admin.sock"


#: What Linux takes as the path of a socket, without the NUL behind it (unix(7)).
_MAX_PATH_BYTES = 107


def too_long(data_dir: Path, workers: int) -> str:
    """Why the sockets of so many workers cannot be in this directory; "" if they can."""
    names = [SOCKET_NAME, *(worker_socket_name(workers - 1) for _ in range(workers > 1))]
    over = max(len(os.fsencode(data_dir / name)) for name in names) - _MAX_PATH_BYTES
    return f"{data_dir} is {counted(over, 'byte')} too long for the sockets in it" if over > 0 else ""


def worker_socket_name(number: int) -> str:
    """Where one of several workers answers its supervisor; operators ask at the other."""
    return f"admin.{number}.sock"
