"""Agents of SMS: deliveries of a ready queue over one bind, many on the wire at once.

    take -> render -> pace (a permit for each part) -> room in the window -> submit ... answer -> remember -> settle

Two kinds: to a carrier (submit_sm) and to an application that is bound to us (deliver_sm, a receipt or an answer).

Q3  every delivery that was taken is settled or left as it was.     D3  no answer: unknown, recorded; see retries.py.
A kill doubles no more than the window, or one message of more parts: what was on the wire without an answer. What that
was is in inflight.py, and is marked when it is sent again; what a carrier has taken is known, and not sent again. After
a power cut it may not be: no delivery is begun while too many parts are not settled on disk.
"""

import contextlib
import itertools
import logging
from bisect import insort
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from engine.base.errors import EngineError, StorageError
from engine.delivery import sms_trouble, verdicts
from engine.delivery.agent import Kit
from engine.delivery.settlement import Timing
from engine.delivery.sms_job import Job, Part
from engine.delivery.sms_kit import SmsKit
from engine.delivery.sms_ports import GivenAway, Line, LineLost, Withdrawn
from engine.delivery.sms_work import SmsWork
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome
from engine.message.sms import Sms
from engine.protocol.smpp_events import Answered, Unanswered
from engine.protocol.smpp_fields import InvalidField
from engine.protocol.smpp_pdu import GenericNack, Pdu
from engine.queue.ready import ReadyQueue
from engine.storage.spool.entry import Delivery

log = logging.getLogger(__name__)

_order: Final = attrgetter("order")


