"""The listener for what comes back: reports, complaints, replies. An SMTP listener for anybody, to a few domains.

Sessions, limits, framing and large messages are those of every SMTP listener; whom a message may be for, and what becomes
of it, are not. S1: 250 means that what followed from it is on disk.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from engine.base.settings import Listener, Settings
from engine.intake.admission import Origin, Submission
from engine.intake.large import Incoming
from engine.intake.listener import SmtpListener
from engine.intake.smtp import SmtpServer

_NOT_HERE = b"550 5.7.1 This host takes no mail for that domain"
#: Of a message that is read; what makes it longer is what it gives back.
READ_BYTES = 1 << 20


class Returns(Protocol):
    """Who takes what comes back (feedback/inbound.py): an admission of its own kind."""

    def takes(self, destination: str) -> bool:
        """Whether a domain is one of ours. destination: as message.address.destination_of writes it."""

    async def submit(
        self, submission: Submission, content: bytes | Incoming, origin: Origin, framed: bool = False
    ) -> str: ...


class InboundServer(SmtpServer):
    """A session in which anybody may bring mail for the inbound domains."""

    def _may_bring(self) -> bool:
        return True

    def _refusal_of(self, destination: str) -> bytes | None:
        admission: Returns = self.gate.admission  # type: ignore[assignment]  # of an InboundListener
        return None if admission.takes(destination) else _NOT_HERE


class InboundListener(SmtpListener):
    """One [[listener]] of kind inbound."""

    server = InboundServer
