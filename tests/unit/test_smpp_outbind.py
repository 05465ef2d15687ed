"""Outbind: who has something waiting and no bind that receives is called, and binds on that connection."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.base.settings import Account
from engine.intake import smpp_outbind
from engine.intake.doors import tls_context
from engine.intake.smpp_outbind import Outbinds
from engine.net.stream import TlsContexts
from engine.protocol.smpp_pdu import BindReceiver, BindTransmitter, DeliverSm, Unbind
from tests.support.intake import both_loops, tls_files
from tests.support.ports import free_port
from tests.support.smpp_application import Application
from tests.support.smpp_intake import Intake, play, taking, until


class Stage:
    """waiting: accounts that something is queued for. looked_at: those that were reopened."""

    def __init__(self, intake: Intake, application: Application, contexts: TlsContexts) -> None:
        self.intake = intake
        self.application = application
        self.waiting = {"app"}
        self.looked_at: list[str] = []
        self.outbinds = Outbinds(
            intake.settings, intake.admission, intake.orders, intake.binds, intake.credentials, intake.metrics,
            intake.clock, intake.outbox, contexts, self.waiting.__contains__, self.looked_at.append, auth_delay_s=0.0,
        )  # fmt: skip
        intake.binds.call = self.outbinds.call
        intake.binds._told = self.outbinds.bound

    @property
    def bound(self) -> list[str]:
        return [kind for _, _, kind in self.intake.binds.all()]


@contextlib.asynccontextmanager
async def stage(path: Path, tls: ssl.SSLContext | None = None, **account: Any) -> AsyncIterator[Stage]:
    application = await Application().open(tls)
    row = Account(
        system_id="app", password="secret", outbind=f"127.0.0.1:{application.port}", outbind_password="ours", **account
    )
    async with taking(path, row, Account(system_id="other", password="secret")) as intake:
        made = Stage(intake, application, TlsContexts())
        try:
            yield made
        finally:
            await made.outbinds.stop()
            application.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smpp_outbind, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(smpp_outbind, "_LONGEST_PAUSE_S", 0.08)


@both_loops
def test_it_binds_on_the_connection_and_is_sent_what_waits(tmp_path: Path, loop: str) -> None:
    async def story() -> None:
        async with stage(tmp_path, networks=("192.0.2.1",)) as s:
            for _ in range(3):
                s.intake.binds.call("app")
            await until(lambda: s.bound)
            assert [(pdu.system_id, pdu.password) for pdu in s.application.calls] == [(b"postrider", b"ours")]
            [wire] = s.intake.binds.receivers("app")
            wire.request(DeliverSm(short_message=b"receipt"), lambda event: None)
            await until(lambda: s.application.received)
            s.intake.binds.call("app")
            await asyncio.sleep(0.05)
            assert len(s.application.calls) == 1, "it has a bind that receives"
        assert [type(pdu) for pdu in s.application.received] == [DeliverSm], "unbind is answered by the session"
        assert s.application.connections == []

    play(story, loop)


@both_loops
def test_by_tls(tmp_path: Path, loop: str) -> None:
    async def story() -> None:
        context = tls_context(tls_files(tmp_path))
        async with stage(tmp_path, context, outbind_tls="encrypt") as s:
            s.intake.binds.call("app")
            await until(lambda: s.bound)
        async with stage(tmp_path, context, outbind_tls="verify") as s:
            s.intake.binds.call("app")
            await until(lambda: s.outbinds._calls["app"]._pause_s > 0.04)
            assert s.application.calls == [], "the certificate is nobody's"

    play(story, loop)


def test_nobody_is_called_that_need_not_be(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(tmp_path) as s:
            s.waiting.clear()
            for who in ("app", "other", "nobody"):
                s.intake.binds.call(who)
            s.waiting.update(("app", "other"))
            s.intake.binds.call("other")  # has no outbind
            async with s.intake.bound():
                s.intake.binds.call("app")
                await asyncio.sleep(0.05)
            assert s.application.calls == []
            async with s.intake.bound(kind=BindTransmitter):
                s.intake.binds.call("app")
                await until(lambda: len(s.bound) == 2)

    play(story)


def test_it_is_called_again_with_growing_pauses_until_it_binds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    begin = smpp_outbind._Call.begin

    def begun(call: Any, now: float) -> None:
        begin(call, now)
        pauses.append(call._pause_s)

    monkeypatch.setattr(smpp_outbind._Call, "begin", begun)

    async def story() -> None:
        async with stage(tmp_path) as s:
            s.application.close()
            s.intake.binds.call("app")
            await until(lambda: len(pauses) >= 4)
            assert 0.016 <= pauses[0] <= 0.02 and pauses[0] < pauses[1] < pauses[2] and max(pauses) <= 0.08
            await s.application.open()
            await until(lambda: s.bound)

    play(story)


def test_who_binds_and_goes_is_called_no_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smpp_outbind, "_FIRST_PAUSE_S", 0.15)
    monkeypatch.setattr(smpp_outbind, "_LONGEST_PAUSE_S", 1.0)

    async def story() -> None:
        async with stage(tmp_path) as s:
            for calls in (1, 2, 3):
                s.intake.binds.call("app")
                await until(lambda: s.bound)
                assert len(s.application.calls) == calls
                s.application.connections[0].abort()
                await until(lambda: not s.bound)
            assert s.outbinds._calls["app"]._pause_s > 0.3, "the third"

    play(story)


def test_it_ends_when_the_account_binds_by_itself_or_nothing_waits(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(tmp_path) as s:
            s.application.bind = None
            s.intake.binds.call("app")
            await until(lambda: s.application.calls)
            async with s.intake.bound():
                await until(lambda: not s.outbinds._calls["app"].going_on)
            assert s.looked_at == []
            s.application.close()
            await until(lambda: not s.bound)
            s.intake.binds.call("app")
            s.waiting.clear()
            await until(lambda: not s.outbinds._calls["app"].going_on)
            assert s.looked_at == ["app"], "or what comes then would wait until a closed queue is looked at"

    play(story)


@pytest.mark.parametrize(("who", "password"), [("other", "secret"), ("nobody", "secret"), ("app", "wrong")])
def test_only_the_account_that_was_called_may_bind_there(tmp_path: Path, who: str, password: str) -> None:
    async def story() -> None:
        async with stage(tmp_path) as s:
            s.application.bind = BindReceiver(system_id=who.encode(), password=password.encode())
            s.intake.binds.call("app")
            await until(lambda: s.application.calls)
            await asyncio.sleep(0.02)
            assert s.bound == []

    play(story)


def test_a_reload_calls_who_has_an_address_now_and_a_stop_calls_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(tmp_path) as s:
            settings = s.intake.settings
            there, nowhere = settings.account[0], replace(settings.account[0], outbind=f"127.0.0.1:{free_port()}")
            for row in (nowhere, there):
                changed = replace(settings, account=(row,))
                s.intake.binds.reload(changed)
                s.outbinds.reload(changed)
                s.intake.binds.call("app")
                await asyncio.sleep(0.03)
            await until(lambda: s.bound)
            assert s.looked_at == ["app", "app"]
            await s.outbinds.stop()
            assert s.bound == []
            s.intake.binds.call("app")
            assert not s.outbinds._calls["app"].going_on

    play(story)


def test_unbind_ends_the_connection(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(tmp_path) as s:
            s.intake.binds.call("app")
            await until(lambda: s.bound and s.application.connections[0].session.may_send(Unbind))
            s.application.connections[0].request(Unbind(), None)
            await until(lambda: not s.bound and not s.application.connections)

    play(story)
