"""The spool: every accepted message and every state change, on disk before anyone is told.

    accept    a new message: one frame; done when it is durable (S1)
    settle    what happened to recipients of a delivery: one frame (S2)
    note      events that are of no delivery here: one frame (E1)
    load      envelope and content of a delivery, from memory while it is young, else from disk
    cool      a delivery that nobody has in hand any more becomes a row of the table
    read      rows become deliveries again, many at a time

Two generations: the journal takes everything in order of arrival; what still lives when its file is to go is moved to
the segments of its destination (mover.py). The old generation is read after a start in the background
(`load_backlog`), while the journal's messages are already on their way.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import SpoolSettings
from engine.base.stored import Stored
from engine.message.content import Content, LargeContent, file_of_large, head_of
from engine.message.envelope import Envelope
from engine.message.outcome import NOT_FINAL, Outcome
from engine.storage.events.journal import EventJournal
from engine.storage.events.lines import outcome_lines, received_lines
from engine.storage.spool.backlog import Backlog
from engine.storage.spool.entry import Delivery, Message, Snapshot, State
from engine.storage.spool.files import DiskFiles, Files
from engine.storage.spool.frame import FrameType
from engine.storage.spool.guards import Guards
from engine.storage.spool.hands import Hands
from engine.storage.spool.headroom import Headroom
from engine.storage.spool.index import TEXTS
from engine.storage.spool.journal import Journal, Record
from engine.storage.spool.large import LargeFiles, LargeWriter
from engine.storage.spool.mover import Mover
from engine.storage.spool.names import Names, forget_unused
from engine.storage.spool.opening import Opening
from engine.storage.spool.reader import Reader
from engine.storage.spool.records import (
    encode_envelope,
    message_header,
    noted_header,
    only,
    outcome_header,
    recipients_of,
    taken_in_header,
)
from engine.storage.spool.recovery import Recovered
from engine.storage.spool.rows import id_of, row_of
from engine.storage.spool.segment import Numbers, Segments, file_of, is_side, place_of
from engine.storage.spool.table import Rows, Table

log = logging.getLogger(__name__)

_FINAL: Final = State.FINAL  # a name of the module is quicker than a member of a class


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
        self._numbers = Numbers()
        self._segments = Segments()
        self.table = Table()
        self.texts = {name: Names() for name in TEXTS}
        self.hands = Hands(settings.hot_bytes)
        self.in_hand = self.hands.deliveries
        self.reader = Reader(self._files, self._segments, self.table, self.texts, self.hands)
        self._guards = Guards(directory, self._files)
        self._opening = Opening(directory, self._files, self.table, self.texts, self._segments, self._numbers)
        self._journal = Journal(
            directory / "journal",
            self._files,
            events,
            metrics,
            segment_bytes=settings.segment_bytes,
            owner=owner,
            new_number=self._numbers.new,
            registry=self._segments,
            wrote=self._guards.wrote,
        )
        self.flush: Callable[[], Awaitable[None]] = self._journal.flush  #: until all that was recorded is durable
        new = self._numbers.new
        self._backlog = Backlog(directory, self._files, owner, settings.segment_bytes, self._segments, new)
        self._mover = Mover(
            self._backlog, self._journal, self.table, self.texts, self._segments, self.in_hand, settings,
            Headroom(self._guards.look, lambda: self._guards.wants_room), lambda rows: self.lost(rows),
        )  # fmt: skip
        self._large = LargeFiles(
            directory / "large", self._files, self._numbers.new, self._segments, self._guards.spend
        )
        self._found: Recovered | None = None  #: until the old generation is loaded
        self.loading = False  #: the old generation is not all there yet
        self._load_ended = asyncio.Event()
        self._load_failure: str | None = None
        self.accepted: Callable[[Sequence[Delivery]], None] = lambda deliveries: None
        #: Told rows whose records are damaged, and were set aside: nobody can send them, and they are to be settled.
        self.lost: Callable[[Rows], None] = lambda rows: None
        #: The number of the next record.
        self.next_frame: Callable[[], int] = lambda: self._journal.next_frame
        #: Whether the sender of a message wants to hear if these recipients of it wait.
        self.tells_of_delay: Callable[[Envelope, Sequence[int]], bool] = lambda envelope, indexes: True

    def start(self) -> None:
        """Recover the journal, then begin to take messages. Blocks; call it before the loop serves anyone."""
        opening = self._opening
        opening.make_directories()
        found = opening.recover_journal(self._trusted_events)
        if found.events:
            self._events.write(self._events.missing(b"".join(found.events)))
        self._journal.last_id = found.last_id
        self._numbers.pass_over(opening.highest_number())
        lost = {number: found.named[number] for number in found.lost if number}
        self._journal.start(
            asyncio.get_running_loop(), found.segments, found.last_frame, found.void, found.events_safe, lost
        )
        opening.enter_journal(found)
        self._found = found
        self.loading = True
        self._guards.measure(self._settings)

    async def load_backlog(self, loaded: Callable[[int], None] = lambda recipients: None) -> None:
        """Read the old generation. `loaded` is told the recipients of each segment. Raises StorageError."""
        assert self._found is not None
        found, self._found = self._found, None
        try:
            unindexed = await self._opening.load_backlog(found, self.reader.threads, loaded)
            self.loading = False
            self._journal.forget_lost()
        except StorageError as exc:
            self._load_failure = f"the spool was not read to its end, and needs a restart: {exc}"
            raise
        finally:
            self._load_ended.set()
        try:
            await self._mover.index(unindexed)
        except StorageError as exc:  # all is there; the next start takes longer
            log.warning("spool: %s; segments are left without an index", exc)

    async def all_there(self) -> None:
        """Wait until the old generation is read, too. Raises StorageError: it could not be."""
        await self._load_ended.wait()
        if self.loading:
            raise StorageError(self._load_failure or "the spool was closed before it was read")

    def forget_unused_texts(self) -> None:
        """Those that no row has. Not while rows are loaded: they have numbers before they are in the table."""
        if not self.loading:
            forget_unused(self.texts, self.table.values)

    async def close(self) -> None:
        moved = await asyncio.gather(*([] if self.loading else [self._mover.close()]), return_exceptions=True)
        self.reader.close()
        await self._journal.close()
        await self._large.close()
        for failure in moved:
            if isinstance(failure, BaseException):
                raise failure

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
        return self._journal.failure or self._load_failure or self._guards.failure

    @property
    def damaged(self) -> int:
        """How much was found damaged or missing since the start; the log has a line for each."""
        return self._opening.damaged + self._mover.damaged

    def large(self) -> LargeWriter:
        """For a content that is to be stored in a file of its own, from its client's first slice on."""
        return self._large.writer()

    def accept(
        self,
        envelope: Envelope,
        content: Content,
        splits: Sequence[tuple[str, tuple[int, ...]]],
        keep: bool = False,
        due_at: float | None = None,
        unwanted: int = 0,
    ) -> Stored:
        """Store a message: `splits` names each destination with its recipients. Done when durable (S1).

        Fails with StorageError when the disk did not take it; then nobody will deliver it. With `keep` (our own
        notifications) it waits for a good file instead. A large content's file is the spool's from here on, whatever
        comes of it. due_at: when it may be sent first. unwanted: the last splits, never sent.
        """
        self._journal.last_id = max(self.last_id, envelope.id)
        message = Message(envelope, content)
        deliveries = [Delivery(message, n, name, indexes) for n, (name, indexes) in enumerate(splits)]
        for n, delivery in enumerate(deliveries, unwanted - len(deliveries)):
            delivery.unwanted = n >= 0
            delivery.notices = int(not self.tells_of_delay(envelope, delivery.indexes))
            delivery.due_at = delivery.due_at if due_at is None else due_at
        number = self._journal.next_number()
        snapshots = [delivery.snapshot() for delivery in deliveries]
        header = message_header(encode_envelope(envelope), snapshots, file_of_large(content))
        events = received_lines(number, envelope, splits)
        record = self._journal.append(number, FrameType.MESSAGE, header, head_of(content), events, keep)
        return self._storing(record, deliveries, content)

    async def apart(self, content: bytes) -> Content:
        """A content that is all in memory, as it should be stored: a large one in a file. Raises StorageError."""
        return await self._large.store(content, self._settings.large_bytes)

    def take_in(
        self, envelope: Envelope, content: Content, snapshots: Mapping[int, Snapshot], keep: bool = False
    ) -> Stored:
        """Store deliveries of a message that were tried elsewhere, as they were there, in one frame.

        Done when durable; fails as `accept` does; keep: as there. snapshots: by delivery number, which with the
        message id names it; none may be queued here. Of the envelope their recipients are kept, and no others.
        """
        envelope = only(envelope, recipients_of(snapshots))
        message = Message(envelope, content)
        deliveries = [Delivery(message, number, snapshot[0], ()) for number, snapshot in snapshots.items()]
        for delivery in deliveries:
            delivery.restore(snapshots[delivery.number])
        frame = self._journal.next_number()
        header = taken_in_header(encode_envelope(envelope), snapshots, file_of_large(content))
        events = received_lines(frame, envelope, [(one.destination, one.indexes) for one in deliveries])
        record = self._journal.append(frame, FrameType.TAKEN_IN, header, head_of(content), events, keep)
        return self._storing(record, deliveries, content)

    def settle(
        self, delivery: Delivery, envelope: Envelope, at: float, provider: str, outcomes: Sequence[Outcome]
    ) -> Stored:
        """Record the outcomes of an attempt, and the delivery's state as the caller has set it (attempts, due_at, ...).

        Recipients with a final outcome leave `delivery.indexes`; without any left the delivery is FINAL and leaves
        the spool once this is durable (S2). Never fails: an outcome is written to the next good file.
        """
        final = {outcome.index for outcome in outcomes if outcome.status not in NOT_FINAL}
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
        record.durable = partial(self._settled if delivery.indexes else self._finished, delivery)
        if not delivery.indexes:
            delivery.state, delivery.owner = _FINAL, None
        return record

    def note(self, make: Callable[[int], bytes]) -> Stored:
        """Events of no delivery here. make: gives their lines, with ids of a frame. Done when durable; never fails."""
        events = make(number := self._journal.next_number())
        return self._journal.append(number, FrameType.NOTED, noted_header(events), b"", events, keep=True)

    def when_settled(self, delivery: Delivery, then: Callable[[Delivery], None]) -> None:
        """Call this with the delivery once what was recorded of it is durable; at once if it is."""
        if delivery.unsettled:
            delivery.then = then
        else:
            then(delivery)

    def cool(self, delivery: Delivery, state: State) -> int:
        """Nobody has it in hand any more: its row from now on. What was recorded of it must be durable."""
        assert not delivery.unsettled
        row = self.table.add(row_of(delivery, state, self.texts))
        delivery.state, delivery.owner = state, None  # a queue that has it in its list knows it by these
        self.hands.let_go(delivery)
        return row

    def id_of(self, row: int) -> str:
        """The message id of a row."""
        return id_of(row, self.table, self.texts)

    def reload(self, settings: SpoolSettings) -> asyncio.Future[None]:
        """Use other limits. Done when free space was measured by them."""
        self._settings = self._mover.settings = settings
        self._journal.segment_bytes = self._backlog.segment_bytes = settings.segment_bytes
        self.hands.hot_bytes = settings.hot_bytes
        return self.measure()

    def make_room(self) -> asyncio.Future[None]:
        """Give up the reserve, for an operator's word that makes more; it is there again when there is room for it."""
        return self._journal.run(lambda: self._guards.measure(self._settings, failing=True))

    def measure(self) -> asyncio.Future[None]:
        """Measure free space and memory again, in the journal's thread; `refusal` follows."""
        failing = self._journal.failure is not None
        return self._journal.run(lambda: self._guards.measure(self._settings, failing))

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
        return (journal := len(self._journal.segments)), len(self._segments) - journal

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

    def _storing(self, record: Record, deliveries: list[Delivery], content: Content) -> Stored:
        record.durable = partial(self._stored, deliveries)
        if isinstance(content, LargeContent):
            self._large.keep(content.file, deliveries, record)
        return record

    def _stored(self, deliveries: list[Delivery], record: Record) -> None:
        segment, size = record.segment, record.size
        for delivery in deliveries:
            delivery.segment, delivery.offset, delivery.length = segment, record.offset, size
            delivery.frame = record.number
        segment.refs += len(deliveries)
        segment.live_bytes += size * len(deliveries)
        self.hands.take(deliveries, len(record.body))
        self.accepted(deliveries)

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
        self.hands.let_go(delivery)
        if not segment.is_journal:
            segment.dead.append(delivery.offset)
        elif not segment.refs and segment is self._journal.oldest():
            self._let_files_go()
        if delivery.content_file and not segments[delivery.content_file].refs:
            self._let_files_go()

    def _let_files_go(self) -> None:
        """Something is not needed any more; do not wait for the next upkeep."""
        if not self.loading:
            self._mover.work_soon()
