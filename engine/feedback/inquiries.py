"""What is known of SMS that were sent, for those who ask: clients, answers, and agents after a kill."""

from collections.abc import Collection, Sequence

from engine.feedback.outstanding import Ending, Outstanding, Taken
from engine.message.sms import SentPart
from engine.protocol.receipt_states import Heard, State
from engine.storage.tables.sent import SentTable
from engine.storage.tables.sent_db import Row, by_message


class Inquiries:
    """See above. Methods raise StorageError."""

    def __init__(self, table: SentTable, outstanding: Outstanding) -> None:
        self._table = table
        self._outstanding = outstanding

    def last_to(self, number: str) -> SentPart | None:
        """The last part that was sent to a number."""
        return self._table.last_to(number)

    def taken(self, message: str, index: int) -> Sequence[SentPart]:
        """The parts of a message to one recipient, in order, if a carrier took them."""
        rows = self._table.of_message(message)
        groups = by_message([row for row in rows if row.part.index == index and row.part.carrier])
        return [row.part for row in groups[-1]] if groups else ()

    def state_of(self, message: str, account: str, queued: Collection[int] = ()) -> Heard | None:
        """What is known of a message; None: not even that it is this account's.

        Of one to several numbers: what is not final comes first, then what failed. queued: indexes of recipients that
        are not settled, of which there may be a receipt already.
        """
        groups = by_message([row for row in self._table.of_message(message) if row.part.account == account])
        if not groups and not queued:
            return None
        last = {rows[0].part.index: rows for rows in groups}  # it may have been sent to a number twice
        known = [self._known(rows) for rows in last.values()]
        if not last.keys() >= set(queued):
            known.append(Heard(State.ENROUTE))
        return min(known, key=lambda heard: (heard.state.final, heard.state is State.DELIVERED))

    def addresses_of(self, message: str, account: str) -> tuple[str, Sequence[str]] | None:
        """Its sender and the numbers it was for; None: it is not known as this account's."""
        parts = [row.part for row in self._table.of_message(message) if row.part.account == account]
        numbers = {part.index: part.recipient for part in parts}
        return (parts[0].sender, [*numbers.values()]) if parts else None

    def _known(self, rows: Sequence[Row]) -> Heard:
        """What is known of a message to one number."""
        if not rows[0].part.carrier and rows[0].state is not None:
            return Heard.unpacked(rows[0].state)
        taken = self._outstanding.get(rows[0].first) or Taken.of(rows)
        if taken is None:
            return Heard(State.UNKNOWN)
        if rows[0].fate == Ending.FINAL and not taken.ending:
            return Heard(State.ACCEPTED)  # R5, or a carrier without receipts
        return taken.known
