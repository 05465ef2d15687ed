"""A message of our own that tells of another: a notification of mail, a receipt for an application."""

from typing import NamedTuple

from engine.message.envelope import Envelope


class Report(NamedTuple):
    """Ready for the spool. destination: of its one recipient."""

    envelope: Envelope
    content: bytes
    destination: str
