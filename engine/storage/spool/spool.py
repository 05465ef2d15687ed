"""The spool: every accepted message and every state change, on disk before anyone is told.

    accept    a new message: one frame; done when it is durable (S1)
    settle    what happened to recipients of a delivery: one frame (S2)
    load      envelope and content of a delivery, from memory while it is young, else from disk
    cool      a delivery that nobody has in hand any more becomes a row of the table
    read      rows become deliveries again, many at a time

Two generations: the journal takes everything in order of arrival; what still lives when its file is to go is moved to
the segments of its destination (mover.py). The old generation is read after a start in the background
(`load_backlog`), while the journal's messages are already on their way.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import SpoolSettings
from engine.message.content import SLICE_BYTES, Content, LargeContent, LargeFile, head_of, split_header
from engine.message.envelope import Envelope, Recipient
from engine.message.ids import id_time, join_id
from engine.message.outcome import Outcome
from engine.storage.events.event import outcome_lines, received_lines
from engine.storage.events.journal import EventJournal
from engine.storage.spool.backlog import Backlog
from engine.storage.spool.entry import Delivery, Message, Snapshot, State
from engine.storage.spool.files import DiskFiles, Files
from engine.storage.spool.frame import FrameType
from engine.storage.spool.guards import Guards
from engine.storage.spool.index import TEXTS
from engine.storage.spool.journal import Journal, Record
from engine.storage.spool.large import LargeFiles, LargeWriter
from engine.storage.spool.loading import Copies, Journaled, Loaded, find_segments, load, replaced_rows
from engine.storage.spool.mover import Mover
from engine.storage.spool.names import Names
from engine.storage.spool.reader import Read, Wanted, read_deliveries
from engine.storage.spool.records import encode_envelope, message_header, outcome_header, stored_header
from engine.storage.spool.recovery import Recovered, content_segments, recover, rows_of
from engine.storage.spool.rows import row_of
from engine.storage.spool.segment import Segment, Segments, file_of, is_side, offset_of, place_of, segment_path
from engine.storage.spool.table import COLUMNS, SLAB_ROWS, Column, Rows, Table

log = logging.getLogger(__name__)

_FINAL = State.FINAL  # a name of the module is quicker than a member of a class
#: Texts that are worth a look through the table for those that nobody uses any more.
_MANY_NAMES = 10_000


class Spool:
    """The spool of one worker. All methods run on its event loop; `accepted` is called there with new deliveries."""

    def __init__(
        self,
        directory: Path,
        settings: SpoolSettings,
        events: EventJournal,
        metrics: Metrics,
        *,
        owner: str,
        files: Files | None = None,
    ) -> None:
        """directory: of this worker, two levels below one that exists; see segment.py for what is in it."""
        self._directory = directory
        self._settings = settings
        self._events = events
        self._files = files or DiskFiles()
        self._numbers = itertools.count(1)
        self._segments = Segments()
        self.table = Table()
        self.texts = {name: Names() for name in TEXTS}
        self.in_hand: dict[Delivery, None] = {}  #: deliveries that are objects, until their end is durable
        self._journal = Journal(
            directory / "journal",
            self._files,
            events,
            metrics,
            segment_bytes=settings.segment_bytes,
            owner=owner,
            new_number=self._new_number,
            registry=self._segments,
        )
        self._backlog = Backlog(directory, self._files, owner, settings.segment_bytes, self._segments, self._new_number)
        self._mover = Mover(
            self._backlog, self._journal, self.table, self.texts, self._segments, self.in_hand, settings
        )
        self._large = LargeFiles(directory / "large", self._files, self._new_number)
        self._reader = ThreadPoolExecutor(2, "reader")
        self._guards = Guards(directory, self._files)
        self._names_kept: dict[str, int] = {}  #: after the last time that some were forgotten
        self._hot: dict[Message, None] = {}  #: oldest first
        self._hot_bytes = 0
        self._found: Recovered | None = None  #: until the old generation is loaded
        self._chores: set[asyncio.Task[None]] = set()
        self.loading = False  #: the old generation is not all there yet
        self.accepted: Callable[[Sequence[Delivery]], None] = lambda deliveries: None

    def start(self) -> None:
        """Recover the journal, then begin to take messages. Blocks; call it before the loop serves anyone."""
        journal = self._directory / "journal"
        parents = self._directory.parent, self._directory
        folders = [self._directory / name for name in ("mail", "shared", "large")]
        for directory in (*parents, journal, *folders):
            self._files.make_directory(directory)
        found = recover(journal, self._files, self._trusted_events)
        self._tell(found.problems)
        if found.events:
            self._events.write(self._events.missing(b"".join(found.events)))
        self._journal.last_id = found.last_id
        self._numbers = itertools.count(self._highest_number() + 1)
        self._journal.start(
            asyncio.get_running_loop(), found.segments, found.last_frame, found.void,
            found.events_safe,
        )  # fmt: skip
        for segment in content_segments(self._directory, self._files, found.problems):
            self._segments[segment.number] = segment
        rows = rows_of(found, self.texts)
        columns = {name: np.array([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()}
        self._expect_contents(columns)
        self._segments.refer_many(columns)
        self.table.add_many(columns)
        self._found = found
        self.loading = True
        self._guards.measure(self._settings)

    async def load_backlog(self, loaded: Callable[[int], None] = lambda recipients: None) -> None:
        """Read the old generation. `loaded` is told the recipients of each segment. Raises StorageError."""
        assert self._found is not None
        loop, problems = asyncio.get_running_loop(), list[str]()
        journaled = Journaled(self._found, self.texts)
        self._found = None
        unindexed: list[Segment] = []
        for segments in find_segments(self._directory, self._files, problems):
            copies = Copies()
            for segment in segments:
                one: Loaded = await loop.run_in_executor(
                    self._reader, load, segment, self._files, self.texts, journaled
                )
                problems += one.problems
                copies.add(one.columns)
                await self._enter(one)
                loaded(int(one.columns["recipients"].sum()))
                if not one.indexed:
                    unindexed.append(segment)
            for row in replaced_rows(self.table, await loop.run_in_executor(self._reader, copies.replaced)):
                loaded(-self.table.get(row, "recipients"))
                self._release_row(row)
        self._tell(problems)
        self.loading = False
        await self._mover.index(unindexed)

    async def close(self) -> None:
        for chore in list(self._chores):
            await asyncio.wait([chore])
        try:
            if not self.loading:
                await self._mover.close()
        finally:
            self._reader.shutdown()
            await self._journal.close()
            await self._large.close()

    def refusal(self) -> str | None:
        """Why nothing can be accepted now, as an SMTP reply; None if it can."""
        if self._journal.failure is not None:
            return "452 4.3.0 Storage failure, try again later"
        return self._guards.refusal

    @property
    def last_id(self) -> str:
        """The highest id of a message that was ever accepted; "" if none was."""
        return self._journal.last_id

    @property
    def failure(self) -> str | None:
        """What is wrong with the disk, for operators."""
        return self._journal.failure or self._guards.failure

    def large(self) -> LargeWriter:
        """For a content that is to be stored in a file of its own, from its client's first slice on."""
        return self._large.writer()

    def accept(
        self,
        envelope: Envelope,
        content: Content,
        splits: Sequence[tuple[str, tuple[int, ...]]],
        keep: bool = False,
    ) -> asyncio.Future[None]:
        """Store a message: `splits` names each destination with its recipients. Done when durable (S1).

        Raises StorageError (through the future) when the disk did not take it; then nobody will deliver it. With
        `keep` (our own notifications) it waits for a good file instead. A large content's file is the spool's from
        here on, whatever comes of it.
        """
        self._journal.last_id = max(self.last_id, envelope.id)
        message = Message(envelope)
        message.hot = (envelope, content)
        large = content.file if isinstance(content, LargeContent) else None
        deliveries = [Delivery(message, n, name, indexes) for n, (name, indexes) in enumerate(splits)]
        number = self._journal.next_number()
        record = self._journal.append(
            number,
            FrameType.MESSAGE,
            message_header(encode_envelope(envelope), [delivery.snapshot() for delivery in deliveries], large),
            head_of(content),
            received_lines(number, envelope, splits),
            keep,
        )
        record.durable = partial(self._stored, deliveries)
        if large is not None:
            self._keep_large(large, deliveries, record.future)
        return record.future

    async def set_apart(self, content: bytes) -> Content:
        """This content, by now in a file of its own if it is a large one. Raises StorageError."""
        if len(content) <= self._settings.large_bytes:
            return content
        head, rest = split_header(content)
        writer = self.large()
        try:
            for start in range(0, len(rest), SLICE_BYTES):
                writer.feed(bytes(rest[start : start + SLICE_BYTES]))
                await writer.room()
            return await writer.finish(head)
        except BaseException:
            writer.abort()
            raise

    def take_in(self, envelope: Envelope, content: Content, number: int, snapshot: Snapshot) -> asyncio.Future[None]:
        """Store a delivery that comes from another spool, as it was there. Done when durable; fails as `accept` does.

        It must not be queued here: message id and number name it.
        """
        message = Message(envelope)
        message.hot = (envelope, content)
        delivery = Delivery(message, number, snapshot[0], ())
        delivery.restore(snapshot)
        frame = self._journal.next_number()
        large = content.file if isinstance(content, LargeContent) else None
        header = stored_header(frame, number, snapshot, large, encode_envelope(envelope))
        events = received_lines(frame, envelope, [(delivery.destination, delivery.indexes)])
        record = self._journal.append(frame, FrameType.STORED, header, head_of(content), events)
        record.durable = partial(self._stored, [delivery])
        if large is not None:
            self._keep_large(large, [delivery], record.future)
        return record.future

    def settle(
        self, delivery: Delivery, envelope: Envelope, at: float, provider: str, outcomes: Sequence[Outcome]
    ) -> asyncio.Future[None]:
        """Record the outcomes of an attempt, and the delivery's state as the caller has set it (attempts, due_at, ...).

        Recipients with a final outcome leave `delivery.indexes`; without any left the delivery is FINAL and leaves
        the spool once this is durable (S2). The future never fails: an outcome is written to the next good file.
        """
        final = {outcome.index for outcome in outcomes if outcome.status.final}
        if final:
            delivery.indexes = tuple(index for index in delivery.indexes if index not in final)
        number = self._journal.next_number()
        packed = None if delivery.segment.is_journal else encode_envelope(envelope)
        header = outcome_header(
            delivery.message.id, delivery.number, at, provider, delivery.snapshot(), outcomes, packed
        )
        events = outcome_lines(number, at, envelope, delivery.destination, delivery.attempts, provider, outcomes)
        record = self._journal.append(number, FrameType.OUTCOME, header, b"", events, keep=True)
        delivery.unsettled += 1
        if delivery.indexes:
            record.durable = partial(self._settled, delivery)
        else:
            delivery.state, delivery.owner = _FINAL, None
            record.durable = partial(self._finished, delivery)
        return record.future

    def when_settled(self, delivery: Delivery, then: Callable[[Delivery], None]) -> None:
        """Call this with the delivery once what was recorded of it is durable; at once if it is."""
        if delivery.unsettled:
            delivery.then = then
        else:
            then(delivery)

    async def load(self, delivery: Delivery) -> tuple[Envelope, Content]:
        """Envelope and content. Raises StorageError when the disk does not give them back unharmed."""
        if delivery.message.hot is not None:
            return delivery.message.hot
        place = -1
        while True:
            wanted = Wanted(delivery.place, delivery.length, 0, delivery.number)
            [answer] = await self._read([wanted])
            if isinstance(answer, Read):
                return answer.envelope, answer.content
            if wanted.place == place or wanted.place == delivery.place:
                raise answer
            place = wanted.place  # it was moved to another place meanwhile

    def cool(self, delivery: Delivery, state: State) -> int:
        """Nobody has it in hand any more: its row from now on. What was recorded of it must be durable."""
        assert not delivery.unsettled
        row = self.table.add(row_of(delivery, state, self.texts))
        delivery.state, delivery.owner = state, None  # a queue that has it in its list knows it by these
        self._let_go(delivery)
        return row

    async def read(self, rows: Rows) -> list[Delivery | tuple[int, StorageError]]:
        """Deliveries in place of rows that are LOADING; rows in another state by then are left out.

        For a row that cannot be read: the row, which stays, and why.
        """
        wanted = self._wanted(rows)
        answers = await self._read(wanted)
        found: list[Delivery | tuple[int, StorageError]] = []
        again: list[int] = []
        now = self._wanted(rows)
        for row, where, there, answer in zip(rows.tolist(), wanted, now, answers, strict=True):
            if self.table.get(row, "state") != State.LOADING:
                continue
            if isinstance(answer, Read):
                found.append(self._taken(row, answer))
            elif there != where:
                again.append(row)  # it, or its state, was moved while it was read
            else:
                found.append((row, answer))
        if again:
            found += await self.read(np.array(again, dtype=np.uint32))
        return found

    async def peek(self, rows: Rows) -> list[Delivery]:
        """What these rows say, for people; the rows stay. Of a record that cannot be read, what the table says."""
        answers = await self._read(self._wanted(rows))
        return [
            self._made(row, answer if isinstance(answer, Read) else self._unread(row, answer))
            for row, answer in zip(rows.tolist(), answers, strict=True)
            if self.table.holds(row)
        ]

    def take_unread(self, row: int) -> Delivery:
        """A delivery in place of a row whose record is damaged, to be settled by hand."""
        delivery = self._taken(row, self._unread(row, ""))
        self._chill(delivery.message)
        return delivery

    def id_of(self, row: int) -> str:
        """The message id of a row."""
        return join_id(self.table.get(row, "id"), self.texts["node"].text(self.table.get(row, "node")))

    def reload(self, settings: SpoolSettings) -> asyncio.Future[None]:
        """Use other limits. Done when free space was measured by them."""
        self._settings = self._mover.settings = settings
        self._journal.segment_bytes = self._backlog.segment_bytes = settings.segment_bytes
        return self.measure()

    def measure(self) -> asyncio.Future[None]:
        """Measure free space and memory again, in the journal's thread; `refusal` follows."""
        return self._journal.run(lambda: self._guards.measure(self._settings))

    def sync_events(self) -> asyncio.Future[None]:
        """Make the event journal durable, in the journal's thread."""
        return self._journal.sync_events()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(segment.bytes + segment.side_bytes for segment in list(self._segments.values()))

    @property
    def files(self) -> tuple[int, int]:
        """How many files there are of the journal, and of the old generation."""
        journal = len(self._journal.segments)
        return journal, len(self._segments) - journal

    def forget_names(self) -> None:
        """Drop the texts that no row has, where many have gathered."""
        for name, texts in self.texts.items():
            if len(texts) > max(_MANY_NAMES, 2 * self._names_kept.get(name, 0)):
                used = [np.unique(slab[name][slab["state"] != State.STORING]) for slab in self.table.slabs]
                texts.keep(number for numbers in used for number in numbers.tolist())
                self._names_kept[name] = len(texts)

    async def work(self, at_once: bool = False) -> None:
        """Let go of files, move what lives in the oldest; see mover.py. Raises StorageError.

        at_once: as fast as the disk can, and after what is being done just now; otherwise nothing is done twice.
        """
        if not self.loading:
            await self._mover.work(at_once)

    @property
    def segments(self) -> Segments:
        """All files, for counting."""
        return self._segments

    # Inside.

    def _trusted_events(self, safe: int) -> int:
        """The last frame whose events are all there, given up to which they were synced."""
        self._events.distrust(safe)
        return self._events.last_seq

    def _new_number(self) -> int:
        return next(self._numbers)

    def _highest_number(self) -> int:
        """Of the files on disk, whatever they are."""
        directories = [self._directory / name for name in ("journal", "shared", "large")]
        mail = self._directory / "mail"
        directories += [mail / name for name in self._files.names(mail)]
        names = (name for directory in directories for name in self._files.names(directory))
        return max((int(name[:12]) for name in names if name[:12].isdecimal() and len(name) > 12), default=0)

    @staticmethod
    def _tell(problems: Sequence[str]) -> None:
        for problem in problems:
            log.warning("spool: %s", problem)

    async def _enter(self, loaded: Loaded) -> None:
        """Rows of a segment of the old generation, a slab's worth at a time; then the loop serves others."""
        segment = loaded.segment
        self._segments[segment.number] = segment
        segment.dead += loaded.ghosts
        self._expect_contents(loaded.columns)
        for start in range(0, len(loaded.columns["id"]), SLAB_ROWS):
            part = {name: column[start : start + SLAB_ROWS] for name, column in loaded.columns.items()}
            self._segments.refer_many(part)
            self.table.add_many(part)
            await asyncio.sleep(0)

    def _expect_contents(self, columns: Mapping[str, Column]) -> None:
        """A content file that is named and not there: its messages cannot be read, and wait for an operator (S5)."""
        for number in np.unique(columns["content_file"]).tolist():
            if number and number not in self._segments:
                log.error("spool: file %d with contents of queued messages is gone", number)
                self._segments[number] = Segment(segment_path(self._directory / "shared", number, 0, ".con"))

    def _keep_large(self, file: LargeFile, deliveries: Sequence[Delivery], stored: asyncio.Future[None]) -> None:
        """A large content's file lives as long as its deliveries; of a message that is not stored, no longer."""
        segment = Segment(self._large.directory / file.name, file.length)
        segment.refs = len(deliveries)
        self._segments[segment.number] = segment
        for delivery in deliveries:
            delivery.content_file = segment.number

        def done(future: asyncio.Future[None]) -> None:
            if future.cancelled() or future.exception() is not None:
                del self._segments[segment.number]
                self._large.remove(file)

        stored.add_done_callback(done)

    def _stored(self, deliveries: Sequence[Delivery], record: Record) -> None:
        segment, size = record.segment, record.size
        for delivery in deliveries:
            delivery.segment, delivery.offset, delivery.length = segment, record.offset, size
            delivery.frame = record.number
            self.in_hand[delivery] = None
        segment.refs += len(deliveries)
        segment.live_bytes += size * len(deliveries)
        message = deliveries[0].message
        message.in_hand = len(deliveries)
        self._warm(message, len(record.body))
        self.accepted(deliveries)

    def _warm(self, message: Message, content_bytes: int) -> None:
        """Keep a content in memory, and no more of them than may be."""
        message.hot_bytes = content_bytes
        self._hot[message] = None
        self._hot_bytes += content_bytes
        while self._hot_bytes > self._settings.hot_bytes:
            self._chill(next(iter(self._hot)))

    def _chill(self, message: Message) -> None:
        """Forget a content in memory; the disk has it."""
        if message in self._hot:
            del self._hot[message]
            self._hot_bytes -= message.hot_bytes
        message.hot = None

    def _let_go(self, delivery: Delivery) -> None:
        del self.in_hand[delivery]
        message = delivery.message
        message.in_hand -= 1
        if not message.in_hand:
            self._chill(message)

    def _settled(self, delivery: Delivery, record: Record) -> None:
        """A record of a delivery that goes on is durable."""
        old, delivery.state_place = delivery.state_place, place_of(record.segment.number, record.offset)
        delivery.frame = record.number
        record.segment.refs += 1
        if old and not is_side(old):
            self._segments[file_of(old)].refs -= 1
        delivery.unsettled -= 1
        if not delivery.unsettled and delivery.then is not None:
            then, delivery.then = delivery.then, None
            then(delivery)

    def _finished(self, delivery: Delivery, _: Record) -> None:
        """The last outcome of a delivery is durable."""
        delivery.unsettled -= 1
        segment = delivery.segment
        segments = self._segments
        segments.refer(delivery.place, delivery.length, delivery.state_place, delivery.content_file, -1)
        self._let_go(delivery)
        if not segment.is_journal:
            segment.dead.append(delivery.offset)
        elif not segment.refs and segment is self._journal.oldest():
            self._start_work()
        if delivery.content_file and not segments[delivery.content_file].refs:
            self._start_work()

    def _start_work(self) -> None:
        """Let a file go that nothing needs any more, without waiting for the next upkeep."""
        if self.loading or self._chores:
            return
        task = asyncio.get_running_loop().create_task(self._work_once())
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    async def _work_once(self) -> None:
        try:
            await self._mover.work()
        except StorageError as exc:
            log.error("spool: %s; tried again", exc)  # by the next upkeep

    def _release_row(self, row: int) -> None:
        """A row whose message is somewhere else."""
        place, *rest = (self.table.get(row, name) for name in ("place", "length", "state_place", "content_file"))
        self._segments.refer(place, rest[0], rest[1], rest[2], -1)
        self._segments[file_of(place)].dead.append(offset_of(place))
        self.table.remove(row)

    def _wanted(self, rows: Rows) -> list[Wanted]:
        columns = self.table.columns(rows)
        kept = (columns[name].tolist() for name in ("place", "length", "state_place", "number"))
        return [Wanted(*values) for values in zip(*kept, strict=True)]

    async def _read(self, wanted: Sequence[Wanted]) -> list[Read | StorageError]:
        return await asyncio.get_running_loop().run_in_executor(
            self._reader, read_deliveries, self._files, self._segments, wanted
        )

    def _taken(self, row: int, read: Read) -> Delivery:
        """A delivery in place of its row."""
        delivery = self._made(row, read)
        delivery.message.in_hand = 1
        self.table.remove(row)
        self.in_hand[delivery] = None
        self._warm(delivery.message, len(head_of(read.content)))
        return delivery

    def _made(self, row: int, read: Read) -> Delivery:
        """A delivery as row and disk tell."""
        table = self.table
        message = Message(read.envelope)
        message.hot = read.envelope, read.content
        delivery = Delivery(message, table.get(row, "number"), read.snapshot[0], ())
        delivery.restore(read.snapshot)
        place = table.get(row, "place")
        delivery.segment, delivery.offset = self._segments[file_of(place)], offset_of(place)
        for name in ("length", "state_place", "content_file", "frame", "notices"):
            setattr(delivery, name, table.get(row, name))
        delivery.via = self.texts["via"].text(table.get(row, "via"))
        delivery.due_at = min(delivery.due_at, table.get(row, "due_at"))
        delivery.state = State(table.get(row, "state"))
        return delivery

    def _unread(self, row: int, why: StorageError | str) -> Read:
        """What the table alone says of a row whose record is damaged: how many recipients, but not who."""
        table = self.table
        count, due_at = table.get(row, "recipients"), table.get(row, "due_at")
        envelope = Envelope(
            self.id_of(row), "", (Recipient("unreadable"),) * count, id_time(table.get(row, "id")),
            table.get(row, "expires_at"), 0, table.get(row, "message_class"),
            user=self.texts["tenant"].text(table.get(row, "tenant")),
            batch=self.texts["batch"].text(table.get(row, "batch")),
        )  # fmt: skip
        destination = self.texts["destination"].text(table.get(row, "destination"))
        snapshot = [
            destination,
            range(count),
            due_at,
            table.get(row, "attempts"),
            (),
            table.get(row, "notices"),
            str(why),
        ]
        return Read(envelope, b"", snapshot)
