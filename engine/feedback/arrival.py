"""Values: a message that came back, and what is found out of each recipient that it is about."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from engine.base.settings import Inbound as Row
from engine.message.bounce_verdict import Judged
from engine.message.return_path import Named
from engine.protocol.bounce_report import Action, Nature, Report
from engine.storage.ledger.sent import Sent

#: What a system says of a message; the others answer one.
REPORTS = (Nature.BOUNCE, Nature.COMPLAINT, Nature.FEEDBACK, Nature.AUTH_REPORT)

#: Why it is certain whom a report is about; "": it is not.
Proof = Literal["token", "dkim", ""]


class Reading(NamedTuple):
    """What a message says, and what that means: one of `judged` for each recipient of the report.

    data: all of it, if it came in memory; else the start.
    """

    report: Report
    judged: Sequence[Judged]
    data: bytes


class Finding(NamedTuple):
    """What a report says of one recipient; "" is who, or what message, is not known. sent: what is known of that."""

    recipient: str
    message: str
    judged: Judged
    action: Action
    proof: Proof
    sent: Sent | None = None


class Arrival(NamedTuple):
    """A message that came back. row: of the domain it came to. named: by a token, which is certain; None: by none."""

    id: str
    at: float
    sender: str
    recipient: str
    row: Row
    named: Named | None
    report: Report
    judged: Sequence[Judged]
    data: bytes

    @property
    def is_quoted(self) -> bool:
        """It reads like a bounce and has a sender: a mail system's has none (RFC 3464 2), and people quote them."""
        return self.report.nature is Nature.BOUNCE and bool(self.sender)
