"""A spool on a real disk without a queue: messages are put in, settled, moved and read back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np

from engine.base.metrics import Metrics
from engine.base.settings import SpoolSettings
from engine.base.units import Size
from engine.message.content import Content, whole
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Scope, Status
from engine.queue import scope as scopes
from engine.storage.events.journal import EventJournal
from engine.storage.events.reader import newest_frame
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.export import Exported, StreamReader
from engine.storage.spool.extract import Extract
from engine.storage.spool.importer import Importer
from engine.storage.spool.keys import Key
from engine.storage.spool.snapshot import SnapshotFiles
from engine.storage.spool.spool import Spool
from engine.storage.spool.verify import Verification
from engine.storage.spool.view import SpoolView

CONTENT = b"Subject: x\r\n\r\nbody\r\n"


def name_of(number: int, node: str = "node") -> str:
    """A message id."""
    return f"00000000{node}{number:02d}"


class Bench:
    """An open spool; `directory` is what the tools look at."""

    def __init__(self, path: Path, **settings: object) -> None:
        limits: dict[str, object] = {"min_free": 0.0, "journal_files": 0, "segment_bytes": Size(4096), **settings}
        self.directory = path / "spool" / "0"
        self._events = EventJournal(path / "events" / "0", 1 << 20, 86400 * 3650)
        self.spool = Spool(
            self.directory, SpoolSettings(**limits), self._events, Metrics(), owner="old.test/0"  # type: ignore[arg-type]
        )  # fmt: skip
        self.spool.accepted = self._put_down
        self.spool.start()

    def _put_down(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.spool.cool(delivery, State.WAITING)

    async def put(self, name: str, *destinations: str, content: Content = CONTENT, **more: object) -> Envelope:
        """A message with two recipients at each destination."""
        recipients = tuple(Recipient(f"{n}@{name}") for name in destinations for n in "ab")
        fields: dict[str, object] = {"received_at": 1000.0, "expires_at": 9e9, "content_bytes": len(content), **more}
        envelope = Envelope(name, "ada@home.test", recipients, **fields)  # type: ignore[arg-type]
        splits = [(domain, (2 * n, 2 * n + 1)) for n, domain in enumerate(destinations)]
        await self.spool.accept(envelope, content, splits)
        return envelope

    async def settle(self, name: str, number: int, *statuses: Status, due_at: float = 2000.0) -> None:
        """An attempt at delivery `number` of a message: an outcome for each of its first recipients."""
        table = self.spool.table
        [row] = [row for row in self.rows() if (self.spool.id_of(row), table.get(row, "number")) == (name, number)]
        table.move(row, State.LOADING)
        [delivery] = await self.spool.reader.read(np.array([row], dtype=np.uint32))
        assert isinstance(delivery, Delivery)
        envelope, _ = await self.spool.reader.load(delivery)
        outcomes = [
            Outcome(index=index, status=status, scope=Scope.RECIPIENT, status_code="2.0.0", reply="said")
            for index, status in zip(delivery.indexes, statuses, strict=False)
        ]
        delivery.attempts += 1
        delivery.due_at, delivery.last = due_at, "said"
        await self.spool.settle(delivery, envelope, 1500.0, "other", outcomes)
        if delivery.state is not State.FINAL:
            self.spool.cool(delivery, State.WAITING)

    async def age(self) -> None:
        """Everything that is in the journal goes to the old generation."""
        await self.spool._journal.run(self.spool._journal.leave_file)
        await self.spool.work(at_once=True)

    def rows(self) -> list[int]:
        return [int(row) for rows in self.spool.table.select() for row in rows]

    async def live(self) -> dict[tuple[str, int], tuple[tuple[int, ...], int, float, bytes]]:
        """Of each delivery: recipients, attempts, due time and content."""
        found = {}
        for delivery in await self.spool.reader.peek(np.array(self.rows(), dtype=np.uint32)):
            assert delivery.message.hot is not None
            own = delivery.message.id, delivery.number
            found[own] = delivery.indexes, delivery.attempts, delivery.due_at, whole(delivery.message.hot[1])
        return found

    async def close(self) -> None:
        await self.spool.close()
        self._events.close()


@contextlib.asynccontextmanager
async def bench(path: Path, **settings: object) -> AsyncIterator[Bench]:
    """An open spool, loaded; closed in order at the end."""
    made = Bench(path, **settings)
    await made.spool.load_backlog()
    try:
        yield made
    finally:
        await made.close()


async def killed(made: Bench) -> None:
    """As SIGKILL leaves it: nothing is written any more."""
    made.spool._mover._thread.shutdown()
    made.spool.reader.close()
    await made.spool._journal.close()
    await asyncio.sleep(0)


def verified(directory: Path) -> Verification:
    """What a look at all of a spool's files finds."""
    newest = newest_frame(directory.parent.parent / "events" / directory.name)
    with SnapshotFiles(directory) as files:
        return Verification(directory, files, newest)


def exported(directory: Path, scope: str = "*") -> bytes:
    """The whole stream of what a spool's files hold."""
    with SnapshotFiles(directory) as files:
        extract = Extract([SpoolView(directory, files)], scopes.Scope.parse(scope, None).rows)
        stream = b"".join(extract.pieces("old.test/0", 3000.0, scope))
    assert extract.problems == []
    return stream


def messages(stream: bytes) -> list[Exported]:
    """What is in a whole stream."""
    reader = StreamReader()
    found = list(reader.feed(stream))
    reader.end()
    return found


def names(stream: bytes) -> list[Key]:
    """The deliveries of a whole stream, sorted."""
    return sorted(own for one in messages(stream) for own in one.keys)


async def take_in(spool: Bench, stream: bytes) -> tuple[int, int]:
    """How many deliveries of a whole stream are taken in, and how many left out."""
    importer = Importer(spool.spool)
    await importer.feed(stream)
    await importer.end()
    return importer.taken, importer.left_out


async def both_generations(spool: Bench) -> None:
    """Five deliveries: three in the old generation, one of them tried, one in the journal, and some that ended."""
    await spool.put(name_of(1), "one.test", "two.test", user="acme")
    await spool.put(name_of(2), "one.test", batch="sale")
    await spool.put(name_of(3), "gone.test")
    await spool.age()
    await spool.settle(name_of(1), 0, Status.DELIVERED, Status.DEFERRED)
    await spool.settle(name_of(3), 0, Status.DELIVERED, Status.FAILED)
    await spool.put(name_of(4), "one.test", message_class=0)
    await spool.put(name_of(5), "two.test")
    await spool.settle(name_of(5), 0, Status.DEFERRED)


ALL_FIVE = [(name_of(1), 0), (name_of(1), 1), (name_of(2), 0), (name_of(4), 0), (name_of(5), 0)]
