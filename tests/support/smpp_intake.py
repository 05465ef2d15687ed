"""An SmppListener on loopback before a real spool, and a client that is a Session of ours on a real socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from engine.base.metrics import Metrics
from engine.base.settings import Account, Carrier, Listener, Settings, SpoolSettings
from engine.base.settings import Sms as SmsSettings
from engine.intake.hooks import Verifier
from engine.intake.smpp_binds import Binds
from engine.intake.smpp_connection import Orders
from engine.intake.smpp_listener import SmppListener
from engine.intake.sms_admission import SmsAdmission
from engine.message.ids import IdSource
from engine.message.sms import Sms, decode_sms
from engine.net.outbox import Outbox
from engine.net.smpp_wire import Wire
from engine.protocol.smpp_events import Answered, Closed, Event, Received, Unanswered
from engine.protocol.smpp_pdu import BindTransceiver, Pdu, SubmitSm
from engine.protocol.smpp_session import Session
from engine.protocol.smpp_states import BOUND, Role, Timers
from engine.storage.events.journal import EventJournal
from engine.storage.spool.entry import Delivery
from engine.storage.spool.files import DiskFiles
from engine.storage.spool.spool import Spool
from engine.storage.tables.sms_quota import SmsQuota
from engine.tools.certificate import trusting_context
from tests.support.clock import FakeClock
from tests.support.intake import LOOPS
from tests.support.unwanted import Unwanted

GUARD_S = 20.0
CARRIERS = (
    Carrier(name="uk", host="127.0.0.1", system_id="x", prefixes=("44",)),
    Carrier(name="world", host="127.0.0.1", system_id="x", prefixes=("7", "1"), max_parts=3),
)
ACCOUNT = Account(system_id="app", password="secret")


class NoOrders:
    """For stories without any."""

    async def carry_out(self, pdu: object, account: Account) -> Pdu:
        raise AssertionError(pdu)


class Routes:
    """By prefix, as the rows say; no price, no health."""

    def __init__(self, rows: Sequence[Carrier]) -> None:
        self.rows = rows

    def carriers(self, number: str, sender: str, message_class: int) -> Sequence[str]:
        return [row.name for row in self.rows if number[1:].startswith(row.prefixes)]


def normalise(text: str, ton: int, npi: int) -> str:
    digits = text.removeprefix("+")
    if not digits.isdigit() or not 8 <= len(digits) <= 15:
        raise ValueError("not a number")
    return f"+{digits}"


class Client:
    """One bind of an application. unasked: what the server asked, in order; unbind is answered by the session."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.unasked: list[Pdu] = []
        self.over: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        wire.handle = self._happened

    def _happened(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Answered | Unanswered):
                waiter = event.request.context
                assert isinstance(waiter, asyncio.Future)
                if not waiter.done():
                    waiter.set_result(event.response if isinstance(event, Answered) else None)
            elif isinstance(event, Received):
                self.unasked.append(event.pdu)
            elif isinstance(event, Closed):
                self.over.set_result(event)

    def ask_soon(self, pdu: Pdu) -> "asyncio.Future[Any]":
        """Send it; the answer, None if there is none."""
        answer = asyncio.get_running_loop().create_future()
        self.wire.request(pdu, answer)
        return answer

    async def ask(self, pdu: Pdu) -> Any:
        async with asyncio.timeout(GUARD_S):
            return await self.ask_soon(pdu)

    async def bind(
        self, system_id: str = "app", password: str = "secret", kind: type = BindTransceiver, **how: Any
    ) -> Any:
        return await self.ask(kind(system_id=system_id.encode(), password=password.encode(), **how))

    async def submit(self, text: bytes = b"hello", to: bytes = b"447700900123", **more: Any) -> Any:
        return await self.ask(sm(text, to, **more))

    async def ended(self) -> Closed:
        async with asyncio.timeout(GUARD_S):
            return await self.over

    @property
    def bound(self) -> bool:
        return self.wire.session.state in BOUND


async def bound(port: int, **how: Any) -> Client:
    """A client of a daemon, bound. how: as of `Client.bind`."""
    loop = asyncio.get_running_loop()
    client = Client(Wire(Session(Role.ESME, Timers(), loop.time()), lambda events: None, Outbox(loop)))
    await loop.create_connection(lambda: client.wire, "127.0.0.1", port)
    response = await client.bind(**how)
    assert response.command_status == 0, response
    return client


def sm(text: bytes = b"hello", to: bytes = b"447700900123", **more: Any) -> SubmitSm:
    fields: dict[str, Any] = {"short_message": text, "destination_addr": to, "dest_addr_ton": 1, "source_addr": b"Acme"}
    return SubmitSm(**fields | more)


