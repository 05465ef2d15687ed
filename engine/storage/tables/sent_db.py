"""The database of what carriers took: its parts, and receipts whose message is not known. Used by `SentTable`.

It survives the process, not a power cut (WAL, synchronous=NORMAL). A batch is one JSON text for each kind of change,
which SQLite takes apart: so one statement runs and not one a row, and the interpreter's lock is asked for once. An id
is found by one index however its carrier writes it (receipt_ids.stored_as).
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.base.errors import StorageError
from engine.message.sms import SentPart

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
#: One statement writes a whole batch, and is a transaction by itself. Any of it may be there already, from before the
#: process was killed; what has ended is never waited for again.
_BATCH = """
create temp view batch (added, updated, parked, unparked) as select null, null, null, null;
create temp trigger batch_written instead of insert on batch begin
    insert or ignore into parts select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
        value ->> 6, value ->> 7, value ->> 8 from json_each(new.added);
    update parts set state = j.value ->> 1, fate = j.value ->> 2 from json_each(new.updated) j
        where parts.key = j.value ->> 0 and (parts.fate = 0 or j.value ->> 2 <> 0);
    insert or ignore into parked select value ->> 0, value ->> 1, value ->> 2, value ->> 3 from json_each(new.parked);
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
_LAST_TO = "select body from parts where recipient = ? order by key desc limit 1"
_WAITING = _SELECT + "where fate = 0 order by key desc limit ?"
_SIBLINGS = _SELECT + "where key between ? and ?"
_OVERDUE = _SELECT + "where fate = 0 and deadline <= ? order by deadline limit ?"
_PARKED = "select key, carrier, at, pdu from parked order by key"
_PRUNE = "delete from parts where key in (select key from parts where key < ? and fate <> 0 order by key limit ?)"
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


class SentDb:
    """See above. Its methods raise sqlite3.Error; those of a reader belong to the loop, all others to one thread."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError."""
        if path.is_symlink():  # SQLite would follow it
            raise StorageError(f"cannot use {path}: it is a symbolic link")
        try:
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            self._db = _open(path)
            self._db.executescript(_TABLES)
            self._db.executescript(_BATCH)
            self._reading = _open(path)
        except (OSError, sqlite3.Error) as exc:
            raise StorageError(f"cannot use {path}: {exc}") from exc

    def close(self) -> None:
        self._reading.close()
        self._db.close()

    # ---- for a reader: one look into an index, and those who write do not keep it waiting

    def last_key(self) -> int:
        return self._one(_LAST_KEY)[0][0] or 0

    def last_to(self, number: str) -> SentPart | None:
        rows = self._one(_LAST_TO, number)
        return _body_of(rows[0][0]) if rows else None

    def of_message(self, message: str) -> list[Row]:
        return _rows(self._one(_OF_MESSAGE, message))

    def waiting(self, limit: int) -> list[Row]:
        return _rows(self._one(_WAITING, limit))[::-1]

    def parked(self) -> list[ParkedRow]:
        return [ParkedRow(*row) for row in self._one(_PARKED)]

    def _one(self, statement: str, *values: object) -> list[Any]:
        return self._reading.execute(statement, values).fetchall()

    # ---- for the thread

    def write(
        self, added: Iterable[list[Any]], updated: Iterable[tuple[int, int | None, int]],
        parked: Sequence[ParkedRow] = (), unparked: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """All of it or nothing. added: rows as in `parts`, a SentPart for the body. updated: (key, state, fate)."""
        changes = (list(added), list(updated), parked, unparked)
        self._db.execute(_WRITE, [_text(rows) if rows else None for rows in changes])

    def find(self, wanted: Sequence[tuple[int, str, str]]) -> list[tuple[int, Row]]:
        """wanted: (number, carrier, form). The number, and each part that is stored so, with those of its message."""
        found: list[tuple[int, Row]] = []
        for number, *row in self._db.execute(_FIND, (_text(wanted),)).fetchall():
            found += [(number, one) for one in self._whole(_row(row))]
        return found

    def overdue(self, now: float, limit: int) -> list[Row]:
        rows = {row.key: row for row in _rows(self._db.execute(_OVERDUE, (now, limit)).fetchall())}
        for row in list(rows.values()):
            rows |= {one.key: one for one in self._whole(row)}
        return [rows[key] for key in sorted(rows)]

    def prune(self, before: int, limit: int) -> int:
        """before: a key."""
        return self._db.execute(_PRUNE, (before, limit)).rowcount

    def _whole(self, row: Row) -> list[Row]:
        """A part with the others of its message."""
        if row.part.parts == 1:
            return [row]
        between = (row.first, row.first + row.part.parts - 1)
        return _rows(self._db.execute(_SIBLINGS, between).fetchall())


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=normal")
    db.execute("pragma temp_store=memory")  # or statements make files for what they could have to undo
    db.execute(f"pragma wal_autocheckpoint={_WAL_PAGES}")
    db.execute(f"pragma cache_size=-{_CACHE_KIB}")
    return db


def _text(rows: Any) -> str:
    return encoded(_to_json, rows).decode()


def encoded(encode: Callable[[Any], bytes], value: Any) -> bytes:
    """Also with lone surrogates, out of bytes that are no text."""
    try:
        return encode(value)
    except UnicodeEncodeError:
        return encode(_printable(msgspec.to_builtins(value)))


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
