"""What failures mean, by the rules of config/bounces.toml: once, before they are recorded and told.

A refusal that names us is not about the address, whatever its words (ours.py).
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from engine.base.settings import Settings
from engine.delivery.ours import Ours
from engine.message.bounce_rules import Classifier
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome, Status

_DELIVERED: Final = Status.DELIVERED
_DEFERRED: Final = Status.DEFERRED
_FAILED: Final = Status.FAILED
_EXPIRED: Final = Status.EXPIRED


class Kinds:
    """Judges outcomes; for mail and SMS."""

    def __init__(self, classifier: Classifier, settings: Settings) -> None:
        self.reload(classifier, settings)

    def reload(self, classifier: Classifier, settings: Settings) -> None:
        self._judge = classifier.judge
        self._ours = Ours(settings)

    def judged(self, envelope: Envelope, outcomes: Sequence[Outcome], provider: str) -> Sequence[Outcome]:
        """These, with their kinds; what was delivered, or not sent because nobody wanted it to be, has none."""
        for outcome in outcomes:
            if outcome.status is not _DELIVERED:
                break
        else:
            return outcomes
        phase = "smpp" if envelope.channel else ""
        return [
            replace(outcome, kind=self._kind(envelope, outcome, phase or outcome.phase, provider))
            if outcome.status is _FAILED or outcome.status is _DEFERRED or outcome.status is _EXPIRED
            else outcome
            for outcome in outcomes
        ]

    def _kind(self, envelope: Envelope, outcome: Outcome, phase: str, provider: str) -> str:
        if outcome.status is _EXPIRED:
            return "expired"
        kind = self._judge(outcome.reply, status=outcome.status_code, phase=phase, provider=provider).kind
        if kind == "hard" and not envelope.channel:
            address = envelope.recipients[outcome.index].address
            if self._ours.are_in(outcome.reply, envelope.sender, address, outcome.remote, envelope.header_from):
                return "config"
        return kind
