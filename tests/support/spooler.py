"""A spool that is worked hard, beside a record of what it was asked and what it said: what must be on the disk.

`Ledger` knows of every delivery which states it may have at any moment of the disk (disk.Disk.now): the one last
acknowledged, or one that was on its way. `Player` drives a Spool on a disk.MemoryFiles and keeps the ledger.
`examine` starts a spool on a disk and holds it against the ledger:

S1  what was acknowledged and is not final is there, with its envelope, its content and its state
S2  what was acknowledged as final is not
S3  what was on its way is there as a whole or not at all, and nothing is there twice
E1  every event of what was acknowledged is in the journal, always with the same id

A third of what is long enough is stored as a large content, in a file of its own; after the mover's work (`tidy`) there
is no such file that nobody needs.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Size, SpoolSettings
from engine.message.content import Content, whole
from engine.message.envelope import Envelope, Recipient
from engine.message.ids import IdSource
from engine.message.outcome import Outcome, Scope, Status
from engine.storage.events.event import Event
from engine.storage.events.lines import noted_lines
from engine.storage.spool import backlog, emptying, journal, large, mover
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool
from tests.support.clock import FakeClock
from tests.support.disk import Disk, MemoryEvents, MemoryFiles

ROOT = Path("/data/spool/0")
SETTINGS = SpoolSettings(
    segment_bytes=Size(6 << 10), journal_files=2, move_rate=Size(0), hot_bytes=Size(8 << 10), min_free=0.0,
    memory_guard=1.0,
)  # fmt: skip
#: The first is large enough for a folder of its own.
DESTINATIONS = ("big.test", "big.test", "big.test", "b.test", "c.test", "d.test", "Größe/..", "e.test")
_SIZES = (0, 1, 30, 200, 200, 700, 700, 2000, 9000)
#: What may be a large content; how much of it stays in the frame; how much is written at a time.
_LARGE_BYTES, _HEAD_BYTES, _SLICE_BYTES = 1500, 50, 1 << 10
_METRICS = Metrics()

Key = tuple[str, int]
#: indexes, attempts, due_at, last; None: final.
Saved = tuple[tuple[int, ...], int, float, str] | None


@contextmanager
def small_scale() -> Iterator[None]:
    """Everything that happens to large spools happens to small ones, and a disk that failed is tried again at once."""
    with ExitStack() as stack:
        for module, name, value in (
            (mover, "_WORTH_EMPTYING", 1 << 10), (mover, "_MOSTLY_DEAD", 0.6), (emptying, "_CHUNK_ITEMS", 3),
            (emptying, "_CHUNK_BYTES", 4 << 10), (backlog, "FOLDER_FROM", 3), (backlog, "HEAD_BYTES", 1 << 10),
            (journal, "RETRY_S", 0.0), (large, "SLICE_BYTES", _SLICE_BYTES), (large, "_MAX_WAITING", 2 * _SLICE_BYTES),
        ):  # fmt: skip
            stack.enter_context(mock.patch.object(module, name, value))
        yield


@dataclass
class Sent:
    """A message. Moments are of Disk.now; refused_at: when it was said no to."""

    envelope: Envelope
    content: bytes
    splits: list[tuple[str, tuple[int, ...]]]
    offered_at: int
    acked_at: int | None = None
    refused_at: int | None = None


@dataclass
class Step:
    """A state that a delivery was given. events: (type, recipient) that it makes."""

    saved: Saved
    offered_at: int
    acked_at: int | None
    attempt: int = 0
    events: tuple[tuple[str, str], ...] = ()


@dataclass
class Ledger:
    sent: dict[str, Sent] = field(default_factory=dict)
    steps: dict[Key, list[Step]] = field(default_factory=dict)
    acked_at: int = 0  #: the last moment at which anything was acknowledged
    notes: dict[str, int] = field(default_factory=dict)  #: when events of no delivery were acknowledged, by their name
    ids: dict[tuple[Any, ...], str] = field(default_factory=dict)  #: of events that were seen

    def allowed(self, key: Key, moment: int) -> list[Saved]:
        """The states that a delivery may be found in on a disk of this moment."""
        sent = self.sent[key[0]]
        steps = [step for step in self.steps[key] if step.offered_at <= moment]
        if sent.offered_at > moment or not steps:
            return [None]
        known = [n for n, step in enumerate(steps) if step.acked_at is not None and step.acked_at < moment]
        found = [step.saved for step in steps[known[-1] if known else 0 :]]
        if not known:
            found.append(None)
        if sent.refused_at is not None and sent.refused_at < self.acked_at < moment:
            return [None]
        return found

    def must_have_told(self, moment: int) -> Iterator[tuple[Any, ...]]:
        """Events of everything that was acknowledged by then: (type, message, recipient, attempt)."""
        for key, steps in self.steps.items():
            for step in steps:
                if step.acked_at is not None and step.acked_at < moment:
                    for kind, recipient in step.events:
                        yield kind, key[0], recipient, step.attempt
        for name, acked_at in self.notes.items():
            if acked_at < moment:
                yield "receipt", name, "", 0


@dataclass
class Found:
    """What a start found. saved: by delivery."""

    spool: Spool
    files: MemoryFiles
    events: MemoryEvents
    rows: dict[Key, int]
    saved: dict[Key, Saved]


def make_spool(files: MemoryFiles, settings: SpoolSettings = SETTINGS) -> tuple[Spool, MemoryEvents]:
    """A spool on a disk, not started."""
    files.disk.directories.add(str(ROOT.parent.parent))
    events = MemoryEvents(files)
    return Spool(ROOT, settings, events, _METRICS, owner="test/0", files=files), events


async def examine(disk: Disk, ledger: Ledger, moment: int) -> Found:
    """Start on a disk and compare. Raises AssertionError. The spool runs when this returns."""
    files = MemoryFiles(disk)
    spool, events = make_spool(files)
    spool.start()
    assert spool._found is not None
    assert spool._found.lost == {}, "S5: a file is missed that no cut takes"
    await spool.load_backlog()
    found = Found(spool, files, events, {}, {})
    try:
        await _compare(found, ledger, moment)
        _compare_events(disk, ledger, moment)
    except BaseException:
        await end(found.spool, files)
        raise
    assert not files.broken, files.broken
    return found


async def end(spool: Spool, files: MemoryFiles) -> None:
    """The process ends without another word to the disk."""
    files.die()
    with suppress(StorageError):
        await spool.close()


async def _compare(found: Found, ledger: Ledger, moment: int) -> None:
    spool, table = found.spool, found.spool.table
    parts = list(table.select())
    rows = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint32)
    columns = table.columns(rows)
    for index, delivery in enumerate(await spool.reader.peek(rows)):
        key = delivery.message.id, delivery.number
        assert delivery.message.hot is not None
        envelope, content = delivery.message.hot
        sent = ledger.sent.get(key[0])
        assert sent is not None and sent.offered_at <= moment, f"nobody sent {key}, or it could not be read"
        assert key not in found.rows, f"S3: {key} is there twice"
        found.rows[key] = int(rows[index])
        saved = delivery.indexes, delivery.attempts, delivery.due_at, delivery.last
        allowed = ledger.allowed(key, moment)
        assert saved in allowed, f"{'S2' if allowed == [None] else 'S1'}: {key} is {saved}, not one of {allowed}"
        found.saved[key] = saved
        assert whole(content) == sent.content, f"S1: the content of {key}"
        assert delivery.destination == sent.splits[key[1]][0]
        assert same_but_recipients(envelope, sent.envelope), f"S1: the envelope of {key}"
        assert all(envelope.recipients[i] == sent.envelope.recipients[i] for i in delivery.indexes)
        assert [int(columns[name][index]) for name in ("recipients", "attempts", "due_at")] == [
            len(delivery.indexes), delivery.attempts, -int(-delivery.due_at // 1),
        ], f"the row of {key}"  # fmt: skip
    for key in ledger.steps:
        if key not in found.rows:
            assert None in ledger.allowed(key, moment), f"S1: {key} is lost, not one of {ledger.allowed(key, moment)}"
    for name, sent in ledger.sent.items():
        if sent.acked_at is None or sent.acked_at >= moment:
            there = {(name, number) in found.rows for number in range(len(sent.splits))}
            assert len(there) == 1, f"S3: a part of {name} is there"


async def tidy(found: Found) -> None:
    """The mover's work leaves no large content that nobody needs."""
    spool, table = found.spool, found.spool.table
    await spool.work(at_once=True)
    needed = {table.get(row, "content_file") for row in found.rows.values()}
    there = {int(name[:12]) for name in found.files.names(ROOT / "large")}
    assert there <= needed, f"nobody needs {there - needed}"


