"""The listening sockets of a process: opened at start, brought in line with new settings, drained at the end.

A reload opens what is new before it touches anything else, so that an address that cannot be had refuses the whole
reload. A listener that stays keeps its socket and its connections; one that goes, or becomes something else at the
same address, ends its sessions as a stop does: idle ones at once, others after the reply to their message. One whose
host changes and whose port does not (127.0.0.1 to 0.0.0.0) is open before the old one is closed, too (net/port.py).
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from engine.base.settings import Listener, Settings
from engine.daemon.http import MetricsServer
from engine.daemon.sockets import HeldSockets
from engine.net import port

log = logging.getLogger(__name__)

#: What cannot change while a socket stays open: address, kind, TLS from the first byte.
_Door = tuple[str, str, bool]


class SessionListener(Protocol):
    """What takes messages in sessions: intake.listener.SmtpListener, intake.smpp_listener.SmppListener."""

    @property
    def filenos(self) -> list[int]: ...

    async def start(self, sockets: Sequence[socket.socket] = (), *, reuse_port: bool = False) -> None: ...

    def reload(self, listener: Listener, settings: Settings) -> None: ...

    async def close(self) -> None: ...

    async def drain(self, deadline: float) -> None: ...


class Listeners:
    """See above. All methods on the loop; each raises EngineError where it says so."""

    def __init__(
        self,
        make: Callable[[Listener, Settings], SessionListener],
        make_http: Callable[[Listener, bool], MetricsServer],
        drain_s: float,
        sockets: HeldSockets | None = None,
    ) -> None:
        """make: a listener of kind smtp or smpp. drain_s: how long sessions have to end. sockets: a supervisor's, for
        these."""
        self._make = make
        self._make_http = make_http
        self._drain_s = drain_s
        self._sockets = sockets
        self._taking: dict[_Door, SessionListener] = {}
        self._http: dict[_Door, tuple[Listener, MetricsServer]] = {}
        self._draining: set[asyncio.Task[None]] = set()

    @property
    def doors(self) -> list[_Door]:
        """What is open."""
        return [*self._taking, *self._http]

    async def open(self, settings: Settings, rows: Iterable[Listener], leaving: Iterable[_Door] = ()) -> None:
        """Open these; all or none. leaving: listeners whose ports these may take over. Raises EngineError."""
        opened: list[_Door] = []
        try:
            for row in rows:
                await self._open(row, settings, [door for door in leaving if port.overlap(door[0], row.address)])
                opened.append(_door(row))
        except BaseException:
            await self.close(opened)
            raise
        for row in rows:
            log.info("listening on %s (%s)", row.address, row.kind)

    async def open_new(self, settings: Settings) -> list[_Door]:
        """First part of a reload: open the addresses that are new; what was opened, for `close` if the rest fails."""
        doors = self.doors
        taken = {address for address, _, _ in doors}
        rows = [row for row in settings.listener if row.address not in taken]
        staying = {row.address for row in settings.listener}
        await self.open(settings, rows, [door for door in doors if door[0] not in staying])
        return [_door(row) for row in rows]

    async def follow(self, settings: Settings) -> None:
        """Second part of a reload: all listeners as these settings say. Raises EngineError; the others are done."""
        wanted = {_door(row): row for row in settings.listener}
        await self.close([door for door in self.doors if door not in wanted])
        for door, row in wanted.items():
            if door in self._taking:
                self._taking[door].reload(row, settings)
            elif door not in self._http:
                await self.open(settings, [row])
            elif row.tls is not None or row != self._http[door][0]:
                # Its few requests are short: opened again, with a fresh certificate.
                await self.close([door])
                await self.open(settings, [row])
        if self._sockets is not None:
            self._sockets.keep(row.address for row in settings.listener)

    async def close(self, doors: Iterable[_Door]) -> None:
        """Accept nobody there any more; sessions end in the background."""
        for door in doors:
            if door in self._http:
                await asyncio.to_thread(self._http.pop(door)[1].close)
            else:
                listener = self._taking.pop(door)
                await listener.close()
                task = asyncio.get_running_loop().create_task(listener.drain(self._deadline()))
                self._draining.add(task)
                task.add_done_callback(self._draining.discard)
            log.info("no longer listening on %s (%s)", *door[:2])

    async def shut(self) -> None:
        """Accept no more messages; /metrics stays until `end`."""
        if self._sockets is not None:
            self._sockets.keep(())
        for listener in self._taking.values():
            await listener.close()

    async def drain(self) -> None:
        """End all sessions."""
        deadline = self._deadline()
        await asyncio.gather(*self._draining, *(listener.drain(deadline) for listener in self._taking.values()))

    async def end(self) -> None:
        for _, server in self._http.values():
            await asyncio.to_thread(server.close)

    # Inside.

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._drain_s

    async def _open(self, row: Listener, settings: Settings, leaving: Iterable[_Door]) -> None:
        before = [fileno for door in leaving for fileno in self._filenos(door)]
        with port.shared(before):
            if row.kind == "http":
                server = self._make_http(row, bool(before))
                server.start()
                self._http[_door(row)] = row, server
            else:
                listener = self._make(row, settings)
                held = self._sockets.at(row.address) if self._sockets is not None else ()
                await listener.start(held, reuse_port=bool(before))
                self._taking[_door(row)] = listener

    def _filenos(self, door: _Door) -> list[int]:
        return self._taking[door].filenos if door in self._taking else [self._http[door][1].fileno]


def _door(row: Listener) -> _Door:
    return row.address, row.kind, row.tls is not None and row.tls.implicit
