"""query_sm, cancel_sm and replace_sm: what became of a message, and changing it while it is queued.

A message is the account's that submitted it; to others it does not exist. What carriers took is beyond recall, and
known by the book of what was sent.
"""

from typing import NamedTuple, Protocol

from engine.protocol.smpp_tables import STATUSES

#: SMPP 3.4 5.2.28.
ENROUTE = 1
_INVALID = STATUSES["ESME_RINVMSGID"]


class Fate(NamedTuple):
    """What became of a message that is not queued. state: as SMPP counts. final_at: unix seconds, 0.0: not final."""

    state: int
    final_at: float = 0.0
    error: int = 0


class SentStates(Protocol):
    """The book of what was sent."""

    def state_of(self, message_id: str) -> tuple[int, float, int] | None:
        """State, unix time of it if it is final (else 0.0), error; None: unknown, or not this account's."""
