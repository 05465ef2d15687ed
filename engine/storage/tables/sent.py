"""What carriers took: the parts whose receipts are waited for, and receipts that came before their response.

    add, update   into the batch and a ring of shared memory (ring.py), so that it survives the process; later, with
                  everything else of a moment, in one transaction: most receipts are there by then
    park, find    at once, after what was asked for before

One thread has the database. Neither survives a power cut: what that takes are receipts that nobody knows.

Rows stay for a while after their end: a late receipt is known then, and so is what an answer belongs to. What ended
without a carrier has a row for as long, so that a query is answered; it was sent to nobody.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.base.errors import StorageError
from engine.base.serial_thread import SerialThread
from engine.message.sms import SentPart
from engine.storage.ring import Ring
from engine.storage.tables.sent_db import ParkedRow, Row, SentDb, encoded

log = logging.getLogger(__name__)

#: What is in the ring waits so long at most, and so many rows.
_LATER_S: Final = 0.5
_MOST_LATER: Final = 10_000
_RING_BYTES: Final = 4 << 20
#: How soon a disk that takes nothing is tried again, and how many rows wait for it.
RETRY_S: Final = 1.0
_MOST_WAITING: Final = 200_000

#: An id that is looked for: its carrier, and the texts it may be stored as.
Wanted = tuple[str, Sequence[str]]
#: Key, state and fate of a part that was heard of.
Change = tuple[int, int | None, int]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[list[list[Any]], list[Change]]).decode
#: Places in a row (sent_db.py).
_KEY: Final = 0
_MESSAGE: Final = 3
_STATE: Final = 6
_FATE: Final = 7
_PART: Final = 8
_ROW: Final = 9


class _Batch:
    """What is written together. added, updated: by key. last: the last part to each number. urgent: not all of it is in
    the ring, or somebody waits for it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.added: dict[int, list[Any]] = {}
        self.updated: dict[int, Change] = {}
        self.last: dict[str, SentPart] = {}
        self.parked: list[ParkedRow] = []
        self.unparked: list[int] = []
        self.wanted: list[tuple[int, str, str]] = []
        self.finders: list[Callable[[list[Row]], None]] = []
        self.urgent = False
        self.done: asyncio.Future[None] = loop.create_future()

    @property
    def rows(self) -> int:
        return len(self.added) + len(self.updated) + len(self.parked) + len(self.unparked)

    def change(self, changes: Sequence[Change]) -> None:
        for change in changes:
            key, state, fate = change
            row = self.added.get(key)
            if row is None:
                self.updated[key] = change
            else:
                row[_STATE], row[_FATE] = state, fate

    def follow(self, other: "_Batch") -> None:
        """Write what the other was to write, too, and before."""
        newer = self.updated
        self.added, self.updated = other.added | self.added, other.updated
        self.change(tuple(newer.values()))
        self.last = other.last | self.last
        self.parked[:0], self.unparked[:0] = other.parked, other.unparked


