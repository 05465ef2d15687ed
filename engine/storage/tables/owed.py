"""Events of what operators change in a table: owed in the same transaction, told by the daemon when it runs (E1)."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.base.errors import StorageError
from engine.storage.tables.grouped import open_database
from engine.storage.tables.suppression import one_line

TABLE = """
create table if not exists owed_events (
    number integer primary key autoincrement, at real not null, recipient text not null, text text not null
);
"""
#: Rows of (number, at, recipient, text).
OWED = "select number, at, recipient, text from owed_events order by number limit 1000"
TOLD = "delete from owed_events where number <= ?"
_OWE = "insert into owed_events (at, recipient, text) values (?, ?, ?)"


def owe(db: sqlite3.Connection, at: float, recipient: str, text: str) -> None:
    """In the transaction of the change. at: unix seconds. recipient: whom it is about, or ""."""
    db.execute(_OWE, (at, recipient, one_line(text)))


class OwingTable:
    """A table of tables.db whose changes owe events. Blocks; several processes may have one. Raises StorageError."""

    def __init__(self, data_dir: Path, table: str) -> None:
        """table: what makes it, if there is none."""
        self.path = data_dir / "tables.db"
        self._db = open_database(self.path)
        try:
            with self._faults():
                self._db.executescript(table + TABLE)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def _change(self, statement: str, values: Sequence[object], at: float, text: str) -> bool:
        """One change with its event, or neither; False: nothing has changed."""
        db = self._db
        with self._faults():
            db.execute("begin immediate")
            try:
                changed = db.execute(statement, values).rowcount > 0
                if changed:
                    owe(db, at, "", text)
                db.execute("commit")
            except BaseException:
                if db.in_transaction:
                    db.execute("rollback")
                raise
        return changed

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, OverflowError) as exc:  # also a text that SQLite cannot hold
            raise StorageError(f"{self.path}: {exc}") from exc
