"""What came back by mail, read: which recipients a report names, and what it says of each.

Values only. Who reads bytes into them: engine/protocol/bounces.py.
"""

import enum
from typing import Literal

import msgspec

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded", ""]


class Nature(enum.StrEnum):
    """What sort of message it is."""

    BOUNCE = "bounce"  #: a mail system's word on deliveries: failed, delayed, or done
    COMPLAINT = "complaint"  #: a person called the message unwanted, by way of a provider
    AUTO_REPLY = "auto-reply"  #: vacation, receipt of reading, "we have got your request"
    CHALLENGE = "challenge"  #: asks the sender to prove to be a person
    FEEDBACK = "feedback"  #: a feedback report about something else: fraud, a virus, that it was no spam
    AUTH_REPORT = "auth-report"  #: DMARC or DKIM failed somewhere (RFC 6591)
    OTHER = "other"  #: a person's reply, say


class Reported(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One recipient of a report.

    recipient: as we sent to it, if the report says so; None where it names nobody. action: of RFC 3464, "" where it
    does not say. status: "5.1.1", or "". reply: of the SMTP server, "550 ...", or "". reason: words that explain, on
    one line: the diagnostic, or what a person would read. remote: the host that refused, or "".
    """

    recipient: str | None
    action: Action = ""
    status: str = ""
    reply: str = ""
    reason: str = ""
    remote: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A whole report. original_message_id: with its angle brackets, or "". words: its own text, the start of it.

    forwarded: it was attached to a message that is none. truncated: something that may name recipients was not read.
    feedback: it is a feedback report by the letter (RFC 5965); return_paths: addresses that it gives back as those that
    the message came from, of its fields and of the header of that message. presumed: its recipient is the one that the
    message was addressed to, since nothing else names him. feedback_type: of one that is no complaint; a type that
    nobody has registered is "other".
    """

    nature: Nature
    recipients: tuple[Reported, ...]
    original_message_id: str = ""
    subject: str = ""
    words: str = ""
    forwarded: bool = False
    truncated: bool = False
    feedback: bool = False
    return_paths: tuple[str, ...] = ()
    presumed: bool = False
    feedback_type: str = ""
