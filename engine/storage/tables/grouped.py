"""A SQLite database whose changes are made in a thread, all that came meanwhile in one transaction (S1).

As with the spool, a commit costs one wait for the disk whatever is in it, and the loop never waits.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from engine.base.errors import StorageError
from engine.storage.tables.private import make_private

#: A statement and its values.
Change = tuple[str, Sequence[object]]
_Batch = list[tuple[Sequence[Change], asyncio.Future[None]]]
#: How long another process may keep us from writing.
_BUSY_S = 5.0


def open_database(path: Path) -> sqlite3.Connection:
    """In autocommit mode; the file is made with mode 0600. Raises StorageError."""
    try:
        make_private(path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=full")
    except (OSError, sqlite3.Error) as exc:
        raise StorageError(f"cannot use {path}: {exc}") from exc
    return db


class Grouped:
    """A database in `path`, for one loop; `read` and `change` may be called without any."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError."""
        self.path = path
        self._db = open_database(path)
        self._thread = ThreadPoolExecutor(1, path.stem)
        self._waiting: _Batch = []
        self._writing: asyncio.Future[list[StorageError | None]] | None = None

    def read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Now, in this thread: for a start, and the command line. Raises StorageError."""
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as exc:
            raise StorageError(f"{self.path}: {exc}") from exc

    def change(self, script: str) -> None:
        """Now, in this thread: tables that a part needs. Raises StorageError."""
        try:
            self._db.executescript(script)
        except sqlite3.Error as exc:
            raise StorageError(f"{self.path}: {exc}") from exc

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """In the thread, behind what is being written. Raises StorageError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.read, statement, *values)

    def write(self, *changes: Change) -> asyncio.Future[None]:
        """All of them or none, in the order of the calls; done when they are durable. Its exception is StorageError."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((changes, stored))
        if self._writing is None:
            self._begin()
        return stored

    async def close(self) -> None:
        """Write the rest and let go of the file."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
            await asyncio.sleep(0)  # its callback begins the next batch
        self.close_now()

    def close_now(self) -> None:
        """Where nothing is being written."""
        self._thread.shutdown()
        self._db.close()

    def _begin(self) -> None:
        batch, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._thread, self._commit, [changes for changes, _ in batch])
        self._writing.add_done_callback(lambda done: self._done(batch, done.result()))

    def _done(self, batch: _Batch, errors: list[StorageError | None]) -> None:
        self._writing = None
        if self._waiting:
            self._begin()
        for (_, stored), error in zip(batch, errors, strict=True):
            if stored.done():
                continue  # whoever waited was cancelled
            if error is None:
                stored.set_result(None)
            else:
                stored.set_exception(error)

    def _commit(self, batch: Sequence[Sequence[Change]]) -> list[StorageError | None]:
        """In the thread. If not all can be written each has a try of its own: one must not take others with it."""
        error = self._transaction([change for changes in batch for change in changes])
        if error is None or len(batch) == 1:
            return [error] * len(batch)
        return [self._transaction(changes) for changes in batch]

    def _transaction(self, changes: Sequence[Change]) -> StorageError | None:
        try:
            self._db.execute("begin immediate")
            try:
                for statement, values in changes:
                    self._db.execute(statement, values)
                self._db.execute("commit")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise
        except (sqlite3.Error, ValueError, OverflowError) as exc:  # a text or a number that SQLite cannot hold
            return StorageError(f"{self.path}: {exc}")
        return None
