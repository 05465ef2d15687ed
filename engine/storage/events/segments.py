"""The files of an event journal as readers and keepers see them: a number each, and lines, compressed or not.

    000000000001.log   JSON lines, as they were appended
    000000000001.zst   the same bytes, once nothing is appended any more (compact.py)

A compressed file is one that `zstd -dc` reads, too: frames of whole lines, a skippable frame (RFC 8878 3.1.2) before
each with its lengths, so that any place is found without decompressing what is before it, and a `Summary` at the
beginning. Where both files of a number are there, each is whole: a crash came before the first was removed.

The numbers of a journal's files have no holes but those that retention makes (journal.py), so that a file that
somebody else removed is known to be missing. How many events it had is not: frames without events make holes in ids.
"""

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import zstandard

from engine.base.errors import StorageError
from engine.storage.events.event import event_id, id_text

#: Bytes that are read, and compressed, at a time. More than the longest line: replies and addresses are bounded at
#: intake and in the SMTP client.
CHUNK = 1 << 20
_NAME = re.compile(r"([0-9]{12})\.(?:log|zst)")
_SKIPPABLE = 0x184D2A50
_HEAD = struct.Struct("<II")  #: of a skippable frame: magic, length
_LENGTHS = struct.Struct("<IIII")  #: magic, length (8), bytes of the frame behind it, bytes of lines in it
_MAX_SUMMARY = 1 << 16
_MOST_LOST = 1 << 30  #: bytes of a file that are believed to be cut off, or a damaged figure fills the memory
#: What no line begins with, but those that stand for what cannot be read.
_LOST = b"#"
LOST_LINE = b"#\n"


class Summary(msgspec.Struct, frozen=True):
    """What is in a file. events: its lines. first, last: ids, "" if no line can be read. bytes: of its lines."""

    events: int
    first: str
    last: str
    bytes: int


def log_name(number: int) -> str:
    return f"{number:012}.log"


def compressed_name(number: int) -> str:
    return f"{number:012}.zst"


def there(directory: Path, number: int) -> bool:
    """Whether a file is, compressed or not: a list of names may lack one that was renamed meanwhile."""
    # In this order: the first is removed when the second is there.
    return any(os.path.lexists(directory / name) for name in (log_name(number), compressed_name(number)))


def segment_numbers(directory: Path | int) -> list[int]:
    """Numbers of a journal's files, oldest first; of a directory that is not there, none. Raises StorageError."""
    try:
        found = {int(match[1]) for name in os.listdir(directory) if (match := _NAME.fullmatch(name))}
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StorageError(f"{directory}: {exc.strerror}") from exc
    return sorted(found)


class Segment:
    """A file that is open for reading. Methods raise OSError."""

    def __init__(self, fd: int, compressed: bool) -> None:
        self._fd = fd
        self.compressed = compressed
        self._found: list[_Frame] | None = None
        self._losses: tuple[int, bool, int] | None = None
        self._read: tuple[int, bytes] = -1, b""  #: start of the frame that was read last, and its lines

    def close(self) -> None:
        os.close(self._fd)

    def size(self) -> int:
        """Bytes of lines."""
        if not self.compressed:
            return os.fstat(self._fd).st_size
        return sum(frame.length for frame in self._frames())

    def read(self, size: int, offset: int) -> bytes:
        """Bytes from there on: `size`, or fewer if there are no more, or the frame ends."""
        if not self.compressed:
            return os.pread(self._fd, size, offset)
        for frame in self._frames():
            if frame.start <= offset < frame.start + frame.length:
                return self._lines_of(frame)[offset - frame.start :][:size]
        return b""

    def summary(self) -> Summary:
        """Of a compressed file it is written in it; a file that was appended to is read through."""
        if self.compressed and (found := _written_summary(self._fd)) is not None:
            return found
        events, size, first, last = 0, self.size(), "", b""
        offset = 0
        while data := self.read(CHUNK, offset):
            events += data.count(b"\n")
            offset += len(data)
            last = (last + data)[-CHUNK:]
            first = first or _id_in(data.splitlines())
        return Summary(events, first, _id_in(reversed(last[: last.rfind(b"\n") + 1].splitlines())), size)

    def lost(self, offset: int) -> tuple[int, bool]:
        """How many events nobody can read of a file with damaged frames, or at least; whether that is exact.

        offset: of the frame that is asked about; of all but the first they are none.
        """
        if self._losses is None:
            self._losses = self._lost()
        events, exact, first = self._losses
        return (events, exact) if offset <= first else (0, True)

    def _lost(self) -> tuple[int, bool, int]:
        """As `lost`, and where the first of these frames is."""
        known = _written_summary(self._fd) if self.compressed else None
        if known is None:
            return 0, False, 0
        whole, places, before, first = 0, 0, False, -1
        for frame in self._frames():
            lines = self._lines_of(frame)
            bad = is_lost(lines)
            whole += 0 if bad else lines.count(b"\n")
            if bad and not before:
                places, first = places + 1, frame.start if first < 0 else first
            before = bad
        return max(0, known.events - whole), places == 1, first

    def _frames(self) -> "list[_Frame]":
        if self._found is None:
            self._found = list(_frames(self._fd))
            self._found += _cut_off(self._found, _written_summary(self._fd))
        return self._found

    def _lines_of(self, frame: "_Frame") -> bytes:
        """A damaged frame is one damaged line, as long as what was in it: the places behind it stay (S5)."""
        if self._read[0] != frame.start:
            try:
                packed = os.pread(self._fd, frame.packed, frame.offset)
                data = zstandard.ZstdDecompressor().decompress(packed, frame.length)
            except zstandard.ZstdError:
                data = b""
            self._read = frame.start, data if len(data) == frame.length else _LOST * (frame.length - 1) + b"\n"
        return self._read[1]


