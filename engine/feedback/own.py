"""Messages of the engine's own making in the books (Q2): a client's are counted where they are admitted."""

from engine.base.metrics import Metrics
from engine.base.stored import Stored
from engine.message.envelope import MessageClass


class OwnMessages:
    """Of one worker. Each message has one recipient."""

    def __init__(self, metrics: Metrics) -> None:
        self._counts = {
            int(which): metrics.own_recipients.labels(which.name.lower()).inc for which in MessageClass
        }  # fmt: skip

    def count(self, message_class: int) -> None:
        """One that the spool will keep, or has."""
        self._counts[message_class]()

    def when_stored(self, stored: Stored, message_class: int) -> Stored:
        """One that the spool may refuse; the same."""
        stored.add_done_callback(lambda done: self._count_stored(done, message_class))
        return stored

    def _count_stored(self, stored: Stored, message_class: int) -> None:
        if stored.exception() is None:
            self._counts[message_class]()
