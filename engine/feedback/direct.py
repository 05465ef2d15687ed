"""Receipts that an application takes at once: they need no place in the spool.

    receipt of a carrier -> deliver_sm to the application -> its answer -> events on disk -> answer to the carrier

What a crash takes away in between, the carrier sends again. So that no carrier waits long, only an application has its
receipts so that is bound, has nothing waiting, and answers quickly; everything else goes through the spool.

O1  who offers one is told once, what became of it.
O2  nothing is held for longer than PATIENCE_S.
O3  behind one that was not taken, the others of its application wait, too: their order is kept.
"""

import asyncio
from collections.abc import Callable

from engine.delivery import sms_trouble
from engine.delivery.report import Report
from engine.delivery.sms_ports import Receivers
from engine.delivery.sms_render import deliver_sm
from engine.message.outcome import Outcome, Status
from engine.message.sms import decode_sms
from engine.net.smpp_wire import Wire
from engine.protocol.smpp_events import Answered, Unanswered
from engine.protocol.smpp_fields import InvalidField
from engine.protocol.smpp_pdu import DeliverSm

#: How long an application may take; after one that it did not take, its receipts go through the spool for so long.
PATIENCE_S, AWAY_S = 1.0, 10.0

#: The outcome of the attempt; None: it was none, and is to wait.
Told = Callable[[Outcome | None], None]


class _Offer:
    """A receipt on the wire. over: somebody was told what became of it."""

    __slots__ = ("_direct", "account", "due_at", "over", "remote", "told")

    def __init__(self, direct: "Direct", account: str, remote: str, told: Told, due_at: float) -> None:
        self._direct = direct
        self.account = account
        self.remote = remote
        self.told = told
        self.due_at = due_at
        self.over = False

    def __call__(self, event: Answered | Unanswered) -> None:
        self._direct.answered(self, event)


class Direct:
    """See above. Make it in the running loop. waits: whether something is queued for an application."""

    def __init__(self, receivers: Receivers, waits: Callable[[str], bool]) -> None:
        self._receivers = receivers
        self._waits = waits
        self._loop = asyncio.get_running_loop()
        self._pending: dict[_Offer, None] = {}  #: oldest first
        self._closed_until: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None  #: somebody waits for the last one

    def offer(self, report: Report, told: Told) -> bool:
        """Send a receipt now, and tell what became of it; False: it must wait, and `told` is not called."""
        account, now = report.envelope.user, self._loop.time()
        if self._is_closed(account, now) or self._waits(account):
            return False
        wire = self._wire(account)
        if wire is None:
            return False
        offer = _Offer(self, account, f"{account}[{wire.peer}]", told, now + PATIENCE_S)
        try:
            wire.request(deliver_sm(decode_sms(report.content), report.envelope.recipients[0]), offer)
        except InvalidField:
            return False
        self._pending[offer] = None
        if self._timer is None:
            self._timer = self._loop.call_at(offer.due_at, self._look)
        return True

    async def settled(self) -> None:
        """Nothing is on the wire."""
        while self._pending:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.wait([self._idle])

    def answered(self, offer: _Offer, event: Answered | Unanswered) -> None:
        """What the application said, or that it said nothing; too late, that is nobody's concern any more."""
        if isinstance(event, Unanswered):
            self._conclude(offer, sms_trouble.unanswered(0, offer.remote))
        elif event.response.command_status in sms_trouble.THROTTLED:
            self._conclude(offer, None)
        else:
            id = sms_trouble.message_id(event.response)
            self._conclude(offer, sms_trouble.judged(0, event.response, id, offer.remote))

    # ---- inside

    def _is_closed(self, account: str, now: float) -> bool:
        until = self._closed_until.get(account)
        if until is None:
            return False
        if until <= now:
            del self._closed_until[account]
        return until > now

    def _wire(self, account: str) -> Wire | None:
        """That of its binds with the most room."""
        for wire in self._receivers.receivers(account):
            return wire if wire.session.may_send(DeliverSm) else None
        return None

    def _conclude(self, offer: _Offer, outcome: Outcome | None) -> None:
        if offer.over:
            return
        offer.over = True
        del self._pending[offer]
        if outcome is None or outcome.status is not Status.DELIVERED:
            self._closed_until[offer.account] = self._loop.time() + AWAY_S
        if not self._pending and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None
        offer.told(outcome)

    def _look(self) -> None:
        """Those that have been there too long are to wait."""
        self._timer = None
        now = self._loop.time()
        for offer in [offer for offer in self._pending if offer.due_at <= now]:
            self._conclude(offer, sms_trouble.unanswered(0, offer.remote))
        if self._pending:
            self._timer = self._loop.call_at(next(iter(self._pending)).due_at, self._look)
