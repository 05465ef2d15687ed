"""Reading deliveries back from the disk: of one in hand its content, of rows the deliveries, many at a time."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from engine.base.errors import StorageError
from engine.message.content import Content, LargeContent, LargeFile, head_of
from engine.message.envelope import Envelope
from engine.storage.spool.entry import Delivery, Read, Spot, State
from engine.storage.spool.fetch import HEAD_BYTES, read_frame, read_frames, read_states
from engine.storage.spool.files import Files
from engine.storage.spool.frame import Frame
from engine.storage.spool.hands import Hands
from engine.storage.spool.index import Texts
from engine.storage.spool.records import Elsewhere, content_file, decode_envelope, state_in, stored_in
from engine.storage.spool.rows import delivery_of, spots_in, unread
from engine.storage.spool.segment import Segments, file_of, place_of
from engine.storage.spool.table import Column, Rows, Table


class ContentLost(StorageError):
    """Only the content cannot be read. read: the rest, with an empty content."""

    def __init__(self, why: str, read: Read) -> None:
        super().__init__(why)
        self.read = read


class Reader:
    """Of one spool. threads: those that read."""

    def __init__(self, files: Files, segments: Segments, table: Table, texts: Texts, hands: Hands) -> None:
        self._files = files
        self._segments = segments
        self._table = table
        self._texts = texts
        self.hands = hands
        self.threads = ThreadPoolExecutor(2, "reader")

    async def load(self, delivery: Delivery) -> tuple[Envelope, Content]:
        """Envelope and content. Raises StorageError when the disk does not give them back unharmed: ContentLost if it
        is only the content."""
        if delivery.message.hot is not None:
            return delivery.message.hot
        place = -1
        while True:
            spot = Spot(delivery.place, delivery.length, 0, delivery.number)
            [answer] = await self._read([spot])
            if isinstance(answer, Read):
                return answer.envelope, answer.content
            if spot.place in (place, delivery.place):
                raise answer
            place = spot.place  # it was moved to another place meanwhile

    async def envelope(self, delivery: Delivery) -> Envelope:
        """The envelope, whatever has become of the content. Raises StorageError."""
        try:
            return (await self.load(delivery))[0]
        except ContentLost as exc:
            return exc.read.envelope

    async def read(self, rows: Rows, state: State = State.LOADING) -> list[Delivery | tuple[int, StorageError]]:
        """Deliveries in place of rows that are in this state; rows in another by then are left out.

        For a row that cannot be read: the row, which stays, and why.
        """
        before, names = self._spots(rows), self._names(rows)
        answers = await self._read(before)
        found: list[Delivery | tuple[int, StorageError]] = []
        again: list[int] = []
        now, same = self._spots(rows), self._names(rows) == names
        for row, spot, there, is_same, answer in zip(rows.tolist(), before, now, same.tolist(), answers, strict=True):
            if not is_same or self._table.get(row, "state") != state:
                continue
            if isinstance(answer, Read):
                found.append(self._taken(row, answer))
            elif there != spot:
                again.append(row)  # it, or its state, was moved while it was read
            else:
                found.append((row, answer))
        if again:
            found += await self.read(np.array(again, dtype=np.uint32), state)
        return found

    async def peek(self, rows: Rows) -> list[Delivery]:
        """What these rows say, for people; the rows stay. Of a record that cannot be read, what the table says.

        Without a content where only that cannot be read. Left out is a row that was taken in hand meanwhile.
        """
        found = []
        names = self._names(rows)
        answers = await self._read(self._spots(rows))
        same = self._names(rows) == names
        for row, is_same, answer in zip(rows.tolist(), same.tolist(), answers, strict=True):
            if is_same and self._table.holds(row):
                delivery = delivery_of(row, self._readable(row, answer), self._table, self._texts, self._segments)
                if isinstance(answer, ContentLost):
                    delivery.message.hot = None  # who wants it is told by `load`
                    delivery.last = str(answer)
                found.append(delivery)
        return found

    def take_unread(self, row: int, error: StorageError) -> Delivery:
        """A delivery in place of a row that could not be read, to be settled without an attempt."""
        delivery = self._taken(row, self._readable(row, error))
        self.hands.chill(delivery.message)
        return delivery

    def close(self) -> None:
        self.threads.shutdown()

    # Inside.

    def _readable(self, row: int, answer: Read | StorageError) -> Read:
        """What can be read of a row, or what the table says of it."""
        if isinstance(answer, ContentLost):
            return answer.read
        return answer if isinstance(answer, Read) else unread(row, self._table, self._texts, str(answer))

    def _spots(self, rows: Rows) -> list[Spot]:
        return spots_in(self._table.columns(rows, Spot._fields))

    def _names(self, rows: Rows) -> Column:
        """Which deliveries these rows are: a row that is given up may become another's."""
        columns = self._table.columns(rows, ("id", "node", "number"))
        return np.rec.fromarrays(list(columns.values()))

    async def _read(self, spots: Sequence[Spot]) -> list[Read | StorageError]:
        return await asyncio.get_running_loop().run_in_executor(
            self.threads, read_deliveries, self._files, self._segments, spots
        )

    def _taken(self, row: int, read: Read) -> Delivery:
        """A delivery in place of its row."""
        delivery = delivery_of(row, read, self._table, self._texts, self._segments)
        self._table.remove(row)
        self.hands.take([delivery], len(head_of(read.content)))
        return delivery


def read_deliveries(files: Files, segments: Segments, spots: Sequence[Spot]) -> list[Read | StorageError]:
    """An answer for each, in the same order; an error for what cannot be read, or is damaged (ContentLost, if that is
    only the content). Blocks."""
    answers: list[Read | StorageError] = []
    frames = read_frames(files, segments, [(spot.place, spot.length) for spot in spots])
    states = read_states(files, segments, [spot.state_place for spot in spots])
    for spot, frame, state in zip(spots, frames, states, strict=True):
        try:
            if isinstance(state, StorageError):
                raise state
            answers.append(_delivery(files, segments, spot, frame, state))
        except StorageError as exc:
            answers.append(exc)
    return answers


def _delivery(
    files: Files, segments: Segments, spot: Spot, frame: Frame | StorageError, state: Frame | None
) -> Read:  # fmt: skip
    fault = frame if isinstance(frame, StorageError) else None
    if isinstance(frame, StorageError):  # its head may be whole
        length = min(spot.length, HEAD_BYTES)
        frame = read_frame(files, segments.find(file_of(spot.place)), spot.place, length, head=True)
    stored = stored_in(frame, spot.number)
    snapshot = stored.snapshot if state is None else state_in(state)
    read = Read(decode_envelope(stored.envelope), b"", snapshot)
    try:
        if fault is not None:
            raise fault
        return read._replace(content=content_of(files, segments, stored.content, stored.content_ref))
    except StorageError as exc:
        raise ContentLost(str(exc), read) from exc


def content_of(files: Files, segments: Segments, body: memoryview, ref: Elsewhere | None) -> Content:
    """The content of a message, from the body of its frame or from where it refers to. Blocks. Raises StorageError.

    A large one is not read yet.
    """
    if ref is None:
        return bytes(body)
    if isinstance(ref, LargeFile):
        # By its name, not by the number's segment: of a file that is gone, that is another, or stands for none.
        spool = segments.find(content_file(ref)).path.parents[1]
        return LargeContent(bytes(body), ref, partial(files.read, spool / "large" / ref.name))
    number, offset, length = ref
    return bytes(read_frame(files, segments.find(number), place_of(number, offset), length).body)