class Intake:
    """A listener at work. accepted: what the spool has told the queue, in order. hold: a file that does not sync."""

    def __init__(self, path: Path, files: DiskFiles | None, settings: Settings, **how: Any) -> None:
        self.path = path
        self.settings = settings
        self.metrics = Metrics()
        self.clock = FakeClock(1_700_000_000.0)
        self.lines: list[str] = []
        self.accepted: list[Delivery] = []
        self.told: list[str] = []
        loop = asyncio.get_running_loop()
        self.outbox = Outbox(loop)
        self.events = EventJournal(path / "events", 1 << 20, 86400)
        (path / "spool").mkdir(exist_ok=True)
        limits = SpoolSettings(min_free=0.0, memory_guard=1.0)
        self.spool = Spool(path / "spool" / "0", limits, self.events, self.metrics, owner="test/0", files=files)
        self.spool.accepted = self.accepted.extend
        self.spool.start()
        self.quota = SmsQuota(path / "tables.db")
        self.suppressed = Unwanted()
        ids = IdSource("test", 0, self.clock, self.spool.last_id)
        self.admission = SmsAdmission(
            self.spool, ids, self.clock, self.metrics, settings, self.lines.append, Routes(settings.carrier), normalise,
            self.quota, self.suppressed,
        )  # fmt: skip
        self.binds = Binds(
            settings, self.metrics, lambda who: self.told.append(f"+{who}"), lambda who: self.told.append(f"-{who}")
        )
        self.orders: Orders = how.get("orders") or NoOrders()
        self.credentials: Verifier | None = how.get("credentials")
        self.listener = SmppListener(
            settings.listener[0], settings, self.admission, self.orders, self.binds, self.credentials, self.metrics,
            self.clock, self.outbox, auth_delay_s=0.0,
        )  # fmt: skip

    async def connect(self, tls: bool = False, window: int = 1000) -> Client:
        loop = asyncio.get_running_loop()
        wire = Wire(Session(Role.ESME, Timers(), loop.time(), window=window), lambda events: None, self.outbox)
        client = Client(wire)
        host, port = self.listener.address
        await loop.create_connection(lambda: wire, host, port, ssl=trusting_context() if tls else None)
        return client

    @contextlib.asynccontextmanager
    async def client(self, tls: bool = False, window: int = 1000) -> AsyncIterator[Client]:
        """One that is not bound yet."""
        client = await self.connect(tls, window)
        try:
            yield client
        finally:
            client.wire.abort()

    @contextlib.asynccontextmanager
    async def bound(self, **how: Any) -> AsyncIterator[Client]:
        async with self.client() as client:
            response = await client.bind(**how)
            assert response.command_status == 0, response
            yield client

    def stored(self) -> list[tuple[str, list[str], Sms]]:
        """Destination, numbers and content of each delivery."""
        found = []
        for delivery in self.accepted:
            assert delivery.message.hot is not None
            envelope, content = delivery.message.hot
            assert isinstance(content, bytes)
            numbers = [envelope.recipients[index].address for index in delivery.indexes]
            found.append((delivery.destination, numbers, decode_sms(content)))
        return found

    def rejected(self, reason: str) -> float:
        return self.metrics.rejected.labels(reason).value

    async def close(self) -> None:
        await self.listener.close()
        await self.listener.drain(asyncio.get_running_loop().time())
        await self.spool.close()
        self.events.close()
        self.quota.close()


@contextlib.asynccontextmanager
async def taking(
    path: Path,
    *accounts: Account,
    carriers: Sequence[Carrier] = CARRIERS,
    sms: SmsSettings | None = None,
    files: DiskFiles | None = None,
    credentials: Verifier | None = None,
    orders: Orders | None = None,
    tables: dict[str, Any] | None = None,
    **listener: Any,
) -> AsyncIterator[Intake]:
    row = Listener(**{"kind": "smpp", "address": "127.0.0.1:0"} | listener)
    settings = Settings(
        listener=(row,), account=accounts or (ACCOUNT,), carrier=tuple(carriers), sms=sms or SmsSettings(),
        **tables or {},
    )  # fmt: skip
    intake = Intake(path, files, settings, credentials=credentials, orders=orders)
    await intake.listener.start()
    try:
        yield intake
    finally:
        await intake.close()


async def until(done: Callable[[], Any]) -> None:
    async with asyncio.timeout(GUARD_S):
        while not done():  # noqa: ASYNC110  # it looks at whatever the test says
            await asyncio.sleep(0.002)


def play(story: Callable[[], Awaitable[None]], loop: str = "asyncio") -> None:
    """Run it; what the loop complains about fails the test."""

    async def watched() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(2 * GUARD_S):
            await story()
        assert complaints == []

    LOOPS[loop](watched())
