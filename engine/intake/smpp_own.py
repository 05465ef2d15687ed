"""An application's own messages, as its later requests name them: queued, or over and known by the book of what was
sent.

Of others it cannot find out even that they exist.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from engine.message.channels import channel_of
from engine.message.content import Content
from engine.message.envelope import Envelope
from engine.message.ids import is_id
from engine.protocol.smpp_tables import ESME_ROK, STATUSES
from engine.queue.errands import SLICE_ROWS
from engine.queue.scope import Scope
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Rows


class SentStates(Protocol):
    """The book of what carriers took."""

    def state_of(self, message_id: str, account: str, queued: Collection[int] = ()) -> tuple[int, float, int] | None:
        """message_state, unix time of a final one (else 0.0), error. None: it is not known as this account's.

        queued: indexes of its recipients that are in the hands of the queue.
        """

    def addresses_of(self, message_id: str, account: str) -> tuple[str, Sequence[str]] | None:
        """Its sender and the numbers it was for. None: it is not known as this account's."""


class Named(NamedTuple):
    """What a request says of its message besides the id: source_addr, and the number if it has one; "": nothing."""

    source: str
    number: str = ""


class OwnMessages:
    """See above."""

    def __init__(self, spool: Spool, book: SentStates) -> None:
        self._spool = spool
        self._book = book

    def in_hand(self, message_id: str, user: str) -> list[Delivery]:
        """Deliveries of it that are in memory; the rest are rows."""
        found = Scope("message", message_id).in_hand(self._spool) if message_id else []
        return [one for one in found if one.message.tenant == user and one.state is not State.FINAL]

    def rows(self, message_id: str, user: str) -> list[Rows]:
        tenant = self._spool.texts["tenant"].find(user)
        if not message_id or tenant is None:
            return []
        return list(Scope("message", message_id).rows(self._spool, tenant=tenant))

    def is_queued(self, message_id: str, user: str) -> bool:
        return bool(self.in_hand(message_id, user) or self.rows(message_id, user))

    def is_known(self, message_id: str, user: str) -> bool:
        """It is not queued any more, and was this application's."""
        return bool(message_id) and self._book.state_of(message_id, user) is not None

    async def misfit(self, message_id: str, user: str, named: Named) -> int:
        """What is said besides the id must be so (SMPP 3.4 4.8 to 4.10): the status. ESME_ROK: it is, or nothing is."""
        if not any(named):
            return ESME_ROK
        addresses = await self._addresses(message_id, user)
        if addresses is None:
            return ESME_ROK  # the caller finds that out in its own way
        sender, numbers = addresses
        if named.source and _folded(named.source) != _folded(sender):
            return STATUSES["ESME_RINVSRCADR"]
        return STATUSES["ESME_RINVDSTADR"] if named.number and list(numbers) != [named.number] else ESME_ROK

    async def queued_of(self, user: str) -> AsyncIterator[tuple[Envelope, Content]]:
        """What is queued of an application's to carriers."""
        scope = Scope("tenant", user)
        for rows in list(scope.rows(self._spool)):
            for start in range(0, len(rows), SLICE_ROWS):
                for found in _to_carriers(await self._spool.reader.peek(rows[start : start + SLICE_ROWS])):
                    if found.message.hot is not None:
                        yield found.message.hot
        for delivery in _to_carriers(scope.in_hand(self._spool)):
            if delivery.state is not State.FINAL:
                yield await self._spool.reader.load(delivery)

    async def _addresses(self, message_id: str, user: str) -> tuple[str, Sequence[str]] | None:
        """Its sender and numbers. Raises StorageError."""
        envelope: Envelope | None = None
        for rows in self.rows(message_id, user):
            for one in await self._spool.reader.peek(rows[:1]):
                if one.message.hot is not None:
                    envelope = one.message.hot[0]
        for delivery in self.in_hand(message_id, user)[:1]:
            envelope, _ = await self._spool.reader.load(delivery)
        if envelope is not None:
            return envelope.sender, [one.address for one in envelope.recipients]
        return self._book.addresses_of(message_id, user) if message_id else None


def own_id(text: bytes) -> str:
    """A message id of ours; "": it is none."""
    message_id = text.decode("ascii", "replace")
    return message_id if is_id(message_id) else ""


def _folded(sender: str) -> str:
    return sender.strip().removeprefix("+").casefold()


def _to_carriers(deliveries: Iterable[Delivery]) -> list[Delivery]:
    return [one for one in deliveries if channel_of(one.destination)[0] == "carrier"]
