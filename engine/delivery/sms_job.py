"""A delivery of SMS while it is on the wire: its parts, and what became of each."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from engine.delivery import verdicts
from engine.delivery.settlement import Timing
from engine.delivery.sms_trouble import TWICE, marked
from engine.message.content import Content
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome, Scope, Status
from engine.message.sms import Sms, decode_sms
from engine.protocol.smpp_events import Answered, Unanswered
from engine.protocol.smpp_pdu import Pdu
from engine.storage.inflight import Inflight
from engine.storage.spool.entry import Delivery

_AGAIN: Final = "; may have been sent before: there was no answer"


class Job:
    """A delivery on the wire. sent, waiting: parts, and those of them without an answer. answers, ids: by recipient, of
    each part; the ids are those that the carrier gave.
    """

    __slots__ = (
        "again",
        "answers",
        "content",
        "delivery",
        "envelope",
        "gone",
        "ids",
        "known",
        "remembered",
        "rendered",
        "risk",
        "sent",
        "slot",
        "sms",
        "timing",
        "twice",
        "underway",
        "waiting",
        "withdrawn",
    )

    def __init__(
        self, delivery: Delivery, envelope: Envelope, content: Content, timing: Timing, twice: bool = False,
        again: bool = False,
    ) -> None:  # fmt: skip
        assert isinstance(content, bytes)
        self.delivery = delivery
        self.envelope = envelope
        self.content = content
        try:
            self.sms = decode_sms(content)
        except ValueError as exc:
            self.sms = Sms(text=f"not an SMS: {exc}", body=b"")
        self.timing = timing
        self.answers: dict[int, list[Outcome | None]] = {}
        self.ids: dict[int, list[str]] = {}
        self.sent = 0
        self.waiting = 0
        self.rendered = False  #: all its parts are on their way
        self.slot = -1
        self.twice = twice  #: it may have been sent, and what became of that was not recorded
        self.again = again  #: and had some sent again, which a carrier may have taken both times
        self.withdrawn = ""  #: by whom
        self.gone = False  #: somebody else has the delivery
        self.underway: set[int] = set()  #: recipients that something was sent to
        self.risk: dict[int, int] = {}  #: by recipient, parts sent that a kill would have sent again
        self.remembered: asyncio.Future[None] | None = None  #: of the last recipient that was taken
        self.known: dict[int, str] = {}  #: recipients that a carrier took it for before a kill, and the price of a part

    def enter(self, inflight: Inflight) -> None:
        """It is about to be on the wire."""
        message, number = self.delivery.message.id, self.delivery.number
        if self.twice:
            inflight.enter_again(message, number)
        else:
            self.slot = inflight.enter(message, number)

    def no_risk(self, index: int | None = None) -> int:
        """Parts, of one recipient or all, that a kill would not have sent again from now on."""
        if index is not None:
            return self.risk.pop(index, 0)
        parts = sum(self.risk.values())
        self.risk.clear()
        return parts

    def stored(self, inflight: Inflight) -> None:
        """What became of it is on disk, or it was given away."""
        inflight.leave(self.slot)
        if self.twice and not self.delivery.indexes:
            inflight.forget(self.delivery.message.id, self.delivery.number)

    def doubt(self, inflight: Inflight) -> None:
        """Nobody could write down what became of it."""
        inflight.doubt(self.slot, self.delivery.message.id, self.delivery.number)

    def marked(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Each says so if it may be the second time."""
        unknowns = self.delivery.unknowns
        if not self.twice and not unknowns:
            return outcomes
        return [
            marked(one, TWICE if self.twice else _AGAIN)
            if (self.twice and (self.again or one.index not in self.known))
            or (one.index in unknowns and one.status is not Status.UNKNOWN)
            else one
            for one in outcomes
        ]

    def is_late(self, now: float) -> bool:
        """Its validity is over."""
        return now >= self.envelope.expires_at

    @property
    def over(self) -> bool:
        """Nothing more of it is to be sent."""
        return self.gone or bool(self.withdrawn)

    def withdraw(self, again: list["Part"], by: str) -> bool:
        """It is not to be sent after all; its parts leave `again`, what the peer told to slow down. by: whose word.

        False: the peer has, or may have, some of it.
        """
        held = self._held(again)
        if held is None:
            return False
        for part in held:
            self.answers[part.index][part.number] = verdicts.purged((part.index,), by)[0]
        self.waiting, self.withdrawn = 0, by
        return True

    def leave(self, again: list["Part"]) -> bool:
        """Somebody else has the delivery from now on; its parts leave `again`. False: as `withdraw`."""
        self.gone = not self.over and self._held(again) is not None
        return self.gone

    def _held(self, again: list["Part"]) -> list["Part"] | None:
        """Its parts in `again`, which they leave; None, and they stay: the peer has, or may have, some of it."""
        held = [part for part in again if part.job is self]
        answers = [answer for answers in self.answers.values() for answer in answers if answer is not None]
        if len(held) < self.waiting or any(answer.status in _PERHAPS_SENT for answer in answers):
            return None
        again[:] = [part for part in again if part.job is not self]
        return held

    def give_up(self) -> None:
        """What of it was not begun when it was withdrawn."""
        for index in self.delivery.indexes:
            answers = self.answers.setdefault(index, [None])
            answers[:] = [one or verdicts.purged((index,), self.withdrawn)[0] for one in answers]


