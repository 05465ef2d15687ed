"""A disk in memory that knows what a power cut may take from it, and breaks when it is told to.

`Disk` is what survives processes: files with what is safe on the platter and what is only in the cache. `MemoryFiles`
is `Files` on it, for one process: `die` ends that process, whatever its threads are doing. `Disk.cut` is the disk as
it could be found after a power cut now:

    writes and truncations     safe once a sync of their file returned that began after them; else, file by file, all,
                               none, a prefix torn at any byte, or any of their blocks, the others zeros
    new and removed names      safe when the call returned; if it has not, either way
    removed directories        either way, until the name is made again
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.base.errors import StorageError
from engine.storage.events.event import event_id
from engine.storage.events.journal import EventJournal, trusted_bytes
from engine.storage.spool.files import Room

#: A disk tears between these, or anywhere: both happen in what is simulated.
_BLOCK_BYTES = 512
#: (offset, bytes written there), or (new length, None).
Change = tuple[int, bytes | None]


class File:
    """stable: what is safe. data: what a reader sees. pending: changes from the one to the other.

    failed: a write or sync of it failed: S4 forbids another.
    """

    __slots__ = ("data", "failed", "pending", "stable")

    def __init__(self, stable: bytes = b"") -> None:
        self.stable = stable
        self.data = bytearray(stable)
        self.pending: list[Change] = []
        self.failed = False

    def change(self, offset: int, written: bytes | None) -> None:
        self.pending.append((offset, written))
        _apply(self.data, offset, written)

    def synced(self, count: int) -> None:
        """The first `count` changes are safe."""
        stable = bytearray(self.stable)
        for offset, written in self.pending[:count]:
            _apply(stable, offset, written)
        self.stable = bytes(stable)
        del self.pending[:count]

    def cut(self, chance: random.Random) -> bytes:
        """What a power cut leaves of it."""
        if not self.pending:
            return self.stable
        fate = chance.randrange(4)
        if fate == 0:
            return self.stable
        if fate == 1:
            return bytes(self.data)
        left = bytearray(self.stable)
        if fate == 2:
            whole = chance.randrange(len(self.pending))
            for offset, written in self.pending[:whole]:
                _apply(left, offset, written)
            offset, written = self.pending[whole]
            if written:
                _apply(left, offset, written[: chance.randrange(len(written) + 1)])
            return bytes(left)
        for offset, written in self.pending:
            if written is None:
                if chance.random() < 0.5:
                    _apply(left, offset, None)
                continue
            for start in range(0, len(written), _BLOCK_BYTES):
                if chance.random() < 0.7:
                    _apply(left, offset + start, written[start : start + _BLOCK_BYTES])
        return bytes(left)


def _apply(data: bytearray, offset: int, written: bytes | None) -> None:
    if written is None:
        del data[offset:]
        data.extend(bytes(offset - len(data)))
    else:
        data.extend(bytes(max(0, offset - len(data))))
        data[offset : offset + len(written)] = written


@dataclass
class Disk:
    """files: by path. events: the files of the event journal, in order. making, removing: names whose creation or
    removal has not returned. fading: directories that were removed. now: grows with everything that happens.
    size: bytes that files may have in all.
    """

    files: dict[str, File] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    events: list[File] = field(default_factory=list)
    making: set[str] = field(default_factory=set)
    removing: dict[str, File] = field(default_factory=dict)
    fading: set[str] = field(default_factory=set)
    now: int = 0
    size: int = 1 << 50

    def cut(self, chance: random.Random) -> "Disk":
        """The disk as it could be after a power cut at this moment."""
        after = Disk(now=self.now, size=self.size)
        after.directories = {
            name for name in self.directories if name not in self.making or chance.random() < 0.5
        } | {name for name in self.fading if chance.random() < 0.5}  # fmt: skip
        for name, file in sorted({**self.files, **self.removing}.items()):
            unsure = name in self.making or name in self.removing
            if not (unsure and chance.random() < 0.5):
                after.files[name] = File(file.cut(chance))
        after.events = [File(file.cut(chance)) for file in self.events]
        return after

    def free(self) -> int:
        return max(0, self.size - sum(len(file.data) for file in (*self.files.values(), *self.events)))

    def lay_down(self, directory: Path) -> None:
        """Write it out, to be looked at."""
        for name, file in self.files.items():
            path = directory / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data)
        for number, file in enumerate(self.events):
            (directory / f"events.{number}").write_bytes(file.data)


@dataclass
class Fault:
    """What goes wrong: call number `at` (1 is the first) of an operation, and the `count` - 1 after it.

    effect: how much of it happens all the same: "none", "half" (of a write), "all".
    """

    operation: str
    at: int
    reason: str = "Input/output error"
    effect: str = "none"
    count: int = 1


class MemoryFiles:
    """`Files` on a Disk. moment: called under the lock with the disk, before and after everything that changes it.

    calls: how often each operation was called. broken: rules of S4 that were broken.
    """

    def __init__(self, disk: Disk, moment: Callable[[Disk], None] = lambda disk: None) -> None:
        self.disk = disk
        self.faults: list[Fault] = []
        self.hit = 0
        self.calls: Counter[str] = Counter()
        self.broken: list[str] = []
        self.read_only = False
        self.moment = moment
        self._lock = threading.RLock()
        self._open: dict[int, tuple[str, File]] = {}
        self._next = 3
        self.dead = False

    def die(self) -> None:
        """The process is gone: nothing that its threads still do reaches the disk."""
        with self._lock:
            self.dead = True
            for file in self.disk.files.values():
                file.failed = False  # the next one cannot know

    # ---- Files

    def create(self, path: Path) -> int:
        name = str(path)
        with self._operation("create", changes=True) as half:
            if name in self.disk.files or str(path.parent) not in self.disk.directories:
                raise StorageError(f"cannot create {path}: it exists, or its directory does not")
            self.disk.files[name] = file = File()
            self.disk.making.add(name)
            half()
            self._directory_synced(path.parent)
            return self._descriptor(name, file)

    def open(self, path: Path) -> int:
        with self._operation("open", changes=self.read_only):
            return self._descriptor(str(path), self._file(path))

    def write(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        name, file = self._open[descriptor]
        data = b"".join(pieces)
        self._check(name, file, "written")
        with self._fails(file), self._operation("write", changes=True, part=lambda: self._write(file, data)) as half:
            file.change(len(file.data), data[: self.disk.free()])
            half()
            if not file.data.endswith(data):
                raise StorageError("write: No space left on device")

    def sync(self, descriptor: int) -> None:
        name, file = self._open[descriptor]
        self._check(name, file, "synced")
        covered = len(file.pending)
        with self._fails(file), self._operation("sync", changes=True):
            file.synced(covered)

    def append(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        self.write(descriptor, pieces)
        self.sync(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        _, file = self._open[descriptor]
        with self._operation("truncate", changes=True):
            file.change(length, None)

    def close(self, descriptor: int) -> None:
        with self._lock:
            del self._open[descriptor]

    def unlink(self, path: Path) -> None:
        name = str(path)
        with self._operation("unlink", changes=True) as half:
            file = self.disk.files.pop(name, None)
            if file is not None:
                self.disk.removing[name] = file
            half()
            self._directory_synced(path.parent)

    def read(self, path: Path, offset: int = 0, length: int | None = None) -> bytes:
        with self._operation("read"):
            data = self._file(path).data
            wanted = max(0, len(data) - offset) if length is None else max(0, length)
            found = bytes(data[offset : offset + wanted])
            if len(found) != wanted:
                raise StorageError(f"{path} is shorter than its index says")
            return found

    def size(self, path: Path) -> int | None:
        with self._operation("size"):
            if str(path) in self.disk.directories:
                return 0
            file = self.disk.files.get(str(path))
            return None if file is None else len(file.data)

    def names(self, directory: Path) -> list[str]:
        with self._operation("names"):
            prefix = f"{directory}/"
            found = {*self.disk.files, *self.disk.directories}
            return sorted({name[len(prefix) :].split("/")[0] for name in found if name.startswith(prefix)})

    def make_directory(self, path: Path) -> None:
        name = str(path)
        there = name in self.disk.directories
        with self._operation("make_directory", changes=True) as half:
            self.disk.directories.add(name)
            if not there and name not in self.disk.fading:
                self.disk.making.add(name)
            half()
            self._directory_synced(path.parent)
            self.disk.fading.discard(name)

    def remove_directory(self, path: Path) -> None:
        with self._operation("remove_directory", changes=True):
            prefix = f"{path}/"
            if not any(name.startswith(prefix) for name in (*self.disk.files, *self.disk.directories)):
                self.disk.directories.discard(str(path))
                self.disk.fading.add(str(path))

    def room(self, path: Path) -> Room:
        with self._operation("room"):
            return Room(self.disk.free(), self.disk.size, 1.0)

    # ---- inside

    @contextmanager
    def _operation(
        self, name: str, changes: bool = False, part: Callable[[], None] = lambda: None
    ) -> Iterator[Callable[[], None]]:
        """One call. What it gives is called between the change and its end: a cut may fall there."""
        with self._lock:
            if self.dead:
                raise StorageError("the process is dead")
            if self.read_only and changes:
                raise StorageError(f"{name}: Read-only file system")
            self.calls[name] += 1
            fault = next(
                (f for f in self.faults if f.operation == name and 0 <= self.calls[name] - f.at < f.count), None
            )
            if fault is not None:
                self.hit += 1
                if fault.effect == "half":
                    part()
                if fault.effect != "all":
                    raise StorageError(f"{name}: {fault.reason}")
            if changes:
                self._tick()
            yield self._tick
            if changes:
                self._tick()
            if fault is not None:
                raise StorageError(f"{name}: {fault.reason}")

    def _tick(self) -> None:
        self.disk.now += 1
        self.moment(self.disk)
        if self.dead:
            raise StorageError("the process died in the middle of this")

    def _directory_synced(self, directory: Path) -> None:
        """Names in it are safe, whoever made or removed them."""
        disk = self.disk
        disk.making = {name for name in disk.making if Path(name).parent != directory}
        disk.removing = {name: file for name, file in disk.removing.items() if Path(name).parent != directory}

    @staticmethod
    def _write(file: File, data: bytes) -> None:
        file.change(len(file.data), data[: len(data) // 2])

    def _check(self, name: str, file: File, what: str) -> None:
        if file.failed and not self.dead:
            self.broken.append(f"S4: {name} is {what} after a failed write or sync")

    @contextmanager
    def _fails(self, file: File) -> Iterator[None]:
        try:
            yield
        except StorageError:
            if not self.dead:
                file.failed = True
            raise

    def _file(self, path: Path) -> File:
        file = self.disk.files.get(str(path))
        if file is None:
            raise StorageError(f"cannot open {path}: No such file or directory")
        return file

    def _descriptor(self, name: str, file: File) -> int:
        self._next += 1
        self._open[self._next] = name, file
        return self._next


class MemoryEvents(EventJournal):
    """An event journal on the same disk. It breaks as its contract says: the file is left, a write opens another."""

    def __init__(self, files: MemoryFiles) -> None:
        self._files = files
        self._current: File | None = None
        if files.disk.events:
            # As the real one does: it goes on in the newest file, cut to its last whole line.
            self._current = file = files.disk.events[-1]
            if len(file.data) > (whole := bytes(file.data).rfind(b"\n") + 1):
                file.change(whole, None)
                file.synced(len(file.pending))
        # Of the newest file: one that was left in the middle of a write may know more, and not be on disk.
        newest = next((bytes(file.data) for file in reversed(files.disk.events) if b"\n" in file.data), b"")
        self.last_id = (0, -1)
        for line in reversed(newest.splitlines(keepends=True)):
            with suppress(ValueError):
                self.last_id = event_id(line)
                break

    def distrust(self, safe: int) -> None:
        file = next((file for file in reversed(self._files.disk.events) if file.data), None)
        if file is None:
            return
        file.synced(len(file.pending))
        whole = trusted_bytes(bytes(file.data), safe)
        if whole < len(file.data):
            file.change(whole, None)
            file.synced(len(file.pending))
            self.last_id = max([(safe, -1), *map(event_id, bytes(file.data).splitlines()[-1:])])

    @staticmethod
    def lines(disk: Disk) -> list[bytes]:
        """Whole lines."""
        return [line for file in disk.events for line in bytes(file.data).splitlines(keepends=True) if line[-1] == 10]

    def write(self, data: bytes) -> None:
        file = self._current or File()
        if self._current is None and not self._files.dead:
            self._current = file
            self._files.disk.events.append(file)
        try:
            with self._files._operation("event_write", changes=True, part=lambda: self._files._write(file, data)):
                file.change(len(file.data), data)
        except StorageError:
            self._current = None
            if not file.data and not self._files.dead:
                self._files.disk.events.remove(file)
            raise

    def sync(self) -> None:
        file = self._current
        if file is None:
            return
        covered = len(file.pending)
        try:
            with self._files._operation("event_sync", changes=True):
                file.synced(covered)
        except StorageError:
            self._current = None
            raise
