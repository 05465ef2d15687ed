"""Why an SMS is not taken: an SMPP status for the client, a word for the metric, and words for the log."""

from engine.base.errors import EngineError
from engine.protocol.smpp_tables import STATUSES, status_name

REASONS = ("storage", "sender", "number", "suppressed", "route", "length", "content", "quota", "rate", "syntax")


class SmsRefused(EngineError):
    """status: the number of it. reason: one of REASONS."""

    def __init__(self, status: str, reason: str, words: str) -> None:
        """status: its name."""
        super().__init__(f"{words} ({status})")
        self.status = STATUSES[status]
        self.reason = reason
        self.words = words

    @property
    def name(self) -> str:
        return status_name(self.status)