class Part:
    """One PDU of a job; called with what became of it. order: among all of its agent."""

    __slots__ = ("_told", "index", "job", "number", "order", "pdu")

    def __init__(
        self,
        told: "Callable[[Part, Answered | Unanswered], None]",
        order: int,
        job: Job,
        index: int,
        number: int,
        pdu: Pdu,
    ) -> None:
        self._told = told
        self.order = order
        self.job = job
        self.index = index
        self.number = number
        self.pdu = pdu

    def __call__(self, event: Answered | Unanswered) -> None:
        self._told(self, event)

    def settle(self, outcome: Outcome) -> None:
        """Nothing more is expected of it."""
        self.job.answers[self.index][self.number] = outcome
        self.job.waiting -= 1


def together(index: int, answers: Sequence[Outcome | None]) -> Outcome:
    """One outcome for all parts: the worst. A part that was not sent is a bind that was lost."""
    worst: Outcome | None = None
    for outcome in answers:
        if outcome is None:
            [outcome] = verdicts.everyone((index,), Status.DEFERRED, Scope.SESSION, "4.4.2", "the bind was lost")
        if worst is None or _badness(outcome) > _badness(worst):
            worst = outcome
    assert worst is not None
    return worst


def may_go_elsewhere(job: Job, outcomes: Sequence[Outcome]) -> bool:
    """The peer did not take it, or did not answer for the first time, and is not known to have a part of it.

    Whatever a peer says but that it cannot be: its next colleague may be of another mind.
    """
    left = [outcome for outcome in outcomes if _may_go(job, outcome)]
    parts = [answer for outcome in left for answer in job.answers[outcome.index] if answer is not None]
    return bool(left) and not any(answer.status is Status.DELIVERED for answer in parts)


def _may_go(job: Job, outcome: Outcome) -> bool:
    if outcome.status is Status.UNKNOWN:
        return outcome.index not in job.delivery.unknowns  # else it is over, D3
    said = outcome.phase == "submit" or outcome.scope in (Scope.SITE, Scope.SESSION)
    return outcome.status is Status.DEFERRED and said


_PERHAPS_SENT: Final = (Status.DELIVERED, Status.UNKNOWN)
_WORSE: Final = (
    Status.DELIVERED, Status.SUPPRESSED, Status.DEFERRED, Status.UNKNOWN, Status.EXPIRED, Status.FAILED, Status.REMOVED,
)  # fmt: skip


def _badness(outcome: Outcome) -> int:
    return _WORSE.index(outcome.status)