def same_but_recipients(one: Envelope, other: Envelope) -> bool:
    fields = [name for name in Envelope.__struct_fields__ if name != "recipients"]
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def _compare_events(disk: Disk, ledger: Ledger, moment: int) -> None:
    told: dict[tuple[Any, ...], str] = {}
    for line in MemoryEvents.lines(disk):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # torn, with another line behind it: passed over by readers
        what = event["type"], event["message"], event["recipient"], event.get("attempt", 0)
        assert told.setdefault(what, event["id"]) == event["id"], f"E1: {what} has two ids"
    for what in ledger.must_have_told(moment):
        assert what in told, f"E1: {what} was never told"
        assert ledger.ids.setdefault(what, told[what]) == told[what], f"E1: {what} had another id before"


class Player:
    """Works a spool as the queue would, by chance. hands: deliveries it has; rows: those it gave back."""

    def __init__(self, files: MemoryFiles, ledger: Ledger, chance: random.Random, clock: FakeClock) -> None:
        self.files = files
        self.ledger = ledger
        self.chance = chance
        self.clock = clock
        self.ids = IdSource("test", 0, clock)
        self.others = IdSource("elsewhere", 0, clock)
        self.hands: dict[Key, Delivery] = {}
        self.rows: dict[Key, int] = {}
        self.troubles: list[str] = []
        self.spool: Spool
        self.events: MemoryEvents

    # ---- beginnings and ends

    def take_over(self, found: Found) -> None:
        """Go on with a spool that was examined; what was found on its disk is what is."""
        self.files, self.spool, self.events = found.files, found.spool, found.events
        self.hands, self.rows = {}, dict(found.rows)
        self.ids = IdSource("test", 0, self.clock, self.spool.last_id)
        now, ledger = self.files.disk.now, self.ledger
        for key, steps in list(ledger.steps.items()):
            told = [Step(None, s.offered_at, s.acked_at, s.attempt, s.events) for s in steps if s.acked_at is not None]
            ledger.steps[key] = [*told, Step(found.saved.get(key), now, now)]
        for sent in ledger.sent.values():
            sent.acked_at, sent.refused_at = now, None
        self.spool.accepted = self._accepted
        self.files.disk.now += 1

    async def begin(self) -> None:
        """Start on a disk with nothing on it."""
        self.spool, self.events = make_spool(self.files)
        self.spool.start()
        await self.spool.load_backlog()
        self.spool.accepted = self._accepted

    async def close(self) -> None:
        """Stop in order."""
        await self.spool.close()
        self.events.sync()

    def adopt(self) -> None:
        """After a restart in order: everything is a row."""
        self.hands.clear()
        self.rows.clear()
        self.ids = IdSource("test", 0, self.clock, self.spool.last_id)
        table = self.spool.table
        for rows in table.select():
            for row in rows.tolist():
                key = self.spool.id_of(row), table.get(row, "number")
                assert key not in self.rows, f"S3: {key} is there twice"
                self.rows[key] = row
        assert set(self.rows) == self.alive()

    def alive(self) -> set[Key]:
        """Deliveries that were accepted and are not final."""
        ledger = self.ledger
        return {
            key
            for key, steps in ledger.steps.items()
            if ledger.sent[key[0]].acked_at is not None
            and [step for step in steps if step.acked_at is not None][-1].saved is not None
        }

    # ---- what a queue does

    async def accept(self, count: int, sizes: Sequence[int] = _SIZES, shares: bool = True) -> None:
        """Some messages at once."""
        await asyncio.gather(*(self._accept(sizes, shares) for _ in range(count)))

    async def _accept(self, sizes: Sequence[int], shares: bool) -> None:
        chance = self.chance
        taken_in = chance.random() < 0.2  #: it comes from another spool, with deliveries that are not final there
        name = (self.others if taken_in else self.ids).next()
        names = chance.sample(DESTINATIONS, chance.choice((1, 1, 1, 2, 4)) if shares else 1)
        recipients: list[Recipient] = []
        splits: list[tuple[str, tuple[int, ...]]] = []
        for destination in dict.fromkeys(names):
            count = chance.choice((1, 1, 1, 3))
            splits.append((destination, tuple(range(len(recipients), len(recipients) + count))))
            recipients += [Recipient(f"r{n}@{destination}") for n in range(count)]
        content = chance.randbytes(chance.choice(sizes))
        now = float(int(self.clock.time()))
        envelope = Envelope(
            name, "ada@home.test", tuple(recipients), now, now + 3600, len(content), chance.randrange(2),
            user=chance.choice(("", "ada")), batch=chance.choice(("", "news")),
        )  # fmt: skip
        sent = self.ledger.sent[name] = Sent(envelope, content, splits, self._now())
        for number, (_, indexes) in enumerate(splits):
            events = tuple(("received", f"{recipients[index].address}") for index in indexes)
            self.ledger.steps[name, number] = [Step((indexes, 0, now, ""), self._now(), None, 0, events)]
        try:
            written = await self._written(content)
            if taken_in:
                states = {n: [where, indexes, now, 0, (), 0, ""] for n, (where, indexes) in enumerate(splits)}
                await self.spool.take_in(envelope, written, states)
            else:
                await self.spool.accept(envelope, written, splits)
        except StorageError:
            sent.refused_at = self._now()
            assert not any(key[0] == name for key in self.hands), "S1: refused and delivered"
            return
        sent.acked_at = self.ledger.acked_at = self._now()
        for number in range(len(splits)):
            self.ledger.steps[name, number][0].acked_at = sent.acked_at

    async def _written(self, content: bytes) -> Content:
        """As it comes from intake: some of the long ones in files."""
        if len(content) < _LARGE_BYTES or self.chance.random() > 1 / 3:
            return content
        writer = self.spool.large()
        for start in range(_HEAD_BYTES, len(content), 300):
            writer.feed(content[start : start + 300])
            await writer.room()
        return await writer.finish(content[:_HEAD_BYTES])

    def _accepted(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            delivery.state = State.READY
            self.hands[delivery.message.id, delivery.number] = delivery

    async def settle(self, count: int, final: float) -> None:
        """Outcomes of some that are in hand; `final`: how likely all of it is."""
        keys = self.chance.sample(sorted(self.hands), min(count, len(self.hands)))
        chosen = [(key, self.chance.random() < final, self.chance.random()) for key in keys]
        await asyncio.gather(*(self._settle(key, self.hands.pop(key), all_, part) for key, all_, part in chosen))

    async def _settle(self, key: Key, delivery: Delivery, all_final: bool, part: float) -> None:
        try:
            envelope, content = await self.spool.reader.load(delivery)
            read = whole(content)
        except StorageError as exc:
            self.troubles.append(str(exc))
            self.hands[key] = delivery
            return
        sent = self.ledger.sent[key[0]]
        assert read == sent.content
        delivery.attempts += 1
        delivery.due_at = float(int(self.clock.time()) + delivery.attempts)
        delivery.last = f"{delivery.attempts} of {key[1]}" + "x" * int(part * 40)
        outcomes, left = [], []
        for index in delivery.indexes:
            gone = all_final or (part < 0.4 and index % 2 == 0 and len(delivery.indexes) > 1)
            status = (Status.DELIVERED if part < 0.5 else Status.FAILED) if gone else Status.DEFERRED
            outcomes.append(Outcome(index=index, status=status, scope=Scope.RECIPIENT, status_code="4.0.0", reply="x"))
            if not gone:
                left.append(index)
        saved: Saved = (tuple(left), delivery.attempts, delivery.due_at, delivery.last) if left else None
        events = tuple(
            (o.status.name.lower(), sent.envelope.recipients[o.index].address) for o in outcomes
        )  # fmt: skip
        step = Step(saved, self._now(), None, delivery.attempts, events)
        self.ledger.steps[key].append(step)
        await self.spool.settle(delivery, envelope, self.clock.time(), "other", outcomes)
        step.acked_at = self.ledger.acked_at = self._now()
        if left:
            self.hands[key] = delivery

    def cool(self, count: int) -> None:
        """Give some back."""
        for key in self.chance.sample(sorted(self.hands), min(count, len(self.hands))):
            self.rows[key] = self.spool.cool(self.hands.pop(key), State.WAITING)

    async def read(self, count: int) -> None:
        """Take some again."""
        keys = self.chance.sample(sorted(self.rows), min(count, len(self.rows)))
        if not keys:
            return
        rows = {self.rows[key]: key for key in keys}
        for row, key in rows.items():
            self.spool.table.move(row, State.LOADING)
            del self.rows[key]
        for one in await self.spool.reader.read(np.array(sorted(rows), dtype=np.uint32)):
            if isinstance(one, tuple):
                row, exc = one
                self.troubles.append(str(exc))
                self.spool.table.move(row, State.WAITING)
                self.rows[rows[row]] = row
                continue
            key = one.message.id, one.number
            saved = one.indexes, one.attempts, one.due_at, one.last
            assert saved in self.ledger.allowed(key, self._now() + 1), f"{key} is read as {saved}"
            one.state = State.READY
            self.hands[key] = one

    async def work(self, at_once: bool = False) -> None:
        """The mover's round."""
        try:
            await self.spool.work(at_once)
        except StorageError as exc:
            self.troubles.append(str(exc))

    async def play(self, steps: int) -> None:
        """So many steps by chance, one after the other, or several at once."""
        for _ in range(steps):
            self.clock.advance(self.chance.choice((0.0, 0.001, 1.0, 7.0)))
            if self.chance.random() < 0.3:
                await asyncio.gather(*(self._step() for _ in range(3)))
            else:
                await self._step()

    def _step(self) -> Awaitable[None]:
        chance = self.chance
        crowded = len(self.hands) + len(self.rows) > 60
        match chance.choice("aaassscccrwwen"):
            case "n":
                return self.note()
            case "a" if not crowded:
                return self.accept(chance.choice((1, 1, 4, 8)))
            case "s" | "a":
                return self.settle(chance.randint(1, 10), 0.5 if not crowded else 0.9)
            case "c":
                self.cool(chance.randint(1, 12))
                return asyncio.sleep(0)
            case "r":
                return self.read(chance.randint(1, 20))
            case "e":
                return self.sync_events()
            case _:
                return self.work(at_once=chance.random() < 0.3)

    async def note(self) -> None:
        """Events that are of no delivery."""
        names = [self.chance.randbytes(8).hex() for _ in range(self.chance.choice((1, 3)))]
        events = [Event("", self.clock.time(), "receipt", name, "bulk", "", "", "sms:one") for name in names]
        await self.spool.note(lambda seq: noted_lines(seq, events))
        self.ledger.notes |= dict.fromkeys(names, self._now())
        self.ledger.acked_at = self._now()

    async def sync_events(self) -> None:
        """As the upkeep does."""
        try:
            await self.spool.sync_events()
        except StorageError as exc:
            self.troubles.append(str(exc))

    def _now(self) -> int:
        return self.files.disk.now
