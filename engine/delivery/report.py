"""A message of our own that tells of another: a notification of mail, a receipt for an application."""

from typing import NamedTuple

from engine.message.envelope import Envelope
from engine.message.sms import Sms


class Report(NamedTuple):
    """Ready for the spool. destination: of its one recipient. sms: what `content` is, of an SMS."""

    envelope: Envelope
    content: bytes
    destination: str
    sms: Sms | None = None
