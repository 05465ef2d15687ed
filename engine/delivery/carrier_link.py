"""One bind of a carrier: connected, bound, kept alive, and connected again when it is lost, with growing pauses.

A link that can send serves one agent at a time (carriers.py). Whatever the carrier brings over it is handed on.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final, Literal

from engine.base.errors import ConfigError
from engine.base.settings import Carrier
from engine.delivery.sms_pace import Pace, Pause
from engine.delivery.sms_ports import Incoming
from engine.net.outbox import Outbox
from engine.net.smpp_wire import NO_LIMIT, Wire
from engine.net.stream import TlsContexts
from engine.protocol.smpp_events import ENDINGS, Answered, Closed, Event, LateAnswer, Received, Unanswered
from engine.protocol.smpp_fields import InvalidField
from engine.protocol.smpp_lengths import mended
from engine.protocol.smpp_pdu import (
    BindReceiver,
    BindTransceiver,
    BindTransmitter,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    Pdu,
    SubmitSm,
    Unbind,
)
from engine.protocol.smpp_session import Session
from engine.protocol.smpp_states import BOUND, Role, State, Timers
from engine.protocol.smpp_tables import STATUSES, status_name, status_text

log = logging.getLogger(__name__)

BindKind = Literal["transceiver", "transmitter", "receiver"]
_BINDS: Final = {"transceiver": BindTransceiver, "transmitter": BindTransmitter, "receiver": BindReceiver}
_VERSIONS: Final = {"3.3": 0x33, "3.4": 0x34, "5.0": 0x50}
#: Seconds before another try, doubled each time up to the second; and the same after a login that was refused.
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_FIRST_REFUSED_S: Final = 30.0
_LONGEST_REFUSED_S: Final = 900.0
#: Statuses of a bind_resp that say that system_id or password is wrong.
_LOGIN: Final = frozenset(STATUSES[name] for name in ("ESME_RINVPASWD", "ESME_RINVSYSID", "ESME_RBINDFAIL"))
#: A bind whose pauses have grown so long stalls: others are to have what waits for it.
STALLED_S: Final = 4.0
#: Receipts and messages from phones that are not safe on disk yet. More are not refused, which not every carrier would
#: understand: they are not read.
_MOST_OWED: Final = 1000
_MESSAGES: Final = (DeliverSm, DataSm)
#: How long a peer may take to agree to our unbind.
_UNBIND_S: Final = 5.0


class CarrierLink:
    """See above. changed: called when it is bound, and when it is no longer. pump: the agent's, called when there may
    be room for another submit, and when the link is lost.

    pace: of the carrier, over all its links; pause: of this one. reason: why it is not bound. attempts: to connect,
    since it was bound last.
    """

    def __init__(
        self,
        row: Carrier,
        kind: BindKind,
        password: str,
        pace: Pace,
        incoming: Incoming,
        outbox: Outbox,
        contexts: TlsContexts,
        changed: Callable[["CarrierLink"], None],
    ) -> None:
        self.row = row
        self.kind = kind
        self._password = password
        self.pace, self.pause = pace, Pause()
        self._incoming = incoming
        self._outbox = outbox
        self._contexts = contexts
        self._changed = changed
        self._wire: Wire | None = None
        self._over: asyncio.Future[None] | None = None  #: done when the connection is gone
        self._bind_status: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.pump: Callable[[], None] | None = None
        self.reason = "not connected yet"
        self.attempts = 0

    # ---- for agents

    @property
    def bound(self) -> bool:
        return self._wire is not None and self._wire.session.state in BOUND

    @property
    def stalled(self) -> bool:
        """It has taken nothing for a while; until it may be tried again, and while that is going on."""
        pause = self.pause
        if pause.seconds < STALLED_S:
            return False
        return self.unanswered > 0 or pause.left(asyncio.get_running_loop().time()) > -pause.seconds

    @property
    def sends(self) -> bool:
        """Submits may go over it: by its kind."""
        return self.kind != "receiver"

    @property
    def room(self) -> bool:
        """A submit may go over it now."""
        return self._wire is not None and self._wire.session.may_send(SubmitSm)

    @property
    def peer(self) -> str:
        """Where it is, or should be, connected to."""
        wire = self._wire
        return wire.peer if wire is not None and wire.peer else f"{self.row.host}:{self.row.port}"

    @property
    def unanswered(self) -> int:
        """Submits without an answer."""
        return self.row.window - self._wire.session.room if self._wire is not None else 0

    @property
    def remote(self) -> str:
        """As log lines and events name it."""
        return f"{self.row.name}[{self.peer}]"

    def request(self, pdu: Pdu, told: Callable[[Answered | Unanswered], None]) -> None:
        """Send it; `told` is called once, with the answer or that there is none. Raises InvalidField."""
        assert self._wire is not None
        self._wire.request(pdu, told)

    def abort(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    # ---- life

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def answer(self, transport: asyncio.Transport, gone: Callable[["CarrierLink"], None]) -> "CarrierLink":
        """Bind as receiver on a connection that the carrier has made and said outbind on: a link of its own, which ends
        with it. gone: called then.
        """
        link = CarrierLink(
            self.row, "receiver", self._password, self.pace, self._incoming, self._outbox, self._contexts,
            self._changed,
        )  # fmt: skip
        wire = link._new_wire()
        transport.set_protocol(wire.protocol)
        wire.connection_made(transport)
        link._task = asyncio.get_running_loop().create_task(link._serve(wire))
        link._task.add_done_callback(lambda _: gone(link))
        return link

    async def stop(self) -> None:
        """Unbind, or cut it off."""
        self._stopping = True
        wire, over = self._wire, self._over
        if wire is not None and over is not None:
            if wire.session.may_send(Unbind):
                wire.request(Unbind())
                await asyncio.wait([over], timeout=_UNBIND_S)
            wire.abort()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._connect()
            except asyncio.CancelledError:
                raise
            except Exception:  # top of a task: a link never gives up
                self.reason = "internal error, see the log"
                log.exception("carrier %s", self.row.name)
            if self._stopping:
                return
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Seconds; some more or less, so that many links do not come all at once."""
        refused = self._bind_status in _LOGIN
        first, longest = (_FIRST_REFUSED_S, _LONGEST_REFUSED_S) if refused else (_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self.attempts += 1
        return min(first * 2.0 ** min(self.attempts - 1, 16), longest) * random.uniform(0.8, 1.2)  # noqa: S311  # no secret

    async def _connect(self) -> None:
        """One connection, from its beginning to its end."""
        row, loop = self.row, asyncio.get_running_loop()
        wire = self._new_wire()
        tls = None if row.tls == "none" else self._contexts.for_level("verify" if row.tls == "verify" else "encrypt")
        try:
            async with asyncio.timeout(Timers().session_init):
                await loop.create_connection(
                    lambda: wire.protocol, row.host, row.port, ssl=tls, server_hostname=row.host if tls else None
                )
        except (OSError, TimeoutError) as exc:
            self.reason = f"connect to {row.host}:{row.port}: {exc or 'took too long'}"
            log.warning("carrier %s: %s", row.name, self.reason)
            return
        await self._serve(wire)

    def _new_wire(self) -> Wire:
        row, loop = self.row, asyncio.get_running_loop()
        self._over, self._bind_status = loop.create_future(), None
        timers = Timers(response=row.response_timeout, enquire_link=row.enquire_link)
        session = Session(Role.ESME, timers, loop.time(), window=row.window, peer_window=NO_LIMIT)
        wire = Wire(session, self._handle, self._outbox)
        wire.most_owed = _MOST_OWED
        return wire

    async def _serve(self, wire: Wire) -> None:
        """Bind, until the connection is over."""
        assert self._over is not None
        row, bind = self.row, _BINDS[self.kind]
        self._wire = wire
        try:
            wire.request(
                bind(
                    system_id=row.system_id.encode(), password=self._password.encode(),
                    system_type=row.system_type.encode(), interface_version=_VERSIONS[row.interface_version],
                )
            )  # fmt: skip
        except InvalidField as exc:
            raise ConfigError([f"carrier {row.name}: {exc}"]) from exc
        try:
            await self._over
        finally:
            self._wire = None

    # ---- what happens

    def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Received):
                self._received(event.pdu)
            elif isinstance(event, ENDINGS):
                told = event.request.context
                if callable(told):
                    told(event)
                elif isinstance(event, Answered) and isinstance(event.request.pdu, tuple(_BINDS.values())):
                    self._bind_answered(event)
            elif isinstance(event, LateAnswer):
                log.warning("carrier %s: a late answer %s", self.row.name, status_name(event.response.command_status))
            elif isinstance(event, Closed):
                self._closed(event)
        if self.pump is not None:
            self.pump()

    def _bind_answered(self, event: Answered) -> None:
        if event.accepted:
            self.attempts, self.reason = 0, ""
            self.pause.bound()
            log.info("carrier %s: bound as %s to %s", self.row.name, self.kind, self.remote)
            self._changed(self)
            return
        status = self._bind_status = event.response.command_status
        self.reason = f"bind refused: {status_name(status)} {status_text(status)}"
        level = logging.ERROR if status in _LOGIN else logging.WARNING
        log.log(level, "carrier %s: %s", self.row.name, self.reason)
        self.abort()

    def _received(self, pdu: Pdu) -> None:
        wire = self._wire
        if wire is None or not isinstance(pdu, _MESSAGES):
            return  # an alert_notification, or an outbind where we bind anyway
        response = DeliverSmResp if isinstance(pdu, DeliverSm) else DataSmResp

        def answer(status: int) -> None:
            wire.respond(pdu, response(command_status=status))

        if pdu.rest:
            log.warning(
                "carrier %s: a message with a wrong length in it, %d octets too many", self.row.name, len(pdu.rest)
            )
            self._incoming.arrived(self.row.name, mended(pdu), answer)
            return
        self._incoming.arrived(self.row.name, pdu, answer)

    def _closed(self, event: Closed) -> None:
        if self._wire is not None and self._wire.session.state is State.CLOSED and not self.reason:
            self.reason = f"{event.end.value}{': ' if event.text else ''}{event.text}"
            level = logging.INFO if self._stopping else logging.WARNING
            log.log(level, "carrier %s: %s is closed: %s", self.row.name, self.remote, self.reason)
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        self._wire = None
        self._changed(self)
