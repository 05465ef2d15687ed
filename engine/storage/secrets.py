"""Keys of a node that nobody but its own workers needs: made when first asked for, one file each, readable by us alone.

A line of the file is a number and a key in hexadecimal, `1 6f1c...`; empty lines and those that begin with # are
nothing. The first key is used, all are believed: a new one goes on top, and the old ones stay as long as anything that
they signed may come back. Nodes that must believe one another have the same file.

A file of 32 bytes that are no text is an older form of one key, which has the number 1.
"""

import logging
import os
import secrets
from pathlib import Path

from engine.base.errors import StorageError
from engine.storage.directories import sync_directory

log = logging.getLogger(__name__)

KEY_BYTES = 32  #: of those that are made here
_SHORTEST, _LONGEST = 16, 64
_MOST_BYTES = 1 << 20


def read_keys(path: Path) -> dict[int, bytes]:
    """The keys of a file by number, the newest first; one is made where there is no file. Raises StorageError."""
    try:
        if not path.exists():
            _make(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            data = file.read(_MOST_BYTES)
            mode = os.fstat(descriptor).st_mode
        # By chance a key is text once in 10^13.
        old = len(data) == KEY_BYTES and not all(32 <= byte < 127 or byte in b"\t\r\n" for byte in data)
        lines = [] if old else data.decode("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise StorageError(f"cannot read the keys in {path}: {exc}") from exc
    if mode & 0o077 and not old:
        raise StorageError(f"{path} can be read by others; its mode must be 0600")
    if old:
        if mode & 0o077:
            log.warning("%s can be read by others; its mode should be 0600", path)
        return {1: data}
    keys: dict[int, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, secret = line.split()
            if not 0 <= int(name) <= 255 or int(name) in keys:
                raise ValueError
            keys[int(name)] = bytes.fromhex(secret)
            if not _SHORTEST <= len(keys[int(name)]) <= _LONGEST:
                raise ValueError
        except ValueError:
            raise StorageError(
                f"{path}, line {number}: not a number from 0 to 255, each once, and {_SHORTEST} to {_LONGEST} bytes in "
                "hexadecimal"
            ) from None
    if not keys:
        raise StorageError(f"there is no key in {path}")
    return keys


def _make(path: Path) -> None:
    """Whole or not at all, and the first one wins: several workers may come at once."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(f"1 {secrets.token_hex(KEY_BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        os.unlink(temporary)
    sync_directory(path.parent)
