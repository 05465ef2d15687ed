"""What follows from an attempt: one place decides, records and tells.

    outcomes -> final or due again -> notification -> spool (S2) -> metrics, log line -> back to the queue

Q3  nothing here drops a recipient: each outcome either is final in the journal or leaves the recipient queued.
D3  no reply after the end of data: see retries.py.
"""

import logging
import math
import random
import re
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from engine.base.clock import Clock
from engine.base.log import delivery_line
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.base.stored import Stored, stored
from engine.base.units import format_duration
from engine.delivery import verdicts
from engine.delivery.gathering import Delays, Failed, Gathering, as_one
from engine.delivery.report import Report
from engine.delivery.retries import Retries
from engine.message.channels import channel_of
from engine.message.content import Content
from engine.message.envelope import Envelope, MessageClass, Notify
from engine.message.outcome import NOT_FINAL, Outcome, Status
from engine.protocol.dsn import Action
from engine.queue.manager import Manager
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool

log = logging.getLogger(__name__)

#: A message that could not be read from disk, or whose sender could not be told, is tried again after this long.
PUT_OFF_S: Final = 300.0

#: Postfix's words, which the world's log readers know.
_WORDS: Final = {
    Status.DELIVERED: "sent",
    Status.DEFERRED: "deferred",
    Status.FAILED: "bounced",
    Status.UNKNOWN: "deferred",
    Status.EXPIRED: "expired",
    Status.REMOVED: "removed",
    Status.SUPPRESSED: "suppressed",
}

# Asked for every recipient: names of the module are quicker than members of a class, and int is than IntFlag.
_DELIVERED: Final = Status.DELIVERED
_FAILED: Final = Status.FAILED
_EXPIRED: Final = Status.EXPIRED
#: Final, and the sender is told; the first without those who are suppressed, of whom events tell.
_GONE_WRONG: Final = (_FAILED, _EXPIRED)
_TOLD: Final = (*_GONE_WRONG, Status.SUPPRESSED)
_SUCCESS: Final = int(Notify.SUCCESS)

#: The status that a delivery remembers of an outcome that was not final, see `_remembered`.
_STATUS: Final = re.compile(r"(?:[0-9]{3} )?(4\.[0-9]{1,3}\.[0-9]{1,3}) ")

#: By MessageClass, as labels have it.
_CLASSES: Final = tuple(message_class.name.lower() for message_class in MessageClass)


class Notifier(Protocol):
    """Writes delivery status notifications (bouncer.py), or receipts (sms_reports.py)."""

    def wants(self, envelope: Envelope, outcome: Outcome, action: Action) -> bool: ...

    def reports(
        self, envelope: Envelope, content: Content, outcomes: Sequence[Outcome], action: Action
    ) -> Sequence[Report]: ...


class Refusals(Protocol):
    """Hears what receivers refused for good: it may be the address."""

    def refused(self, envelope: Envelope, outcome: Outcome, provider: str) -> None:
        """A recipient of mail failed with a receiver's reply. Returns at once."""


class Judges(Protocol):
    """Says what failures mean (kinds.py)."""

    def judged(self, envelope: Envelope, outcomes: Sequence[Outcome], provider: str) -> Sequence[Outcome]: ...


class Timing:
    """When the steps of an attempt happened (unix seconds), for the log's delays. 0.0: not reached."""

    __slots__ = ("connected", "ready", "started")

    def __init__(self, started: float) -> None:
        self.started = started  #: taken from its queue
        self.ready = started  #: signed, about to look for a connection
        self.connected = started  #: has a connection

    def delays(self, received_at: float, now: float) -> Delays:
        """Before it was taken, until it was ready, until it had a connection, until now."""
        return (
            self.started - received_at, self.ready - self.started, self.connected - self.ready, now - self.connected
        )  # fmt: skip


