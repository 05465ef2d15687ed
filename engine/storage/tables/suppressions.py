"""Who must not be sent to, as a running worker asks: in memory, some 12 bytes each, a microsecond a look-up.

    entries   sorted arrays, made from the table in a thread
    recent    what changed since; when it is much, other arrays are made
    table     asked itself while the arrays are not up to date: at a start, and behind a large import

Another process's changes are seen within a second: whoever looks somebody up reads, no more than once in that time,
the numbers of what is new.

F2  once `add` or `lift` was called it holds; a crash keeps what its future was done for.
"""

import asyncio
import logging
import time
from array import array
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.message.address import comparable
from engine.storage.tables.grouped import Grouped
from engine.storage.tables.suppression import MAIL, SMS, Suppression, sms_key
from engine.storage.tables.suppression_entries import LIFTED, Entries, as_until
from engine.storage.tables.suppression_table import HELD_OF_PERSON, SuppressionTable, change_of, row_of

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 1.0
#: So many changes are read while a look-up waits: a millisecond or two. Are there more, the table is asked meanwhile.
_LOOK_ROWS: Final = 1000
#: So many are kept beside the arrays, at some 150 bytes.
MAX_RECENT: Final = 50_000


class Suppressions:
    """See above. One per worker; methods that say nothing else are for its loop."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        """Raises StorageError."""
        self._data_dir = data_dir
        self._clock = clock
        self._monotonic = clock.monotonic
        self._table = SuppressionTable(data_dir)
        self._hasher = self._table.hasher
        self._begin_mail = self._hasher.channels[MAIL].copy
        self.db = Grouped(self._table.path)
        self._maker = ThreadPoolExecutor(1, "suppressions")
        self._growing: asyncio.Task[None] | None = None
        self._entries = Entries.none()
        self._recent: dict[int, int] = {}  #: until when, by entry
        self._unwritten: Counter[int] = Counter()  #: entries whose last word is not in the table yet
        self._grown_to = 0  #: the newest change that the arrays know,
        self._last = 0  #: and the newest that is known
        self._asking = self._table.last_change() > 0
        self._look_at = 0.0
        self._closing = False
        self._settle()

    # ---- looking up. Raise StorageError: while the table is asked, and does not answer

    def mail(self, address: str, tenant: str = "", stream: str = "") -> bool:
        """Whether no mail may be sent to an address: by anybody, by this tenant, or in this stream of his."""
        if self._monotonic() >= self._look_at:
            self._look()
        if self._nobody:
            return False
        # `Hasher.person` of a comparable address, written out: each call would cost as much as what it does.
        made = self._begin_mail()
        # What begins with a quote is before "#"; so is "!", which comparable leaves alone. The fastest way to ask.
        plain = address >= "#" and address.isascii()
        made.update(address.lower().encode() if plain else comparable(address).encode())
        person = int.from_bytes(made.digest()) >> 1
        if self._lasts(person, person):
            return True
        return bool(tenant or stream) and self._within(person, tenant, tenant, stream)

    def sms(self, sender: str, number: str, tenant: str = "") -> bool:
        """Whether no SMS may be sent to a number: by anybody, by this tenant, or under this sender id."""
        if self._monotonic() >= self._look_at:
            self._look()
        if self._nobody:
            return False
        person = self._hasher.person(SMS, sms_key(number))
        return self._lasts(person, person) or self._within(person, tenant, "", sms_key(sender))

    def holds(self, row: Suppression) -> bool:
        """Whether this person in this very scope is suppressed, and for as long; one who was erased is in any.

        Raises StorageError.
        """
        if self._monotonic() >= self._look_at:
            self._look()
        person, entry = self._hasher.person_of(row), self.entry(row)
        # Who is suppressed everywhere for good may have been erased: the table knows.
        if entry != person and self._until(person, person) == 0 and self._table.is_erased(person):
            return True
        until = self._until(person, entry)
        return self._lasts(person, entry) and (not until or 0 < row.until <= until)

    def entry(self, row: Suppression) -> int:
        """The number of its person and scope."""
        return self._hasher.person_of(row) ^ self._hasher.salt(row.tenant, row.stream)

    async def why(self, address: str, tenant: str = "", stream: str = "") -> str:
        """For a sender and an event: in words, why no mail may be sent to an address that `mail` said so of."""
        try:
            held = await self._held(self._hasher.person(MAIL, comparable(address)))
        except StorageError as exc:
            log.error("%s", exc)
            held = []
        found = [row for row in held if (row.tenant, row.stream) in (("", ""), (tenant, ""), (tenant, stream))]
        if not found:
            return "the recipient is suppressed"
        row = found[-1]
        since = time.strftime("%Y-%m-%d", time.gmtime(row.since))
        return f"the recipient is suppressed: {row.cause.replace('-', ' ')}, since {since}"

    async def held(self, row: Suppression) -> list[Suppression]:
        """All that is on disk and holds of its person, whatever the scope. Raises StorageError."""
        return await self._held(self._hasher.person_of(row))

    # ---- changing

    def add(self, row: Suppression) -> asyncio.Future[None]:
        """From now on; done when it is durable. Its exception is StorageError. Of an erased person no row is added."""
        return self._change(row, as_until(row.until), lifted=False)

    def lift(self, row: Suppression) -> asyncio.Future[None]:
        """What holds of this person in this scope, from now on. row: as it is to be remembered."""
        return self._change(row, LIFTED, lifted=True)

    # ---- keeping

    async def upkeep(self) -> None:
        """Now and then: begin to make other arrays, where it is time to."""
        if self._growing is not None and self._growing.done():
            growing, self._growing = self._growing, None
            growing.result()
        if self._growing is None and (self._asking or len(self._recent) > MAX_RECENT):
            self._growing = asyncio.get_running_loop().create_task(self.grow())

    async def grow(self) -> None:
        """Make arrays of all that is in the table. Raises StorageError: they stay as they were."""
        loop = asyncio.get_running_loop()
        grown = await loop.run_in_executor(self._maker, self._grown, self._entries, self._grown_to)
        if self._closing:
            return
        self._entries, self._grown_to = grown
        self._last = self._grown_to
        # What came to the table meanwhile is read again by the next who looks.
        self._recent = {entry: until for entry, until in self._recent.items() if entry in self._unwritten}
        self._asking = False
        self._settle()
        self._look_at = 0.0

    async def close(self) -> None:
        self._closing = True
        if self._growing is not None:
            await asyncio.wait([self._growing])
        self._maker.shutdown()
        await self.db.close()
        self._table.close()

    @property
    def nbytes(self) -> int:
        """Of the arrays."""
        return self._entries.nbytes

    def __len__(self) -> int:
        """Entries in memory; those that have lapsed meanwhile, or were lifted, among them."""
        return len(self._entries) + len(self._recent)

    # ---- inside

    async def _held(self, person: int) -> list[Suppression]:
        return [row_of(values) for values in await self.db.rows(HELD_OF_PERSON, person, self._clock.time())]

    def _look(self) -> None:
        """What is new in the table, unless it is asked itself."""
        self._look_at = self._monotonic() + _LOOK_EVERY_S
        if self._asking:
            return
        count = 0
        try:
            for change, entry, until in self._table.changes(self._last, _LOOK_ROWS):
                self._last = change
                count += 1
                if entry not in self._unwritten:
                    self._recent[entry] = as_until(until)
        except StorageError as exc:
            log.error("%s", exc)  # what is known holds
        self._asking = count == _LOOK_ROWS
        self._settle()

    def _settle(self) -> None:
        """Something has changed: which ways a look-up must go."""
        self._beside = bool(self._recent) or self._asking
        self._nobody = not self._beside and not len(self._entries)

    def _within(self, person: int, tenant: str, owner: str, stream: str) -> bool:
        """In one of the narrower scopes. owner: the tenant that the scope of a stream has."""
        salt = self._hasher.salt
        if tenant and self._lasts(person, person ^ salt(tenant, "")):
            return True
        return bool(stream) and self._lasts(person, person ^ salt(owner, stream))

    def _lasts(self, person: int, entry: int) -> bool:
        until = self._until(person, entry) if self._beside else self._entries.until(entry)
        return until is not None and (not until or until > self._clock.time())

    def _until(self, person: int, entry: int) -> float | None:
        if self._asking and entry not in self._unwritten:
            return self._table.until(person, entry)
        until = self._recent.get(entry)
        return self._entries.until(entry) if until is None else until

    def _change(self, row: Suppression, until: int, lifted: bool) -> asyncio.Future[None]:
        entry = self.entry(row)
        self._recent[entry] = until
        self._settle()
        self._unwritten[entry] += 1
        stored = self.db.write(change_of(self._hasher, row, lifted=lifted))
        stored.add_done_callback(lambda _: self._written(entry, stored))
        return stored

    def _written(self, entry: int, stored: asyncio.Future[None]) -> None:
        if not stored.cancelled() and stored.exception() is not None:
            return  # it holds as long as this process lives
        self._unwritten[entry] -= 1
        if not self._unwritten[entry]:
            del self._unwritten[entry]

    def _grown(self, entries: Entries, after: int) -> tuple[Entries, int]:
        """In the thread: with all changes after this one. And the number of the last."""
        numbers, untils, last = array("Q"), array("I"), after
        table = SuppressionTable(self._data_dir)  # a connection for this thread, and for now: descriptors are scarce
        try:
            for change, entry, until in table.changes(after):
                if self._closing:
                    return entries, after
                last = change
                numbers.append(entry)
                untils.append(as_until(until))
        finally:
            table.close()
        changed = np.frombuffer(numbers, np.uint64), np.frombuffer(untils, np.uint32)
        return entries.changed(*changed, self._clock.time()), last
