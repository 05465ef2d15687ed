"""What one attempt did to one recipient."""

import enum

import msgspec


class Status(enum.IntEnum):
    """The fate of a recipient after an attempt. Values are on disk: never renumber."""

    DELIVERED = 1  #: the receiver took responsibility
    DEFERRED = 2  #: not now; try again
    FAILED = 3  #: never; final
    UNKNOWN = 4  #: end of data was sent and no reply came (D3): retried once, never silently
    EXPIRED = 5  #: the queue gave up after `expire_after`; final
    REMOVED = 6  #: purged by an operator, no notification; final
    SUPPRESSED = 7  #: must not be sent to; final

    @property
    def final(self) -> bool:
        return self not in NOT_FINAL


#: A member looked up in its class (0.3 us) costs twenty times as much as a name of the module.
NOT_FINAL = (Status.DEFERRED, Status.UNKNOWN)


class Scope(enum.IntEnum):
    """How far the trouble reaches: what else it says something about."""

    RECIPIENT = 1  #: this address only
    MESSAGE = 2  #: this message, whoever it goes to
    SESSION = 3  #: this connection; another may do
    SITE = 4  #: every delivery to this site


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One recipient after one attempt.

    index: the recipient's position in `Envelope.recipients`. status_code: enhanced (RFC 3463), as "5.1.1".
    reply: the receiver's words ("550 5.1.1 no such user"), or ours where it said nothing.
    remote: who said it, as "mx1.example.org[192.0.2.7]:25", or "none". phase: where (see Phase).
    retry_at: unix seconds, when the receiver or the rule named a time of its own; else None. kind: what the reply of a
    failure means, as config/bounces.toml has it; "" where nobody judged it. price: of all parts that a carrier took, in
    the currency of the settings; "": nothing is known of it.
    """

    index: int
    status: Status
    scope: Scope
    status_code: str
    reply: str
    remote: str = "none"
    phase: str = "connect"
    retry_at: float | None = None
    kind: str = ""
    price: str = ""


#: Where in the session something happened (mail.md, Bounces): names used in events, metrics and rules.
PHASES = ("connect", "banner", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "end-of-data", "queue")
