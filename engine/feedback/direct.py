"""Receipts that an application takes at once: they need no place in the spool.

    receipt of a carrier -> deliver_sm to the application -> its answer -> events on disk -> answer to the carrier

What a crash takes away in between, the carrier sends again. So that no carrier waits long, only an application has its
receipts so that is bound, has nothing queued, and answers quickly; everything else goes through the spool. One that is
slow is known by its first answers, or that there are none: its other receipts are spooled then. Those that it has
already been sent have some time more, because after that they are sent again.

O1  who offers one is told once, what became of it.
O2  nothing is held for longer than SLOW_S for want of room, and PATIENCE_S on the wire.
O3  what is spooled goes before what comes later: nothing of its application is sent then but by its queue.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from engine.delivery import sms_trouble
from engine.delivery.report import Report
from engine.delivery.sms_ports import Receivers
from engine.delivery.sms_render import deliver_sm
from engine.message.outcome import Outcome, Status
from engine.net.smpp_wire import Wire
from engine.protocol.smpp_events import Answered, Unanswered
from engine.protocol.smpp_fields import InvalidField
from engine.protocol.smpp_pdu import DeliverSm

_DELIVERED: Final = Status.DELIVERED

#: An application that takes longer than the first is slow; after the second nobody waits for it.
SLOW_S: Final = 0.25
PATIENCE_S: Final = 2.0
#: So long all goes through the spool after one that was not taken, or not soon; and after one that was spooled: till
#: then it is queued.
AWAY_S: Final = 60.0
SPOOLED_S: Final = 1.0
#: Held at once, on the wire or for want of room there.
MOST_HELD: Final = 2000

#: The outcome of the attempt; None: there was none, and it is to wait.
Told = Callable[[Outcome | None], None]


class _Offer:
    """A receipt that is held, until due_at at most. remote: the bind that it is on the wire to; "": none yet."""

    __slots__ = ("_direct", "account", "due_at", "over", "remote", "report", "told")

    def __init__(self, direct: "Direct", report: Report, told: Told, due_at: float) -> None:
        self._direct = direct
        self.account = report.envelope.user
        self.report = report
        self.told = told
        self.due_at = due_at
        self.remote = ""
        self.over = False

    def __call__(self, event: Answered | Unanswered) -> None:
        self._direct.answered(self, event)


class Direct:
    """See above. Make it in the running loop. waits: whether something is queued for an application."""

    def __init__(self, receivers: Receivers, waits: Callable[[str], bool]) -> None:
        self._receivers = receivers
        self._waits = waits
        self._loop = asyncio.get_running_loop()
        self._held: dict[_Offer, None] = {}
        self._lines: dict[str, deque[_Offer]] = {}  #: those of an account that wait for room; none is empty
        self._closed_until: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None  #: somebody waits for the last one

    def offer(self, report: Report, told: Told) -> bool:
        """Send a receipt now, and tell what became of it; False: it must wait, and `told` is not called."""
        account, now = report.envelope.user, self._loop.time()
        if self._is_closed(account, now) or self._waits(account) or len(self._held) >= MOST_HELD:
            return False
        wires = self._receivers.receivers(account)
        if not wires:
            return False
        offer = _Offer(self, report, told, now + SLOW_S)
        line = self._lines.get(account)
        if line is not None:
            line.append(offer)
        elif not wires[0].session.may_send(DeliverSm):
            self._lines[account] = deque((offer,))
        elif not self._send(offer, wires[0]):
            return False
        self._held[offer] = None
        if self._timer is None:
            self._timer = self._loop.call_later(SLOW_S, self._look)
        return True

    def spooled(self, account: str) -> None:
        """Something for it goes through the spool."""
        self._close(account, SPOOLED_S)

    async def settled(self) -> None:
        """Nothing is held."""
        while self._held:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.wait([self._idle])

    def answered(self, offer: _Offer, event: Answered | Unanswered) -> None:
        """What the application said, or that it said nothing; too late, that is nobody's concern any more."""
        outcome: Outcome | None = None
        if isinstance(event, Unanswered):
            outcome = sms_trouble.unanswered(0, offer.remote)
        elif event.response.command_status not in sms_trouble.THROTTLED:
            id = sms_trouble.message_id(event.response)
            outcome = sms_trouble.judged(0, event.response, id, offer.remote)
        self._conclude(offer, outcome)
        taken = outcome is not None and outcome.status is _DELIVERED
        if not taken or self._loop.time() > event.request.sent_at + SLOW_S:
            self._close(offer.account, AWAY_S)
        else:
            self._go_on(offer.account)

    # ---- inside

    def _is_closed(self, account: str, now: float) -> bool:
        until = self._closed_until.get(account)
        if until is None:
            return False
        if until <= now:
            del self._closed_until[account]
        return until > now

    def _send(self, offer: _Offer, wire: Wire) -> bool:
        """False: it cannot be said in SMPP, which is for the delivery to tell."""
        report = offer.report
        assert report.sms is not None
        try:
            wire.request(deliver_sm(report.sms, report.envelope.recipients[0]), offer)
        except InvalidField:
            return False
        offer.remote, offer.due_at = f"{offer.account}[{wire.peer}]", self._loop.time() + PATIENCE_S
        return True

    def _go_on(self, account: str) -> None:
        """There may be room for those that wait for it."""
        while (line := self._lines.get(account)) is not None:
            wires = self._receivers.receivers(account)
            if not wires:
                self._close(account, AWAY_S)
            elif not wires[0].session.may_send(DeliverSm):
                return
            else:
                offer = line.popleft()
                if not line:
                    del self._lines[account]
                if not self._send(offer, wires[0]):
                    self._conclude(offer, None)

    def _conclude(self, offer: _Offer, outcome: Outcome | None) -> None:
        if offer.over:
            return
        offer.over = True
        del self._held[offer]
        if not self._held and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None
        offer.told(outcome)

    def _close(self, account: str, seconds: float) -> None:
        """What waits for room goes through the spool, and so does what comes now."""
        until = self._loop.time() + seconds
        self._closed_until[account] = max(self._closed_until.get(account, until), until)
        for offer in self._lines.pop(account, ()):
            self._conclude(offer, None)

    def _look(self) -> None:
        """Those that were held too long are to wait."""
        self._timer = None
        now = self._loop.time()
        for offer in [offer for offer in self._held if offer.due_at <= now]:
            self._conclude(offer, sms_trouble.unanswered(0, offer.remote) if offer.remote else None)
            self._close(offer.account, AWAY_S)
        if self._held:
            self._timer = self._loop.call_later(SLOW_S, self._look)