def is_lost(lines: bytes) -> bool:
    """Whether they stand for a frame that cannot be read."""
    return lines.startswith(_LOST)


def open_segment(directory: Path, number: int) -> Segment | None:
    """A file of a journal; None: it is not there any more. Raises StorageError."""
    # In this order: the first is removed when the second is there.
    for name in (log_name(number), compressed_name(number)):
        try:
            fd = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise StorageError(f"{directory / name}: {exc.strerror}") from exc
        return Segment(fd, name == compressed_name(number))
    return None


def compressed_pieces(source: Segment, summary: Summary, level: int) -> Iterator[bytes]:
    """What the compressed file of this one consists of, piece by piece."""
    head = msgspec.json.encode(summary)
    yield _HEAD.pack(_SKIPPABLE, len(head)) + head
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
    offset = 0
    while data := source.read(CHUNK, offset):
        data = data[: data.rfind(b"\n") + 1] or data
        offset += len(data)
        frame = compressor.compress(data)
        yield _LENGTHS.pack(_SKIPPABLE, 8, len(frame), len(data)) + frame


class _Frame(NamedTuple):
    """start: bytes of lines before it. offset: where it is; packed: its bytes. length: bytes of lines in it."""

    start: int
    offset: int
    packed: int
    length: int


def _frames(fd: int) -> Iterator[_Frame]:
    """Up to the end, or to what is no frame of ours."""
    size = os.fstat(fd).st_size
    head = os.pread(fd, _HEAD.size, 0)
    if len(head) < _HEAD.size or (found := _HEAD.unpack(head))[0] != _SKIPPABLE:
        return
    start, offset = 0, _HEAD.size + found[1]
    while len(head := os.pread(fd, _LENGTHS.size, offset)) == _LENGTHS.size:
        magic, eight, packed, length = _LENGTHS.unpack(head)
        offset += _LENGTHS.size
        if magic != _SKIPPABLE or eight != 8 or not 0 < length <= CHUNK or offset + packed > size:
            return
        yield _Frame(start, offset, packed, length)
        start, offset = start + length, offset + packed


def _cut_off(frames: "list[_Frame]", known: Summary | None) -> "Iterator[_Frame]":
    """What stands for frames that must have been behind these; where nobody knows how long they were, for a line."""
    end = frames[-1].start + frames[-1].length if frames else 0
    missing = min(known.bytes - end, _MOST_LOST) if known is not None else 0 if frames else 2
    while missing > 0:
        length = min(missing, CHUNK - 1)  # a whole line in each piece that is read
        yield _Frame(end, 0, 0, length)
        end, missing = end + length, missing - length


def _written_summary(fd: int) -> Summary | None:
    try:
        length = _HEAD.unpack(os.pread(fd, _HEAD.size, 0))[1]
        return msgspec.json.decode(os.pread(fd, min(length, _MAX_SUMMARY), _HEAD.size), type=Summary)
    except (struct.error, msgspec.DecodeError, UnicodeDecodeError):
        return None


def first_id(lines: bytes) -> str:
    """The id of the first event; "": there is none."""
    return _id_in(lines.splitlines())


def _id_in(lines: Iterator[bytes] | list[bytes]) -> str:
    """The first id there is. A damaged line is passed over (S5)."""
    for line in lines:
        try:
            return id_text(event_id(line))
        except ValueError:
            continue
    return ""
