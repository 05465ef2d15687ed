"""What carriers took, on disk: the parts whose receipts are waited for, and receipts that came before their response.

One thread, group commit: everything that was asked for meanwhile is one transaction, then what is looked for is looked
up. It survives the process, not a power cut (WAL, synchronous=NORMAL): what a cut takes are receipts that nobody knows.

A batch is one JSON text for each kind of change, which SQLite takes apart: so one statement runs and not one a row, and
the interpreter's lock is asked for once. An id is found by one index however its carrier writes it
(receipt_ids.stored_as).

Rows stay for a while after their end: a late receipt is known then, and so is what an answer belongs to. What ended
without a carrier has a row for as long, so that a query is answered; it was sent to nobody.
"""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.base.errors import StorageError
from engine.base.serial_thread import SerialThread
from engine.message.sms import SentPart

log = logging.getLogger(__name__)

_TABLES = """
create table if not exists parts (
    key integer primary key, carrier text not null, form text not null, message text not null,
    recipient text not null, deadline real not null, state integer, fate integer not null, body text not null
);
create index if not exists parts_form on parts (carrier, form);
create index if not exists parts_message on parts (message);
create index if not exists parts_recipient on parts (recipient);
create index if not exists parts_deadline on parts (deadline) where fate = 0;
create table if not exists parked (
    key integer primary key, carrier text not null, at real not null, pdu text not null
);
"""
#: One statement writes a whole batch, and is a transaction by itself.
_BATCH = """
create temp view batch (added, updated, parked, unparked) as select null, null, null, null;
create temp trigger batch_written instead of insert on batch begin
    insert into parts select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, null,
        value ->> 6, value ->> 7 from json_each(new.added);
    update parts set state = j.value ->> 1, fate = j.value ->> 2 from json_each(new.updated) j
        where parts.key = j.value ->> 0;
    insert into parked select value ->> 0, value ->> 1, value ->> 2, value ->> 3 from json_each(new.parked);
    delete from parked where key in (select value from json_each(new.unparked));
end;
"""
_WRITE = "insert into batch values (?, ?, ?, ?)"
#: cross join: the parts are looked up for each wanted id, never the other way round.
_FIND = (
    "select j.value ->> 0, p.key, p.state, p.fate, p.body from json_each(?) j"
    " cross join parts p on p.carrier = j.value ->> 1 and p.form = j.value ->> 2"
)
_LAST_KEY = "select max(k) from (select max(key) k from parts union all select max(key) from parked)"
_SELECT = "select key, state, fate, body from parts "
_OF_MESSAGE = _SELECT + "where message = ? order by key"
_WAITING = _SELECT + "where fate = 0 order by key desc limit ?"
_SIBLINGS = _SELECT + "where key between ? and ?"
_OVERDUE = _SELECT + "where fate = 0 and deadline <= ? order by deadline limit ?"
_PRUNE = "delete from parts where key in (select key from parts where key < ? and fate <> 0 order by key limit ?)"
#: How soon a disk that takes nothing is tried again, and how many rows wait for it.
RETRY_S = 1.0
_MOST_WAITING = 200_000
_BUSY_S = 5.0
_CACHE_KIB = 65_536
#: Of 4 KiB, in the log before they are written to their places: the same ones come again and again.
_WAL_PAGES = 8192

_to_json = msgspec.json.Encoder().encode
_body_of = msgspec.json.Decoder(SentPart).decode


class Row(NamedTuple):
    """A part as the table has it. state: what was heard of it, as a number (protocol.receipt_states.Heard); fate: of
    its message, 0: it is waited for.
    """

    key: int
    state: int | None
    fate: int
    part: SentPart

    @property
    def first(self) -> int:
        """The key of the first part of the same message; those of the others follow it."""
        return self.key - self.part.part + 1


class ParkedRow(NamedTuple):
    """A receipt of an unknown message. pdu: its bytes, in hexadecimal."""

    key: int
    carrier: str
    at: float
    pdu: str


#: An id that is looked for: its carrier, and the texts it may be stored as.
Wanted = tuple[str, Sequence[str]]


