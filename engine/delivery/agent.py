"""An agent: one connection of a ready queue, and the deliveries that go over it.

    pace (permit) -> take -> render -> connect, next host on failure -> transact -> settle -> again

D1  once the final 250 is read, no other host is tried for its recipients; `SmtpSession` says what was read.
"""

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from engine.base.clock import Clock
from engine.base.errors import EngineError, StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.base.stored import Stored
from engine.delivery import screen, trouble, verdicts
from engine.delivery.rendering import Made, Rendering
from engine.delivery.return_paths import SenderPaths
from engine.delivery.screen import Unwanted
from engine.delivery.settlement import Settlement, Timing
from engine.delivery.signer import Signer
from engine.delivery.smtp_session import SmtpSession
from engine.delivery.tracker import Tracker
from engine.delivery.trouble import SessionFailed, StaleConnection
from engine.message.content import Content
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome, Scope, Status
from engine.net.http_post import HttpPoster
from engine.net.stream import Connect, TlsContexts
from engine.queue.budget import Budget
from engine.queue.ready import ReadyQueue
from engine.routing.plan import Endpoint
from engine.storage.ledger.writer import Ledger
from engine.storage.spool.entry import Delivery
from engine.storage.spool.spool import Spool

log = logging.getLogger(__name__)

_DELIVERED: Final = Status.DELIVERED  # a name of the module is quicker than a member of a class


@dataclass(slots=True, kw_only=True)
class Kit:
    """What agents work with. settings changes at a reload. working: deliveries somebody has in hand (Q4).

    ledger: None: nothing is noted. suppressions: None: nobody is. tracker: None: nothing is tracked.
    """

    settings: Settings
    spool: Spool
    settlement: Settlement
    signer: Signer
    return_paths: SenderPaths
    posters: Mapping[bool, HttpPoster]  #: by whether private addresses are allowed
    budget: Budget
    metrics: Metrics
    clock: Clock
    rng: random.Random
    contexts: TlsContexts
    open_stream: Connect
    ledger: Ledger | None = None
    suppressions: Unwanted | None = None
    tracker: Tracker | None = None
    working: set[Delivery] = field(default_factory=set)


