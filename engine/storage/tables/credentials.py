"""Who may log in: logins with argon2id hashes, in SQLite.

A check costs some 50 ms of a thread on purpose. A client that just proved itself does not pay again: what was verified
is remembered for a while as an HMAC under a key of this process, so that memory holds no password either.
"""

import asyncio
import builtins
import hashlib
import hmac
import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from engine.base.errors import StorageError

_TABLE = """
create table if not exists credentials (
    login text primary key, hash text not null, created real not null, note text not null default ''
)
"""
#: How long, and for how many, a proof is remembered. A removed credential is noticed at once all the same.
_REMEMBER_S, _REMEMBER = 600.0, 10_000
#: Hashes computed at once: each takes 64 MiB for its 50 ms.
_AT_ONCE = 2
MAX_PASSWORD_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One row, without its hash. created: unix seconds."""

    login: str
    created: float
    note: str


class Credentials:
    """The table. Another process may change it meanwhile; every check reads the row. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._hasher = PasswordHasher()
        self._key = secrets.token_bytes(32)
        self._proved: dict[bytes, float] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        # A hash nobody knows the password of: an unknown login costs what a wrong password costs.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(32))
        try:
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute(_TABLE)
        except (sqlite3.Error, OSError) as exc:
            raise StorageError(f"cannot use {path}: {exc}") from exc

    async def verify(self, login: str, password: str) -> bool:
        """Whether the password is that of the login; of an unknown login, no password is."""
        rows = self._execute("select hash from credentials where login = ?", login)
        stored = str(rows[0][0]) if rows else self._nobody
        secret = password.encode("utf-8", "surrogatepass")
        if len(secret) > MAX_PASSWORD_BYTES:
            return False
        proof = hmac.digest(self._key, stored.encode() + b"\0" + secret, hashlib.sha256)
        now = time.monotonic()
        if self._proved.get(proof, 0.0) > now:
            return True
        async with self._slots:
            right = await asyncio.to_thread(self._matches, stored, secret)
        if not right or not rows:
            return False
        if len(self._proved) >= _REMEMBER:
            self._proved.clear()
        self._proved[proof] = now + _REMEMBER_S
        return True

    def add(self, login: str, password: str, note: str = "") -> bool:
        """Add a login, or give it a new password; True if it is new. Raises ValueError: what cannot be used."""
        if not login or not login.isprintable() or len(login.encode()) > 255:
            raise ValueError("a login has 1 to 255 bytes and no control characters")
        if not 1 <= len(password.encode()) <= MAX_PASSWORD_BYTES:
            raise ValueError(f"a password has 1 to {MAX_PASSWORD_BYTES} bytes")
        known = bool(self._execute("select 1 from credentials where login = ?", login))
        statement = (
            "insert into credentials values (?, ?, ?, ?) "
            "on conflict (login) do update set hash = excluded.hash, note = excluded.note"
        )
        self._execute(statement, login, self._hasher.hash(password), time.time(), note)
        return not known

    def remove(self, login: str) -> bool:
        """Remove a login; False if there was none."""
        return bool(self._execute("delete from credentials where login = ? returning 1", login))

    def list(self) -> "builtins.list[Credential]":
        """All of them, by login."""
        rows = self._execute("select login, created, note from credentials order by login")
        return [Credential(login=login, created=created, note=note) for login, created, note in rows]

    def close(self) -> None:
        self._db.close()

    def _matches(self, stored: str, secret: bytes) -> bool:
        try:
            return self._hasher.verify(stored, secret)
        except (Argon2Error, InvalidHashError):
            return False

    def _execute(self, statement: str, *values: object) -> "builtins.list[tuple[Any, ...]]":
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as exc:
            raise StorageError(f"cannot use the table of credentials: {exc}") from exc
