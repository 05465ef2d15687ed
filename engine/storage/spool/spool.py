"""The spool: every accepted message and every state change, on disk before anyone is told.

    accept    a new message: one frame; done when it is durable (S1)
    settle    what happened to recipients of a delivery: one frame (S2)
    load      envelope and content of a message, from memory while it is young, else from disk

A file whose messages are all final is unlinked, oldest first, because the outcomes of its messages lie in later
files. A few messages that stay (deferred for days) would hold back all later files: once the journal holds much more
than what lives, the live messages of its oldest file are carried to its end (`compact`).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import SpoolSettings
from engine.message.content import Content, LargeFile, head_of
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome
from engine.storage.events.event import outcome_lines, received_lines
from engine.storage.events.journal import EventJournal
from engine.storage.spool.entry import Delivery, Message, State
from engine.storage.spool.files import DiskFiles, Files
from engine.storage.spool.frame import FrameType, decode
from engine.storage.spool.journal import Journal, Record, Segment
from engine.storage.spool.large import LargeFiles, LargeWriter
from engine.storage.spool.recovery import VERSION, decode_envelope, large_file_of, outcome_row, recover

log = logging.getLogger(__name__)

_encode_envelope = msgspec.msgpack.Encoder().encode
#: Journal bytes per live byte, and files, above which the oldest file is carried forward.
COMPACT_RATIO, COMPACT_FILES = 3, 4


class Spool:
    """The spool of one worker. All methods run on its event loop; `accepted` is called there with new messages."""

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
        self._directory = directory
        self._settings = settings
        self._events = events
        self._metrics = metrics
        self._files = files or DiskFiles()
        self._journal = Journal(
            directory, self._files, events, metrics, segment_bytes=settings.segment_bytes, owner=owner
        )
        self._large = LargeFiles(directory.parent / "large", self._files)
        self._hot: dict[Message, None] = {}  #: oldest first
        self._hot_bytes = 0
        self._disk_full: str | None = None
        self._retiring: asyncio.Future[None] | None = None  #: an unlink under way
        self.messages: dict[str, Message] = {}
        self.last_id = ""
        self.accepted: Callable[[Message], None] = lambda message: None

    def start(self) -> None:
        """Recover, then begin to take messages. Blocks; call it before the loop serves anyone."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = recover(self._directory, self._events.last_seq)
        for problem in found.problems:
            log.warning("spool: %s", problem)
        if found.events:
            self._events.write(self._events.missing(b"".join(found.events)))
        self.messages, self.last_id = found.messages, found.last_id
        for problem in self._large.open(m.large for m in self.messages.values() if m.large is not None):
            log.error("spool: %s", problem)
        last_frame = max(found.last_frame, self._events.last_seq)
        self._journal.start(asyncio.get_running_loop(), found.segments, last_frame, found.void)
        self._look_at_disk()
        self._retire()

    async def close(self) -> None:
        while self._retiring is not None:
            await asyncio.wait([self._retiring])
        await self._journal.close()
        await self._large.close()

    def refusal(self) -> str | None:
        """Why nothing can be accepted now, as an SMTP reply; None if it can."""
        if self._journal.failure is not None:
            return "452 4.3.0 Storage failure, try again later"
        if self._disk_full is not None:
            return f"452 4.3.1 {self._disk_full}"
        return None

    @property
    def failure(self) -> str | None:
        """What is wrong with the disk, for operators."""
        return self._journal.failure or self._disk_full

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
        message = Message(envelope)
        message.deliveries = tuple(Delivery(message, n, name, indexes) for n, (name, indexes) in enumerate(splits))
        message.live = len(splits)
        message.hot = (envelope, content)
        if not isinstance(content, bytes):
            message.large = content.file
        number = self._journal.next_number()
        record = self._journal.append(
            number,
            FrameType.MESSAGE,
            self._header(envelope, message, carried=False),
            head_of(content),
            received_lines(number, envelope, splits),
            keep,
        )
        record.durable = partial(self._stored, message)
        if message.large is not None:
            record.future.add_done_callback(partial(self._refused, message.large))
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
        message = delivery.message
        number = self._journal.next_number()
        header = [
            VERSION, message.id, delivery.number, at, provider, delivery.snapshot(), [outcome_row(o) for o in outcomes],
        ]  # fmt: skip
        events = outcome_lines(number, at, envelope, delivery.destination, delivery.attempts, provider, outcomes)
        record = self._journal.append(number, FrameType.OUTCOME, header, b"", events, keep=True)
        if not delivery.indexes:
            delivery.state, delivery.owner = State.FINAL, None
            message.live -= 1
            if message.live == 0:
                record.durable = partial(self._finished, message)
                self._cool(message)
        return record.future

    async def load(self, message: Message) -> tuple[Envelope, Content]:
        """Envelope and content. Raises StorageError when the disk does not give them back unharmed.

        The file of a large content is looked at when its slices are read.
        """
        loop = asyncio.get_running_loop()
        while message.hot is None:
            segment, offset = message.segment, message.offset
            try:
                return await loop.run_in_executor(None, self._read, segment, offset, message.length)
            except StorageError:
                if (segment, offset) == (message.segment, message.offset):
                    raise  # else it was carried to another place meanwhile
        return message.hot

    def reload(self, settings: SpoolSettings) -> asyncio.Future[None]:
        """Use other limits. Done when free space was measured by them."""
        self._settings = settings
        self._journal.segment_bytes = settings.segment_bytes
        return self.look_at_disk()

    def look_at_disk(self) -> asyncio.Future[None]:
        """Measure free space again, in the journal's thread; `refusal` follows."""
        return self._journal.run(self._look_at_disk)

    def sync_events(self) -> asyncio.Future[None]:
        """Make the event journal durable, in the journal's thread."""
        return self._journal.run(self._events.sync)

    @property
    def size(self) -> int:
        """Bytes of journal files."""
        return sum(segment.bytes for segment in list(self._journal.segments.values()))

    async def compact(self) -> None:
        """Carry the live messages of the oldest file to the end, if the journal holds much more than what lives."""
        self._retire()
        segments = list(self._journal.segments.values())
        live = sum(segment.live_bytes for segment in segments)
        if len(segments) <= COMPACT_FILES or self.size <= COMPACT_RATIO * live:
            return
        oldest = segments[0]
        for message in [m for m in self.messages.values() if m.live and m.segment is oldest]:
            try:
                await self._carry(message)
            except StorageError as exc:
                log.error("spool: %s; it holds back its file", exc)

    # Inside.

    @staticmethod
    def _header(envelope: Envelope, message: Message, carried: bool) -> list[Any]:
        header = [VERSION, _encode_envelope(envelope), [d.snapshot() for d in message.deliveries], carried]
        return header if message.large is None else [*header, message.large]

    def _stored(self, message: Message, record: Record) -> None:
        self._place(message, record)
        self.messages[message.id] = message
        self._hot[message] = None
        self._hot_bytes += message.length
        while self._hot_bytes > self._settings.hot_bytes:
            self._cool(next(iter(self._hot)))
        self.accepted(message)

    @staticmethod
    def _place(message: Message, record: Record) -> None:
        message.segment, message.offset, message.length = record.segment, record.offset, record.size
        message.segment.live += 1
        message.segment.live_bytes += message.length

    def _cool(self, message: Message) -> None:
        """Forget the content in memory; the disk has it."""
        if message in self._hot:
            del self._hot[message]
            self._hot_bytes -= message.length
        message.hot = None

    def _leave(self, message: Message) -> None:
        message.segment.live -= 1
        message.segment.live_bytes -= message.length

    def _finished(self, message: Message, _: Record) -> None:
        """The last outcome of a message is durable."""
        self._leave(message)
        del self.messages[message.id]
        if message.large is not None:
            self._large.remove(message.large)
        if message.segment.live == 0:
            self._retire()

    def _refused(self, file: LargeFile, future: asyncio.Future[None]) -> None:
        """The frame that names a file did not become durable: nobody will ask for the file."""
        if not future.cancelled() and future.exception() is not None:
            self._large.remove(file)

    def _retire(self) -> None:
        """Unlink the oldest file if nothing in it lives, then the next; never one before an older one is gone.

        A later file holds the outcomes of an older one's messages: without it they would live again.
        """
        oldest = next(iter(self._journal.segments.values()), None)
        if oldest is None or oldest.live or oldest is self._journal.active or self._retiring is not None:
            return
        self._retiring = self._journal.unlink(oldest)
        self._retiring.add_done_callback(self._unlinked)

    def _unlinked(self, future: asyncio.Future[None]) -> None:
        self._retiring = None
        error = future.exception()
        if error is None:
            self._retire()
        else:
            log.error("spool: %s; tried again", error)  # by the next upkeep

    async def _carry(self, message: Message) -> None:
        """Write a message again, with its state, at the end of the journal."""
        envelope, content = await self.load(message)
        if not message.live:
            return
        record = self._journal.append(
            self._journal.next_number(),
            FrameType.MESSAGE,
            self._header(envelope, message, carried=True),
            head_of(content),
        )
        record.durable = partial(self._carried, message)
        await record.future

    def _carried(self, message: Message, record: Record) -> None:
        self._cool(message)  # its length, which is what the hot cache counts, changes
        self._leave(message)
        self._place(message, record)
        self._retire()

    def _read(self, segment: Segment, offset: int, length: int) -> tuple[Envelope, Content]:
        data = self._files.read(segment.path, offset, length)
        frame = decode(memoryview(data), 0, segment.salt)
        if frame is None:
            raise StorageError(f"{segment.path}: the record at {offset} is damaged")
        envelope, body, file = decode_envelope(frame.header[1]), bytes(frame.body), large_file_of(frame.header)
        return envelope, body if file is None else self._large.content(body, file)

    def _look_at_disk(self) -> None:
        space, inodes = self._files.free(self._directory)
        least: float = self._settings.min_free
        if space < least:
            self._disk_full = f"Insufficient system storage ({space:.0%} of the disk is free)"
        elif inodes < least:
            self._disk_full = f"Insufficient system storage ({inodes:.0%} of the inodes are free)"
        else:
            self._disk_full = None
