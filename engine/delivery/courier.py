"""The courier: carries out deliveries, one agent per leased connection.

An agent takes what is ready, signs it, sends it over its connection, has the outcome settled, and goes on until
its queue is empty for a while. What is done without a connection (no route, expired while a site was closed, an
operator's word, a notice of a delay) is an errand.

Q3  whatever goes wrong with a delivery here defers it; it is never dropped.
An agent is at most one outcome ahead of the journal: a crash can double one message in transit and one unrecorded
for each connection, no more.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from engine.base.errors import StorageError
from engine.delivery import screen, sms_trouble, verdicts
from engine.delivery.account_agent import AccountAgent
from engine.delivery.agent import Agent, Kit
from engine.delivery.box_agent import BoxAgent
from engine.delivery.carrier_agent import CarrierAgent
from engine.delivery.settlement import Timing
from engine.delivery.sms_agent import SmsAgent
from engine.delivery.sms_kit import SmsKit
from engine.message.channels import channel_of
from engine.message.content import Content
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Status
from engine.queue.budget import Lease
from engine.queue.ready import ReadyQueue
from engine.routing.plan import OTHER, NoRoute
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.reader import ContentLost, Reader

log = logging.getLogger(__name__)

#: Errands at work at once: each may read a content from disk.
_RUNNERS: Final = 8

#: What an errand does to the recipients with these indexes.
Verdict = Callable[[Sequence[int]], Sequence[Outcome]]


@dataclass(slots=True)
class _Errand:
    """attempted: counts for the retry schedule. by_hand: an operator's."""

    delivery: Delivery
    verdict: Verdict
    provider: str = OTHER
    attempted: bool = False
    by_hand: bool = False


