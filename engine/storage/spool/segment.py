"""A file of the spool, and a place in one.

    journal/<number>.<salt>.log                young: messages and outcomes in order of arrival
    mail/<folder>/<number>.<salt>.seg          old: the messages of one domain, or of several small ones
    mail/<folder>/<number>.<salt>.sta          what became of messages in the .seg of the same number
    mail/<folder>/<number>.<salt>.idx          what a start must know of that .seg, without reading it
    sms/<folder>/...                           the same, of one carrier or application
    shared/<number>.<salt>.con                 contents that go to several destinations, each once
    large/<number>.<salt>.dat                  one large content but its head (large.py)
    reserve                                    zeros, for a full disk (reserve.py)

Numbers grow over all files of a worker; no two segments share one. Salts: see frame.py.
"""

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from mypy_extensions import mypyc_attr
from numpy.typing import NDArray

from engine.base.errors import StorageError

_OFFSET_BITS: Final = 32
_OFFSET_MASK: Final = (1 << _OFFSET_BITS) - 1
#: An offset in the .sta of a segment and not in the segment itself.
_SIDE: Final = 1 << 31
#: A file has fewer bytes: the settings see to it.
MAX_SEGMENT_BYTES: Final = _SIDE
#: 20 large contents a second take them in seven years.
MAX_NUMBER: Final = (1 << 32) - 1
_NAME: Final = re.compile(r"([0-9]{12})\.([0-9a-f]{8})\.(?:log|seg|sta|idx|con|dat)")


def place_of(number: int, offset: int) -> int:
    """File and offset as one number: 32 bits for the file, 31 for 2 GiB of it, one for the side file."""
    return number << _OFFSET_BITS | offset


def side_place(number: int, offset: int) -> int:
    """A place in the side file of a segment."""
    return number << _OFFSET_BITS | _SIDE | offset


def file_of(place: int) -> int:
    return place >> _OFFSET_BITS


def files_of(places: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`file_of`, of a column."""
    return places >> np.uint64(_OFFSET_BITS)


def offset_of(place: int) -> int:
    return place & (_OFFSET_MASK ^ _SIDE)


def offsets_of(places: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`offset_of`, of a column."""
    return places & np.uint64(_OFFSET_MASK ^ _SIDE)


def is_side(place: int) -> bool:
    return bool(place & _SIDE)


def spool_directory(data_dir: Path, worker: int = 0) -> Path:
    """Where a worker's spool lies."""
    return data_dir / "spool" / str(worker)


def spool_owner(node: str, worker: int = 0) -> str:
    """Whose it is, as the first frame of each file says."""
    return f"{node}/{worker}"


class Segment:
    """One file. bytes: that count. refs: live deliveries that need something of it. live_bytes: of their messages.

    folder: of the old generation, "example.org", and "sms/alpha" where it is not mail's. title: for people.
    sealed: nothing more is written to it. dead: offsets of messages that are final and not yet so in the side file.
    side_bytes: of the side file.
    """

    __slots__ = (
        "bytes", "dead", "folder", "is_journal", "live_bytes", "number", "path", "refs", "salt", "sealed", "side_bytes",
    )  # fmt: skip

    def __init__(self, path: Path, size: int = 0) -> None:
        """path: named as above. Raises ValueError: it is not."""
        self.number = number_in(path.name)
        if not self.number:
            raise ValueError(f"{path.name} is no file of the spool")
        self.salt = int(path.name.split(".")[1], 16)
        self.path = path
        home = path.parent.parent.name
        self.folder = f"{home}/{path.parent.name}" if home == "sms" else path.parent.name
        self.is_journal = path.suffix == ".log"
        self.bytes = size
        self.refs = 0
        self.live_bytes = 0
        self.sealed = True
        self.dead: list[int] = []
        self.side_bytes = 0

    @property
    def title(self) -> str:
        return "/".join(self.path.parts[-3:])

    @property
    def side(self) -> Path:
        return self.path.with_suffix(".sta")

    @property
    def index(self) -> Path:
        return self.path.with_suffix(".idx")


@mypyc_attr(native_class=False)
class Segments(dict[int, Segment]):
    """All segments of a spool, of both generations, by number."""

    def find(self, number: int) -> Segment:
        """Raises StorageError: it is not there any more."""
        segment = self.get(number)
        if segment is None:
            raise StorageError(f"file {number} of the spool is gone")
        return segment

    def refer(self, place: int, length: int, state_place: int, content_file: int, by: int = 1) -> None:
        """A delivery needs these from now on; with `by` -1, no longer. A state in a side file goes with its segment."""
        segment = self[file_of(place)]
        segment.refs += by
        segment.live_bytes += by * length
        if state_place and not is_side(state_place):
            self[file_of(state_place)].refs += by
        if content_file:
            self[content_file].refs += by

    def refer_many(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """`refer`, of many rows of the table."""
        files = files_of(columns["place"])
        for number in np.unique(files):
            here = files == number
            self[int(number)].refs += int(here.sum())
            self[int(number)].live_bytes += int(columns["length"][here].sum())
        for place in columns["state_place"][columns["state_place"] != 0]:
            if not is_side(int(place)):
                self[file_of(int(place))].refs += 1
        numbers, counts = np.unique(columns["content_file"], return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            if number:
                self[number].refs += count


class Numbers:
    """Numbers for new files, in any thread. Who needs a file is counted by its number: none is ever given out twice.

    `new` raises StorageError: there are no more.
    """

    def __init__(self) -> None:
        self._last = 0
        self._giving = threading.Lock()

    def new(self) -> int:
        with self._giving:
            if self._last >= MAX_NUMBER:
                raise StorageError("the spool has no more numbers for files; drain it, and begin a new one")
            self._last += 1
            return self._last

    def pass_over(self, number: int) -> None:
        """Give out only higher ones: this is taken, whether its file is there or not."""
        with self._giving:
            self._last = max(self._last, number)


def number_in(name: str) -> int:
    """The number in a file's name; 0: it is no name of ours."""
    named = _NAME.fullmatch(name)
    number = int(named[1]) if named else 0
    return number if number <= MAX_NUMBER else 0


def segment_path(directory: Path, number: int, salt: int, suffix: str) -> Path:
    return directory / f"{number:012d}.{salt:08x}{suffix}"
