"""A message of our own that tells of another: a notification of mail, a receipt for an application."""

from engine.message.envelope import Envelope
from engine.message.sms import Sms


class Report:
    """Ready for the spool. destination: of its one recipient. sms: what `content` is, of an SMS."""

    __slots__ = ("content", "destination", "envelope", "sms")

    def __init__(self, envelope: Envelope, content: bytes, destination: str, sms: Sms | None = None) -> None:
        self.envelope = envelope
        self.content = content
        self.destination = destination
        self.sms = sms