class Settlement:
    """See above. One per worker."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        manager: Manager,
        notifier: Notifier,
        metrics: Metrics,
        clock: Clock,
        log_line: Callable[[str], None],
        rng: random.Random,
        sms_notifier: Notifier | None = None,
        refusals: Refusals | None = None,
        kinds: Judges | None = None,
    ) -> None:
        """sms_notifier: for messages of that channel; None: the one there is for mail. refusals: of mail; None: nobody
        wants to hear. kinds: None: nobody says what failures mean."""
        self._spool = spool
        self._manager = manager
        self._notifier = notifier
        self._sms_notifier = sms_notifier
        self._refusals = refusals
        self._kinds = kinds
        self._metrics = metrics
        self._clock = clock
        self._log_line = log_line
        self._retries = Retries(rng)
        self._counters = {
            int(Status.DELIVERED): metrics.delivered,
            int(Status.DEFERRED): metrics.deferred,
            int(Status.FAILED): metrics.failed,
            int(Status.UNKNOWN): metrics.unknown,
            int(Status.EXPIRED): metrics.expired,
            int(Status.REMOVED): metrics.removed,
            int(Status.SUPPRESSED): metrics.suppressed,
        }
        self._gathering = Gathering(self._settle_gathered)
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        self._retries.reload(settings.retry)
        self.delay_notice = settings.dsn.delay_notice
        self._gather = settings.dsn.gather
        self._tells_of_suppressed = settings.suppression.notify

    def tell_gathered(self) -> None:
        """Settle what waits for other failures of its message; before the spool is closed."""
        self._gathering.end()

    def settle(
        self,
        delivery: Delivery,
        envelope: Envelope,
        content: Content,
        outcomes: Sequence[Outcome],
        provider: str,
        timing: Timing,
        *,
        attempted: bool = True,
        more: bool = False,
        relays_dsn: bool = False,
        next_destination: str | None = None,
        gather: bool = True,
    ) -> Stored:
        """Record what an attempt did. `outcomes` speaks of recipients in `delivery.indexes`, all or some of them.

        attempted: counts for the retry schedule. more: the attempt goes on with other recipients. relays_dsn: the
        receiver took over the duty to report success. next_destination: where what is not final goes, at once. gather:
        a failure may wait for others of its message.
        Done when the outcomes are on disk, but for failures that are gathered (gathering.py).
        """
        now = self._clock.time()
        if attempted:
            delivery.attempts += 1
        outcomes = self._decide(delivery, envelope, outcomes, now)
        if self._kinds is not None:
            outcomes = self._kinds.judged(envelope, outcomes, provider)
        if envelope.box and next_destination is None:
            outcomes, next_destination = verdicts.kept(envelope, delivery.destination, outcomes, now)
        if next_destination is not None:
            self._manager.hand_over(delivery, next_destination)
            delivery.due_at = min(delivery.due_at, now)
        delivery.last = _remembered(outcomes[-1])
        delays = timing.delays(envelope.received_at, now)
        may_wait = gather and not more and next_destination is None
        gathered = self._to_gather(delivery, envelope, outcomes) if may_wait else ()
        if gathered:
            outcomes = [outcome for outcome in outcomes if outcome not in gathered]
            delivery.unsettled += 1  # Q4: its outcome is on its way
            self._gathering.add(Failed(delivery, envelope, gathered, provider, delays, now), content, self._gather)
            if not outcomes:
                return stored()
        self._notify(delivery, envelope, content, outcomes, now, relays_dsn)
        settled = self._spool.settle(delivery, envelope, now, provider, outcomes)
        self._tell(envelope, outcomes, provider, delays, now)
        if not more and not gathered:
            self._manager.settled(delivery)
        return settled

    def tried(self, report: Report, outcome: Outcome, at: float) -> None:
        """A message of ours was tried without a place in the spool; if that was all, it is in the books as any."""
        envelope = report.envelope
        if outcome.status.final:
            self._manager.tally.accepted += 1
            self._metrics.own_recipients.labels(_CLASSES[envelope.message_class]).inc()
        delays = 0.0, 0.0, 0.0, at - envelope.received_at
        self._tell(envelope, (outcome,), channel_of(report.destination)[0], delays, at)

    def pass_on(self, delivery: Delivery, envelope: Envelope, destination: str) -> None:
        """It goes to another destination without an attempt here."""
        self._manager.hand_over(delivery, destination)
        self._spool.settle(delivery, envelope, self._clock.time(), "", ())
        self._manager.settled(delivery)

    def leave(self, delivery: Delivery) -> None:
        """An attempt ends before all recipients had their turn: the others wait with those deferred, or go at once."""
        self._manager.settled(delivery)

    def notice_at(self, delivery: Delivery) -> float:
        """When its sender is to be told of the delay (unix time); inf: he was, or does not want to be."""
        return math.inf if delivery.notices else delivery.message.received_at + self.delay_notice

    def tell_delay(
        self, delivery: Delivery, envelope: Envelope, content: Content, provider: str, reason: str
    ) -> Stored | None:
        """Tell the sender of a delivery that waits without an attempt; nothing else about the delivery changes.

        reason: what it waits for. Done when it is on disk that the sender was told; None: there was
        nobody to tell, or it is not for this to tell: an attempt is under way, or somebody made it a row meanwhile.
        """
        now = self._clock.time()
        gone = delivery not in self._spool.in_hand
        if gone or delivery.state in (State.ATTEMPT, State.FINAL) or now < self.notice_at(delivery):
            return None
        delivery.notices = 1
        why = delivery.last or reason
        status = _STATUS.match(why)
        outcomes = verdicts.waiting(delivery.indexes, why, *status.groups() if status else ())
        if not self._report(envelope, content, outcomes, "delayed"):
            return None
        # A record without an outcome: only the state that goes with it is news.
        return self._spool.settle(delivery, envelope, now, provider, ())

    def put_off(self, delivery: Delivery, reason: str) -> None:
        """The spool does not give the message back now; nothing can be recorded of it, so it waits for another try."""
        log.error("%s: %s; tried again in %s", delivery.message.id, reason, format_duration(PUT_OFF_S))
        delivery.last = reason
        delivery.due_at = self._clock.time() + PUT_OFF_S
        self._manager.settled(delivery)

    def _decide(
        self, delivery: Delivery, envelope: Envelope, outcomes: Sequence[Outcome], now: float
    ) -> Sequence[Outcome]:
        """Outcomes with what is not final made due again, or final because its time is over."""
        if not any([outcome.status in NOT_FINAL for outcome in outcomes]):
            return outcomes
        outcomes, due_at = self._retries.decide(delivery, envelope, outcomes, now)
        if due_at is None:
            return outcomes
        # A last try at the very end, and never later: the sender is told in time. One when a notice of the delay
        # is due, too, for those who asked for it.
        notice_at = self.notice_at(delivery)
        wants = self._notifier_of(envelope).wants
        if now < notice_at < due_at and any(wants(envelope, o, "delayed") for o in outcomes):
            due_at = notice_at
        delivery.due_at = min(due_at, max(delivery.message.expires_at, now + 1.0))
        return outcomes

    def _to_gather(self, delivery: Delivery, envelope: Envelope, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """The failures among these that may share a notification with others of their message, a moment later."""
        alone = len(envelope.recipients) <= len(delivery.indexes)
        if alone or not self._gather or not envelope.sender or envelope.channel:
            return ()
        wants = self._notifier.wants
        return [
            outcome
            for outcome in outcomes
            if (outcome.status is _FAILED or outcome.status is _EXPIRED)
            and outcome.index not in delivery.unknowns
            and wants(envelope, outcome, "failed")
        ]

    def _settle_gathered(self, failed: Sequence[Failed], content: Content) -> None:
        """One notification of all; it goes to the journal before the outcomes it tells of."""
        try:
            envelope, outcomes = as_one(failed)
            self._report(envelope, content, outcomes, "failed")
        except Exception:  # top of a task, Q3: they are tried again
            self._metrics.internal_errors.labels("notification").inc()
            log.exception("%s: no notification", failed[0].envelope.id)
            for one in failed:
                one.delivery.unsettled -= 1
                one.delivery.due_at = self._clock.time() + PUT_OFF_S
                self._manager.settled(one.delivery)
            return
        for one in failed:
            one.delivery.unsettled -= 1
            self._spool.settle(one.delivery, one.envelope, one.at, one.provider, one.outcomes)
            self._tell(one.envelope, one.outcomes, one.provider, one.delays, one.at)
            self._manager.settled(one.delivery)

    def _notify(
        self,
        delivery: Delivery,
        envelope: Envelope,
        content: Content,
        outcomes: Sequence[Outcome],
        now: float,
        relays_dsn: bool,
    ) -> None:
        """Queue the notifications that are due. They go to the journal before the outcome they tell of."""
        if not envelope.sender:
            return
        if not envelope.channel:
            told = _TOLD if self._tells_of_suppressed else _GONE_WRONG
            failed = [o for o in outcomes if o.status in told]
        else:
            failed = [o for o in outcomes if o.status is not _DELIVERED and o.status.final]
        if failed:
            self._report(envelope, content, failed, "failed")
        if not relays_dsn:
            asked = [o for o in outcomes if o.status is _DELIVERED and _asked(envelope, o)]
            if asked:
                self._report(envelope, content, asked, "relayed")
        if now >= self.notice_at(delivery):
            waiting = [o for o in outcomes if not o.status.final]
            if waiting:
                delivery.notices = 1
                self._report(envelope, content, waiting, "delayed")

    def _report(self, envelope: Envelope, content: Content, outcomes: Sequence[Outcome], action: Action) -> bool:
        """Queue a notification about the outcomes that its sender wants to hear of; False: there are none.

        Those of one attempt, or those that were gathered.
        """
        reports = self._notifier_of(envelope).reports(envelope, content, outcomes, action)
        for report in reports:
            self._spool.accept(report.envelope, report.content, [(report.destination, (0,))], keep=True)
            if not envelope.channel:
                self._metrics.dsn_sent.labels(action).inc()
            self._metrics.own_recipients.labels(_CLASSES[report.envelope.message_class]).inc()
            self._log_line(f"{envelope.id}: sender {action} notification: {report.envelope.id}")
        return bool(reports)

    def _notifier_of(self, envelope: Envelope) -> Notifier:
        return self._sms_notifier if envelope.channel and self._sms_notifier is not None else self._notifier

    def _tell(self, envelope: Envelope, outcomes: Sequence[Outcome], provider: str, delays: Delays, now: float) -> None:
        received_at, class_name = envelope.received_at, _CLASSES[envelope.message_class]
        for outcome in outcomes:
            status = outcome.status
            self._manager.tally.count(status)
            self._counters[status].labels(provider, class_name).inc()
            if status is _FAILED and self._refusals is not None and not envelope.channel and outcome.remote != "none":
                self._refusals.refused(envelope, outcome, provider)
            if status is _DELIVERED:
                self._metrics.time_to_deliver.labels(provider, class_name).observe(now - received_at)
            self._log_line(
                delivery_line(
                    envelope.id,
                    envelope.recipients[outcome.index].address,
                    outcome.remote,
                    now - received_at,
                    delays,
                    outcome.status_code,
                    _WORDS[status],
                    outcome.reply,
                )
            )


def _remembered(outcome: Outcome) -> str:
    """What a delivery keeps of it: a server's reply, or our words with the status before them."""
    return outcome.reply if outcome.reply[:3].isdecimal() else f"{outcome.status_code} {outcome.reply}"


def _asked(envelope: Envelope, outcome: Outcome) -> bool:
    """For the report of a success."""
    return bool(envelope.recipients[outcome.index].notify & _SUCCESS)
