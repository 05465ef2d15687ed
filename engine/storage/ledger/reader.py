"""Reads the ledgers of all workers of a node, in any process, while they are written.

A look-up costs some microseconds and at most a few reads of what is likely in memory: sorted numbers, mapped, and the
record. Nothing is seen of what was noted since the last `refresh`.
"""

import asyncio
import os
import time
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from engine.base.errors import StorageError
from engine.message.ids import join_id, node_name, node_number, split_id
from engine.storage.ledger.index import DELIVERED, MESSAGE_ID, SENT, SHORT, TABLE, delivered_key
from engine.storage.ledger.record import Kind, Record, index_in, message_id_hash, table_key, time_in
from engine.storage.ledger.segment import Segment
from engine.storage.ledger.segments import Name, ledger_directory, ledgers, segment_names
from engine.storage.ledger.sent import Sent, decode_sent, decode_table, merged

#: Read of a growing file at a time: some milliseconds.
_CHUNK: Final = 256 << 10
#: Files that are open at once, each with a map of its index.
_MOST_OPEN: Final = 128
_MOST_TABLES: Final = 2000
#: A directory that changed so short a time ago may change again without its time of change telling.
_TICK_NS: Final = 100_000_000


class LedgerReader:
    """See above. For one thread at a time; methods raise StorageError."""

    def __init__(self, data_dir: str | Path) -> None:
        self._data_dir = Path(data_dir)
        self._segments: dict[Name, Segment] = {}
        self._parent = str(ledger_directory(data_dir).parent)
        self._workers: dict[int, str] = {}  #: their directories
        self._changed: dict[str, int] = {}  #: when a directory was, as it was last read
        self._growing: list[Segment] = []
        # Those that are closed, by their first id, and the highest id among each and those before it.
        self._closed: list[Segment] = []
        self._least: list[int] = []
        self._most: list[int] = []
        self._open: dict[Segment, None] = {}  #: the one that was used last at the end
        self._used: Segment | None = None
        self._links: dict[bytes, tuple[str, ...]] = {}

    def refresh(self) -> bool:
        """See what is new, some milliseconds' worth; True: there is more, ask again."""
        if self._has_changed(self._parent):
            for worker in ledgers(self._data_dir):
                self._workers[worker] = str(ledger_directory(self._data_dir, worker))
        stale = [worker for worker, directory in self._workers.items() if self._has_changed(directory)]
        if stale:
            self._relist(stale)
        more = False
        for segment in self._growing:
            try:
                more = segment.follow(_CHUNK) or more
            except StorageError:
                if segment.name.log_path.exists():
                    raise
        return more

    async def follow(self) -> None:
        """See all that is new; others have their turn meanwhile."""
        more = True
        while more:
            more = self.refresh()
            await asyncio.sleep(0)

    def find(self, message: str) -> Sent | None:
        """A message of ours by its id; None: it is not known."""
        try:
            packed, node = split_id(message)
        except ValueError:
            return None
        number = node_number(node)
        notes = [
            sent
            for segment in self._around(packed)
            for record in self._records(segment, SENT, packed)
            if record.key == packed and record.node == number and (sent := _sent_in(record)) is not None
        ]
        if len(notes) > 1:
            notes.sort(key=_noted_at, reverse=True)
        return merged(notes) if notes else None

    def by_message_id(self, message_id: str, recipient: str = "") -> Sent | None:
        """A message of ours by the Message-ID of its header, without <>; the newest of several.

        recipient: one that went to this address, if there is one.
        """
        number, newest = message_id_hash(message_id), None
        wanted = recipient.lower()
        for segment in (*reversed(self._growing), *reversed(self._closed)):
            for record in self._records(segment, MESSAGE_ID, number):
                sent = _sent_in(record)
                if sent is None or sent.message_id != message_id:
                    continue
                if not wanted or wanted in (address.lower() for address in sent.recipients):
                    return self.find(sent.id)
                newest = newest or sent
        return self.find(newest.id) if newest is not None else None

    def is_alone(self, message_id: str) -> bool:
        """Whether no two messages of ours have this Message-ID."""
        number, found = message_id_hash(message_id), ""
        for segment in (*self._growing, *self._closed):
            for record in self._records(segment, MESSAGE_ID, number):
                sent = _sent_in(record)
                if sent is not None and sent.message_id == message_id:
                    if found and sent.id != found:
                        return False
                    found = sent.id
        return True

    def by_short(self, number: int) -> tuple[Sent, int] | None:
        """Whose short links have this number: a message, and the index of its recipient; None: nobody's."""
        for segment in (*reversed(self._growing), *reversed(self._closed)):
            for record in self._records(segment, SHORT, number):
                index = index_in(record.payload)
                if record.kind == Kind.SHORT and record.key == number and index is not None:
                    sent = self.find(join_id(record.other, node_name(record.node)))
                    if sent is not None:
                        return sent, index
        return None

    def links(self, sent: Sent) -> tuple[str, ...]:
        """The links of its table, by position; () if it has none, or none are known any more."""
        table = sent.table
        if not table or table in self._links:
            return self._links.get(table, ())
        for segment in (*reversed(self._growing), *reversed(self._closed)):
            for record in self._records(segment, TABLE, table_key(table)):
                try:
                    named, links = decode_table(record.payload)
                except (ValueError, msgspec.MsgspecError):
                    continue
                if named == table:
                    self._links[table] = links
                    if len(self._links) > _MOST_TABLES:
                        del self._links[next(iter(self._links))]
                    return links
        return ()

    def delivered_at(self, message: str, index: int) -> float | None:
        """When a receiver took it for this recipient, in unix seconds; None: that is not known."""
        try:
            packed, node = split_id(message)
        except ValueError:
            return None
        number = node_number(node)
        for segment in self._around(packed):
            for record in self._records(segment, DELIVERED, delivered_key(packed, index)):
                if (record.kind, record.key, record.node, record.other) == (Kind.DELIVERED, packed, number, index):
                    return time_in(record.payload)
        return None

    def close(self) -> None:
        for segment in self._segments.values():
            segment.release()

    # ---- which files there are

    def _has_changed(self, directory: str) -> bool:
        try:
            changed = os.stat(directory).st_mtime_ns
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise StorageError(f"{directory}: {exc.strerror}") from exc
        if self._changed.get(directory) == changed:
            return False
        settled = time.time_ns() - changed > _TICK_NS
        self._changed[directory] = changed if settled else -1
        return True

    def _relist(self, workers: list[int]) -> None:
        for worker in workers:
            directory = ledger_directory(self._data_dir, worker)
            names = segment_names(directory)
            there = set(names)
            for name in [each for each in self._segments if each.directory == directory and each not in there]:
                segment = self._segments.pop(name)
                segment.release()
                self._open.pop(segment, None)
            for name in names:
                if name in self._segments:
                    self._segments[name].settle()
                else:
                    self._segments[name] = Segment(name)
        segments = list(self._segments.values())
        self._growing = [segment for segment in segments if not segment.closed]
        self._closed = sorted((segment for segment in segments if segment.closed), key=lambda each: each.least)
        self._least = [segment.least for segment in self._closed]
        self._most = []
        for segment in self._closed:
            self._most.append(max(segment.most, self._most[-1] if self._most else 0))

    # ---- looking into them

    def _around(self, message: int) -> Iterator[Segment]:
        """Files that may know a message."""
        yield from self._growing
        at = bisect_right(self._least, message) - 1
        while at >= 0 and self._most[at] >= message:
            if self._closed[at].most >= message:
                yield self._closed[at]
            at -= 1

    def _records(self, segment: Segment, table: int, number: int) -> list[Record]:
        if segment is not self._used:
            self._use(segment)
        try:
            return segment.records(table, number)
        except StorageError:
            if segment.name.log_path.exists():
                raise
            return []

    def _use(self, segment: Segment) -> None:
        """It is the last one that was used; of too many, the first lets go of its descriptors."""
        self._used = segment
        self._open.pop(segment, None)
        self._open[segment] = None
        if len(self._open) > _MOST_OPEN:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.release()


def _sent_in(record: Record) -> Sent | None:
    if record.kind != Kind.SENT:
        return None
    try:
        return decode_sent(record.payload)
    except (ValueError, msgspec.MsgspecError):
        return None


def _noted_at(sent: Sent) -> float:
    return sent.at
