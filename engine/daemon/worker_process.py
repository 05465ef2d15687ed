"""The process of one worker among several, started by a supervisor: `python -m engine.daemon.worker_process`.

Everything it does is asked for over the channel (child.py is the other end): start, reload, stop, samples. What the
node must know it says there: shares, clients, what it learned that others may know. Signals that reach the whole group
of processes are the supervisor's affair; SIGKILL is what ends a worker from outside.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from typing import Any

import uvloop

from engine.admin.door import worker_socket_name
from engine.base.clock import SystemClock
from engine.base.errors import EngineError
from engine.base.log import LineLog, setup
from engine.base.settings import Settings
from engine.daemon import sockets as shared
from engine.daemon.channel import Channel, unpack_settings
from engine.daemon.commons import Commons
from engine.daemon.process import tune
from engine.daemon.worker import Worker
from engine.intake.clients import Clients
from engine.intake.guesses import Guesses
from engine.queue.holdings import Order
from engine.queue.shares import SharedBudget

log = logging.getLogger(__name__)

#: How often the budget looks for shares it has no use for.
_BEAT_S = 1.0
_LIFELINE = 0  #: standard input


class WorkerProcess:
    """A worker and its end of the channel."""

    def __init__(self, channel: socket.socket, pair: socket.socket) -> None:
        self._socket = channel
        self._pair = pair
        self._sockets = shared.HeldSockets()
        self._ended = asyncio.Event()
        self._worker: Worker | None = None
        self._budget: SharedBudget | None = None
        self._clients = Clients()
        self._guesses: Guesses | None = None
        self._books: dict[str, Any] = {}  #: as they were at the start
        self._channel = Channel(self._answer, self._note)
        self._lines: LineLog | None = None
        self._beating: asyncio.Task[None] | None = None

    async def run(self) -> None:
        await self._channel.open(self._socket)
        await self._ended.wait()
        self._channel.close()
        await asyncio.sleep(0)  # the last answer leaves
        if self._lines is not None:
            self._lines.close()

    async def _answer(self, kind: str, what: Any) -> Any:
        match kind:
            case "start":
                await self._start(**what)
                return self._books
            case "reload":
                await self._reload(**what)
            case "stop":
                await self._stop()
            case "watch":
                return self._clients.watch(what)
            case "unwatch":
                self._clients.unwatch(what)
            case "samples":
                return self._running.samples()
            case "beat":
                return self._running.books()
            case _:
                raise EngineError(f"a worker cannot {kind}")
        return None

    def _note(self, kind: str, what: Any) -> None:
        if self._worker is None or self._budget is None or self._guesses is None:
            return
        match kind:
            case "shares":
                self._budget.obey(Order(*row) for row in what)
            case "guess":
                self._guesses.count(*what)
            case "site":
                self._worker.hear_of_site(*what)

    # What clients ask the node (intake/clients.py).

    async def may_enter(self, key: str, limit: int) -> bool:
        answer: bool = await self._channel.ask("enter", [key, limit])
        return answer

    def left(self, key: str) -> None:
        self._channel.tell("left", key)

    @property
    def _running(self) -> Worker:
        if self._worker is None:
            raise EngineError("the worker is not running")
        return self._worker

    async def _start(self, number: int, watched: list[str], settings: bytes, sockets: int) -> None:
        try:
            unpacked = unpack_settings(settings)
            self._clients = Clients(unpacked.node.workers, self)
            for key in watched:
                self._clients.watch(key)
            await self._begin(number, unpacked, shared.receive(self._pair, sockets))
        except BaseException:
            self._ended.set()
            raise

    async def _begin(self, number: int, settings: Settings, sockets: shared.Sockets) -> None:
        self._lines = LineLog(setup(settings.log.level))
        loop = asyncio.get_running_loop()
        self._sockets.add(sockets)
        clock, tell = SystemClock(), self._channel.tell
        budget = self._budget = SharedBudget(
            settings.delivery.max_connections, lambda: loop.call_soon(self._report), clock.monotonic
        )
        guesses = self._guesses = Guesses(clock, lambda *failed: tell("guess", failed))
        self._worker = worker = Worker(
            settings,
            self._lines.add,
            number,
            commons=Commons(
                budget=budget,
                clients=self._clients,
                guesses=guesses,
                tell_site=lambda *said: tell("site", said),
            ),
            sockets=self._sockets,
            door=worker_socket_name(number),
        )
        self._books = worker.books()
        await worker.start()
        self._beating = loop.create_task(self._beat(budget))

    async def _reload(self, settings: bytes, sockets: int) -> None:
        received = shared.receive(self._pair, sockets)
        self._sockets.add(received)
        try:
            await self._running.reload(unpack_settings(settings))
        except EngineError:
            self._sockets.drop(received)
            raise

    async def _stop(self) -> None:
        await self._running.stop()
        if self._beating is not None:
            self._beating.cancel()
        self._ended.set()

    def _report(self) -> None:
        if self._budget is not None and (rows := self._budget.report()):
            self._channel.tell("shares", rows)

    async def _beat(self, budget: SharedBudget) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            budget.beat()


def _die_with_supervisor() -> None:
    """The pipe ends when the supervisor does. There is nobody left to stop for; what was accepted is on disk."""
    while os.read(_LIFELINE, 1):
        pass
    os._exit(1)


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with_supervisor, name="lifeline", daemon=True).start()
    channel, pair = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    tune()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(WorkerProcess(channel, pair).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
