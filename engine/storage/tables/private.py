"""Files that are nobody's business: made with mode 0600."""

import os
import stat
from pathlib import Path


def make_private(path: Path) -> None:
    """The file, empty and with mode 0600, unless there is one. Raises OSError: there is something else.

    One that exists is never opened and closed: that would drop the locks this process holds on it through SQLite
    (POSIX locks go with the first close), and the next command to end would delete the log the daemon still reads.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise
