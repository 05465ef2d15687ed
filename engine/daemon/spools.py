"""The spools of a data directory, and those whose worker is no more: fewer workers were asked for than the last time.

Nothing in them may be lost. Such a spool gets a worker that takes nothing new, until it is empty; then a mark is left
in it, so that it is not looked at again. A worker that is back to stay removes the mark. The directory stays: its
numbers go on where they were.
"""

from pathlib import Path

from engine.base.errors import StorageError

_MARK = "drained"


def all_spools(data_dir: Path) -> list[int]:
    """Numbers of all spools there are, the drained ones included. Raises StorageError."""
    try:
        names = [path.name for path in (data_dir / "spool").iterdir()]
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StorageError(f"{data_dir / 'spool'}: {exc.strerror}") from exc
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def leftover(data_dir: Path, workers: int) -> list[int]:
    """Numbers of the spools without a worker of their own that may hold mail. Raises StorageError."""
    try:
        return [n for n in all_spools(data_dir) if n >= workers and not _mark(data_dir, n).exists()]
    except OSError as exc:
        raise StorageError(f"{data_dir / 'spool'}: {exc.strerror}") from exc


def mark_drained(data_dir: Path, number: int) -> None:
    """This spool is empty and its worker has stopped. Raises StorageError."""
    path = _mark(data_dir, number)
    try:
        path.touch(mode=0o600)
    except OSError as exc:
        raise StorageError(f"{path}: {exc.strerror}") from exc


def take_over(data_dir: Path, number: int) -> None:
    """This spool has a worker again. Raises StorageError."""
    path = _mark(data_dir, number)
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise StorageError(f"{path}: {exc.strerror}") from exc


def _mark(data_dir: Path, number: int) -> Path:
    return data_dir / "spool" / str(number) / _MARK
