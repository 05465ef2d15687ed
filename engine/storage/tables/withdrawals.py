"""Links that lead nowhere any more, because somebody said so: a table of tables.db.

    link      one link of a content, for all who got it: `content_of` with its number
    url       every link to it                       content   all links of it: `content_of`
    batch     all links of the messages of a batch   tenant    all of a tenant's

Small, since people write it by hand. Redirectors read all of it each second and never ask it for a request. Each change
owes an event (owed.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import msgspec

from engine.storage.ledger.sent import Sent
from engine.storage.tables.owed import OwingTable

Kind = Literal["link", "url", "content", "batch", "tenant"]
KINDS: tuple[str, ...] = get_args(Kind)

_TABLE = """
create table if not exists withdrawn (
    kind text not null, what text not null, since real not null, who text not null, reason text not null,
    about text not null, primary key (kind, what)
) without rowid;
"""
_ADD = "insert or ignore into withdrawn values (?, ?, ?, ?, ?, ?)"
_REMOVE = "delete from withdrawn where kind = ? and what = ?"
_encode = msgspec.json.Encoder().encode
_ALL = "select kind, what, since, who, reason, about from withdrawn order by since, kind, what"


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """One row. since: unix seconds. about: what a person calls it, where `what` is a hash."""

    kind: str
    what: str
    since: float = 0.0
    who: str = ""
    reason: str = ""
    about: str = ""


def content_of(sent: Sent, link: int | None = None) -> str:
    """The name of a content, or of one link of it: a table of links, and whose it is, since others may have the same.

    A JSON array: channel, tenant, stream, batch, table in hex, number of the link.
    """
    named = [sent.channel, sent.tenant, sent.stream, sent.batch, sent.table.hex()]
    return _encode(named if link is None else [*named, link]).decode()


class Withdrawals(OwingTable):
    """The table."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, _TABLE)

    def add(self, row: Withdrawal) -> bool:
        """False: it is there already."""
        values = (row.kind, row.what, row.since, row.who, row.reason, row.about)
        return self._change(_ADD, values, row.since, _told("links withdrawn", row))

    def remove(self, row: Withdrawal) -> bool:
        """False: it is not there. row: since when it is not, who said so and why."""
        return self._change(_REMOVE, (row.kind, row.what), row.since, _told("links restored", row))

    def all(self) -> Iterator[Withdrawal]:
        """The oldest first."""
        with self._faults():
            for kind, what, since, who, reason, about in self._db.execute(_ALL).fetchall():
                yield Withdrawal(kind=kind, what=what, since=since, who=who, reason=reason, about=about)


def _told(done: str, row: Withdrawal) -> str:
    return f"{done} ({row.kind} {row.about or row.what}), by {row.who}: {row.reason}".rstrip(": ")
