"""What the test SMSC sends by itself, receipts and answers: to which bind, when, and again if need be. No I/O.

A delivery goes to any bind of its system_id that may receive, and waits if there is none or the window is full. One
that a bind did not acknowledge before its end, or refused for now, is sent again: at least once, as from a real SMSC.
"""

import heapq
import itertools
import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from engine.protocol.smpp_pdu import DeliverSm
from engine.tools.smpp_sink_messages import Message
from engine.tools.smpp_sink_options import SmscOptions
from engine.tools.smpp_sink_rules import Share
from engine.tools.smpp_sink_tally import SmppTally

_AGAIN_S = 0.1  #: after a refusal for now
#: Deliveries of one system_id that wait for a bind. More are lost, as they would be after a day or two.
_MOST_WAITING = 1_000_000


@dataclass(slots=True)
class Delivery:
    """One deliver_sm on its way. receipt: else it is an answer. state: what a receipt says."""

    system_id: bytes
    pdu: DeliverSm
    receipt: bool
    state: str = ""
    sent: bool = False


class Receiver(Protocol):
    """A bind that may receive."""

    system_id: bytes

    @property
    def room(self) -> int:
        """Of its window."""

    def deliver(self, delivery: Delivery) -> None:
        """Send it."""


class Post:
    """All deliveries of one SMSC."""

    def __init__(self, options: SmscOptions, tally: SmppTally) -> None:
        self._habits = options.receipts
        self._tally = tally
        self._lost = Share(options.receipts.lost)
        self._receivers: dict[bytes, deque[Receiver]] = {}
        self._waiting: dict[bytes, deque[Delivery]] = {}
        self._later: list[tuple[float, int, Message | Delivery]] = []
        self._count = itertools.count()

    # ---- binds

    def join(self, receiver: Receiver) -> None:
        """A bind may receive from now on."""
        self._receivers.setdefault(receiver.system_id, deque()).append(receiver)
        self.serve(receiver.system_id)

    def leave(self, receiver: Receiver, unacknowledged: list[Delivery]) -> None:
        """It may no more; what it did not acknowledge goes to another one."""
        receivers = self._receivers.get(receiver.system_id, deque())
        if receiver in receivers:
            receivers.remove(receiver)
        self._waiting.setdefault(receiver.system_id, deque()).extendleft(reversed(unacknowledged))
        self.serve(receiver.system_id)

    # ---- deliveries

    def announce(self, message: Message, by: Receiver | None, now: float) -> None:
        """Tell of a message's final state, if that is wanted, when its time has come. by: the bind to send it on."""
        if not message.wants_receipt:
            return
        if now < message.done_at:
            self._put_off(message.done_at, message)
            return
        message.told = True
        if self._habits.none:
            return
        if self._lost.take():
            self._tally.receipts_lost += 1
            return
        receipt = Delivery(message.system_id, message.receipt(), True, message.final.word)
        if by is not None and not self._habits.spread and (self._habits.early or by.room > 0):
            self._send(by, receipt)
        else:
            self.send(receipt)

    def send(self, delivery: Delivery) -> None:
        """On any bind, once there is room."""
        waiting = self._waiting.setdefault(delivery.system_id, deque())
        if len(waiting) < _MOST_WAITING:
            waiting.append(delivery)
        elif delivery.receipt:
            self._tally.receipts_lost += 1
        self.serve(delivery.system_id)

    def send_later(self, delivery: Delivery, now: float) -> None:
        """A bind has refused it for now."""
        self._put_off(now + _AGAIN_S, delivery)

    def serve(self, system_id: bytes) -> None:
        """Send what waits, as far as there is room, by the binds in turn."""
        waiting, receivers = self._waiting.get(system_id), self._receivers.get(system_id)
        full = 0
        while waiting and receivers and full < len(receivers):
            receivers.rotate(-1)
            if receivers[0].room > 0:
                self._send(receivers[0], waiting.popleft())
                full = 0
            else:
                full += 1

    def _send(self, receiver: Receiver, delivery: Delivery) -> None:
        tally = self._tally
        if delivery.sent:
            tally.sent_again += 1
        elif delivery.receipt:
            tally.receipts_sent += 1
            tally.states[delivery.state] += 1
        else:
            tally.answers_sent += 1
        delivery.sent = True
        receiver.deliver(delivery)

    # ---- time

    @property
    def waiting(self) -> int:
        """Deliveries and messages whose time has not come, or for which there is no bind or no room."""
        return len(self._later) + sum(map(len, self._waiting.values()))

    @property
    def due_at(self) -> float:
        """When to call `tick`."""
        return self._later[0][0] if self._later else math.inf

    def tick(self, now: float) -> None:
        """Do what is due."""
        while self._later and self._later[0][0] <= now:
            what = heapq.heappop(self._later)[2]
            if isinstance(what, Delivery):
                self.send(what)
            else:
                self.announce(what, None, now)

    def _put_off(self, due_at: float, what: Message | Delivery) -> None:
        heapq.heappush(self._later, (due_at, next(self._count), what))
