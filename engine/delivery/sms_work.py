"""The deliveries that an agent of SMS has in work: how they end, and how they are taken from it.

Q3  every delivery that was taken is settled, given away, or left as it was.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from engine.delivery.agent import Kit
from engine.delivery.sms_job import Job, Part, together
from engine.delivery.sms_kit import SmsKit
from engine.delivery.sms_ports import Line
from engine.delivery.waking import Waking
from engine.message.outcome import Outcome, Status
from engine.queue.ready import ReadyQueue
from engine.storage.spool.entry import Delivery

log = logging.getLogger(__name__)

_DELIVERED: Final = Status.DELIVERED


class SmsWork:
    """See above. What is sent, and when, is for the agent (sms_agent.py)."""

    def __init__(self, kit: Kit, sms: SmsKit, queue: ReadyQueue) -> None:
        self._kit = kit
        self._sms = sms
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        self._line: Line | None = None
        self._again: list[Part] = []  #: told to slow down; sent again before anything else, in this order
        self._jobs: dict[Job, None] = {}
        self._beginning: Job | None = None  #: some of it is not sent yet
        self._waking = Waking()
        self._woken = self._waking.woken
        self._idle: asyncio.Future[bool] | None = None
        self._stopping = False
        #: Parts of deliveries whose outcome is not on disk; of those that nobody would remember after a kill.
        self._unsettled = self._at_risk = 0

    # ---- what a kind has of its own

    def _ended(self, job: Job) -> list[Outcome]:
        """The outcome of each recipient. The delivery keeps the last reply."""
        return [together(index, answers) for index, answers in job.answers.items()]

    def _taken(self, job: Job, index: int) -> "asyncio.Future[None] | None":
        """All parts for this recipient were taken. The delivery is not settled before this is done; None: it is."""
        return None

    def _elsewhere(self, job: Job, outcomes: Sequence[Outcome]) -> str | None:
        """Another destination, for what is not final."""
        return None

    # ---- for the courier

    def withdraw(self, delivery: Delivery, by: str) -> bool:
        """Remove a delivery that is not on the wire; False: it is, or may have been, or is not ours. by: whose word."""
        job = self._job_of(delivery)
        if job is None or not job.withdraw(self._again, by):
            return False
        self._finish(job)
        self.wake()
        return True

    def give_back(self, delivery: Delivery) -> bool:
        """Let go of a delivery that is not on the wire, as it is; False: as `withdraw`."""
        job = self._job_of(delivery)
        if job is None or not job.leave(self._again):
            return False
        if job in self._jobs:
            del self._jobs[job]
            self._at_risk -= job.no_risk()
            self._stored(job)
        self.wake()
        return True

    def _job_of(self, delivery: Delivery) -> Job | None:
        jobs = (job for job in (*self._jobs, self._beginning) if job is not None and job.delivery is delivery)
        return next(jobs, None)

    def wake(self) -> None:
        """Something has changed: an answer came, or the bind is gone."""
        self._waking.wake()
        if self._idle is not None and not self._idle.done():
            over = self._beginning is not None and self._beginning.over
            if self._stopping or self._again or over or not self._bound:
                self._idle.set_result(False)

    # ---- for the agent

    @property
    def _bound(self) -> bool:
        return self._line is not None and self._line.bound

    def _conclude(self, job: Job, index: int) -> None:
        """Every part for a recipient has its answer."""
        taken = all([answer is not None and answer.status is _DELIVERED for answer in job.answers[index]])
        if taken and (remembered := self._taken(job, index)) is not None:
            job.remembered = remembered
            remembered.add_done_callback(lambda _: self._remembered(job, index))
        else:
            self._at_risk -= job.no_risk(index)

    def _remembered(self, job: Job, index: int) -> None:
        self._at_risk -= job.no_risk(index)
        self.wake()

    def _finish(self, job: Job) -> None:
        """Settle a job of which every answer is there."""
        if job.waiting or not job.rendered:
            return
        self._jobs.pop(job, None)
        outcomes = job.marked(self._ended(job))
        if job.remembered is None or job.remembered.done():
            self._settle(job, outcomes)
        else:
            job.remembered.add_done_callback(lambda _: self._settle(job, outcomes))

    def _settle(self, job: Job, outcomes: Sequence[Outcome]) -> None:
        self._at_risk -= job.no_risk()
        kit, delivery = self._kit, job.delivery
        try:
            stored = kit.settlement.settle(
                delivery, job.envelope, job.content, outcomes, self._queue.plan.provider, job.timing,
                next_destination=self._elsewhere(job, outcomes),
            )  # fmt: skip
        except Exception:  # one message's fault is not that of the others; Q3: the sweeper queues it again
            kit.metrics.internal_errors.labels("agent").inc()
            log.exception("%s: could not settle", delivery.message.id)
            job.doubt(self._sms.inflight)
            self._unsettled -= job.sent
            self.wake()
            return
        finally:
            kit.working.discard(delivery)
        stored.add_done_callback(partial(self._stored, job))
        if any(outcome.status is _DELIVERED for outcome in outcomes):
            self._queue.throttle.delivered()

    def _stored(self, job: Job, _: object = None) -> None:
        job.stored(self._sms.inflight)
        self._unsettled -= job.sent
        self.wake()
