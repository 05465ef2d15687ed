"""The agent of a ready queue to a carrier."""

import asyncio
from collections.abc import Sequence
from zlib import crc32

from msgspec.structs import replace

from engine.base.errors import StorageError
from engine.delivery import sms_partial, sms_trouble
from engine.delivery.carrier_link import CarrierLink
from engine.delivery.sms_agent import SmsAgent
from engine.delivery.sms_job import Job, Part
from engine.delivery.sms_ports import Line
from engine.delivery.sms_render import CarrierRules
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome, Status
from engine.message.sms import Kind, SentPart, Sms, channel_of
from engine.protocol.smpp_events import Answered, Unanswered
from engine.protocol.smpp_pdu import Pdu
from engine.queue.ready import READ_AHEAD
from engine.storage.spool.entry import Delivery

#: A carrier that is not bound is looked at again after this long, if nothing happens before.
_LOOK_AGAIN_S = 15.0
#: So long what is due may take to be read.
_READ_S = 1.0


class CarrierAgent(SmsAgent):
    """See sms_agent.py."""

    _rules: CarrierRules  #: as of the bind

    def _engage(self) -> Line | None:
        carriers, name = self._sms.carriers, self._name
        link, rules = carriers.engage(name), carriers.rules(name)
        if link is not None and rules is not None:
            link.pump, self._rules, self._most_unsettled = self.wake, rules, link.row.window
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
        kit, queue = self._kit, self._queue
        waiting: list[Delivery] = []
        try:
            while self._sms.carriers.down(self._name) and len(waiting) < READ_AHEAD and (taken := await self._first()):
                kit.working.add(taken)
                waiting.append(taken)
                try:
                    gone = await self._pass_on(taken)
                except StorageError as exc:
                    kit.settlement.put_off(taken, str(exc))
                    gone = True
                if gone:
                    kit.working.discard(waiting.pop())
        finally:
            for delivery in reversed(waiting):
                kit.working.discard(delivery)
                queue.put_back(delivery)
        queue.throttle.close(kit.clock.time() + _LOOK_AGAIN_S, self._sms.carriers.why_down(self._name))

    async def _first(self) -> Delivery | None:
        """The next delivery, once it is read from the disk."""
        queue = self._queue
        while (delivery := queue.take()) is None and (queue.feeders or queue.reading) and not self._stopping:
            self._idle = idle = queue.wait()
            timer = self._loop.call_later(_READ_S, self._let_go, idle)
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
        if sms.kind is not Kind.REPLY and self._sms.suppressed(envelope.sender, recipient.address, envelope.user):
            return ()
        # The same in every attempt, so that parts of several belong together.
        reference = crc32(envelope.id.encode()) + index
        return self._rules.render(sms, recipient, reference)

    def _begun(self, delivery: Delivery, index: int, parts: int) -> tuple[list[Outcome | None], list[str]]:
        answers, ids = super()._begun(delivery, index, parts)
        if parts > 1 and delivery.attempts and len(delivery.indexes) == 1:
            for number, carrier_id in sms_partial.known(delivery.last, self._rules.row.name).items():
                if number <= parts:
                    ids[number - 1] = carrier_id
                    answers[number - 1] = sms_trouble.taken(index, carrier_id, self._remote)
        return answers, ids

    def _ended(self, job: Job, index: int, answers: Sequence[Outcome | None]) -> Outcome:
        outcome = super()._ended(job, index, answers)
        if len(answers) > 1 and outcome.status is not Status.DELIVERED and index in job.ids:
            outcome = replace(
                outcome, reply=outcome.reply + sms_partial.told(self._rules.row.name, answers, job.ids[index])
            )
        return outcome

    def answered(self, part: Part, event: Answered | Unanswered) -> None:
        if isinstance(event, Answered):
            took_s = self._loop.time() - event.request.sent_at
            self._kit.metrics.sms_response.labels(self._rules.row.name).observe(took_s)
        super().answered(part, event)

    def _taken(self, job: Job, delivered: Sequence[int]) -> "asyncio.Future[None] | None":
        envelope, now = job.envelope, self._kit.clock.time()
        row = self._rules.row
        deadline = max(job.sms.validity or envelope.expires_at, now) + row.receipt_timeout
        parts = [
            SentPart(
                carrier=row.name, carrier_id=carrier_id, message=envelope.id, index=index, part=number,
                parts=len(ids), sent_at=now, deadline=deadline, sender=envelope.sender,
                recipient=envelope.recipients[index].address, account=envelope.user, registered=job.sms.registered,
                message_class=envelope.message_class, received_at=envelope.received_at, price=row.price,
            )
            for index in delivered
            for ids in (job.ids[index],)
            for number, carrier_id in enumerate(ids, 1)
        ]  # fmt: skip
        return self._sms.book.sent(parts)
