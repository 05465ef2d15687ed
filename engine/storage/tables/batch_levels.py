"""How much links of a batch may tell, where an operator says less than settings and messages: a table of tables.db.

Small, since people write it by hand. A worker has all of it in memory and reads it again, once a second at most, when a
message of a batch comes: none of that costs a message without one anything. Each change owes an event (owed.py).
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from engine.base.clock import Clock, SystemClock
from engine.base.errors import StorageError
from engine.message.envelope import Track
from engine.storage.tables.owed import OwingTable

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_TABLE = """
create table if not exists batch_levels (
    batch text primary key, level text not null, since real not null, who text not null, reason text not null
) without rowid;
"""
_SET = (
    "insert into batch_levels values (?1, ?2, ?3, ?4, ?5) on conflict (batch) do update"
    " set level = ?2, since = ?3, who = ?4, reason = ?5 where level <> ?2"
)
_REMOVE = "delete from batch_levels where batch = ?"
_ALL = "select batch, level, since, who, reason from batch_levels order by since, batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLevel:
    """One row. level: a word of Track; "full" asks for nothing. since: unix seconds."""

    batch: str
    level: str
    since: float
    who: str = ""
    reason: str = ""


class BatchLevels(OwingTable):
    """The table. Raises StorageError, but for `of`."""

    def __init__(self, data_dir: Path, clock: Clock | None = None) -> None:
        super().__init__(data_dir, _TABLE)
        self._clock: Clock = clock or SystemClock()
        self._look_at = 0.0
        self._version = -1
        self._levels: dict[str, Track] = {}

    def of(self, batch: str) -> Track:
        """The most that links of its messages may tell. What is known holds while the disk does not answer."""
        now = self._clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            try:
                self._look()
            except StorageError as exc:
                log.error("%s", exc)
        return self._levels.get(batch, Track.FULL)

    def set(self, row: BatchLevel) -> bool:
        """False: it is so already."""
        text = f"links of batch {row.batch} tell {row.level}, by {row.who}: {row.reason}".rstrip(": ")
        if row.level == Track.FULL.word:
            return self._change(_REMOVE, (row.batch,), row.since, text)
        return self._change(_SET, (row.batch, row.level, row.since, row.who, row.reason), row.since, text)

    def all(self) -> list[BatchLevel]:
        """The oldest first."""
        with self._faults():
            return [
                BatchLevel(batch=batch, level=level, since=since, who=who, reason=reason)
                for batch, level, since, who, reason in self._db.execute(_ALL)
            ]

    def _look(self) -> None:
        with self._faults():
            version = self._db.execute("pragma data_version").fetchone()[0]
        if version != self._version:
            self._levels = {row.batch: Track[row.level.upper()] for row in self.all()}
            self._version = version
