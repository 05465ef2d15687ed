"""The agent of a ready queue to a carrier."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final
from zlib import crc32

from msgspec.structs import replace

from engine.base.errors import StorageError
from engine.delivery import sms_partial, sms_trouble
from engine.delivery.carrier_link import CarrierLink
from engine.delivery.sms_agent import SmsAgent
from engine.delivery.sms_job import Job, Part, may_go_elsewhere
from engine.delivery.sms_ports import GivenAway, Line
from engine.delivery.sms_render import CarrierRules
from engine.message.channels import channel_of
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome, Status
from engine.message.sms import Kind, SentPart, Sms
from engine.protocol.smpp_events import Answered, Unanswered
from engine.protocol.smpp_pdu import Pdu
from engine.storage.spool.entry import Delivery

#: Names of the module are quicker than members of a class.
_DELIVERED: Final = Status.DELIVERED
_UNKNOWN: Final = Status.UNKNOWN
#: A carrier that is not bound is looked at again after this long, if nothing happens before.
_LOOK_AGAIN_S: Final = 15.0
#: So long what is due may take to be read.
_READ_S: Final = 1.0
#: Parts that the carrier has answered and that are not settled on disk: with more of them nothing is sent.
_MOST_UNSETTLED: Final = 1000


class CarrierAgent(SmsAgent):
    """See sms_agent.py."""

    _rules: CarrierRules  #: as of the bind
    _stalled = False  #: something may have been set aside because the carrier took nothing

    def _engage(self) -> Line | None:
        carriers, name = self._sms.carriers, self._name
        link, rules = carriers.engage(name), carriers.rules(name)
        if link is not None and rules is not None:
            link.pump, self._rules, self._most_at_risk = self.wake, rules, link.row.window
            self._most_unsettled = link.row.window + _MOST_UNSETTLED
        return link

    def _disengage(self, line: Line) -> None:
        assert isinstance(line, CarrierLink)
        self._sms.carriers.release(line)

    @property
    def _name(self) -> str:
        """Of the carrier."""
        return channel_of(self._queue.plan.site)[1]

    async def _unreachable(self) -> None:
        """No bind. What another carrier can have goes there; the rest waits for the bind."""
        carriers, name = self._sms.carriers, self._name
        while carriers.down(name) and (taken := await self._first(0.0)):
            await self._pass_or_set_aside(taken, carriers.down)
        self._queue.throttle.close(self._kit.clock.time() + _LOOK_AGAIN_S, carriers.why_down(name))

    async def _rest(self, seconds: float | None) -> None:
        """If the carrier takes nothing for long, another has meanwhile what is not on the wire."""
        if not self._sms.carriers.stalled(self._name):
            await super()._rest(seconds)
            return
        self._pass_begun_on()
        if seconds is None:
            await super()._rest(None)
        elif (taken := await self._first(seconds)) is not None:
            self._stalled = True
            await self._pass_or_set_aside(taken, self._sms.carriers.stalled)

    def _pass_begun_on(self) -> None:
        """What was begun, and nothing sent of, is for another carrier if there is one. Raises GivenAway: there is."""
        job = self._beginning
        if job is None or job in self._jobs or job.over:
            return
        other = self._sms.alternatives.next_for(job.delivery, job.envelope)
        if other is not None:
            self._stalled = True
            self._kit.settlement.pass_on(job.delivery, job.envelope, other)
            self._kit.working.discard(job.delivery)
            raise GivenAway("to another carrier")

    def _elsewhere(self, job: Job, outcomes: Sequence[Outcome]) -> str | None:
        if not may_go_elsewhere(job, outcomes):
            return None
        return self._sms.alternatives.next_for(job.delivery, job.envelope, refused=True)

    async def _pass_or_set_aside(self, delivery: Delivery, useless: Callable[[str], bool]) -> None:
        """To another carrier, or aside until any carrier takes something. useless: whether its own does not."""
        kit, gone = self._kit, False
        kit.working.add(delivery)
        try:
            gone = await self._pass_on(delivery)
        except StorageError as exc:
            kit.settlement.put_off(delivery, str(exc))
            gone = True
        finally:
            kit.working.discard(delivery)
            if not gone and useless(self._name):
                self._queue.set_aside(delivery)
            elif not gone:
                self._queue.put_back(delivery)

    async def _first(self, patience_s: float) -> Delivery | None:
        """The next delivery, once it is read from the disk, or so long after that."""
        queue = self._queue
        while (delivery := queue.take()) is None and not self._stopping:
            reading = queue.feeders or queue.reading
            if not reading and not patience_s:
                return None
            self._idle = idle = queue.wait()
            timer = self._loop.call_later(max(_READ_S if reading else 0.0, patience_s), self._let_go, idle)
            if await idle:
                queue.arrived()
            else:
                queue.left_waiting(idle)
                return None
            timer.cancel()
        return delivery

    def _let_go(self, idle: "asyncio.Future[bool]") -> None:
        if not idle.done():
            idle.set_result(False)

    async def _pass_on(self, delivery: Delivery) -> bool:
        """To another carrier; False: there is none. Raises StorageError."""
        envelope, _ = delivery.message.hot or await self._kit.spool.reader.load(delivery)
        other = self._sms.alternatives.next_for(delivery, envelope)
        if other is not None:
            self._kit.settlement.pass_on(delivery, envelope, other)
        return other is not None

    def _render(self, sms: Sms, envelope: Envelope, index: int) -> Sequence[Pdu]:
        recipient = envelope.recipients[index]
        if sms.kind is not Kind.REPLY and self._sms.suppressed(envelope.sender, recipient.address, envelope.owner):
            return ()
        # The same in every attempt, so that parts of several belong together.
        reference = crc32(envelope.id.encode()) + index
        return self._rules.render(self._sms.placed(sms, index), recipient, reference)

    def _is_taken(self, job: Job, index: int) -> bool:
        parts = self._sms.book.taken(job.delivery.message.id, index) if job.twice else ()
        if not parts:
            return False
        job.known[index] = parts[0].price
        job.ids[index] = [part.carrier_id for part in parts]
        job.answers[index] = [sms_trouble.taken(index, id, parts[0].carrier) for id in job.ids[index]]
        return True

    def _begun(self, delivery: Delivery, index: int, parts: int) -> tuple[list[Outcome | None], list[str]]:
        answers, ids = super()._begun(delivery, index, parts)
        if parts > 1 and delivery.attempts:
            for number, carrier_id in sms_partial.known(delivery.last, self._rules.row.name, index).items():
                if number <= parts:
                    ids[number - 1] = carrier_id
                    answers[number - 1] = sms_trouble.taken(index, carrier_id, self._remote)
        return answers, ids

    def _send(self, part: Part) -> None:
        job, index = part.job, part.index
        if index not in job.underway:
            job.underway.add(index)
            self._sms.underway.begun(self._rules.row.name, job.envelope.recipients[index].address)
        super()._send(part)

    def _ended(self, job: Job) -> list[Outcome]:
        carrier, outcomes = self._rules.row.name, [self._priced(job, one) for one in super()._ended(job)]
        for index in list(job.underway):
            self._ids_are_known(job, index)
        said = {index: (job.answers[index], ids) for index, ids in job.ids.items() if len(ids) > 1}
        if not said:
            return outcomes
        waiting = [o for o in outcomes if not o.status.final and o.index in said]
        for place, outcome in enumerate(outcomes):
            if outcome.index in said and outcome.status is not _DELIVERED:
                tail = sms_partial.told(carrier, said[outcome.index])
                outcomes[place] = replace(outcome, reply=outcome.reply + tail)
        if waiting and len(outcomes) > 1:
            # The reply of the last outcome is the one that stays.
            last = waiting[-1]
            tail = sms_partial.told_of_several(carrier, {o.index: said[o.index] for o in waiting})
            outcomes = [o for o in outcomes if o.index != last.index]
            outcomes.append(replace(last, reply=last.reply + tail))
        return outcomes

    def _conclude(self, job: Job, index: int) -> None:
        if index in job.underway:
            self._ids_are_known(job, index)
        super()._conclude(job, index)

    def _ids_are_known(self, job: Job, index: int) -> None:
        """All that there will be."""
        job.underway.discard(index)
        unknown = any([answer is not None and answer.status is _UNKNOWN for answer in job.answers[index]])
        number = job.envelope.recipients[index].address
        self._sms.underway.ended(self._rules.row.name, number, not unknown and not job.twice)

    def _priced(self, job: Job, outcome: Outcome) -> Outcome:
        price = job.known.get(outcome.index, self._rules.row.price)
        return sms_trouble.priced(outcome, price, len(job.ids.get(outcome.index, ())))

    def answered(self, part: Part, event: Answered | Unanswered) -> None:
        if isinstance(event, Answered):
            took_s = self._loop.time() - event.request.sent_at
            self._kit.metrics.sms_response.labels(self._rules.row.name).observe(took_s)
            if event.response.command_status in sms_trouble.THROTTLED:
                self._kit.metrics.sms_throttled.labels(self._rules.row.name).inc()
        super().answered(part, event)
        if not self._stalled:
            return
        # What was set aside is to have its turn also when the one that went ahead of it got no answer.
        if isinstance(event, Unanswered) or not self._sms.carriers.stalled(self._rules.row.name):
            self._stalled = False
            self._sms.carriers.revived(self._rules.row.name)

    def _taken(self, job: Job, index: int) -> "asyncio.Future[None] | None":
        envelope, ids, now = job.envelope, job.ids[index], self._kit.clock.time()
        row = self._rules.row
        deadline = max(job.sms.validity or envelope.expires_at, now) + row.receipt_timeout
        parts = [
            SentPart(
                carrier=row.name, carrier_id=carrier_id, message=envelope.id, index=index, part=number,
                parts=len(ids), sent_at=now, deadline=deadline, sender=envelope.sender,
                recipient=envelope.recipients[index].address, account=envelope.user, registered=job.sms.registered,
                message_class=envelope.message_class, received_at=envelope.received_at, price=row.price,
            )
            for number, carrier_id in enumerate(ids, 1)
        ]  # fmt: skip
        return self._sms.book.sent(parts)
