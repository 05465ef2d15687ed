"""An unsubscribe acts at once: on disk, with its event, before the answer; whether a daemon runs or not.

It is written to the table of suppressions itself, which every worker reads within a second and asks again at the last
moment before each message is sent: what is not sent by then is not sent.

U1  nothing but a POST with a valid token acts.     U2  who has left already, and for as long, is not
written down twice; what suppresses him for another cause, or wider, is nothing of that.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal

from engine.base.clock import Clock
from engine.base.errors import EngineError
from engine.message.address import comparable
from engine.storage.events.event import Event
from engine.storage.ledger.sent import Sent
from engine.storage.tables.suppression import MAIL, Cause, Suppression, of_leaving
from engine.storage.tables.suppression_table import SuppressionTable

#: one-click: RFC 8058, of a mail program. The others: what the page offers.
Way = Literal["one-click", "stream", "all", "pause", "not-me"]
WAYS: tuple[Way, ...] = ("one-click", "stream", "all", "pause", "not-me")
PAUSE_S = 30 * 86400.0


class Unsubscriber:
    """See above. record: makes an event durable."""

    def __init__(
        self, table: SuppressionTable, record: Callable[[Event], Awaitable[None]], clock: Clock, expires_s: float
    ) -> None:
        """expires_s: how long an unsubscribe holds ([suppression] unsubscribe_expires); 0: for good."""
        self._table = table
        self._record = record
        self._clock = clock
        self.expires_s = expires_s
        self._thread = ThreadPoolExecutor(1, "unsubscribe")

    async def act(self, way: Way, sent: Sent, index: int, client: str, agent: str) -> bool:
        """Durable when done. False: he had left already. Raises EngineError: it was not written, or is no address."""
        loop = asyncio.get_running_loop()
        row = await loop.run_in_executor(self._thread, self._to_write, self._row(way, sent, index))
        if row is None:
            return False
        full = sent.level == "full"
        event = Event(
            "", int(row.since * 1000) / 1000, "unsubscribed", sent.id, "", sent.sender, sent.recipients[index], "",
            tenant=sent.tenant, stream=sent.stream, batch=sent.batch, kind=way, client=client if full else "",
            agent=agent if full else "",
        )  # fmt: skip

        def told() -> None:
            asyncio.run_coroutine_threadsafe(self._told(event), loop).result()

        # The event is on disk when the table is about to be: neither without the other, but for a stop between them,
        # after which nobody was told that it is done.
        add = partial(self._table.add, [row], before_commit=told, unless_held=False)
        return bool(await loop.run_in_executor(self._thread, add))

    async def _told(self, event: Event) -> None:
        await self._record(event)

    def close(self) -> None:
        self._thread.shutdown()
        self._table.close()

    def _row(self, way: Way, sent: Sent, index: int) -> Suppression:
        """A stream's, where the message was of one and not everything was meant."""
        if index >= len(sent.recipients) or not sent.recipients[index]:
            raise EngineError(f"{sent.id}: no recipient {index} is known")
        now = self._clock.time()
        expires_s = PAUSE_S if way == "pause" else self.expires_s
        return Suppression(
            channel=MAIL,
            address=comparable(sent.recipients[index]),
            tenant=sent.tenant,
            stream=sent.stream if way in ("one-click", "stream", "pause") else "",
            cause=Cause.UNSUBSCRIBE,
            since=now,
            until=now + expires_s if expires_s else 0.0,
            evidence=f"unsubscribe: {way}",
            message=sent.id,
            who="recipient",
        )

    def _to_write(self, row: Suppression) -> Suppression | None:
        return of_leaving(row, self._table.held(self._table.hasher.person_of(row), row.since))
