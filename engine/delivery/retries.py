"""When what an attempt left is tried again, and when it is over.

Mail and SMS to carriers: by the schedule, until it or the message's time is over. D3: what nobody knows of is tried
once more, and then fails, and its sender is told that it may have arrived.

What we owe an application, a receipt or an answer, waits as long as it is kept ([sms] keep_receipts), however often it
was tried, or its answer was missing: one that comes twice does no harm, one that never comes does.
"""

import random
from collections.abc import Sequence

from engine.base.schedule import Schedule, parse_schedule
from engine.base.settings import Retry
from engine.delivery import verdicts
from engine.message.channels import channel_of
from engine.message.envelope import Envelope, MessageClass
from engine.message.outcome import Outcome, Status
from engine.storage.spool.entry import Delivery

_UNKNOWN = Status.UNKNOWN


class Retries:
    """See above. rng: for the jitter."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._schedules: dict[int, Schedule] = {}
        self._jitter = 0.0

    def reload(self, retry: Retry) -> None:
        """By these settings from now on."""
        self._schedules = {
            MessageClass.TRANSACTIONAL: parse_schedule(retry.transactional.schedule),
            MessageClass.BULK: parse_schedule(retry.schedule),
        }
        self._jitter = retry.jitter

    def decide(
        self, delivery: Delivery, envelope: Envelope, outcomes: Sequence[Outcome], now: float
    ) -> tuple[Sequence[Outcome], float | None]:
        """The outcomes, final where there is no more time, and when the rest is due (unix time); None: none is left."""
        owed = bool(envelope.channel) and channel_of(delivery.destination)[0] == "account"
        unknown = [outcome.index for outcome in outcomes if outcome.status is _UNKNOWN]
        if unknown and not owed:
            words = verdicts.UNANSWERED_SMS if envelope.channel else verdicts.UNANSWERED
            outcomes = [verdicts.unknown_again(o, words) if o.index in delivery.unknowns else o for o in outcomes]
            delivery.unknowns = (*delivery.unknowns, *(index for index in unknown if index not in delivery.unknowns))
        schedule = self._schedules[delivery.message.message_class]
        wait = schedule.after(max(delivery.attempts, 1))
        if wait is None and owed:
            wait = schedule.steps[-1]
        if wait is None or now >= delivery.message.expires_at:
            return [outcome if outcome.status.final else verdicts.overdue(outcome) for outcome in outcomes], None
        asked = max((outcome.retry_at or 0.0 for outcome in outcomes), default=0.0)
        if owed and asked:
            return outcomes, asked
        jitter = 1.0 + self._rng.uniform(-self._jitter, self._jitter)
        return outcomes, max(now + wait * jitter, asked)
