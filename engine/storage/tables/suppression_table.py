"""The table of suppressions of a node, in `suppression.db`: a row for each change; the last one of an entry holds.

Rows are added and never changed, so that one who follows reads those with a higher number, and what is left when
somebody complains is when who decided what. The one exception: to erase a person removes whatever names him; and as
long as he is, no row that would name him again is added, whatever its scope.

What operators change is to be an event, too: it is owed in the same transaction, and the daemon tells it (E1).

Everything here blocks; it is for the command line, for starts, and for look-ups that take microseconds.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

from engine.base.errors import StorageError
from engine.storage.tables.grouped import Change, open_database
from engine.storage.tables.owed import OWED, TABLE, owe
from engine.storage.tables.suppression import SMS, Cause, Hasher, Suppression, load_key, one_line, sms_key

NAME = "suppression.db"
#: Where opt-outs of SMS were before they were rows of this table.
_OLD_NAME = "sms.db"

_TABLES = """
create table if not exists suppressions (
    change integer primary key autoincrement, person integer not null, entry integer not null, channel text not null,
    address text not null, tenant text not null, stream text not null, cause text not null, evidence text not null,
    message text not null, who text not null, since real not null, until real not null, lifted integer not null
);
create index if not exists suppressions_of_person on suppressions (person, change);
create view if not exists held as
    select channel, address, tenant, stream, cause, evidence, message, who, since, until, person, entry, change
    from suppressions as row where not lifted
    and change = (select max(change) from suppressions where person = row.person and entry = row.entry);
