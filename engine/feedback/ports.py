"""What answers ask of others: who remembers what was sent, and who keeps events that belong to no delivery."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from engine.message.sms import SentPart


class LastSent(Protocol):
    def last_to(self, number: str) -> SentPart | None:
        """The last message that was sent to a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """An event. at: unix seconds. message: the one it is about; answer: the id of what a phone sent.

    sender, recipient: as of a message of ours, so that the recipient is the phone. remote: the carrier it came from.
    text: what a person wrote; events have it, since applications must, and no log has.
    """

    type: str
    at: float
    message: str
    sender: str
    recipient: str
    destination: str = ""
    answer: str = ""
    attempt: int = 0
    reply: str = ""
    remote: str = ""
    text: str = ""


class Notes(Protocol):
    def note(self, event: Noted) -> Awaitable[None]:
        """Done when it is durable; its exception is StorageError."""