class Courier:
    """Agents and errands of one worker. Implements `queue.manager.Dispatcher`."""

    def __init__(self, kit: Kit, sms: SmsKit | None = None) -> None:
        """sms: for deliveries to carriers and accounts; None: there are none here."""
        self.working = kit.working
        self._kit = kit
        self._sms = sms
        self._agents: dict[asyncio.Task[None], Agent | BoxAgent | SmsAgent] = {}
        self._errands: deque[tuple[Delivery, set[Delivery], Callable[[], Awaitable[None]]]] = deque()
        self._telling: set[Delivery] = set()  #: whose senders are about to hear of a delay
        self._runners: set[asyncio.Task[None]] = set()

    def attempt(self, queue: ReadyQueue, lease: Lease) -> None:
        agent = self._agent_for(queue)
        task = asyncio.get_running_loop().create_task(self._employ(agent, queue, lease))
        self._agents[task] = agent
        task.add_done_callback(self._agents.pop)

    def _agent_for(self, queue: ReadyQueue) -> Agent | BoxAgent | SmsAgent:
        channel = queue.plan.channel
        if channel == "mail":
            return Agent(self._kit, queue)
        if channel == "box":
            return BoxAgent(self._kit, queue)
        assert self._sms is not None
        return (CarrierAgent if channel == "carrier" else AccountAgent)(self._kit, self._sms, queue)

    def no_route(self, delivery: Delivery, route: NoRoute) -> None:
        self._send_out(_Errand(delivery, lambda indexes: verdicts.no_route(route, indexes), attempted=True))

    def refuse(self, delivery: Delivery) -> None:
        self._queue(delivery, self.working, partial(self._refuse, delivery))

    def give_up(self, delivery: Delivery, provider: str, reason: str) -> None:
        reply = delivery.last or f"its site is closed: {reason}"
        self._send_out(_Errand(delivery, lambda indexes: verdicts.expired(indexes, reply), provider))

    @property
    def delay_notice(self) -> float:
        """Seconds after which `tell_delay` is due for what waits."""
        return self._kit.settlement.delay_notice

    def tell_delay(self, delivery: Delivery, provider: str, reason: str) -> None:
        """The delivery stays where it is; its sender hears why, if he wants to.

        Once is enough, whatever becomes of it: `notice_at` tells of no other time from now on.
        """
        if delivery not in self._telling:
            self._queue(delivery, self._telling, partial(self._tell, delivery, provider, reason))

    def settle_by_hand(self, delivery: Delivery, verdict: Verdict) -> None:
        """A delivery that was seized is settled without its content, or its envelope, which may be damaged."""
        self._send_out(_Errand(delivery, verdict, by_hand=True))

    def bounce(self, delivery: Delivery, reason: str) -> None:
        """An operator's word on a delivery that was seized: fail it, and tell its sender."""
        self.settle_by_hand(delivery, lambda indexes: verdicts.bounced(indexes, reason))

    def purge(self, delivery: Delivery, by: str = "") -> None:
        """A word on a delivery that was seized: remove it. by: whose; "": an operator's."""
        self.settle_by_hand(delivery, lambda indexes: verdicts.purged(indexes, by))

    def replace(self, delivery: Delivery, by: str) -> None:
        """Remove a delivery that was seized: another has taken its place."""
        self.settle_by_hand(delivery, lambda indexes: verdicts.replaced(indexes, by))

    def withdraw(self, delivery: Delivery, by: str) -> bool:
        """Remove an SMS that an agent has and that is not on the wire; False: it is, or may have been."""
        return any(agent.withdraw(delivery, by) for agent in self._agents.values() if isinstance(agent, SmsAgent))

    def give_back(self, delivery: Delivery) -> bool:
        """Have an agent let go of an SMS that is not on the wire, as it is; False: it is, or may have been.

        It stays in an attempt, of who asks: as if that had seized it.
        """
        return any(agent.give_back(delivery) for agent in self._agents.values() if isinstance(agent, SmsAgent))

    def fail_lost(self, delivery: Delivery) -> None:
        self.settle_by_hand(delivery, verdicts.damaged)

    async def catch_up(self) -> None:
        """Return when no errand is left."""
        while self._runners:
            await asyncio.wait(list(self._runners))

    def perhaps_sent(self, message_id: str, number: int) -> bool:
        """An SMS that may have been sent before a kill: nobody can take that back. number: of the delivery."""
        return self._sms is not None and self._sms.inflight.perhaps(message_id, number)

    async def stop(self, within_s: float) -> None:
        """Begin nothing new; give what is in flight that long, then cut it off and record what became of it."""
        for task, agent in self._agents.items():
            agent.stop()
            if agent.connecting:
                task.cancel()  # a host that does not answer keeps nobody; the delivery stays queued as it was
        pending = {*self._agents, *self._runners}
        if pending:
            _, pending = await asyncio.wait(pending, timeout=within_s)
        for task in pending:
            if task in self._agents:
                self._agents[task].abort()
        if pending:
            _, pending = await asyncio.wait(pending, timeout=2.0)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)

    def connections(self) -> int:
        return len(self._agents)

    async def _employ(self, agent: Agent | BoxAgent | SmsAgent, queue: ReadyQueue, lease: Lease) -> None:
        try:
            await agent.run()
        except Exception:  # top of a task; the agent has settled or put back what it had
            self._kit.metrics.internal_errors.labels("agent").inc()
            log.exception("an agent of %s died", queue.plan.site)
        finally:
            lease.release()
            queue.left()

    def _send_out(self, errand: _Errand) -> None:
        self._queue(errand.delivery, self.working, partial(self._run, errand))

    def _queue(self, delivery: Delivery, among: set[Delivery], work: Callable[[], Awaitable[None]]) -> None:
        """Have this done for a delivery, which is in `among` until then."""
        among.add(delivery)
        self._errands.append((delivery, among, work))
        if len(self._runners) < _RUNNERS:
            task = asyncio.get_running_loop().create_task(self._run_errands())
            self._runners.add(task)
            task.add_done_callback(self._runners.discard)

    async def _run_errands(self) -> None:
        while self._errands:
            delivery, among, work = self._errands.popleft()
            try:
                await work()
            except Exception:  # top of a task, Q3: the sweeper finds the delivery and queues it again
                self._kit.metrics.internal_errors.labels("errand").inc()
                log.exception("%s: could not settle", delivery.message.id)
            finally:
                among.discard(delivery)

    async def _run(self, errand: _Errand) -> None:
        delivery, settlement = errand.delivery, self._kit.settlement
        try:
            envelope, content = await readable(self._kit.spool.reader, delivery, errand.by_hand)
            outcomes, timing = self._true(delivery, errand.verdict(delivery.indexes)), Timing(self._kit.clock.time())
        except StorageError as exc:
            settlement.put_off(delivery, str(exc))
            return
        other = None
        left = errand.attempted and any([outcome.status is not Status.DELIVERED for outcome in outcomes])
        if self._sms is not None and left and channel_of(delivery.destination)[0] == "carrier":
            other = self._sms.alternatives.next_for(delivery, envelope)  # its own is in the settings no more
        await settlement.settle(
            delivery,
            envelope,
            content,
            outcomes,
            errand.provider,
            timing,
            attempted=errand.attempted,
            next_destination=other,
            gather=not errand.by_hand,  # whoever ordered it waits until it is done
        )
        if self._sms is not None and not delivery.indexes:
            self._sms.inflight.forget(delivery.message.id, delivery.number)

    def _true(self, delivery: Delivery, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """What is left of a verdict on an SMS that was perhaps on the wire when we were killed. Raises StorageError."""
        sms, message, number = self._sms, delivery.message.id, delivery.number
        if sms is None or not sms.inflight.perhaps(message, number):
            return outcomes
        again = (message, number) in sms.inflight.again
        return sms_trouble.after_a_kill(outcomes, partial(sms.book.taken, message), again)

    async def _refuse(self, delivery: Delivery) -> None:
        settlement, timing = self._kit.settlement, Timing(self._kit.clock.time())
        try:
            envelope, content = await readable(self._kit.spool.reader, delivery)
            outcomes = await screen.outcomes(self._kit.suppressions, envelope, delivery.indexes)
        except StorageError as exc:
            settlement.put_off(delivery, str(exc))
            return
        if outcomes:
            await settlement.settle(delivery, envelope, content, outcomes, OTHER, timing, attempted=False)
        else:
            settlement.leave(delivery)

    async def _tell(self, delivery: Delivery, provider: str, reason: str) -> None:
        try:
            envelope, content = await self._kit.spool.reader.load(delivery)
        except StorageError as exc:
            if delivery.state is not State.FINAL:
                log.error("%s: no notice of its delay: %s", delivery.message.id, exc)
            delivery.notices = 1
            return
        stored = self._kit.settlement.tell_delay(delivery, envelope, content, provider, reason)
        if stored is not None:
            await stored


async def readable(reader: Reader, delivery: Delivery, by_hand: bool = False) -> tuple[Envelope, Content]:
    """Envelope and content for what is settled without an attempt: a content that is lost is empty, and by hand a
    record that cannot be read has an envelope of nobody. Raises StorageError."""
    try:
        return await reader.load(delivery)
    except ContentLost as exc:
        log.error("%s: settled without its content: %s", delivery.message.id, exc)
        return exc.read.envelope, b""
    except StorageError:
        if not by_hand:
            raise
        return _unreadable(delivery), b""


def _unreadable(delivery: Delivery) -> Envelope:
    """What events can say of a message whose record is damaged: its id, and how many recipients, but not who."""
    message = delivery.message
    recipients = (Recipient("unreadable"),) * (max(delivery.indexes) + 1)
    return Envelope(message.id, "", recipients, message.received_at, message.expires_at, 0, message.message_class)