class Agent:
    """See above. `run` ends when there is nothing more to do; the caller then releases the lease."""

    def __init__(self, kit: Kit, queue: ReadyQueue) -> None:
        self._kit = kit
        self._queue = queue
        self._session: SmtpSession | None = None
        self._observe = kit.metrics.attempt.labels(queue.plan.provider).observe
        self._carried = 0  #: messages over this connection
        self._stored: Stored | None = None  #: the last outcome, on its way to the journal
        self._idle: asyncio.Future[bool] | None = None
        self._stopping = False
        self.connecting = False  #: on the way to a session; of its delivery nothing is in flight

    async def run(self) -> None:
        self._queue.arrived()
        failure: BaseException | None = None
        try:
            while not self._stopping and (delivery := await self._next()) is not None:
                await self._deliver(delivery)
        except BaseException as exc:
            failure = exc
        await self._disconnect()
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """Finish what is in hand, take nothing new."""
        self._stopping = True
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(False)

    def abort(self) -> None:
        """Cut the connection: what was in transit gets the outcome of a lost connection."""
        if self._session is not None:
            self._session.abort()

    async def _next(self) -> Delivery | None:
        """The next delivery, when the site's rate allows it; None when this connection is of no more use."""
        queue = self._queue
        while not self._stopping:
            if self._carried >= queue.plan.limits.messages_per_connection and queue.must_share():
                return None
            if not len(queue):
                if not await self._wait_for_more():
                    return None
                continue
            if not await self._pace():
                return None
            delivery = queue.take()
            if delivery is not None:
                return delivery
            if self._kit.clock.time() < queue.throttle.closed_until:
                return None
        return None

    async def _wait_for_more(self) -> bool:
        """Idle with an open connection: whether something came in time. Not where others wait for a connection."""
        if self._session is None or not self._session.usable or self._queue.must_share():
            return False
        session = self._session
        self._idle = idle = self._queue.wait()
        session.watch(partial(_give_up_waiting, idle), self._kit.settings.delivery.idle_timeout)
        try:
            more = await idle
            if more:
                self._queue.arrived()
            else:
                self._queue.left_waiting(idle)
            return more
        finally:
            session.watch(None)
            self._idle = None

    async def _pace(self) -> bool:
        """Wait for a permit of the site's rate; False when told to stop meanwhile, or when it is not worth waiting.

        Nobody holds a lease for a permit that is longer away than a connection may idle.
        """
        queue = self._queue
        if queue.throttle.rate is None:
            return True
        now = self._kit.clock.monotonic()
        at = queue.permit(now)
        wait = at - now
        if wait > self._kit.settings.delivery.idle_timeout:
            queue.sleep_until(at)
            return False
        if wait > 0:
            loop = asyncio.get_running_loop()
            self._idle = pause = loop.create_future()
            timer = loop.call_later(wait, _give_up_waiting, pause)
            try:
                await pause
            finally:
                timer.cancel()
                self._idle = None
        return not self._stopping

    async def _deliver(self, delivery: Delivery) -> None:
        """One delivery, from the queue to its settled outcomes, a transaction at a time."""
        kit = self._kit
        kit.working.add(delivery)
        timing = Timing(kit.clock.time())
        try:
            message = delivery.message
            envelope, content = message.hot or await kit.spool.reader.load(delivery)
            unwanted = await screen.outcomes(kit.suppressions, envelope, delivery.indexes)
            if unwanted:
                more = len(unwanted) < len(delivery.indexes)
                self._settle(delivery, envelope, content, unwanted, timing, attempted=False, more=more)
                if not more:
                    return
            rendering = Rendering(kit.signer, kit.return_paths, kit.ledger, kit.tracker, envelope, content)
            await rendering.begin(kit.clock.time())
            left, first = delivery.indexes, True
            most = rendering.most or kit.settings.delivery.max_recipients
            while left:
                chunk, left = left[:most], left[most:]
                if not first and (unwanted := await screen.outcomes(kit.suppressions, envelope, chunk)):
                    # He left while others were sent theirs.
                    chunk = tuple([index for index in chunk if all(index != one.index for one in unwanted)])
                    self._settle(
                        delivery, envelope, content, unwanted, timing, attempted=False, more=bool(chunk or left)
                    )
                    if not chunk:
                        continue
                try:
                    made = await rendering.made(chunk)
                except StorageError:
                    raise
                except EngineError as exc:
                    unready = verdicts.unready(chunk + left, str(exc))
                    self._settle(delivery, envelope, content, unready, timing, attempted=first)
                    return
                if first:
                    timing.ready = kit.clock.time()
                outcomes, again = trouble.too_many_at_once(await self._attempt(made, chunk, timing))
                left = again + left
                if self._stored is not None and not self._stored.done():
                    await self._stored
                rendering.done(outcomes)
                self._settle(delivery, envelope, content, outcomes, timing, attempted=first, more=bool(left))
                first = False
                if left and not await self._may_go_on(outcomes):
                    kit.settlement.leave(delivery)
                    return
        except StorageError as exc:
            # The message, or what is left of a large one, cannot be read.
            kit.settlement.put_off(delivery, str(exc))
        finally:
            kit.working.discard(delivery)

    async def _may_go_on(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether the next transaction of the same delivery may follow: the site takes it, and has a permit for it."""
        if self._stopping or any(outcome.scope is Scope.SITE for outcome in outcomes):
            return False
        return await self._pace()

    def _settle(
        self,
        delivery: Delivery,
        envelope: Envelope,
        content: Content,
        outcomes: Sequence[Outcome],
        timing: Timing,
        *,
        attempted: bool = True,
        more: bool = False,
    ) -> None:
        """Record the outcomes of one transaction, and tell the throttle."""
        plan = self._queue.plan
        if plan.stop:
            now = self._kit.clock.time()
            outcomes = [verdicts.stopped(outcome, plan.stop_for, now) for outcome in outcomes]
        self._stored = self._kit.settlement.settle(
            delivery,
            envelope,
            content,
            outcomes,
            plan.provider,
            timing,
            attempted=attempted,
            more=more,
            relays_dsn=self._session is not None and self._session.dsn,
        )
        self._feed_back(outcomes)

    async def _attempt(self, made: Made, indexes: Sequence[int], timing: Timing) -> Sequence[Outcome]:
        """Outcomes for these recipients, whatever happens (Q3). Raises StorageError: the content cannot be read."""
        envelope, prefix, content = made
        try:
            return await self._send(envelope, indexes, prefix, content, timing)
        except StorageError:
            raise
        except Exception:
            self._kit.metrics.internal_errors.labels("attempt").inc()
            log.exception("%s: attempt by way of %s", envelope.id, self._queue.plan.site)
            self.abort()
            return verdicts.internal(indexes)

    async def _send(
        self, envelope: Envelope, indexes: Sequence[int], prefix: bytes, content: Content, timing: Timing
    ) -> Sequence[Outcome]:
        """One transaction, on the next host where one fails without a word about the message."""
        plan, tried = self._queue.plan, 0
        suppressed: list[Outcome] = []
        endpoints: list[Endpoint] | None = None
        while True:
            if (
                self._session is None
                or not self._session.usable
                or self._carried >= plan.limits.messages_per_connection
            ):
                await self._disconnect()
                if endpoints is None:
                    endpoints = plan.endpoints(self._kit.rng)[: self._kit.settings.delivery.max_hosts]
                try:
                    tried = await self._connect(endpoints, tried)
                except SessionFailed as failure:
                    return [*suppressed, *self._unreachable(failure, indexes)]
            timing.connected = self._kit.clock.time()
            session = self._session
            assert session is not None
            # Again: who was wanted before the connection was there may not be now.
            unwanted = await screen.outcomes(self._kit.suppressions, envelope, indexes)
            if unwanted:
                refused = {outcome.index for outcome in unwanted}
                indexes = [index for index in indexes if index not in refused]
                suppressed += unwanted
                if not indexes:
                    return suppressed
            try:
                outcomes = await session.transact(envelope, indexes, prefix, content)
            except StaleConnection:
                continue  # closed while it was idle: nobody's failure, nothing was sent
            self._carried += 1
            self._observe(self._kit.clock.time() - timing.connected)
            last = endpoints is not None and tried >= len(endpoints)
            if last or session.usable or self._stopping or not _worth_another_host(outcomes):
                return [*suppressed, *outcomes] if suppressed else outcomes

    async def _connect(self, endpoints: Sequence[Endpoint], tried: int) -> int:
        """Open a session with one of endpoints[tried:]; how many were tried by then. Raises the last SessionFailed."""
        failure = SessionFailed(str(endpoints[-1]), "connect", words="every host has been tried")
        for number in range(tried, len(endpoints)):
            endpoint = endpoints[number]
            try:
                session = await self._open(endpoint)
            except SessionFailed as exc:
                log.info("connect to %s: %s", endpoint, exc)
                failure = exc
                continue
            if session.tls_note:
                log.info("connect to %s: %s", endpoint, session.tls_note)
            self._session = session
            self._carried = 0
            self._kit.metrics.outgoing.inc()
            return number + 1
        raise failure

    async def _open(self, endpoint: Endpoint) -> SmtpSession:
        plan = self._queue.plan
        self.connecting = True
        try:
            return await SmtpSession.connect(
                endpoint,
                source_address=plan.source_address(endpoint),
                ehlo=plan.source.ehlo,
                tls=plan.tls,
                credentials=plan.credentials,
                limits=self._kit.settings.delivery,
                contexts=self._kit.contexts,
                open_stream=self._kit.open_stream,
            )
        finally:
            self.connecting = False

    def _unreachable(self, failure: SessionFailed, indexes: Sequence[int]) -> Sequence[Outcome]:
        outcomes = trouble.session_failed(failure, indexes)
        # A TLS need that is not met, or a login refused, says nothing to the others who share the site.
        if failure.phase not in ("starttls", "auth"):
            self._queue.throttle.connect_failed(self._kit.clock.time(), outcomes[0].reply)
        return outcomes

    async def _disconnect(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        self._kit.metrics.outgoing.dec()
        if session.usable:
            await session.quit()
        else:
            session.abort()

    def _feed_back(self, outcomes: Sequence[Outcome]) -> None:
        """What the outcomes say about the site, for its throttle."""
        throttle = self._queue.throttle
        for outcome in outcomes:
            if outcome.status is _DELIVERED:
                throttle.delivered()
                continue
            if outcome.retry_at is not None:
                throttle.close(outcome.retry_at, outcome.reply)
                return
            if outcome.scope is Scope.SITE and outcome.phase != "connect":
                throttle.blocked(self._kit.clock.time(), outcome.reply)
                return


def _give_up_waiting(idle: asyncio.Future[bool]) -> None:
    if not idle.done():
        idle.set_result(False)


def _worth_another_host(outcomes: Sequence[Outcome]) -> bool:
    """Whether the session, and not the message, was the trouble for everybody (D1: nobody was delivered)."""
    return all(outcome.status is Status.DEFERRED and outcome.scope is Scope.SESSION for outcome in outcomes)
