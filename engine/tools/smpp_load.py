"""A load generator over SMPP: some sessions, a task for each, none for a PDU.

A submit without an answer, because the connection was lost, is sent again, until it is answered or nothing has been
answered for `patience_s`.
"""

import asyncio
import random
import time
from typing import TextIO

from engine.tools.smpp_load_ledger import Ledger
from engine.tools.smpp_load_link import BindRefused, LoadLink
from engine.tools.smpp_load_message import SubmitMaker
from engine.tools.smpp_load_options import SmppLoadOptions
from engine.tools.smpp_load_report import SmppLoadReport

_CONNECT_S = 10.0
_RECONNECT_S = (0.02, 0.2)  #: pause before a new connection: first, at most
_LEAVE_S = 1.0
_TICK_S = 0.001  #: no timer is finer
_WATCH_S = 0.1


class SmppLoad:
    """One run. Raises UsageError: what cannot be sent."""

    def __init__(self, options: SmppLoadOptions, accepted: TextIO | None = None) -> None:
        self.options = options
        self.maker = SubmitMaker(options)
        self._accepted = accepted
        self._sessions: set[SmppLoadSession] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.TimerHandle | None = None

    async def run(self) -> SmppLoadReport:
        """Send everything, and wait for receipts if that is asked for. Raises BindRefused."""
        self._loop = asyncio.get_running_loop()
        self.ledger = Ledger(self.options, self.maker, time.monotonic(), self._accepted)
        self._done = asyncio.Event()
        self._refused = ""
        self._watch()
        works = [self._loop.create_task(self._work(random.Random(n))) for n in range(self.options.sessions)]  # noqa: S311
        for work in works:
            work.add_done_callback(lambda _: self._done.set())  # a fault of ours ends the run
        try:
            await self._done.wait()
            for session in list(self._sessions):
                session.link.unbind()
                session.flush()
            await asyncio.wait(works, timeout=_LEAVE_S)
        finally:
            for handle in (self._timer, self._watcher):
                if handle is not None:
                    handle.cancel()
            for work in works:
                work.cancel()
            await asyncio.wait(works)
        for work in works:
            if not work.cancelled():
                work.result()
        if self._refused:
            raise BindRefused(self._refused)
        return self.ledger.close()

    # ---- what the sessions call

    def progress(self) -> None:
        """Something came: see whether that was all, and when there will be something to send."""
        ledger = self.ledger
        if ledger.all_answered and (ledger.all_received or not self.options.receipts_s):
            self._done.set()
        if self._timer is None and not self._done.is_set():
            due_at = min((session.link.due_at for session in self._sessions), default=None)
            if due_at is not None and due_at < time.monotonic() + self.options.patience_s:
                self._timer = self._loop.call_later(max(due_at - time.monotonic(), _TICK_S), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        for session in list(self._sessions):
            session.link.fill(now)
            session.flush()
        self.progress()

    def _watch(self) -> None:
        """One deadline for all: for the next answer, then for the last receipt."""
        ledger, options = self.ledger, self.options
        patience_s = options.receipts_s if ledger.all_answered else options.patience_s
        left = ledger.answered_at + patience_s - time.monotonic()
        if left <= 0:
            self._done.set()
        else:
            self._watcher = self._loop.call_later(min(left, _WATCH_S), self._watch)

    # ---- sessions

    async def _work(self, chance: random.Random) -> None:
        """One connection after another until all is done."""
        pause = _RECONNECT_S[0]
        while not self._done.is_set():
            answered = self.ledger.answered_at
            try:
                link = await self._session()
                in_flight, why = list(link.in_flight.values()), link.ended
                if link.hopeless:
                    self._refused = why
                    self._done.set()
            except (OSError, TimeoutError) as error:
                in_flight, why = [], str(error) or "connecting took too long"
            if self._done.is_set():
                return
            self.ledger.lost(in_flight, why)
            self._tick_soon()
            if self.ledger.answered_at > answered:
                pause = _RECONNECT_S[0]
            await asyncio.sleep(pause * (0.5 + chance.random()))
            pause = min(2 * pause, _RECONNECT_S[1])

    def _tick_soon(self) -> None:
        """Other sessions may send what this one has lost."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_TICK_S, self._tick)

    async def _session(self) -> LoadLink:
        """One connection to its end. Raises OSError or TimeoutError."""
        async with asyncio.timeout(_CONNECT_S):
            _, session = await self._loop.create_connection(
                lambda: SmppLoadSession(self), self.options.host, self.options.port, ssl=self.options.tls
            )
        self._sessions.add(session)
        try:
            await session.closed
        finally:
            self._sessions.discard(session)
            session.abort()
        return session.link


class SmppLoadSession(asyncio.Protocol):
    """One connection: bytes to the link and back."""

    def __init__(self, load: SmppLoad) -> None:
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.link = LoadLink(load.options, load.maker, load.ledger)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's TCP transport is no asyncio.Transport
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.link.end(f"connection lost: {exc}" if exc else "connection closed by the server")
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.link.receive(data, time.monotonic())
        self.flush()
        self._load.progress()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def flush(self) -> None:
        """Send what the link has to say."""
        if self._transport is None or self._transport.is_closing():
            return
        if self.link.out:
            self._transport.write(b"".join(self.link.out))
            self.link.out.clear()
        if self.link.ended:
            self._transport.close()