class _Batch:
    """What was asked for while the thread was busy."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.added: list[tuple[Any, ...]] = []
        self.updated: list[tuple[int, int | None, int]] = []
        self.parked: list[ParkedRow] = []
        self.unparked: list[int] = []
        self.wanted: list[tuple[int, str, str]] = []
        self.finders: list[Callable[[list[Row]], None]] = []
        self.done: asyncio.Future[None] = loop.create_future()

    @property
    def rows(self) -> int:
        return len(self.added) + len(self.updated) + len(self.parked) + len(self.unparked)


class SentTable:
    """See above. Make it in the running loop; all methods belong to it. failure: why nothing can be written now.

    A future is done when what was asked for is committed, or has failed and waits in memory: `failure` tells. Several
    callers share one: never cancel it.
    """

    def __init__(self, path: Path) -> None:
        """Raises StorageError."""
        self._loop = asyncio.get_running_loop()
        self.failure: str | None = None
        self._busy = False
        self._retry: asyncio.TimerHandle | None = None
        self._batch = _Batch(self._loop)
        self._under_way: _Batch | None = None
        if path.is_symlink():  # SQLite would follow it
            raise StorageError(f"cannot use {path}: it is a symbolic link")
        try:
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            self._db = _open(path)
            self._db.executescript(_TABLES)
            self._db.executescript(_BATCH)
            self._reading = _open(path)
            self._last_key: int = self._db.execute(_LAST_KEY).fetchone()[0] or 0
        except (OSError, sqlite3.Error) as exc:
            raise StorageError(f"cannot use {path}: {exc}") from exc
        self._worker = SerialThread("sent")

    # ---- writing

    def new_keys(self, now: float, count: int = 1) -> int:
        """The first of so many keys that follow one another and all before: microseconds, so that they tell the age."""
        first = max(int(now * 1_000_000), self._last_key + 1)
        self._last_key = first + count - 1
        return first

    def add(self, first: int, parts: Sequence[SentPart], forms: Sequence[str], fate: int = 0) -> asyncio.Future[None]:
        """All parts of a message to one recipient, under these keys. forms: what each is looked for by."""
        batch = self._batch
        for key, (part, form) in enumerate(zip(parts, forms, strict=True), first):
            batch.added.append((key, part.carrier, form, part.message, part.recipient, part.deadline, fate, part))
        return self._soon(batch)

    def add_ended(self, key: int, part: SentPart, state: int, fate: int) -> None:
        """A message that ended without a carrier."""
        self._batch.added.append((key, "", "", part.message, "", part.deadline, fate, part))
        self.update([(key, state, fate)])

    def update(self, states: Sequence[tuple[int, int | None, int]]) -> asyncio.Future[None]:
        """(key, state, fate) of parts that were heard of."""
        self._batch.updated += states
        return self._soon(self._batch)

    def park(self, row: ParkedRow) -> asyncio.Future[None]:
        self._batch.parked.append(row)
        return self._soon(self._batch)

    def unpark(self, keys: Sequence[int]) -> asyncio.Future[None]:
        self._batch.unparked += keys
        return self._soon(self._batch)

    # ---- looking

    def find(self, wanted: Wanted, found: Callable[[list[Row]], None]) -> None:
        """Tell every part that the id may be of, with the other parts of each; none if the disk does not answer."""
        batch = self._batch
        carrier, forms = wanted
        batch.wanted += [(len(batch.finders), carrier, form) for form in forms]
        batch.finders.append(found)
        self._soon(batch)

    def last_to(self, number: str) -> SentPart | None:
        """The last part that was sent to a number. Raises StorageError.

        One look into an index, on the loop: those who write do not keep a reader waiting.
        """
        for batch in (self._batch, self._under_way):
            for row in reversed(batch.added if batch is not None else ()):
                if row[4] == number:
                    part: SentPart = row[-1]
                    return part
        rows = self._read("select body from parts where recipient = ? order by key desc limit 1", number)
        return _body_of(rows[0][0]) if rows else None

    def of_message(self, message: str) -> list[Row]:
        """All parts of a message that were sent, or ended without that, oldest first. Raises StorageError."""
        rows = {row.key: row for row in _rows(self._read(_OF_MESSAGE, message))}
        for batch in (self._under_way, self._batch):
            if batch is None:
                continue
            for key, _, _, of, _, _, fate, part in batch.added:
                if of == message:
                    rows[key] = Row(key, None, fate, part)
            for key, state, fate in batch.updated:
                if key in rows:
                    rows[key] = rows[key]._replace(state=state, fate=fate)
        return [rows[key] for key in sorted(rows)]

    def waiting(self, limit: int) -> list[Row]:
        """The newest parts that are waited for, oldest first. Raises StorageError."""
        return _rows(self._read(_WAITING, limit))[::-1]

    def parked(self) -> list[ParkedRow]:
        """All receipts of unknown messages, oldest first. Raises StorageError."""
        return [ParkedRow(*row) for row in self._read("select key, carrier, at, pdu from parked order by key")]

    def next_deadline(self) -> float | None:
        """The first of those that are written. Raises StorageError."""
        [(deadline,)] = self._read("select min(deadline) from parts where fate = 0")
        return None if deadline is None else float(deadline)

    async def overdue(self, now: float, limit: int) -> list[Row]:
        """Parts whose deadline has passed, with the other parts of their messages. Raises StorageError."""
        rows: list[Row] = await self._run(self._overdue, now, limit)
        return rows

    async def prune(self, before: float, limit: int) -> int:
        """Delete messages that ended and were sent before a time, so many at most: how many. Raises StorageError."""
        gone: int = await self._run(self._prune, before, limit)
        return gone

    async def close(self) -> None:
        """Write what is pending, as far as the disk takes it."""
        if self._retry is not None:
            self._retry.cancel()
            self._hand_over()
        while self._busy and self._retry is None:
            await asyncio.wait([(self._under_way or self._batch).done])
        if self._retry is not None:
            self._retry.cancel()
        self._worker.shutdown()
        self._reading.close()
        self._db.close()

    # ---- on the loop, inside

    def _soon(self, batch: _Batch) -> asyncio.Future[None]:
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._hand_over)
        elif self._retry is not None and batch.rows > _MOST_WAITING:
            del batch.added[: _MOST_WAITING // 10]  # their receipts will be unknown after a restart
        return batch.done

    def _hand_over(self) -> None:
        self._retry = None
        batch, self._batch = self._batch, _Batch(self._loop)
        self._under_way = batch
        self._worker.do(partial(self._commit, batch), partial(self._committed, batch))

    def _committed(self, batch: _Batch, result: Sequence[tuple[int, Row]], error: BaseException | None) -> None:
        self._under_way = None
        self._busy = False
        found: list[list[Row]] = [[] for _ in batch.finders]
        if error is None:
            self.failure = None
            for number, row in result:
                found[number].append(row)
        else:
            self._failed(batch, error)
        if not batch.done.done():
            batch.done.set_result(None)
        for finder, rows in zip(batch.finders, found, strict=True):
            try:
                finder(rows)
            except Exception:  # one receipt's fault is not that of those behind it
                log.exception("a receipt")
        new = self._batch
        if not self._busy and (new.rows or new.finders):
            self._busy = True
            if self.failure is None:
                self._hand_over()
            else:
                self._retry = self._loop.call_later(RETRY_S, self._hand_over)

    def _failed(self, batch: _Batch, error: BaseException) -> None:
        """What was to be written is tried again; nobody waits for it."""
        if self.failure is None:
            log.error("what was sent cannot be written down, and is only known until the next restart: %s", error)
        self.failure = str(error)
        new = self._batch
        new.added[:0], new.updated[:0] = batch.added, batch.updated
        new.parked[:0], new.unparked[:0] = batch.parked, batch.unparked

    def _read(self, statement: str, *values: object) -> list[Any]:
        try:
            return self._reading.execute(statement, values).fetchall()
        except sqlite3.Error as exc:
            raise StorageError(f"the table of sent SMS: {exc}") from exc

    async def _run(self, work: Callable[..., Any], *values: object) -> Any:
        try:
            return await self._worker.run(partial(work, *values))
        except sqlite3.Error as exc:
            raise StorageError(f"the table of sent SMS: {exc}") from exc

    # ---- in the thread

    def _commit(self, batch: _Batch) -> list[tuple[int, Row]]:
        if batch.rows:
            changes = (batch.added, batch.updated, batch.parked, batch.unparked)
            self._db.execute(_WRITE, [_text(rows) if rows else None for rows in changes])
        if not batch.wanted:
            return []
        found: list[tuple[int, Row]] = []
        for number, *row in self._db.execute(_FIND, (_text(batch.wanted),)).fetchall():
            found += [(number, one) for one in self._whole(_row(row))]
        return found

    def _whole(self, row: Row) -> list[Row]:
        """A part with the others of its message."""
        if row.part.parts == 1:
            return [row]
        between = (row.first, row.first + row.part.parts - 1)
        return _rows(self._db.execute(_SIBLINGS, between).fetchall())

    def _overdue(self, now: float, limit: int) -> list[Row]:
        rows = {row.key: row for row in _rows(self._db.execute(_OVERDUE, (now, limit)).fetchall())}
        for row in list(rows.values()):
            rows |= {one.key: one for one in self._whole(row)}
        return [rows[key] for key in sorted(rows)]

    # "prune" is by key, which is a time; see new_keys.
    def _prune(self, before: float, limit: int) -> int:
        return self._db.execute(_PRUNE, (int(before * 1_000_000), limit)).rowcount


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=normal")
    db.execute("pragma temp_store=memory")  # or statements make files for what they could have to undo
    db.execute(f"pragma wal_autocheckpoint={_WAL_PAGES}")
    db.execute(f"pragma cache_size=-{_CACHE_KIB}")
    return db


def _text(rows: Sequence[Any]) -> str:
    try:
        return _to_json(rows).decode()
    except UnicodeEncodeError:  # lone surrogates, out of bytes that are no text
        return str(msgspec.json.encode(_printable(msgspec.to_builtins(rows))), "utf-8")


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return [_printable(one) for one in value] if isinstance(value, list | tuple) else value


def _row(row: Sequence[Any]) -> Row:
    key, state, fate, body = row
    return Row(key, state, fate, _body_of(body))


def _rows(rows: Sequence[Sequence[Any]]) -> list[Row]:
    return [_row(row) for row in rows]


def by_message(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows in the order of their keys, the parts of each message together."""
    return [list(group) for _, group in groupby(rows, lambda row: row.first)]
