"""Calls to applications for which something waits: connect, say outbind, serve who binds there (SMPP 3.4 2.2.1).

An account that has an `outbind` address is called when a receipt or an answer is ready for it and no bind of its
receives; with growing pauses, until one does, from either side, or nothing waits any more. One that binds and goes at
once is called no faster. On the connection it is as on a listener's, but only the account that was called may bind.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable

from engine.base.clock import Clock
from engine.base.hostport import parse_host_port
from engine.base.metrics import Metrics
from engine.base.settings import Account as Row
from engine.base.settings import Settings
from engine.intake.guesses import Guesses
from engine.intake.hooks import Verifier
from engine.intake.policy import Address
from engine.intake.smpp import SmppServer
from engine.intake.smpp_binds import Binds
from engine.intake.smpp_connection import SYSTEM_ID, Orders, SmppConnection
from engine.intake.smpp_gate import SmppGate
from engine.intake.sms_admission import SmsAdmission
from engine.net.outbox import Outbox
from engine.net.stream import TlsContexts
from engine.protocol.smpp_fields import InvalidField
from engine.protocol.smpp_pdu import Outbind

_log = logging.getLogger(__name__)
#: Seconds between two calls, doubled each time up to the second.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 900.0
#: How long a peer may take to agree to our unbind.
_UNBIND_S = 5.0


class _Call:
    """Of one account. changed: whether to go on calling is to be looked at."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.going_on = False
        self._pause_s = self._begun_at = 0.0

    def left(self, now: float) -> float:
        """Seconds until it may be called again."""
        return self._begun_at + self._pause_s - now

    def begin(self, now: float) -> None:
        longer = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        self._begun_at = now
        self._pause_s = longer * random.uniform(0.8, 1.0)  # noqa: S311  # spreads calls; no secret

    def forget(self, now: float) -> None:
        """The next pause is the first again, if the last call was long ago: it was not in vain."""
        if now - self._begun_at > 2 * self._pause_s:
            self._pause_s = 0.0


class Outbinds(SmppGate):
    """See above."""

    tls: ssl.SSLContext | None = None  #: it has begun before the first byte of SMPP

    def __init__(
        self,
        settings: Settings,
        admission: SmsAdmission,
        orders: Orders,
        binds: Binds,
        credentials: Verifier | None,
        metrics: Metrics,
        clock: Clock,
        outbox: Outbox,
        contexts: TlsContexts,
        waits: Callable[[str], bool],
        reopen: Callable[[str], None],
        auth_delay_s: float = 1.0,
    ) -> None:
        """waits: whether something is queued for an account. reopen: have what is queued for it looked at now."""
        super().__init__(
            settings, admission, orders, binds, credentials, metrics, clock, outbox, Guesses(clock), auth_delay_s
        )
        self.draining = False
        self._contexts = contexts
        self._waits = waits
        self._reopen = reopen
        self._calls: dict[str, _Call] = {}
        self._connections: set[SmppConnection] = set()

    def start(self) -> None:
        """Call those for which something is ready: their queues may have been closed for long before."""
        for row in self.settings.account:
            if row.outbind and not self.binds.receivers(row.system_id):
                self._reopen(row.system_id)

    def reload(self, settings: Settings) -> None:
        """Use other settings. `binds` and `admission` are reloaded by whoever made them."""
        self.settings = settings
        for call in self._calls.values():
            call.changed.set()
        self.start()

    def call(self, system_id: str) -> None:
        """Something is ready for it, and none of its binds receives."""
        call = self._calls.setdefault(system_id, _Call())
        if not call.going_on and self._to_call(system_id) is not None:
            call.going_on = True
            call.forget(asyncio.get_running_loop().time())
            self.spawn(self._keep_calling(system_id, call))

    def bound(self, system_id: str) -> None:
        """It has a bind that receives, wherever it came from."""
        if system_id in self._calls:
            self._calls[system_id].changed.set()

    async def stop(self) -> None:
        """Call nobody more, and unbind."""
        self.draining = True
        for call in self._calls.values():
            call.changed.set()
        for connection in list(self._connections):
            connection.shut_down()
        if self._connections:
            await asyncio.wait([connection.over for connection in self._connections], timeout=_UNBIND_S)
        for connection in list(self._connections):
            connection.abort()
        await self.end_tasks()

    # ---- inside

    def _to_call(self, system_id: str) -> Row | None:
        """None: it is not to be called, or not any more."""
        account = self.binds.account(system_id)
        if self.draining or account is None or not account.row.outbind or self.binds.receivers(system_id):
            return None
        return account.row if self._waits(system_id) else None

    async def _keep_calling(self, system_id: str, call: _Call) -> None:
        loop = asyncio.get_running_loop()
        try:
            while (row := self._to_call(system_id)) is not None:
                call.changed.clear()
                wait = call.left(loop.time())
                if wait <= 0:
                    call.begin(loop.time())
                    await self._connect(row, call)
                    continue
                timer = loop.call_later(wait, call.changed.set)
                await call.changed.wait()
                timer.cancel()
        except Exception:  # top of a task
            self.metrics.internal_errors.labels("smpp").inc()
            _log.exception("account %s: outbind", system_id)
        finally:
            call.going_on = False
        if not self._waits(system_id):
            self._reopen(system_id)  # what comes next is not to wait until a closed queue is looked at

    async def _connect(self, row: Row, call: _Call) -> None:
        """One call: until its connection is over, or the account has a bind that receives."""
        loop, (host, port) = asyncio.get_running_loop(), parse_host_port(row.outbind)
        level = row.outbind_tls
        tls = None if level == "none" else self._contexts.for_level("verify" if level == "verify" else "encrypt")
        connection = SmppServer(self, row.system_id)
        try:
            async with asyncio.timeout(self.settings.sms.bind_timeout):
                await loop.create_connection(
                    lambda: connection.protocol, host, port, ssl=tls, server_hostname=host if tls else None
                )
            connection.request(Outbind(system_id=SYSTEM_ID, password=row.outbind_password.encode()))
        except (OSError, TimeoutError, InvalidField) as exc:
            _log.warning("account %s: outbind to %s: %s", row.system_id, row.outbind, exc or "took too long")
            return
        _log.info("account %s: outbind to %s", row.system_id, row.outbind)
        while connection in self._connections and not self.binds.receivers(row.system_id):
            call.changed.clear()
            await call.changed.wait()

    # ---- what connections ask (Gate)

    def may_come_from(self, address: Address | None) -> bool:
        return True

    def speaks_proxy(self, peer: Address) -> bool:
        return False

    def enter(self, connection: SmppConnection, descriptor: int, address: Address, counted: bool) -> bool:
        if not self.draining:
            self._connections.add(connection)
        return not self.draining

    async def count(self, connection: SmppConnection, address: Address) -> bool:
        return True

    def leave(self, connection: SmppConnection) -> None:
        self._connections.discard(connection)
        if connection.called in self._calls:
            self._calls[connection.called].changed.set()
