"""Events of what operators change in a table: owed in the same transaction, told by the daemon when it runs (E1)."""

import sqlite3
from collections.abc import Sequence

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


def change_and_owe(db: sqlite3.Connection, statement: str, values: Sequence[object], at: float, text: str) -> bool:
    """One change with its event, or neither; False: nothing has changed."""
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
