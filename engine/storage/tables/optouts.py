"""Who wants no SMS from whom: a row for each change, with its evidence; the last one of a pair holds.

Nothing is ever changed or deleted here: what is left when somebody complains is when who said what. `postrider sms
optout` writes while the daemon runs, which sees it within a second: as it looks a pair up, no more than once in that
time, it reads the rows that are new.

F2  once `set` was called the pair is suppressed, or not, by its last word; a crash keeps what its future was done for.
"""

import asyncio
import logging
import sqlite3
from collections import Counter
from dataclasses import dataclass

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.storage.tables.grouped import Grouped, open_database

log = logging.getLogger(__name__)

_TABLE = """
create table if not exists optouts (
    change integer primary key autoincrement, sender text not null, recipient text not null,
    suppressed integer not null, at real not null, cause text not null, message text not null, evidence text not null
);
create index if not exists optouts_of_pair on optouts (sender, recipient, change);
"""
_INSERT = (
    "insert into optouts (sender, recipient, suppressed, at, cause, message, evidence) values (?, ?, ?, ?, ?, ?, ?)"
)
_NEW = "select change, sender, recipient, suppressed from optouts where change > ? order by change"
_CURRENT = (
    "select sender, recipient, at, cause, message, evidence from optouts as row where suppressed"
    " and change = (select max(change) from optouts where sender = row.sender and recipient = row.recipient)"
    " order by change"
)
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """sender, recipient: as `pair_of` writes them. at: unix seconds. cause: "answer", "operator".

    message: the id of the answer. evidence: its text, or an operator's note.
    """

    sender: str
    recipient: str
    at: float
    cause: str
    message: str = ""
    evidence: str = ""


def pair_of(sender: str, recipient: str) -> tuple[str, str]:
    """The two as they are compared: no "+", since carriers leave it out, and one case."""
    return sender.removeprefix("+").casefold(), recipient.removeprefix("+")


class OptOuts:
    """The table, and all that are suppressed in memory: some 100 bytes each."""

    def __init__(self, db: Grouped, clock: Clock) -> None:
        """Reads it all. Raises StorageError."""
        self._grouped = db
        self._clock = clock
        db.change(_TABLE)
        # One of its own: through the other the loop would wait for what is being written.
        self._reader = open_database(db.path)
        self._numbers: dict[str, set[str]] = {}
        self._unwritten: Counter[tuple[str, str]] = Counter()  #: pairs whose last word is not in the table yet
        self._last = 0
        self._look_at = 0.0
        self._look()

    def suppressed(self, sender: str, number: str) -> bool:
        """Whether nothing may be sent to a number from this sender. If the table cannot be read, as it was before."""
        now = self._clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            try:
                self._look()
            except StorageError as exc:
                log.error("%s", exc)
        numbers = self._numbers.get(sender.removeprefix("+").casefold())
        return numbers is not None and number.removeprefix("+") in numbers

    def set(self, row: OptOut, suppressed: bool) -> asyncio.Future[None]:
        """Suppress a pair or lift that, from now on; done when it is durable. Its exception is StorageError."""
        pair = pair_of(row.sender, row.recipient)
        self._apply(*pair, suppressed)
        self._unwritten[pair] += 1
        stored = self._grouped.write((_INSERT, _values(row, suppressed)))
        stored.add_done_callback(lambda _: self._written(pair))
        return stored

    def set_now(self, row: OptOut, suppressed: bool) -> bool:
        """The same for the command line; False: it was so already. Raises StorageError."""
        pair = pair_of(row.sender, row.recipient)
        if (pair[1] in self._numbers.get(pair[0], ())) is suppressed:
            return False
        self._grouped.read(_INSERT, *_values(row, suppressed))
        self._apply(*pair, suppressed)
        return True

    def entries(self) -> list[OptOut]:
        """All that are suppressed, the oldest first. Raises StorageError."""
        names = ("sender", "recipient", "at", "cause", "message", "evidence")
        return [OptOut(**dict(zip(names, row, strict=True))) for row in self._grouped.read(_CURRENT)]

    def close(self) -> None:
        self._reader.close()

    def _look(self) -> None:
        """What is new in the table."""
        try:
            for change, sender, recipient, suppressed in self._reader.execute(_NEW, (self._last,)):
                self._last = change
                if (sender, recipient) not in self._unwritten:
                    self._apply(sender, recipient, bool(suppressed))
        except sqlite3.Error as exc:
            raise StorageError(f"the table of opt-outs: {exc}") from exc

    def _apply(self, sender: str, recipient: str, suppressed: bool) -> None:
        if suppressed:
            self._numbers.setdefault(sender, set()).add(recipient)
        else:
            self._numbers.get(sender, set()).discard(recipient)

    def _written(self, pair: tuple[str, str]) -> None:
        self._unwritten[pair] -= 1
        if not self._unwritten[pair]:
            del self._unwritten[pair]


def _values(row: OptOut, suppressed: bool) -> tuple[object, ...]:
    return *pair_of(row.sender, row.recipient), int(suppressed), row.at, row.cause, row.message, row.evidence
