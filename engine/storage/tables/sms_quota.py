"""How many parts each application has had taken today (UTC), so that a restart does not give it a second day.

Counted in memory, written whole every few seconds: a crash forgets what was counted since the last `save`, to the good
of the application, and settings and README say so. A write for each message would cost as much as the message; and what
the spool has of the day is no count of it, as what was sent leaves it.
"""

import sqlite3
from pathlib import Path

from engine.base.errors import StorageError

_TABLE = "create table if not exists sms_quota (account text primary key, day integer not null, parts integer not null)"
_DAY_S = 86400


class SmsQuota:
    """Used on the loop: the table has a row for each application. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        if path.is_symlink():  # SQLite would follow it
            raise StorageError(f"cannot use {path}: it is a symbolic link")
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute(_TABLE)
            rows = self._db.execute("select account, day, parts from sms_quota").fetchall()
        except sqlite3.Error as exc:
            raise StorageError(f"cannot use {path}: {exc}") from exc
        self._used = {account: (day, parts) for account, day, parts in rows}
        self._changed: set[str] = set()

    def used(self, account: str, at: float) -> int:
        """Parts of the day of that unix time."""
        day, parts = self._used.get(account, (0, 0))
        return parts if day == int(at // _DAY_S) else 0

    def add(self, account: str, parts: int, at: float) -> None:
        """Less than nothing gives back what was not stored; never to below what another day began with."""
        self._used[account] = int(at // _DAY_S), max(0, self.used(account, at) + parts)
        self._changed.add(account)

    def save(self) -> None:
        """Write what has changed. Raises StorageError; then it is tried again with the next."""
        if not self._changed:
            return
        rows = [(account, *self._used[account]) for account in self._changed]
        try:
            self._db.execute("begin immediate")
            try:
                self._db.executemany("insert or replace into sms_quota values (?, ?, ?)", rows)
                self._db.execute("commit")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise
        except sqlite3.Error as exc:
            raise StorageError(f"cannot write the table of quotas: {exc}") from exc
        self._changed.clear()

    def close(self) -> None:
        """Write it for the last time. Raises StorageError."""
        try:
            self.save()
        finally:
            self._db.close()