class SentTable:
    """See above. Make it in the running loop; all methods belong to it. failure: why nothing can be written now.

    A future is done when what was asked for survives the process, or has failed and waits in memory: `failure` tells;
    None: it survives already. Several callers share one: never cancel it.
    """

    def __init__(self, path: Path) -> None:
        """Raises StorageError."""
        self._loop = asyncio.get_running_loop()
        self.failure: str | None = None
        self._timer: asyncio.Handle | None = None  #: hands the batch over
        self._soon = False  #: in this turn, or it must not be sooner
        self._batch = _Batch(self._loop)
        self._under_way: _Batch | None = None
        self._heard: set[int] | None = None  #: keys that were changed since somebody has looked for what is overdue
        self._db = SentDb(path)
        self._ring = Ring(path.with_suffix(".ring"), _RING_BYTES)
        try:
            self._restore()
            self._last_key = self._db.last_key()
        except sqlite3.Error as exc:
            raise StorageError(f"cannot use {path}: {exc}") from exc
        self._worker = SerialThread("sent")

    @property
    def busy(self) -> bool:
        """Something is about to be written that somebody waits for."""
        return self._under_way is not None or self._batch.urgent

    # ---- writing

    def new_keys(self, now: float, count: int = 1) -> int:
        """The first of so many keys that follow one another and all before: microseconds, so that they tell the age."""
        first = max(int(now * 1_000_000), self._last_key + 1)
        self._last_key = first + count - 1
        return first

    def add(
        self, first: int, parts: Sequence[SentPart], forms: Sequence[str], fate: int = 0
    ) -> "asyncio.Future[None] | None":
        """All parts of a message to one recipient, under these keys. forms: what each is looked for by."""
        batch = self._batch
        rows = []
        for key, (part, form) in enumerate(zip(parts, forms, strict=True), first):
            row = [key, part.carrier, form, part.message, part.recipient, part.deadline, None, fate, part]
            batch.added[key] = row
            batch.last[part.recipient] = part
            rows.append(row)
        return self._keep(rows, ())

    def add_ended(self, key: int, part: SentPart, state: int, fate: int) -> None:
        """A message that ended without a carrier."""
        row = self._batch.added[key] = [key, "", "", part.message, "", part.deadline, state, fate, part]
        self._keep([row], ())

    def update(self, changes: Sequence[Change]) -> "asyncio.Future[None] | None":
        self._batch.change(changes)
        if self._heard is not None:
            self._heard.update([change[0] for change in changes])
        return self._keep((), changes)

    def park(self, row: ParkedRow) -> "asyncio.Future[None]":
        self._batch.parked.append(row)
        return self._now()

    def unpark(self, keys: Sequence[int]) -> "asyncio.Future[None]":
        self._batch.unparked += keys
        return self._now()

    # ---- looking

    def find(self, wanted: Wanted, found: Callable[[list[Row]], None]) -> None:
        """Tell every part that the id may be of, with the other parts of each; none if the disk does not answer."""
        batch = self._batch
        carrier, forms = wanted
        batch.wanted += [(len(batch.finders), carrier, form) for form in forms]
        batch.finders.append(found)
        self._now()

    def last_to(self, number: str) -> SentPart | None:
        """The last part that was sent to a number. Raises StorageError."""
        for batch in (self._batch, self._under_way):
            if batch is not None and (part := batch.last.get(number)) is not None:
                return part
        last: SentPart | None = self._read(partial(self._db.last_to, number))
        return last

    def of_message(self, message: str) -> list[Row]:
        """All parts of a message that were sent, or ended without that, oldest first. Raises StorageError."""
        rows = {row.key: row for row in self._read(partial(self._db.of_message, message))}
        for batch in (self._under_way, self._batch):
            if batch is None:
                continue
            for key, row in batch.added.items():
                if row[_MESSAGE] == message:
                    rows[key] = Row(key, row[_STATE], row[_FATE], row[_PART])
            for key, state, fate in batch.updated.values():
                if key in rows:
                    rows[key] = rows[key]._replace(state=state, fate=fate)
        return [rows[key] for key in sorted(rows)]

    def waiting(self, limit: int) -> list[Row]:
        """The newest parts that are waited for and written, oldest first. Raises StorageError."""
        rows: list[Row] = self._read(partial(self._db.waiting, limit))
        return rows

    def parked(self) -> list[ParkedRow]:
        """All receipts of unknown messages, oldest first. Raises StorageError."""
        rows: list[ParkedRow] = self._read(self._db.parked)
        return rows

    async def overdue(self, now: float, limit: int) -> list[Row]:
        """Parts whose deadline has passed, with the other parts of their messages. Raises StorageError.

        Without those that something was heard of while this was looking. One at a time.
        """
        heard: set[int] = set()
        self._heard = heard
        try:
            await self._written()
            rows: list[Row] = await self._run(partial(self._db.overdue, now, limit))
        finally:
            self._heard = None
        return [row for row in rows if row.key not in heard]

    async def prune(self, before: float, limit: int) -> int:
        """Delete messages that ended and were sent before a time, so many at most: how many. Raises StorageError."""
        await self._written()
        gone: int = await self._run(partial(self._db.prune, int(before * 1_000_000), limit))  # see new_keys
        return gone

    async def close(self) -> None:
        """Write what is pending, as far as the disk takes it."""
        while self._batch.rows or self._under_way is not None:
            if self._under_way is None:
                self._hand_over()
            assert self._under_way is not None
            await asyncio.wait([self._under_way.done])
            if self.failure is not None:
                break
        if self._timer is not None:
            self._timer.cancel()
        self._worker.shutdown()
        self._db.close()
        self._ring.close()

    # ---- inside

    def _restore(self) -> None:
        """What a killed process had in the ring."""
        batch = _Batch(self._loop)
        for record in self._ring.records():
            try:
                rows, changes = _decode(record)
                rows = [row for row in rows if len(row) == _ROW]
            except ValueError as exc:
                log.error("what was sent just before the last end: a record cannot be read, and is dropped: %s", exc)
                continue
            # What is added may be there already, without what came after that: nothing is put together here.
            batch.added |= {row[_KEY]: row for row in rows}
            batch.updated |= {change[0]: change for change in changes}
        if batch.rows:
            self._db.write(batch.added.values(), batch.updated.values())
        self._ring.drop(self._ring.end)

    def _keep(self, rows: Sequence[list[Any]], changes: Sequence[Change]) -> "asyncio.Future[None] | None":
        if not self._ring.append(encoded(_encode, (rows, changes))):
            return self._now()
        urgent = self._batch.rows >= _MOST_LATER
        if urgent or self._timer is None:
            self._plan(urgent)
        return None

    def _now(self) -> "asyncio.Future[None]":
        self._plan(urgent=True)
        return self._batch.done

    async def _written(self) -> None:
        """What is in memory only is in the database."""
        if self._batch.rows:
            await asyncio.wait([self._now()])

    def _plan(self, urgent: bool = False) -> None:
        """When the batch is handed over."""
        batch = self._batch
        batch.urgent |= urgent
        if self._under_way is not None:  # and when that is done
            return
        if self._timer is not None:
            if self._soon:
                if batch.rows > _MOST_WAITING:
                    for key in list(batch.added)[: _MOST_WAITING // 10]:
                        del batch.added[key]  # its receipt will be unknown after a restart
                return
            if not batch.urgent:
                return
            self._timer.cancel()
        self._soon = batch.urgent or self.failure is not None
        if self.failure is not None:
            self._timer = self._loop.call_later(RETRY_S, self._hand_over)
        elif batch.urgent:
            self._timer = self._loop.call_soon(self._hand_over)
        else:
            self._timer = self._loop.call_later(_LATER_S, self._hand_over)

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._batch = self._batch, _Batch(self._loop)
        self._under_way = batch
        self._worker.do(partial(self._commit, batch), partial(self._committed, batch, self._ring.end))

    def _commit(self, batch: _Batch) -> list[tuple[int, Row]]:
        """In the thread."""
        if batch.rows:
            self._db.write(batch.added.values(), batch.updated.values(), batch.parked, batch.unparked)
        try:
            return self._db.find(batch.wanted) if batch.wanted else []
        except (sqlite3.Error, ValueError) as exc:  # what was written is written
            log.error("the table of what was sent cannot be read: %s", exc)
            return []

    def _committed(
        self, batch: _Batch, end: int, result: Sequence[tuple[int, Row]], error: BaseException | None
    ) -> None:
        self._under_way = None
        found: list[list[Row]] = [[] for _ in batch.finders]
        if error is None:
            self.failure = None
            self._ring.drop(end)
            for number, row in result:
                found[number].append(row)
        else:
            # What was to be written is tried again; nobody waits for it.
            if self.failure is None:
                log.error("the table of what was sent cannot be written, and waits in memory: %s", error)
            self.failure = str(error)
            self._batch.follow(batch)
        if not batch.done.done():
            batch.done.set_result(None)
        for finder, rows in zip(batch.finders, found, strict=True):
            try:
                finder(rows)
            except Exception:  # one receipt's fault is not that of those behind it
                log.exception("a receipt")
        if self._batch.rows or self._batch.finders:
            self._plan()

    def _read(self, look: Callable[[], Any]) -> Any:
        try:
            return look()
        except sqlite3.Error as exc:
            raise StorageError(f"the table of sent SMS: {exc}") from exc

    async def _run(self, work: Callable[[], Any]) -> Any:
        try:
            return await self._worker.run(work)
        except sqlite3.Error as exc:
            raise StorageError(f"the table of sent SMS: {exc}") from exc
