"""Which message of ours something is about, and whom it went to: by a token, or by an id that it gives back.

The ledger knows it; of a message that it does not have, the events may still know the recipients. Addresses are as they
were sent to: on the way back the case of a token changes.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol

from engine.message.return_path import Named
from engine.storage.ledger.reader import LedgerReader
from engine.storage.ledger.sent import Sent
from engine.storage.ledger.writer import Ledger

#: Another worker writes its notes four times a second, and may be behind.
_AGAIN_S, _AGAINS = 0.3, 3


class Recipients(Protocol):
    """Who else knows to whom a message went (storage/events)."""

    def __call__(self, message: str) -> Awaitable[Sequence[str]]: ...


class Known:
    """See above. Methods raise StorageError."""

    def __init__(self, own: Ledger, ledger: LedgerReader, recipients: Recipients) -> None:
        """own: the one that this worker writes."""
        self._own = own
        self._ledger = ledger
        self._recipients = recipients

    async def look(self) -> None:
        """See what has been sent meanwhile; before other methods. A bounce may be faster than a note."""
        await self._own.keep()
        await self._ledger.follow()

    def message(self, id: str) -> Sent | None:
        """By our own id."""
        return self._ledger.find(id)

    async def message_soon(self, id: str) -> Sent | None:
        """The same; who has it may be about to note it. Waits a second at most: only for what a token names."""
        for _ in range(_AGAINS):
            if (sent := self.message(id)) is not None:
                return sent
            await asyncio.sleep(_AGAIN_S)
            await self.look()
        return self.message(id)

    def answered(self, message_ids: Iterable[str], by: str) -> Sent | None:
        """The first of these Message-IDs, without <>, that is of ours; of several messages with it the one to `by`."""
        for each in message_ids:
            if sent := self._ledger.by_message_id(each, by):
                return sent
        return None

    def only_recipient(self, sent: Sent | None) -> str:
        """Of a message that went to one, if no other has its Message-ID; else ""."""
        if sent is None or len(sent.recipients) != 1 or not self._ledger.is_alone(sent.message_id):
            return ""
        return sent.recipients[0]

    async def recipient(self, named: Named, sent: Sent | None) -> str:
        """Whom a token names; "": it is not known any more."""
        there = sent.recipients if sent is not None else ()
        if found := next((each for each in there if each and named.is_about(each)), ""):
            return found
        if named.recipient:
            return named.recipient
        return next((each for each in await self._recipients(named.message) if named.is_about(each)), "")


def spellings(sent: Sent | None) -> dict[str, str]:
    """The recipients of a message, as it was sent to them, by their address in lower case."""
    return {each.lower(): each for each in reversed(sent.recipients if sent is not None else ()) if each}
