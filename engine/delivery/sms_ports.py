"""What SMS delivery sends over, and what it asks of those above it.

Who remembers what was sent, who takes what carriers bring, who is bound: declared here, implemented in feedback and
intake, joined in daemon.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from engine.base.errors import EngineError
from engine.delivery.sms_pace import Pace, Pause
from engine.message.sms import SentPart
from engine.net.smpp_wire import Wire
from engine.protocol.smpp_events import Answered, Unanswered
from engine.protocol.smpp_pdu import DataSm, DeliverSm, Pdu

#: Told what became of a request, once.
Told = Callable[[Answered | Unanswered], None]


class Line(Protocol):
    """A bind that an agent sends over."""

    @property
    def bound(self) -> bool: ...

    @property
    def room(self) -> bool: ...

    @property
    def remote(self) -> str: ...

    @property
    def pace(self) -> Pace: ...

    @property
    def pause(self) -> Pause: ...

    def request(self, pdu: Pdu, told: Told) -> None: ...

    def abort(self) -> None: ...


class LineLost(EngineError):
    """The bind is gone, or the agent is to stop."""


class GivenAway(EngineError):
    """The message that is about to be sent is somebody else's now: another carrier's, or who changes it."""


class Withdrawn(EngineError):
    """The message that is about to be sent is not to be, after all."""


class SentBook(Protocol):
    """Remembers what carriers took, for their receipts."""

    def sent(self, parts: Sequence[SentPart]) -> "asyncio.Future[None] | None":
        """All parts of a message to one recipient. Done when that survives the process; None: it does."""

    def taken(self, message: str, index: int) -> Sequence[SentPart]:
        """What was remembered of a recipient before a kill; what followed from it is done again. Raises
        StorageError."""


class Incoming(Protocol):
    """Takes receipts and messages from phones."""

    def arrived(self, carrier: str, pdu: DeliverSm | DataSm, answer: Callable[[int], None]) -> None:
        """From any bind of a carrier. answer: to be called with a command_status, once it is safe on disk."""


class Receivers(Protocol):
    """The binds of applications."""

    def receivers(self, system_id: str) -> Sequence[Wire]:
        """Those that may be sent deliver_sm now, the one to prefer first."""

    def call(self, system_id: str) -> None:
        """Something waits for an application of which there are none: ask it to bind, if it can be asked."""
