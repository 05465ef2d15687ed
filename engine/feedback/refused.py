"""Mail that should have come back and was refused: who sent it has the reply, and we have an event, or we would never
know. Of a flood there are some events, and the next one says how many there are not."""

from engine.base.clock import Clock
from engine.intake.admission import Submission
from engine.storage.events.event import Event

_WINDOW_S, MOST = 60.0, 60


class RefusedMail:
    """Makes the events, at most MOST in each minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = 0.0
        self._told = self._untold = 0

    def event(self, submission: Submission, reply: str, client: str) -> Event | None:
        """Of a message; None: there were too many lately. client: who brought it, "name[address]"."""
        now = self._clock.time()
        if not self._since <= now < self._since + _WINDOW_S:
            self._since, self._told = now, 0
        if self._told == MOST:
            self._untold += 1
            return None
        self._told += 1
        untold, self._untold = self._untold, 0
        recipient = submission.recipients[0].address if submission.recipients else ""
        return Event(
            id="", at=int(now * 1000) / 1000, type="refused", message="", message_class="",
            sender=submission.sender or "", recipient="", destination=recipient, status=reply[4:].partition(" ")[0],
            reply=reply, remote=client, text=f"{untold} more were refused before" if untold else "",
        )  # fmt: skip
