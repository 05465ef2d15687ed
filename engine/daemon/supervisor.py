"""The supervisor of a node with several workers: opens the sockets, starts the workers and keeps them, speaks for all.

It carries no mail. Each worker is a whole engine in a process of its own (worker_process.py), with its own spool,
journal and message ids; what they share they ask for here: connections and rates (queue/holdings.py, B1). A worker that
dies is started again and takes up its spool; one that does not answer is ended first, so that it holds no connection
when its shares go to others. If the supervisor dies, so do the workers.

start   lock (serve.py) -> sockets -> workers -> metrics, operators' door -> ready
reload  read and checked here, then one worker after the other; if one cannot use them, all go back to the old ones
stop    all workers at once, each within its own 30 s
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from engine.admin.colleagues import ask_worker
from engine.admin.door import SOCKET_NAME
from engine.admin.gather import commands_of_all
from engine.admin.server import AdminServer
from engine.base.errors import EngineError, NetworkError
from engine.base.settings import Listener, Settings
from engine.daemon import sockets as shared
from engine.daemon import spools
from engine.daemon.books import Books
from engine.daemon.child import Child
from engine.daemon.division import part_of
from engine.daemon.http import MetricsServer
from engine.daemon.listeners import Listeners, SessionListener
from engine.daemon.moves import refuse_moves
from engine.daemon.samples import Family, Sums
from engine.daemon.turnstile import Turnstile
from engine.delivery.keyring import load_keys
from engine.net.port import overlap
from engine.queue.holdings import Holdings, Report
from engine.storage.tables.credentials import Credentials
from engine.storage.tables.queue_state import QueueState
from engine.storage.tables.suppression_table import SuppressionTable

log = logging.getLogger(__name__)

#: A worker has 30 s to stop; then it is cut off.
_STOP_S = 32.0
#: Kinds of listeners that every worker has, and all whose sockets are the supervisor's: others are the first worker's.
_MAIL, _TAKING = ("smtp", "inbound"), ("smtp", "inbound", "smpp", "tracking", "events")
#: How often workers are asked for a sign of life, and how long one may be silent: a loop that is stuck so long is a
#: fault, not load. Below systemd's WatchdogSec, so that one worker's fault does not end the others.
_BEAT_S, _SILENT_S = 1.0, 20.0
#: A worker that lived this long is started again at once; one that did not, after a pause that doubles.
_STEADY_S, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 60.0, 1.0, 60.0
#: How often it is looked whether a spool without a worker of its own is empty; seldom where the look takes long.
_DRAIN_LOOK_S, _DRAIN_LOOKS = 1.0, 0.01
#: How often keys are dropped that nobody uses.
_FORGET_S = 5.0
#: How often metrics are asked for though nobody scrapes: what a killed worker counted since is not in the sums.
_SAMPLE_S = 5.0
_SCRAPE_S = 8.0  #: Prometheus waits ten


class Supervisor:
    """See above. Make it inside the running loop; the same calls as a `Worker`."""

    def __init__(self, settings: Settings, lock: int) -> None:
        """lock: descriptor of the lock of the data directory, for the workers to hold as well."""
        self.settings = settings
        self._data_dir = Path(settings.node.data_dir)
        self._holdings = Holdings()
        count = settings.node.workers
        self._turnstile = Turnstile(count, self._tell_of_clients)
        self._left = spools.leftover(self._data_dir, count)
        self._children = {
            number: Child(number, number >= count, lock, self._answer, self._take_note)
            for number in (*range(count), *self._left)
        }
        self._sockets: shared.Sockets = {}
        self._sums = Sums(self._fetch)
        self._registry = CollectorRegistry()
        self._registry.register(self._sums)
        self._pages = Listeners(_none, self._make_http, 0.0)
        self._books = Books(self._data_dir, time.monotonic)
        commands = commands_of_all(self._data_dir, lambda: list(self._children), self._books.past)
        self._admin = AdminServer(commands, self._data_dir / SOCKET_NAME)
        self._loop = asyncio.get_running_loop()
        self._moving = asyncio.Lock()  #: held while settings or processes change
        self._chores: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Every worker serves when this returns. Raises EngineError: something cannot be used, and nothing runs."""
        try:
            await self._start()
        except BaseException:
            for child in self._children.values():
                child.kill()
            raise

    async def reload(self, settings: Settings) -> None:
        """All workers take these settings, or none. Raises EngineError: they cannot be used, and the old ones hold."""
        refuse_moves(self.settings, settings)
        load_keys(settings)
        async with self._moving:
            opened = await self._open_new(settings)
            try:
                await self._pages.open_new(_only(settings, "http", but=self._sockets))
                await self._reload_workers(settings, opened)
            except EngineError:
                self._close_sockets(opened)
                await self._pages.follow(_only(self.settings, "http"))
                raise
            self.settings = settings
            logging.getLogger().setLevel(settings.log.level.upper())
            self._close_sockets(self._sockets.keys() - {row.address for row in _rows(settings, *_TAKING)})
            await self._pages.follow(_only(settings, "http"))

    async def stop(self) -> None:
        """All workers stop in order; one that takes longer than it may is cut off."""
        for chore in self._chores:
            chore.cancel()
        # The workers have the last descriptors now: clients are refused as soon as they close them.
        self._close_sockets(list(self._sockets))
        running = [child for child in self._children.values() if child.serves]
        try:
            async with asyncio.timeout(_STOP_S):
                await asyncio.gather(*(self._stop_one(child) for child in running))
        except TimeoutError:
            log.error("workers that did not stop in time are cut off")
        for child in self._children.values():
            child.kill()
        await self._pages.shut()
        await self._pages.end()
        await self._admin.close()

    @property
    def answers(self) -> bool:
        """Every worker that runs has lately given a sign of life; for the watchdog."""
        now = self._loop.time()
        return all(now - child.heard_at < _SILENT_S for child in self._children.values() if child.serves)

    # Inside: start.

    async def _start(self) -> None:
        # One process makes the tables; those that open them all at once would find them locked.
        tables = self._data_dir / "tables.db"
        QueueState(tables).close()
        Credentials(tables).close()
        SuppressionTable(self._data_dir).close()
        for number in range(self.settings.node.workers):
            spools.take_over(self._data_dir, number)
        for number in self._left:
            log.info("spool %d has no worker of its own any more; one that takes nothing new empties it", number)
        await self._open_new(self.settings)
        await _all(self._start_one(child) for child in self._children.values())
        await self._pages.open(_only(self.settings, "http"), _rows(self.settings, "http"))
        await self._admin.start()
        chores = [self._keep(child) for child in self._children.values()]
        chores += [self._keep_asking(child) for child in self._children.values()]
        chores += [self._keep_forgetting(), self._keep_draining(), self._keep_sampling()]
        self._chores = [self._loop.create_task(chore) for chore in chores]

    async def _start_one(self, child: Child) -> None:
        try:
            books = await child.start(
                self._for(child, self.settings),
                self._for_listening(child, self._sockets),
                lambda: self._turnstile.watched,
            )
        except EngineError as exc:
            raise EngineError(f"worker {child.number}: {exc}") from exc
        except OSError as exc:
            raise EngineError(f"worker {child.number}: cannot start a process: {exc.strerror}") from exc
        unread = self._books.begin(child.number, books)
        if unread is not None:
            try:
                unread.into.update(await asyncio.to_thread(unread.count))
            except EngineError as exc:
                log.error("worker %d: what it did at last is not in the books: %s", child.number, exc)

    def _for(self, child: Child, settings: Settings) -> Settings:
        """The settings of one worker: its part of limits, no pages, and no listeners where it only drains."""
        sms = not child.number and not child.drains  # one of them does it, so that there is one window of each carrier
        rows = () if child.drains else _rows(settings, *_TAKING) if sms else _rows(settings, *_MAIL)
        carrier, account = (settings.carrier, settings.account) if sms else ((), ())
        return msgspec.structs.replace(part_of(settings), listener=rows, carrier=carrier, account=account)

    def _make_http(self, row: Listener, reuse_port: bool = False) -> MetricsServer:
        return MetricsServer(
            row, self._registry, healthy=lambda: all(c.serves for c in self._children.values()), reuse_port=reuse_port
        )

    # Inside: sockets.

    def _for_listening(self, child: Child, addresses: Iterable[str]) -> shared.Sockets:
        """The sockets at these addresses, for a worker that listens."""
        return {} if child.drains else {address: self._sockets[address] for address in addresses}

    async def _open_new(self, settings: Settings) -> list[str]:
        """Bind what these settings listen on and nobody has yet; the addresses. Raises NetworkError, and none is."""
        staying = {row.address for row in _rows(settings, *_TAKING)}
        wanted = [row.address for row in _rows(settings, *_TAKING) if row.address not in self._sockets]
        # Where the pages were and mail is to be, they go first; whoever fails to reload puts them back.
        await self._pages.close([door for door in self._pages.doors if door[0] in wanted])
        opened: list[str] = []
        try:
            for address in wanted:
                leaving = [old for old in self._sockets if old not in staying and overlap(old, address)]
                taken = [sock.fileno() for old in leaving for sock in self._sockets[old]]
                self._sockets[address] = shared.bind(address, taken)
                opened.append(address)
        except EngineError:
            self._close_sockets(opened)
            await self._pages.follow(_only(self.settings, "http"))
            raise
        return opened

    def _close_sockets(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            shared.close(self._sockets.pop(address))

    # Inside: reload.

    async def _reload_workers(self, settings: Settings, opened: list[str]) -> None:
        done: list[Child] = []
        for child in [child for child in self._children.values() if child.serves]:
            try:
                await child.reload(self._for(child, settings), self._for_listening(child, opened))
                done.append(child)
            except NetworkError as exc:
                if child.serves:
                    await self._take_back(done)
                    raise
                log.warning("worker %d: %s; it is started again with the new settings", child.number, exc)
            except EngineError:
                await self._take_back(done)
                raise

    async def _take_back(self, done: Iterable[Child]) -> None:
        """Another worker could not use the new settings: these have the old ones again."""
        for child in done:
            try:
                await child.reload(self._for(child, self.settings), self._for_listening(child, self._sockets))
            except EngineError as exc:
                log.error("worker %d cannot go back to its old settings: %s; it is started again", child.number, exc)
                child.kill()

    # Inside: keeping workers.

    async def _keep(self, child: Child) -> None:
        """Start a worker again whenever it has ended, until it has drained its spool."""
        pause, began = 0.0, self._loop.time()
        while True:
            status = await child.ended()
            self._holdings.lost(child.number, time.monotonic())
            self._tell_orders()
            self._turnstile.lost(child.number)
            self._sums.retire(child.number)
            if child.number not in self._children:
                return
            lived = self._loop.time() - began
            pause = 0.0 if lived >= _STEADY_S else min(2 * pause or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
            log.error("worker %d has ended (%s); it is started again in %.0f s", child.number, _reason(status), pause)
            await asyncio.sleep(pause)
            async with self._moving:
                began = self._loop.time()
                try:
                    await self._start_one(child)
                    log.info("worker %d serves again", child.number)
                except EngineError as exc:
                    log.error("%s", exc)
                    child.kill()

    async def _keep_asking(self, child: Child) -> None:
        """Signs of life; a worker that gives none for too long is ended."""
        while child.number in self._children:
            await asyncio.sleep(_BEAT_S)
            if not child.serves:
                continue
            try:
                async with asyncio.timeout(_SILENT_S):
                    self._books.report(child.number, await child.beat())
            except TimeoutError:
                log.error("worker %d has not answered for %.0f s and is ended", child.number, _SILENT_S)
                child.kill()
            except EngineError:
                continue  # `_keep` sees its end

    async def _keep_draining(self) -> None:
        """Workers that only empty a spool end when it is empty."""
        took = 0.0
        while any(child.drains for child in self._children.values()):
            await asyncio.sleep(max(_DRAIN_LOOK_S, took / _DRAIN_LOOKS))
            began = self._loop.time()
            for child in [child for child in self._children.values() if child.drains and child.serves]:
                try:
                    (row,) = await ask_worker(self._data_dir, child.number, "status")
                    if row["deliveries"] == 0 and not row["loading"]:
                        await self._retire(child, row)
                except EngineError as exc:
                    log.warning("spool %d: %s", child.number, exc)
            took = self._loop.time() - began

    async def _retire(self, child: Child, books: dict[str, Any]) -> None:
        """books: its last; nothing comes to it, so they stay what they are."""
        async with self._moving:
            del self._children[child.number]
            self._books.retire(child.number, books)
            await child.stop()
            spools.mark_drained(self._data_dir, child.number)
            log.info("spool %d is empty; its worker has stopped", child.number)

    async def _keep_sampling(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_S)
            self._sums.note(await self._samples())

    async def _keep_forgetting(self) -> None:
        while True:
            await asyncio.sleep(_FORGET_S)
            self._holdings.forget(time.monotonic())

    async def _stop_one(self, child: Child) -> None:
        with contextlib.suppress(NetworkError):
            await child.stop()
        await child.ended()

    # Inside: what workers share.

    def _take_note(self, worker: int, kind: str, what: Any) -> None:
        if kind == "shares":
            for row in what:
                self._holdings.report(worker, Report(*row))
            self._tell_orders()
        elif kind == "left":
            self._turnstile.left(worker, what)
        else:  # what one has learned, the others may know
            for number, child in self._children.items():
                if number != worker:
                    child.tell(kind, what)

    async def _answer(self, worker: int, kind: str, what: Any) -> Any:
        if kind != "enter":
            raise EngineError(f"nobody can {kind} for a worker")
        return await self._turnstile.may_enter(worker, *what)

    def _tell_of_clients(self, what: str, key: str) -> Mapping[int, Awaitable[int]]:
        return {number: child.watch(what, key) for number, child in self._children.items() if child.hears}

    def _tell_orders(self) -> None:
        for number, orders in self._holdings.orders().items():
            if number in self._children:
                self._children[number].tell("shares", orders)

    def _fetch(self) -> dict[int, list[Family]]:
        """In a thread of the HTTP listener."""
        return asyncio.run_coroutine_threadsafe(self._samples(), self._loop).result(_SCRAPE_S)

    async def _samples(self) -> dict[int, list[Family]]:
        running = [child for child in self._children.values() if child.serves]
        answers = await asyncio.gather(*(child.samples() for child in running), return_exceptions=True)
        return {
            child.number: answer
            for child, answer in zip(running, answers, strict=True)
            if not isinstance(answer, BaseException)
        }


async def _all(tasks: Iterable[Any]) -> None:
    """All at once; the first that fails, when all are done."""
    for answer in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


def _rows(settings: Settings, *kinds: str) -> tuple[Listener, ...]:
    return tuple(row for row in settings.listener if row.kind in kinds)


def _only(settings: Settings, kind: str, but: Container[str] = ()) -> Settings:
    """These settings with the listeners of one kind, but for those at some addresses."""
    rows = tuple(row for row in _rows(settings, kind) if row.address not in but)
    return msgspec.structs.replace(settings, listener=rows)


def _none(row: Listener, settings: Settings) -> SessionListener:
    raise AssertionError("a supervisor takes no messages")


def _reason(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
