"""The daemon with a file layer that counts what the spool writes.

python -m bench.counted FILE serve -c postrider.toml         FILE gets {"suffix": bytes} at the end
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from engine.cli.main import main
from engine.storage.spool import spool
from engine.storage.spool.files import DiskFiles


class CountingFiles(DiskFiles):
    """Bytes written, by suffix of the file."""

    counts: ClassVar[Counter[str]] = Counter()  #: of all of this process: the daemon makes its own instance

    def __init__(self) -> None:
        self._suffixes: dict[int, str] = {}

    def create(self, path: Path) -> int:
        return self._note(super().create(path), path)

    def open(self, path: Path) -> int:
        return self._note(super().open(path), path)

    def write(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        super().write(descriptor, pieces)
        self.counts[self._suffixes[descriptor]] += sum(map(len, pieces))

    def append(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        super().append(descriptor, pieces)
        self.counts[self._suffixes[descriptor]] += sum(map(len, pieces))

    def _note(self, descriptor: int, path: Path) -> int:
        self._suffixes[descriptor] = path.suffix or path.name
        return descriptor


if __name__ == "__main__":
    spool.DiskFiles = CountingFiles  # type: ignore[attr-defined]  # the one place where the daemon picks its files
    try:
        status = main(sys.argv[2:])
    finally:
        Path(sys.argv[1]).write_text(json.dumps(CountingFiles.counts))
    sys.exit(status)
