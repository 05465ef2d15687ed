"""The agent that takes receipts and answers to an application, over one of its binds to us."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from engine.delivery.sms_agent import SmsAgent
from engine.delivery.sms_job import Job
from engine.delivery.sms_pace import Pace, Pause
from engine.delivery.sms_ports import Line, Told
from engine.delivery.sms_render import deliver_sm
from engine.message.channels import channel_of
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome
from engine.message.sms import Sms
from engine.net.smpp_wire import Wire
from engine.protocol.smpp_pdu import DeliverSm, Pdu
from engine.protocol.smpp_states import BOUND

#: What waits for an application is looked at after this long, if it does not bind before.
_LOOK_AGAIN_S: Final = 3600.0


class _AccountLine:
    """A bind of an application, as a Line."""

    def __init__(self, system_id: str, wire: Wire) -> None:
        self.wire = wire
        self.remote = f"{system_id}[{wire.peer}]"
        self.pace, self.pause = Pace(None), Pause()

    @property
    def bound(self) -> bool:
        return self.wire.session.state in BOUND and self.wire.transport is not None

    @property
    def room(self) -> bool:
        return self.wire.session.may_send(DeliverSm)

    def request(self, pdu: Pdu, told: Told) -> None:
        self.wire.request(pdu, told)

    def abort(self) -> None:
        self.wire.abort()


class AccountAgent(SmsAgent):
    """See sms_agent.py."""

    def _engage(self) -> Line | None:
        system_id = channel_of(self._queue.plan.site)[1]
        wire = next(iter(self._sms.receivers.receivers(system_id)), None)
        if wire is None:
            return None
        wire.pump = self.wake  # the window is not only ours: receipts go over it that are not queued
        return _AccountLine(system_id, wire)

    def _disengage(self, line: Line) -> None:
        assert isinstance(line, _AccountLine)
        line.wire.pump = None

    async def _unreachable(self) -> None:
        now = self._kit.clock.time()
        self._queue.throttle.close(now + _LOOK_AGAIN_S, "the application has no bind that takes messages")
        self._sms.receivers.call(channel_of(self._queue.plan.site)[1])

    def _render(self, sms: Sms, envelope: Envelope, index: int) -> Sequence[Pdu]:
        return [deliver_sm(sms, envelope.recipients[index])]

    def _ended(self, job: Job) -> list[Outcome]:
        """What a lost bind leaves goes at once when there is another; till then its queue is closed."""
        outcomes = super()._ended(job)
        if self._bound and not self._stopping:
            return outcomes
        now = self._kit.clock.time()
        return [one if one.status.final else replace(one, retry_at=now) for one in outcomes]