class SmsAgent(SmsWork):
    """See above. The two kinds differ in what they say, over what, and what follows."""

    connecting = False  #: a link connects by itself
    #: So many parts at most that a kill would have sent again; and with so many not settled on disk nothing is begun.
    _most_at_risk = 1 << 30
    _most_unsettled = 1 << 30

    def __init__(self, kit: Kit, sms: SmsKit, queue: ReadyQueue) -> None:
        super().__init__(kit, sms, queue)
        self._again_at: float | None = None  #: when the first of those may go; None: there is no permit yet
        self._on_wire = 0
        self._order = itertools.count()

    # ---- what a kind has of its own

    def _engage(self) -> Line | None:
        raise NotImplementedError

    def _disengage(self, line: Line) -> None:
        raise NotImplementedError

    async def _unreachable(self) -> None:
        raise NotImplementedError

    def _render(self, sms: Sms, envelope: Envelope, index: int) -> Sequence[Pdu]:
        """What this recipient is sent; nothing: he must not be sent to. Raises EngineError: it cannot be said."""
        raise NotImplementedError

    def _is_taken(self, job: Job, index: int) -> bool:
        """Whether a peer took it for this recipient before we were killed; the job has its answers then. Raises
        StorageError."""
        return False

    def _begun(self, delivery: Delivery, index: int, parts: int) -> tuple[list[Outcome | None], list[str]]:
        """What the peer has said of each part, and its ids, before this attempt: mostly nothing."""
        return [None] * parts, [""] * parts

    async def _rest(self, seconds: float | None) -> None:
        """The line takes nothing for so long; None: until an answer comes. Raises GivenAway: what was begun, too."""
        await self._woken(seconds)

    # ---- for the courier

    async def run(self) -> None:
        self._queue.arrived()
        line = self._line = self._engage()
        if line is None:
            await self._unreachable()
            return
        try:
            while not self._stopping and line.bound and (delivery := await self._next()) is not None:
                await self._submit(delivery)
            while self._jobs:
                if self._stopping or not line.bound:
                    self._drop_again()
                elif self._again:
                    await self._room_or_loss()
                if self._jobs:
                    await self._woken()
        finally:
            self._disengage(line)

    def stop(self) -> None:
        """Finish what is on the wire, take nothing new."""
        self._stopping = True
        self.wake()

    def abort(self) -> None:
        """Cut the bind: what is on the wire is unknown."""
        if self._line is not None:
            self._line.abort()

    # ---- taking

    async def _next(self) -> Delivery | None:
        queue = self._queue
        while not self._stopping and self._bound:
            if self._again and not await self._room_or_loss():
                return None
            delivery = queue.take()
            if delivery is not None:
                return delivery
            if self._kit.clock.time() < queue.throttle.closed_until:
                return None
            if not len(queue):
                self._idle = idle = queue.wait()
                try:
                    if await idle:
                        queue.arrived()
                    else:
                        queue.left_waiting(idle)
                finally:
                    self._idle = None
        return None

    async def _submit(self, delivery: Delivery) -> None:
        """All parts of a delivery on their way, or on their way to be settled."""
        kit = self._kit
        kit.working.add(delivery)
        job: Job | None = None
        try:
            envelope, content = delivery.message.hot or await kit.spool.reader.load(delivery)
            key, inflight = (delivery.message.id, delivery.number), self._sms.inflight
            twice, again = inflight.perhaps(*key), key in inflight.again
            job = self._beginning = Job(delivery, envelope, content, Timing(kit.clock.time()), twice, again)
            await self._send_all(job)
        except StorageError as exc:
            kit.working.discard(delivery)
            kit.settlement.put_off(delivery, str(exc))
        except GivenAway:
            pass
        except LineLost:
            if job is None or not self._leave_rest(job):
                kit.working.discard(delivery)
                self._queue.put_back(delivery)
        finally:
            self._beginning = None

    async def _send_all(self, job: Job) -> None:
        """Raises LineLost: some of it was not sent."""
        job.timing.ready = job.timing.connected = self._kit.clock.time()
        try:
            for index in job.delivery.indexes:
                await self._send_to(job, index)
        except Withdrawn:
            job.give_up()
        job.rendered = True
        self._finish(job)

    async def _send_to(self, job: Job, index: int) -> None:
        try:
            if self._is_taken(job, index):
                return
            pdus = self._render(job.sms, job.envelope, index)
        except StorageError as exc:
            job.answers[index] = list(verdicts.unready((index,), str(exc)))
            return
        except EngineError as exc:
            job.answers[index] = [sms_trouble.malformed(index, exc)]
            return
        if not pdus:
            job.answers[index] = list(verdicts.suppressed((index,)))
            return
        answers, ids = self._begun(job.delivery, index, len(pdus))
        parts = answers.count(None)
        at = self._permits(parts)  # those of one message are taken together
        while (wait := at - self._loop.time()) > 0:
            await self._woken(wait)
            self._check()
        await self._room()
        while self._is_too_much(job, parts):
            await self._woken()
            await self._room()
        if job.is_late(self._kit.clock.time()):
            job.answers[index] = list(verdicts.expired((index,), job.delivery.last))
            return
        job.answers[index], job.ids[index] = answers, ids
        for number, pdu in enumerate(pdus):
            if answers[number] is None:
                await self._room()
                job.sent += 1
                job.risk[index] = job.risk.get(index, 0) + 1
                self._at_risk += 1
                self._unsettled += 1
                self._send(Part(self.answered, next(self._order), job, index, number, pdu))

    def _is_too_much(self, job: Job, parts: int) -> bool:
        """Whether so many more must wait: a kill could double them, or too much is not settled."""
        if self._at_risk and self._at_risk + parts > self._most_at_risk:
            return True
        return not job.sent and self._unsettled >= self._most_unsettled

    def _send(self, part: Part) -> None:
        job = part.job
        if job not in self._jobs:
            self._jobs[job] = None
            job.enter(self._sms.inflight)
        assert self._line is not None
        job.waiting += 1
        self._on_wire += 1
        try:
            self._line.request(part.pdu, part)
        except InvalidField as exc:
            self._on_wire -= 1
            self._end(part, sms_trouble.malformed(part.index, exc))

    def _permits(self, parts: int) -> float:
        """When so many parts may go: by the rate, and by what the peer takes of it."""
        self._check()
        assert self._line is not None
        now, queue = self._loop.time(), self._queue
        at = self._line.pace.permit(now, parts)
        return at if queue.throttle.rate is None else max(at, *[queue.permit(now) for _ in range(parts)])

    async def _room(self) -> None:
        """Return when a submit may go, and everything that was told to slow down has gone. Raises LineLost."""
        while True:
            self._check()
            line = self._line
            assert line is not None
            if (wait := line.pause.left(self._loop.time())) > 0:
                await self._rest(wait)
            elif line.pause.alone and self._on_wire:
                await self._rest(None)
            elif not line.room:
                await self._woken()
            elif not self._again:
                return
            elif self._again_at is None:
                self._again_at = self._permits(1)
            elif (wait := self._again_at - self._loop.time()) > 0:
                await self._woken(wait)
            else:
                self._again_at = None
                self._send_again(self._again.pop(0))

    def _send_again(self, part: Part) -> None:
        if part.job.is_late(self._kit.clock.time()):
            self._end(part, verdicts.expired((part.index,), "told to slow down")[0])
            self._finish(part.job)
        else:
            part.job.waiting -= 1
            self._send(part)

    async def _room_or_loss(self) -> bool:
        with contextlib.suppress(LineLost):
            await self._room()
            return True
        return False

    def _check(self) -> None:
        job = self._beginning
        if job is not None and job.over:
            raise GivenAway if job.gone else Withdrawn
        if self._stopping or not self._bound:
            raise LineLost("the bind is lost")

    # ---- answers

    def answered(self, part: Part, event: Answered | Unanswered) -> None:
        """What became of a part."""
        job = part.job
        self._on_wire -= 1
        if isinstance(event, Answered):
            response = event.response
            if response.command_status in sms_trouble.THROTTLED and not isinstance(response, GenericNack):
                insort(self._again, part, key=_order)
                self._slow_down(event.request.sent_at)
                return
            if sms_trouble.congested(response):
                self._slow_down(event.request.sent_at)
            else:
                assert self._line is not None
                self._line.pace.taken(self._loop.time())
                self._line.pause.taken()
            carrier_id = sms_trouble.message_id(response)
            job.ids[part.index][part.number] = carrier_id
            outcome = sms_trouble.judged(part.index, response, carrier_id, self._remote)
        else:
            self._unanswered(event.request.sent_at)
            outcome = sms_trouble.unanswered(part.index, self._remote)
        self._end(part, outcome)
        self._finish(job)
        self.wake()

    def _end(self, part: Part, outcome: Outcome) -> None:
        """Nothing more is expected of a part."""
        part.settle(outcome)
        if None not in part.job.answers[part.index]:
            self._conclude(part.job, part.index)

    @property
    def _remote(self) -> str:
        return self._line.remote if self._line is not None else "none"

    def _slow_down(self, sent_at: float) -> None:
        """The peer takes less for now. What it refused goes first, and nothing before that."""
        line, now = self._line, self._loop.time()
        assert line is not None
        line.pace.refused(sent_at, now)
        seconds = line.pause.refused(sent_at, now)
        level = logging.INFO if seconds else logging.DEBUG
        log.log(level, "%s: told to slow down; %g/s, a pause of %g s", line.remote, line.pace.rate, seconds)
        self.wake()

    def _unanswered(self, sent_at: float) -> None:
        """A peer that is bound and answers nothing is left alone for a while, so that others have what is for it."""
        line = self._line
        if line is not None and line.bound and (seconds := line.pause.unanswered(sent_at, self._loop.time())):
            log.warning("%s: answers no submits; a pause of %g s", line.remote, seconds)

    def _drop_again(self) -> None:
        """The bind is gone, or we stop: what was to be sent again waits in the queue."""
        while self._again:
            part = self._again.pop(0)
            self._end(part, sms_trouble.slowed_down(part.index, self._remote))
            self._finish(part.job)

    def _leave_rest(self, job: Job) -> bool:
        """The line was lost before everything was sent: what was not begun is left; False: nothing was."""
        if job not in self._jobs:
            return False
        job.rendered = True
        self._drop_again()
        self._finish(job)
        return True
