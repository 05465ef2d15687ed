"""Outbind of carriers: one connects to our listener and asks us to bind there; one says it where we bind anyway."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.base.settings import Carrier, Intake
from engine.delivery.carriers import Carriers
from engine.net.outbox import Outbox
from engine.net.smpp_wire import Wire
from engine.net.stream import TlsContexts
from engine.protocol.smpp_events import Closed, Event, Received
from engine.protocol.smpp_pdu import BindReceiver, BindReceiverResp, DeliverSm, DeliverSmResp, Outbind, Pdu
from engine.protocol.smpp_session import Session
from engine.protocol.smpp_states import BOUND, Role, Timers
from engine.tools.certificate import trusting_context
from tests.support.intake import both_loops, tls_files
from tests.support.smpp_intake import Intake as Listening
from tests.support.smpp_intake import play, taking, until

ROW = Carrier(
    name="one", host="127.0.0.1", port=1, system_id="us", password="ours", outbind_system_id="smsc",
    outbind_password="theirs", prefixes=("44",),
)  # fmt: skip
OUTBIND = Outbind(system_id=b"smsc", password=b"theirs")


class Caller:
    """An SMSC that connects. binds: what it was asked."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.wire = Wire(Session(Role.SMSC, Timers(), loop.time()), self._happened, Outbox(loop))
        self.binds: list[Pdu] = []
        self.closed = False

    def _happened(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Received) and isinstance(event.pdu, BindReceiver):
                self.binds.append(event.pdu)
                self.wire.respond(event.pdu, BindReceiverResp())
            self.closed |= isinstance(event, Closed)

    @property
    def bound(self) -> bool:
        return self.wire.session.state in BOUND


class Stage:
    """carriers: none of which can be connected to. came: what they brought, answered at once."""

    def __init__(self, intake: Listening) -> None:
        self.intake = intake
        self.came: list[tuple[str, Any]] = []
        self.carriers = Carriers(intake.settings, self, intake.outbox, TlsContexts(), lambda name: None)
        intake.listener.called = self.carriers.called

    def arrived(self, carrier: str, pdu: Any, answer: Any) -> None:
        self.came.append((carrier, pdu))
        answer(0)

    async def call(self, outbind: Outbind = OUTBIND, **how: Any) -> Caller:
        caller = Caller()
        await asyncio.get_running_loop().create_connection(lambda: caller.wire, *self.intake.listener.address, **how)
        caller.wire.request(outbind)
        return caller


@contextlib.asynccontextmanager
async def stage(path: Path, **listener: Any) -> AsyncIterator[Stage]:
    async with taking(path, carriers=(ROW,), **listener) as intake:
        made = Stage(intake)
        try:
            yield made
        finally:
            await made.carriers.stop()


@both_loops
@pytest.mark.parametrize("secure", [True, False])
def test_we_bind_there_and_take_what_it_brings(tmp_path: Path, loop: str, secure: bool) -> None:
    async def story() -> None:
        how = {"ssl": trusting_context()} if secure else {}
        async with stage(tmp_path, **{"tls": tls_files(tmp_path)} if secure else {}) as s:
            caller = await s.call(**how)
            await until(lambda: caller.bound)
            [bind] = caller.binds
            assert isinstance(bind, BindReceiver) and (bind.system_id, bind.password) == (b"us", b"ours")
            assert s.intake.listener.connections == 0, "it is a carrier's now"
            answered: list[Any] = []
            caller.wire.request(DeliverSm(short_message=b"hello"), None)
            caller.wire.handle = answered.extend
            await until(lambda: answered)
            assert isinstance(answered[0].response, DeliverSmResp)
            assert [(name, pdu.short_message) for name, pdu in s.came] == [("one", b"hello")]
            assert [link.kind for link in s.carriers.links() if link.bound] == ["receiver"]
            assert not s.carriers.healthy("one"), "nothing is sent over it"
            caller.wire.abort()
            await until(lambda: len(s.carriers.links()) == 1)

    play(story, loop)


def test_a_stop_unbinds_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(tmp_path) as s:
            caller = await s.call()
            await until(lambda: any(link.bound for link in s.carriers.links()))
            await s.carriers.stop()
            await until(lambda: caller.closed)

    play(story)


@pytest.mark.parametrize(
    "outbind",
    [
        Outbind(system_id=b"smsc", password=b"wrong"), Outbind(system_id=b"other", password=b"theirs"), Outbind(),
        Outbind(system_id=b"smsc"),
    ],
)  # fmt: skip
def test_nobody_else_is_bound_to(tmp_path: Path, outbind: Outbind) -> None:
    """Our password goes to no stranger."""

    async def story() -> None:
        async with stage(tmp_path) as s:
            caller = await s.call(outbind)
            await until(lambda: caller.closed)
            assert caller.binds == [] and len(s.carriers.links()) == 1

    play(story)


def test_not_from_everywhere_nor_more_than_it_has_binds_nor_by_guessing(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(tmp_path, networks=("192.0.2.1",)) as s:
            caller = await s.call()
            await until(lambda: caller.closed)
        limits = {"intake": Intake(max_failed_logins=2)}
        (tmp_path / "more").mkdir()
        async with stage(tmp_path / "more", tables=limits) as s:
            first = await s.call()
            await until(lambda: first.bound)
            second = await s.call()
            await until(lambda: second.closed)
            first.wire.abort()
            await until(lambda: len(s.carriers.links()) == 1)

    play(story)


def test_an_outbind_of_who_is_bound_changes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(tmp_path) as s, s.intake.bound() as client:
            client.wire.transport.write(b"\0\0\0\x1d\0\0\0\x0b\0\0\0\0\0\0\0\x07smsc\0theirs\0\0")  # type: ignore[union-attr]
            assert (await client.submit()).command_status == 0

    play(story)


def test_a_carrier_may_say_it_where_we_bind_anyway(tmp_path: Path) -> None:
    """Before our bind, and behind it."""

    async def story() -> None:
        calls: list[Wire] = []
        loop = asyncio.get_running_loop()

        def made() -> Wire:
            caller = Caller()
            calls.append(caller.wire)
            loop.call_soon(loop.call_soon, caller.wire.request, OUTBIND)
            return caller.wire

        server = await loop.create_server(made, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        row = Carrier(name="one", host="127.0.0.1", port=port, system_id="us", bind="pair")
        async with taking(tmp_path, carriers=(row,)) as intake:
            carriers = Stage(intake).carriers
            carriers.start()
            await until(lambda: any(link.bound for link in carriers.links()))
            await carriers.stop()
        server.close()

    play(story)
