"""Who may submit mail: logins and argon2id hashes of their passwords.

`postrider credential` writes the table while the daemon runs; the daemon sees it at the next AUTH, because it asks
SQLite for the version of the data each time. Everything that takes time runs in one thread: argon2 needs 19 MiB and
some 20 ms a password, so a crowd of guesses waits in line and takes neither the loop nor the memory.

A password that was right is remembered for CACHE_S as an HMAC under a key of this process, so a client with many
connections costs one hash. A login that does not exist costs as much as one that does.
"""

import asyncio
import hashlib
import hmac
import secrets
import sqlite3
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from engine.base.errors import EngineError, StorageError
from engine.storage.tables.private import make_private

_TABLE = """
create table if not exists credentials (
    login text primary key, hash text not null, created real not null, note text not null default ''
)
"""
CACHE_S = 300.0
_CACHE_ENTRIES = 10_000
MAX_LOGIN = 255
MAX_PASSWORD = 1024  # argon2 takes any length; nobody means this
_BUSY_S = 5.0


class CredentialError(EngineError):
    """A login or password that cannot be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A row, without its hash. created: unix seconds."""

    login: str
    created: float
    note: str


class Credentials:
    """The table in `path`, made with mode 0600 if there is none. Raises StorageError.

    The plain methods block and belong to the command line; the daemon uses `verify`.
    """

    def __init__(self, path: Path) -> None:
        # OWASP's first choice for argon2id on machines that do other work: 19 MiB, two passes, one lane.
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._nobody = self._hasher.hash(secrets.token_hex())
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()  # HMAC -> when it lapses
        self._version = -1
        self._thread = ThreadPoolExecutor(1, "credentials")
        try:
            make_private(path)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute(_TABLE)
        except (OSError, sqlite3.Error) as exc:
            raise StorageError(f"cannot use {path}: {exc}") from exc

    async def verify(self, login: str, password: str) -> bool:
        """Whether the password is that of the login. Raises StorageError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._verify, login, password)

    def add(self, login: str, password: str, note: str = "") -> bool:
        """Set the password of a login; False: it is a new login. Raises CredentialError, StorageError."""
        if not login or len(login) > MAX_LOGIN or not login.isprintable() or login != login.strip():
            raise CredentialError(f"a login is 1 to {MAX_LOGIN} printable characters")
        if not password or len(password) > MAX_PASSWORD or "\0" in password:
            raise CredentialError(f"a password is 1 to {MAX_PASSWORD} characters")
        self._known.clear()
        existed = bool(self._rows("select 1 from credentials where login = ?", login))
        self._rows(
            "insert into credentials values (?, ?, ?, ?)"
            " on conflict (login) do update set hash = excluded.hash, note = excluded.note",
            login,
            self._hasher.hash(password),
            time.time(),
            note,
        )
        return existed

    def remove(self, login: str) -> bool:
        """Remove a login; False if there was none. Raises StorageError."""
        self._known.clear()
        return bool(self._rows("delete from credentials where login = ? returning login", login))

    def entries(self) -> list[Credential]:
        """Every login, in order. Raises StorageError."""
        rows = self._rows("select login, created, note from credentials order by login")
        return [Credential(login=login, created=created, note=note) for login, created, note in rows]

    def close(self) -> None:
        self._thread.shutdown()
        self._db.close()

    def _verify(self, login: str, password: str) -> bool:
        """In the thread."""
        if len(login) > MAX_LOGIN or len(password) > MAX_PASSWORD:
            return False
        self._forget_if_changed()
        digest = hmac.digest(self._key, f"{len(login)}:{login}{password}".encode(), hashlib.sha256)
        now = time.monotonic()
        if self._known.get(digest, 0.0) > now:
            return True
        rows = self._rows("select hash from credentials where login = ?", login)
        try:
            self._hasher.verify(rows[0][0] if rows else self._nobody, password)
        except (Argon2Error, InvalidHashError):
            return False
        if not rows:
            return False
        self._known[digest] = now + CACHE_S
        self._known.move_to_end(digest)
        if len(self._known) > _CACHE_ENTRIES:
            self._known.popitem(last=False)
        return True

    def _forget_if_changed(self) -> None:
        """Another process wrote the database: what we know may be wrong. It may also be another table; no matter."""
        version = self._rows("pragma data_version")[0][0]
        if version != self._version:
            self._version = version
            self._known.clear()

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as exc:
            raise StorageError(f"the credential table: {exc}") from exc
