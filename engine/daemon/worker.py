"""A worker: builds every object of the engine once, in the order of the layers, and runs them until it is told to stop.

start   spool (recovery) -> queues -> listeners; only then is the daemon ready
reload  new settings for everything that can take them; no connection is dropped
stop    listeners -> agents (up to 30 s) -> spool; what is not delivered by then is on disk
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from engine.admin.commands import commands_of
from engine.admin.door import SOCKET_NAME
from engine.admin.parts import Parts
from engine.admin.server import AdminServer
from engine.base.clock import SystemClock
from engine.base.errors import EngineError
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.daemon.commons import Commons, alone
from engine.daemon.http import MetricsServer
from engine.daemon.listeners import Listeners, SessionListener
from engine.daemon.moves import refuse_moves
from engine.daemon.process import schedule_in_batches, warn_of_few_files
from engine.daemon.pull import Pulling
from engine.daemon.returns import Returns
from engine.daemon.samples import Family, samples_of
from engine.daemon.sms import SmsEngine
from engine.daemon.sockets import HeldSockets
from engine.daemon.tracking import Tracking
from engine.delivery.agent import Kit
from engine.delivery.bouncer import Bouncer
from engine.delivery.courier import Courier
from engine.delivery.settlement import Settlement
from engine.delivery.signer import Signer
from engine.delivery.sms_reports import SmsReports
from engine.feed.feed import Feed, own_journals
from engine.feedback.owed_events import OwedEvents
from engine.intake.admission import Admission
from engine.intake.listener import SmtpListener
from engine.intake.reverse import ReverseNames
from engine.intake.untaken import Rejections
from engine.message.ids import IdSource
from engine.net.http_post import HttpPoster
from engine.net.outbox import Outbox
from engine.net.resolver import Resolver
from engine.net.stream import TlsContexts, connect
from engine.queue.manager import Manager
from engine.queue.orders import Orders
from engine.queue.sweeper import Sweeper
from engine.queue.throttle import Word
from engine.routing.router import Router
from engine.storage.events.compact import Compactor
from engine.storage.events.journal import EventJournal, events_directory
from engine.storage.spool.entry import State
from engine.storage.spool.segment import spool_directory, spool_owner
from engine.storage.spool.spool import Spool
from engine.storage.tables.batch_levels import BatchLevels
from engine.storage.tables.credentials import Credentials
from engine.storage.tables.queue_state import QueueState
from engine.storage.tables.suppressions import Suppressions

log = logging.getLogger(__name__)

#: What is in flight at SIGTERM has this long; cutting off what is left then takes no more than three seconds.
STOP_S = 27.0
#: How often free space is measured, learned throttles are saved, expired DNS and event files forgotten.
UPKEEP_S = 5.0
#: A sweep looks at everything: every two seconds, or so seldom that it costs under 1 % of the time.
SWEEP_S, SWEEP_PER_ROW_S = 2.0, 0.000_002


class Worker:
    """One engine on one event loop. Make it inside the running loop."""

    answers = True  #: who can ask has its answer: the loop that runs this is the one that would be stuck

    def __init__(
        self,
        settings: Settings,
        log_line: Callable[[str], None],
        number: int = 0,
        *,
        commons: Commons | None = None,
        sockets: HeldSockets | None = None,
        door: str = SOCKET_NAME,
    ) -> None:
        """Recovers the spool. Raises EngineError: something of the settings or the disk cannot be used.

        commons, sockets, door: of one worker among several; the sockets are those that its supervisor opened, the door
        is the name of its operator's.
        """
        self.settings = settings
        self.clock = clock = SystemClock()
        self.metrics = metrics = Metrics()
        data_dir, node = Path(settings.node.data_dir), settings.node.name
        rng = random.Random()  # noqa: S311  # shuffles hosts and jitters retries; no secret
        self._events = EventJournal(
            events_directory(data_dir, number), settings.events.segment_bytes, settings.events.keep,
            keep_bytes=settings.events.keep_bytes,
        )  # fmt: skip
        self._spool = Spool(
            spool_directory(data_dir, number),
            settings.spool,
            self._events,
            metrics,
            owner=spool_owner(node, number),
        )
        self._spool.start()
        ids = IdSource(node, number, clock, self._spool.last_id)
        tables = data_dir / "tables.db"
        self._state = QueueState(tables, number)
        self._credentials = Credentials(tables)
        self._suppressions = Suppressions(data_dir, clock)
        self._levels = BatchLevels(data_dir, clock)
        self._resolver = Resolver(settings.resolver, metrics, clock)
        self._returns = Returns(
            settings, number, self._spool, self._suppressions, ids, clock, metrics, log_line, self._resolver
        )
        self._router = Router(settings, self._resolver, clock)
        self._commons = commons = commons or alone(settings, clock)
        self._budget = commons.budget
        self._manager = Manager(self._spool, self._router, self._budget, self._state, clock)
        self._manager.sites.tell = commons.tell_site
        self._signer = Signer(settings, metrics, clock)
        self._bouncer = Bouncer(settings, ids, clock)
        self._spool.tells_of_delay = self._bouncer.tells_of_delay
        self._sms_reports = SmsReports(settings, ids, clock, metrics)
        self._settlement = Settlement(
            settings,
            self._spool,
            self._manager,
            self._bouncer,
            metrics,
            clock,
            log_line,
            rng,
            self._sms_reports,
            self._returns.refusals,
            self._returns.kinds,
        )
        self._outbox = Outbox(asyncio.get_running_loop())
        self._posters = {private: HttpPoster(self._resolver, private) for private in (False, True)}
        self._kit = Kit(
            settings=settings,
            spool=self._spool,
            settlement=self._settlement,
            signer=self._signer,
            return_paths=self._returns.return_paths,
            posters=self._posters,
            budget=self._budget,
            metrics=metrics,
            clock=clock,
            rng=rng,
            contexts=TlsContexts(),
            open_stream=partial(connect, outbox=self._outbox),
            ledger=self._returns.ledger,
            tracker=self._returns.tracker,
            suppressions=self._suppressions,
        )
        self._owed_events = None if number else OwedEvents(self._suppressions.db, tables, self._spool)
        self._sms: SmsEngine | None = None
        if not number:
            self._sms = SmsEngine(
                settings, data_dir, self._kit, self._sms_reports, self._manager, self._router, self._credentials,
                self._suppressions, ids, self._resolver, self._outbox, log_line, self._levels.of,
            )  # fmt: skip
        self._courier = courier = Courier(self._kit, self._sms.kit if self._sms is not None else None)
        self._sweeper = Sweeper(self._spool, self._manager, self._router, courier, clock)
        self._orders = Orders(
            self._spool, self._manager, self._state, {"bounce": courier.bounce, "purge": courier.purge}, clock
        )
        if self._sms is not None:
            self._sms.attach(self._orders, courier)
        self._admission = Admission(
            self._spool, ids, clock, metrics, settings, log_line, self._router.provider_of, self._suppressions,
            level_of=self._levels.of, rejections=Rejections(self._spool, clock),
        )  # fmt: skip
        self._reverse = ReverseNames(self._resolver)
        self._tracking = Tracking(self._spool, metrics, clock)
        owned = own_journals(data_dir, number, settings.node.workers, settings.tracking.separate)
        self._feed = Feed(settings, data_dir, owned, self._events, self._resolver, metrics, clock, rng)
        self._pulling = Pulling(self._feed, self._credentials, commons, metrics)
        directories = [events_directory(data_dir, other) for other in owned]
        self._compactor = Compactor(directories, clock, left=directories[1:])
        self._parts = Parts(
            settings=settings,
            clock=clock,
            started_at=clock.time(),
            spool=self._spool,
            manager=self._manager,
            router=self._router,
            budget=self._budget,
            courier=self._courier,
            state=self._state,
            orders=self._orders,
            sweeper=self._sweeper,
            metrics=metrics,
            carriers=self._sms.carriers if self._sms is not None else None,
            binds=self._sms.binds if self._sms is not None else None,
            feed=self._feed,
        )
        self._admin = AdminServer(commands_of(self._parts), data_dir / door)
        self._listeners = Listeners(self._make_listener, self._make_http, STOP_S, sockets)
        self._upkeep: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open every door. Raises EngineError when one cannot be opened."""
        for warning in self._signer.warnings:
            log.warning("%s", warning)
        self._manager.start(self._courier)
        if self._sms is not None:
            self._sms.start()
        await self._keep_suppressions()
        await self._feed.start()
        await self._admin.start()
        await self._listeners.open(self.settings, self.settings.listener)
        warn_of_few_files(self.settings)
        for work in (self._load_backlog(), self._keep_up(), self._keep_sweeping(), self._keep_feeding()):
            self._upkeep.append(asyncio.get_running_loop().create_task(work))
        schedule_in_batches()

    async def reload(self, settings: Settings) -> None:
        """Work by new settings. Raises EngineError: they cannot be used, and the old ones hold."""
        refuse_moves(self.settings, settings)
        opened = await self._listeners.open_new(settings)
        try:
            self._router.reload(settings)
            self._feed.check(settings)
            self._signer.reload(settings)
            loaded = await self._returns.prepare(settings)
            self._tracking.reload(settings)
        except EngineError:
            self._router.reload(self.settings)
            self._signer.reload(self.settings)
            await self._listeners.close(opened)
            raise
        self._resolver.reload(settings.resolver)
        self._returns.reload(settings, loaded)
        self._bouncer.reload(settings)
        self._settlement.reload(settings)
        self._admission.reload(settings)
        if self._sms is not None:
            await self._sms.reload(settings)
        self._budget.max_connections = settings.delivery.max_connections
        self.settings = self._kit.settings = self._parts.settings = settings
        logging.getLogger().setLevel(settings.log.level.upper())
        await self._manager.reroute()
        await self._listeners.follow(settings)
        self._events.reload(settings.events.segment_bytes, settings.events.keep, settings.events.keep_bytes)
        await self._feed.reload(settings)
        await self._spool.reload(settings.spool)
        for warning in self._signer.warnings:
            log.warning("%s", warning)

    async def stop(self) -> None:
        """Take nothing new, finish or defer what is in flight, lose nothing."""
        for task in self._upkeep:
            task.cancel()
        await self._listeners.shut()
        self._manager.stop()
        await asyncio.gather(self._courier.stop(STOP_S), self._listeners.drain(), self._feed.stop())
        self._settlement.tell_gathered()
        if self._sms is not None:
            await self._sms.stop()
        await self._listeners.end()
        await self._tracking.stop()
        await self._pulling.stop()
        await self._admin.close()
        self._signer.close()
        await self._reverse.close()
        for poster in self._posters.values():
            await poster.close()
        await self._resolver.close()
        await self._returns.refusals.close()
        if self._owed_events is not None:
            await self._owed_events.close()
        # On a full disk each of these may fail, and the others must still be done.
        for close in (
            self._remember, self._returns.close, self._spool.close, self._close_sms, self._suppressions.close,
            self._events.close, self._compactor.close, self._state.close, self._credentials.close,
            self._levels.close,
        ):  # fmt: skip
            await self._try(close)

    async def _close_sms(self) -> None:
        if self._sms is not None:
            await self._sms.close()

    def hear_of_site(self, key: str, word: Word, at: float, reason: str) -> None:
        """Another worker was told this by a site."""
        self._manager.sites.hear(key, word, at, reason)

    def books(self) -> dict[str, Any]:
        """What it has counted, for a supervisor to keep, and which record of the spool is the first after that."""
        manager, spool = self._manager, self._spool
        return {**manager.tally.as_row(manager.queued()), "loading": spool.loading, "frame": spool.next_frame()}

    def samples(self) -> list[Family]:
        """All metrics, for a supervisor to sum up."""
        self._collect()
        return samples_of(self.metrics.registry)

    # Inside.

    def _make_listener(self, row: Listener, settings: Settings) -> SessionListener:
        clients, guesses = self._commons.clients, self._commons.guesses
        if row.kind == "smpp":
            assert self._sms is not None
            return self._sms.make_listener(row, settings, clients, guesses)
        if row.kind == "tracking":
            return self._tracking.make_listener(row, settings)
        if row.kind == "events":
            return self._pulling.make_listener(row, settings)
        admission = self._returns.inbound if row.kind == "inbound" else self._admission
        return SmtpListener(
            row, settings, admission, self._credentials, self.metrics, self.clock, self._outbox,
            reverse=self._reverse, clients=clients, guesses=guesses,
        )  # fmt: skip

    def _make_http(self, row: Listener, reuse_port: bool = False) -> MetricsServer:
        return MetricsServer(row, self.metrics.registry, self._collect, reuse_port=reuse_port)

    async def _load_backlog(self) -> None:
        """The old generation; meanwhile, and then, what an operator ordered before the stop."""
        self._orders.start()
        await self._try(self._manager.load_backlog)
        self._orders.start()
        await self._try(self._spool.work)  # a worker that is often started again has files to let go of, too

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_S)
            await self._try(self._spool.measure)
            await self._try(self._spool.work)
            await self._try(self._spool.sync_events)
            await self._try(self._remember)
            await self._try(self._keep_suppressions)
            await self._try(self._returns.upkeep)
            if self._sms is not None:
                await self._try(self._sms.upkeep)

    async def _keep_feeding(self) -> None:
        """Apart from the rest: a large file takes its time."""
        while True:
            await asyncio.sleep(UPKEEP_S)
            await self._try(partial(self._compactor.work, self.settings.events))
            await self._try(self._feed.upkeep)

    async def _keep_suppressions(self) -> None:
        await self._suppressions.upkeep()
        if self._owed_events is not None:
            await self._owed_events.upkeep()

    async def _keep_sweeping(self) -> None:
        while True:
            await self._try(self._sweeper.sweep)
            await asyncio.sleep(max(SWEEP_S, len(self._spool.table) * SWEEP_PER_ROW_S))

    def _remember(self) -> None:
        self._manager.sites.remember()
        self._budget.forget(self.clock.monotonic())

    async def _try(self, chore: Callable[[], Awaitable[None] | None]) -> None:
        """A chore that fails is logged, and keeps no other from being done."""
        try:
            done = chore()
            if done is not None:
                await done
        except EngineError as exc:
            log.error("upkeep: %s", exc)
        except Exception:  # top of a task
            self.metrics.internal_errors.labels("upkeep").inc()
            log.exception("upkeep")

    def _collect(self) -> None:
        """Set the gauges; called in a thread of the HTTP listener, so it only reads."""
        metrics, sweeper = self.metrics, self._sweeper
        for state in State:
            if state not in (State.STORING, State.FINAL):
                metrics.queued.labels(state.name.lower()).set(sweeper.counts[state])
        metrics.oldest.set(self.clock.time() - sweeper.oldest_at if sweeper.oldest_at is not None else 0)
        metrics.orphans.set(sweeper.orphans)
        metrics.spool_bytes.set(self._spool.size)
        if self._sms is not None:
            self._sms.collect()
        self._feed.collect()
        self._tracking.collect()
        self._pulling.collect()
