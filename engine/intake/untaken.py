"""Events of mail that was not taken: who sent it has the reply, and we have an event, or nobody here would ever know.

`refused` is what should have come back, `rejected` what a client that may submit wanted to send. Of a flood there are
some events, and the next one says how many there are not.
"""

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from engine.base.clock import Clock
from engine.intake.admission import Origin, Submission
from engine.storage.events.event import Event
from engine.storage.events.lines import noted_lines

_WINDOW_S, MOST = 60.0, 60


class UntakenMail:
    """Makes the events of one type, at most MOST in each minute."""

    def __init__(self, type: Literal["refused", "rejected"], clock: Clock) -> None:
        self._type = type
        self._clock = clock
        self._since = 0.0
        self._told = self._untold = 0

    def event(
        self, submission: Submission, reply: str, client: str, *, recipient: str = "", tenant: str = ""
    ) -> Event | None:
        """Of a message, or of one recipient of it; None: there were too many lately. client: who brought it,
        "name[address]"."""
        now = self._clock.time()
        if not self._since <= now < self._since + _WINDOW_S:
            self._since, self._told = now, 0
        if self._told == MOST:
            self._untold += 1
            return None
        self._told += 1
        untold, self._untold = self._untold, 0
        first = recipient or (submission.recipients[0].address if submission.recipients else "")
        ours = self._type == "rejected"  # the recipient is a client's; else it is an address of ours
        several = ours and not recipient and len(submission.recipients) > 1
        notes = [f"one of {len(submission.recipients)} recipients"] if several else []
        notes += [f"{untold} more were {self._type} before"] if untold else []
        return Event(
            id="", at=int(now * 1000) / 1000, type=self._type, message="", message_class="",
            sender=submission.sender or "", recipient=first if ours else "", destination="" if ours else first,
            status=reply[4:].partition(" ")[0], reply=reply, remote=client, tenant=tenant,
            text=", ".join(notes),
        )  # fmt: skip


class Notes(Protocol):
    """What is needed of the spool."""

    def note(self, make: Callable[[int], bytes]) -> Awaitable[None]: ...


class Rejections:
    """Writes `rejected` events down. Only of what was refused for good: a client tries the rest again."""

    def __init__(self, spool: Notes, clock: Clock) -> None:
        self._spool = spool
        self._untaken = UntakenMail("rejected", clock)

    def tell(self, submission: Submission, reply: str, origin: Origin, recipient: str) -> None:
        if reply.startswith("5"):
            event = self._untaken.event(submission, reply, origin.client, recipient=recipient, tenant=origin.user)
            if event is not None:
                self._spool.note(lambda seq: noted_lines(seq, [event]))
