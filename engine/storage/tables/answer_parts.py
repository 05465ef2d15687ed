"""Parts of long answers that wait for the others, or were all there a moment ago. Their carriers have no copy."""

import asyncio
from dataclasses import dataclass

from engine.message.sms import Sms, decode_sms, encode_sms
from engine.protocol.sms_reassembly import Key
from engine.storage.tables.grouped import Grouped

_TABLE = """
create table if not exists answer_parts (
    id integer primary key, carrier text not null, source text not null, destination text not null,
    reference integer not null, total integer not null, number integer not null, at real not null, sms blob not null,
    done_at real not null default 0
);
create index if not exists answer_parts_of_key
    on answer_parts (carrier, source, destination, reference, total);
create index if not exists answer_parts_done on answer_parts (done_at);
"""
_SET_DONE = (
    "update answer_parts set done_at = ? where carrier = ? and source = ? and destination = ? and reference = ?"
    " and total = ? and id <= ? and done_at = 0"
)
_DELETE = (
    "delete from answer_parts where carrier = ? and source = ? and destination = ? and reference = ?"
    " and total = ? and id <= ? and done_at = 0"
)


@dataclass(frozen=True, slots=True)
class StoredPart:
    """done: its message was passed on; it is kept to know it again if the carrier repeats it."""

    id: int
    key: Key
    number: int
    at: float
    sms: Sms
    done: bool


class AnswerParts:
    """The table. Futures are done when it is durable; their exception is StorageError."""

    def __init__(self, db: Grouped, keep_s: float) -> None:
        """keep_s: for how long parts of a complete message are known again. Raises StorageError."""
        self._db = db
        self._keep_s = keep_s
        db.change(_TABLE)
        [(last,)] = db.read("select coalesce(max(id), 0) from answer_parts")
        self._last: int = last

    def load(self) -> list[StoredPart]:
        """All, as they came. Raises StorageError; ValueError: a part was damaged."""
        rows = self._db.read(
            "select id, carrier, source, destination, reference, total, number, at, sms, done_at from answer_parts"
            " order by id"
        )
        return [StoredPart(row[0], Key(*row[1:6]), row[6], row[7], decode_sms(row[8]), bool(row[9])) for row in rows]

    def new_id(self) -> int:
        self._last += 1
        return self._last

    def add(self, part_id: int, key: Key, number: int, at: float, sms: Sms) -> asyncio.Future[None]:
        return self._db.write(
            (
                "insert or ignore into answer_parts values (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (part_id, *_values(key), number, at, encode_sms(sms)),
            )
        )

    def passed_on(self, key: Key, last_id: int, at: float, complete: bool) -> asyncio.Future[None]:
        """The message that these parts up to an id make is safe elsewhere."""
        forget = ("delete from answer_parts where done_at > 0 and done_at < ?", (at - self._keep_s,))
        if complete:
            return self._db.write((_SET_DONE, (at, *_values(key), last_id)), forget)
        return self._db.write((_DELETE, (*_values(key), last_id)), forget)

    def forget(self, part_id: int) -> asyncio.Future[None]:
        return self._db.write(("delete from answer_parts where id = ?", (part_id,)))

    def durable(self) -> asyncio.Future[None]:
        """Done when everything that was added is."""
        return self._db.write()


def _values(key: Key) -> tuple[object, ...]:
    return key.carrier, key.source, key.destination, key.reference, key.total
