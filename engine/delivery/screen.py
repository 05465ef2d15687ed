"""Recipients of mail who must not be sent to: their outcomes, without an attempt."""

from collections.abc import Sequence
from typing import Protocol

from engine.delivery import verdicts
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome


class Unwanted(Protocol):
    """Who must not be sent to (storage.tables.suppressions.Suppressions)."""

    def mail(self, address: str, tenant: str = "", stream: str = "") -> bool:
        """Whether no mail may be sent there. Raises StorageError."""

    async def why(self, address: str, tenant: str = "", stream: str = "") -> str:
        """For the sender, in words."""


async def outcomes(unwanted: Unwanted | None, envelope: Envelope, indexes: Sequence[int]) -> list[Outcome]:
    """Of those among these recipients who are suppressed. Raises StorageError."""
    if unwanted is None:
        return []
    found: list[Outcome] = []
    for index in indexes:
        address = envelope.recipients[index].address
        if unwanted.mail(address, envelope.owner, envelope.stream):
            why = await unwanted.why(address, envelope.owner, envelope.stream)
            found += verdicts.suppressed((index,), why)
    return found
