"""A spool of its own on a real disk, and faults of its file operations.

Messages have short names in stories; `id_of` makes ids of them that sort as the names do.
"""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import SpoolSettings
from engine.message.content import Content
from engine.message.envelope import Envelope, Recipient
from engine.message.ids import join_id, split_id
from engine.message.outcome import Outcome, Scope, Status
from engine.storage.events.journal import EventJournal
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.files import DiskFiles
from engine.storage.spool.spool import Spool

CONTENT = b"Subject: x\r\n\r\nbody\r\n"
NODE = "Test"


def id_of(name: str) -> str:
    """The id of a message with this name, of at most six characters."""
    return join_id(int.from_bytes(name.encode().ljust(6, b"\0"), "big") << 12, NODE)


def name_of(message_id: str) -> str:
    return (split_id(message_id)[0] >> 12).to_bytes(6, "big").rstrip(b"\0").decode()


class FaultyFiles(DiskFiles):
    """The real disk, with faults to order. calls: what was asked for, in order.

    fail: so many of the next `write` or `sync` fail, a write having done half of its work. fail_at: the call with this
    number fails, and all after it if `for_good`.
    """

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.fail_at: int | None = None
        self.for_good = False
        self.calls: list[str] = []

    def create(self, path: Path) -> int:
        self._call("create")
        return super().create(path)

    def open(self, path: Path) -> int:
        self._call("open")
        return super().open(path)

    def write(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        if self._due("write"):
            os.write(descriptor, b"".join(pieces)[: sum(map(len, pieces)) // 2])
            raise StorageError(os.strerror(errno.ENOSPC))
        super().write(descriptor, pieces)

    def sync(self, descriptor: int) -> None:
        if self._due("sync"):
            raise StorageError(os.strerror(errno.EIO))
        super().sync(descriptor)

    def append(self, descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
        self.write(descriptor, pieces)
        self.sync(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        self._call("truncate")
        super().truncate(descriptor, length)

    def unlink(self, path: Path) -> None:
        self._call("unlink")
        super().unlink(path)

    def make_directory(self, path: Path) -> None:
        self._call("make_directory")
        super().make_directory(path)

    def _call(self, what: str) -> None:
        if self._due(what):
            raise StorageError(os.strerror(errno.EIO))

    def _due(self, what: str) -> bool:
        number = len(self.calls)
        self.calls.append(what)
        self.fail[what] = self.fail.get(what, 0) - 1
        due = self.fail_at is not None and (number == self.fail_at or (self.for_good and number > self.fail_at))
        return due or self.fail[what] >= 0


def open_spool(path: Path, files: DiskFiles | None = None, **settings: Any) -> Spool:
    """A spool in `path`, its journal recovered."""
    events = EventJournal(path / "events", 1 << 20, 86400)
    settings = {"min_free": 0.0, "memory_guard": 1.0, "move_rate": 0, **settings}
    spool = Spool(path / "spool", SpoolSettings(**settings), events, Metrics(), owner="n/0", files=files)
    spool.start()
    return spool


async def whole_spool(path: Path, files: DiskFiles | None = None, **settings: Any) -> Spool:
    """As `open_spool`, with its old generation loaded."""
    spool = open_spool(path, files, **settings)
    await spool.load_backlog()
    return spool


def envelope(name: str, recipients: int = 1, domain: str = "example.org", **more: Any) -> Envelope:
    rcpts = tuple(Recipient(f"r{n}@{domain}") for n in range(recipients))
    return Envelope(id_of(name), "ada@example.net", rcpts, 1000.0, 4e9, len(CONTENT), **more)


def outcome(index: int, status: Status = Status.DELIVERED) -> Outcome:
    return Outcome(index=index, status=status, scope=Scope.RECIPIENT, status_code="2.0.0", reply="250 ok")


async def put(
    spool: Spool, name: str, recipients: int = 1, content: Content = CONTENT, domain: str = "example.org", **more: Any
) -> Delivery:
    """A message to one destination, stored; its delivery, in hand."""
    made = envelope(name, recipients, domain, **more)
    await spool.accept(made, content, [(domain, tuple(range(recipients)))])
    return find(spool, name)


async def put_many(spool: Spool, name: str, domains: Sequence[str], content: Content = CONTENT) -> list[Delivery]:
    """A message to one recipient in each domain."""
    rcpts = tuple(Recipient(f"r@{domain}") for domain in domains)
    made = Envelope(id_of(name), "ada@example.net", rcpts, 1000.0, 4e9, len(content))
    await spool.accept(made, content, [(domain, (n,)) for n, domain in enumerate(domains)])
    return [delivery for delivery in spool.in_hand if delivery.message.id == made.id]


def find(spool: Spool, name: str) -> Delivery:
    """The one delivery in hand of a message."""
    [delivery] = [d for d in spool.in_hand if d.message.id == id_of(name) and d.state is not State.FINAL]
    return delivery


def rows_of(spool: Spool, name: str | None = None) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The rows of a message, or all."""
    rows = [int(row) for part in spool.table.select() for row in part]
    if name is not None:
        rows = [row for row in rows if spool.id_of(row) == id_of(name)]
    return np.array(rows, dtype=np.uint32)


def cool(spool: Spool, *deliveries: Delivery) -> None:
    """Nobody has them in hand any more."""
    for delivery in deliveries or list(spool.in_hand):
        if delivery.state is not State.FINAL:
            spool.cool(delivery, State.WAITING)


async def take(spool: Spool, name: str) -> Delivery:
    """The one delivery of a message, taken from its row."""
    rows = rows_of(spool, name)
    spool.table.move_many(rows, State.LOADING)
    [delivery] = await spool.reader.read(rows)
    assert isinstance(delivery, Delivery), delivery
    return delivery


async def settle(
    spool: Spool, delivery: Delivery, status: Status = Status.DELIVERED, indexes: Sequence[int] | None = None
) -> None:
    """An attempt with this outcome, for everyone or some."""
    made, _ = await spool.reader.load(delivery)
    fates = [outcome(index, status) for index in (delivery.indexes if indexes is None else indexes)]
    await spool.settle(delivery, made, 1500.0, "other", fates)


async def live(spool: Spool) -> dict[str, list[tuple[int, ...]]]:
    """Recipients that are not final, of each delivery, by message."""
    found = [delivery for delivery in spool.in_hand if delivery.state is not State.FINAL]
    found += await spool.reader.peek(rows_of(spool))
    out: dict[str, list[tuple[int, ...]]] = {}
    for delivery in sorted(found, key=lambda d: (d.message.id, d.number)):
        out.setdefault(name_of(delivery.message.id), []).append(delivery.indexes)
    return out


async def contents(spool: Spool) -> dict[tuple[str, int], tuple[Any, ...]]:
    """All that is known of every delivery, by message and number: what a move or a restart must not change."""
    found = [delivery for delivery in spool.in_hand if delivery.state is not State.FINAL]
    found += await spool.reader.peek(rows_of(spool))
    out = {}
    for d in found:
        own, content = await spool.reader.load(d)
        recipients = tuple(own.recipients[index] for index in d.indexes)
        key = name_of(d.message.id), d.number
        assert key not in out
        out[key] = (d.snapshot(), d.via, own.sender, recipients, own.batch, own.user, own.expires_at, content)
    return out


async def after_restart(path: Path, look: Callable[[Spool], Any], **settings: Any) -> Any:
    """What `look` finds in the spool that the next process makes of this directory."""
    spool = await whole_spool(path, **settings)
    found = await look(spool)
    await spool.close()
    return found