create table if not exists sightings (
    entry integer not null, cause text not null, evidence text not null, at real not null,
    primary key (entry, cause, evidence)
) without rowid;
create index if not exists sightings_by_age on sightings (cause, at);
create table if not exists facts (name text primary key, value text not null) without rowid;
"""
_INSERT = (
    "insert into suppressions (person, entry, channel, address, tenant, stream, cause, evidence, message, who, since,"
    " until, lifted) select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13"
)
_IS_ERASED = (
    "select 1 from suppressions as row where person = ?1 and entry = ?1 and cause = 'erased' and not lifted"
    " and change = (select max(change) from suppressions where person = row.person and entry = row.entry)"
)
#: Whoever was erased is suppressed everywhere, and nothing names him.
_UNLESS_NAMED = f" where (?4 = '' or not exists ({_IS_ERASED}))"
#: Not a row that would change nothing: it holds already, and for as long.
_UNLESS_HELD = (
    " and not exists (select 1 from held where person = ?1 and entry = ?2"
    " and (until = 0 or (?12 <> 0 and until >= ?12)))"
)
# 1 is `LIFTED`.
_CHANGES = (
    "select change, entry, case when lifted then 1 else until end from suppressions where change > ?"
    " order by change limit ?"
)
_LAST_UNTIL = (
    "select case when lifted then 1 else until end from suppressions where person = ? and entry = ?"
    " order by change desc limit 1"
)
#: What holds of a person at a time, whatever the scope, the oldest first; rows for `row_of`.
HELD_OF_PERSON = "select * from held where person = ? and (until = 0 or until > ?) order by change"
_ALL_HELD = (
    "select * from held where (? = '' or channel = ?) and (? = '' or cause = ?) and (until = 0 or until > ?)"
    " order by change"
)
_HISTORY = (
    "select channel, address, tenant, stream, cause, evidence, message, who, since, until, person, lifted"
    " from suppressions where person = ? order by change"
)
_ERASED = "select person from suppressions where cause = 'erased' and entry = person and not lifted"
_OLD_ROWS = "select sender, recipient, suppressed, at, cause, message, evidence from optouts order by change"


class SuppressionTable:
    """See above. Several processes may have one; SQLite keeps them apart."""

    def __init__(self, data_dir: Path) -> None:
        """Makes what is missing, and takes over old opt-outs. Raises StorageError."""
        self.path = data_dir / NAME
        self.hasher = load_key(data_dir)
        self._db = open_database(self.path)
        try:
            self._db.execute("pragma secure_delete=on")  # what is erased is not left in free pages
            self._db.execute("pragma cache_size=-32768")
            with self._faults():
                self._db.executescript(_TABLES + TABLE)
                self._check_key()
                self._take_over(data_dir / _OLD_NAME)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    # ---- reading

    def last_change(self) -> int:
        with self._faults():
            return int(self._db.execute("select coalesce(max(change), 0) from suppressions").fetchone()[0])

    def changes(self, after: int, limit: int = -1) -> Iterator[tuple[int, int, float]]:
        """(number, entry, until) of each change, in order; until as in `Entries`. limit: so many; -1: all."""
        with self._faults():
            yield from self._db.execute(_CHANGES, (after, limit))

    def until(self, person: int, entry: int) -> float | None:
        """As in `Entries`; None: nothing was ever said of it."""
        with self._faults():
            found = self._db.execute(_LAST_UNTIL, (person, entry)).fetchall()
        return found[0][0] if found else None

    def held(self, person: int, now: float) -> list[Suppression]:
        """What holds of a person, whatever the scope, the oldest first."""
        with self._faults():
            return [row_of(values) for values in self._db.execute(HELD_OF_PERSON, (person, now))]

    def is_erased(self, person: int) -> bool:
        """Whether nothing may be written that names this person."""
        with self._faults():
            return bool(self._db.execute(_IS_ERASED, (person,)).fetchall())

    def erased(self) -> set[int]:
        """All persons who may be: `is_erased` says whether one still is. Reads the whole table."""
        with self._faults():
            return {person for (person,) in self._db.execute(_ERASED)}

    def history(self, person: int) -> list[tuple[Suppression, bool]]:
        """All that is known of a person, the oldest first, and whether each row lifted what was before."""
        with self._faults():
            return [(row_of(row), bool(row[-1])) for row in self._db.execute(_HISTORY, (person,))]

    def all_held(self, now: float, channel: str = "", cause: str = "") -> Iterator[Suppression]:
        """Everything that holds, the oldest first, as it is at this moment; of one channel or cause, if named."""
        with self._faults():
            yield from map(row_of, self._db.execute(_ALL_HELD, (channel, channel, cause, cause, now)))

    def owed_events(self) -> list[tuple[int, float, str, str]]:
        """(number, at, recipient, text) of what operators did and no event tells yet."""
        with self._faults():
            return self._db.execute(OWED).fetchall()

    # ---- changing: all of a call, or nothing

    def add(
        self,
        rows: Sequence[Suppression],
        event: tuple[float, str, str] | None = None,
        before_commit: Callable[[], None] = lambda: None,
        unless_held: bool = True,
    ) -> int:
        """How many were new. event: owed for it, if any was, as (at, recipient, text).

        unless_held: not one that would change nothing. before_commit: called if any was, when all of it can be written;
        what it raises, undoes it.
        """
        statement, values = insertion(self.hasher, rows, unless_held=unless_held)
        values.sort(key=itemgetter(0))  # the index is in this order: many in one go touch each page of it once
        with self._transaction():
            before = self._db.total_changes
            self._db.executemany(statement, values)
            added = self._db.total_changes - before
            if added:
                self._owe(event)
                before_commit()
        return added

    def lift(self, rows: Sequence[Suppression], event: tuple[float, str, str] | None = None) -> None:
        """These hold no longer, and what was seen before counts no more. rows: as they are to be remembered."""
        statement, values = insertion(self.hasher, rows, lifted=True)
        with self._transaction():
            self._db.executemany(statement, values)
            self._db.executemany("delete from sightings where entry = ?", [(entry,) for _, entry, *_ in values])
            self._owe(event)

    def erase(self, channel: str, address: str, since: float, who: str) -> None:
        """Forget all of a person but the hash, which suppresses from now on. address: as it is compared."""
        person = self.hasher.person(channel, address)
        row = Suppression(address="", channel=channel, cause=Cause.ERASED, since=since, who=who, person=person)
        with self._transaction():
            scopes = self._db.execute(
                "select distinct tenant, stream from suppressions where person = ? and entry <> person", (person,)
            ).fetchall()
            self._db.execute("delete from suppressions where person = ?", (person,))
            self._db.executemany(
                "delete from sightings where entry = ?",
                [(person ^ self.hasher.salt(*scope),) for scope in (*scopes, ("", ""))],
            )
            self._db.execute("delete from owed_events where recipient = ?", (address,))
            # Who follows the table by its numbers must see that the narrower scopes are gone.
            gone = [_scoped(row, *scope) for scope in scopes]
            self._db.executemany(*insertion(self.hasher, gone, lifted=True))
            self._db.executemany(*insertion(self.hasher, [row]))
            self._owe((since, "", f"suppression: somebody was erased, by {who}"))
        with self._faults():
            self._db.execute("pragma wal_checkpoint(truncate)").fetchall()  # the log has the old pages, too

    # ---- inside

    def _owe(self, event: tuple[float, str, str] | None) -> None:
        if event is not None:
            owe(self._db, *event)

    def _check_key(self) -> None:
        """Hashes of another key suppress nobody, silently: better not to start."""
        mark = self.hasher.fingerprint
        found = self._db.execute("select value from facts where name = 'key'").fetchall()
        if not found:
            self._db.execute("insert or ignore into facts values ('key', ?)", (mark,))
        elif found[0][0] != mark:
            raise StorageError(f"{self.path} was made with another suppression.key: put that one back beside it")

    def _take_over(self, path: Path) -> None:
        """The opt-outs of a data directory that had a table of them: once, whatever crashes."""
        if not path.exists():
            return
        old = open_database(path)
        try:
            if not old.execute("select 1 from sqlite_master where name = 'optouts'").fetchall():
                return
            with self._transaction():
                if not self._db.execute("select 1 from facts where name = 'optouts'").fetchall():
                    for *values, cause, message, evidence in old.execute(_OLD_ROWS):
                        sender, number, suppressed, at = values
                        row = Suppression(
                            channel=SMS, stream=sms_key(sender), address=sms_key(number), since=at, message=message,
                            cause=Cause.STOP if cause == "answer" else Cause.MANUAL, evidence=evidence,
                            who="phone" if cause == "answer" else cause,
                        )  # fmt: skip
                        self._db.executemany(*insertion(self.hasher, [row], lifted=not suppressed))
                    self._db.execute("insert into facts values ('optouts', 'taken over')")
            old.execute("drop table optouts")
        finally:
            old.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._faults():
            self._db.execute("begin immediate")
            try:
                yield
                self._db.execute("commit")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, OverflowError) as exc:  # also a text or a number that SQLite cannot hold
            raise StorageError(f"{self.path}: {exc}") from exc


def insertion(
    hasher: Hasher, rows: Iterable[Suppression], *, lifted: bool = False, unless_held: bool = False
) -> tuple[str, list[tuple[Any, ...]]]:
    """A statement and its values for each row; none is added that names an erased person.

    unless_held: nor one that would change nothing.
    """
    values: list[tuple[Any, ...]] = []
    for row in rows:
        person = hasher.person_of(row)
        entry = person ^ hasher.salt(row.tenant, row.stream)
        values.append(
            (person, entry, row.channel, row.address, row.tenant, row.stream, str(row.cause), one_line(row.evidence),
             row.message, row.who, row.since, row.until, int(lifted))
        )  # fmt: skip
    return _INSERT + _UNLESS_NAMED + (_UNLESS_HELD if unless_held else ""), values


def change_of(hasher: Hasher, row: Suppression, *, lifted: bool = False) -> Change:
    """One insertion, for a group of others."""
    statement, [values] = insertion(hasher, [row], lifted=lifted)
    return statement, values


def row_of(values: Sequence[Any]) -> Suppression:
    """Of a row of `held`."""
    channel, address, tenant, stream, cause, evidence, message, who, since, until, person, *_ = values
    return Suppression(
        address=address, channel=channel, tenant=tenant, stream=stream, cause=Cause(cause), evidence=evidence,
        message=message, who=who, since=since, until=until, person=person,
    )  # fmt: skip


def _scoped(row: Suppression, tenant: str, stream: str) -> Suppression:
    return Suppression(
        address="", channel=row.channel, tenant=tenant, stream=stream, cause=row.cause, since=row.since, who=row.who,
        person=row.person,
    )  # fmt: skip
