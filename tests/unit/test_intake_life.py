"""The life of sessions and listeners: drain, reload, deadlines, an address that is taken."""

import asyncio
from pathlib import Path

import pytest

from engine.base.errors import NetworkError
from engine.base.settings import Intake, Listener, Node, Settings
from engine.base.units import Duration
from tests.support.intake import (
    DATA,
    ENVELOPE,
    HELLO,
    MESSAGE,
    both_loops,
    run,
    running,
    submit,
    tls_files,
)


@both_loops
def test_drain_ends_idle_sessions_at_once_and_others_after_their_message(loop: str) -> None:
    async def scenario() -> None:
        async with running() as intake:
            store = intake.store
            store.hold, store.waiting = asyncio.Event(), asyncio.Event()
            async with intake.session() as idle, intake.session() as busy, intake.session() as storing:
                await busy.send(DATA)
                assert await busy.replies(3) == [250, 250, 354]
                await storing.send(DATA)
                assert await storing.replies(3) == [250, 250, 354]
                await storing.send(MESSAGE + b".\r\n")
                await store.waiting.wait()
                await intake.listener.close()
                drained = asyncio.create_task(intake.listener.drain(asyncio.get_running_loop().time() + 10))
                assert (await idle.rest()).startswith(b"421 4.3.2 ")
                store.hold.set()
                await busy.send(MESSAGE + b".\r\n")
                for client in (busy, storing):
                    answer = (await client.rest()).splitlines()
                    assert [line[:9] for line in answer] == [b"250 2.0.0", b"421 4.3.2"]
                await drained
            assert len(store.messages) == 2
            with pytest.raises(ConnectionRefusedError):
                async with intake.client():
                    pass

    run(scenario, loop)


@both_loops
def test_drain_cuts_off_what_is_left_at_the_deadline(loop: str) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            await client.send(MESSAGE)
            await intake.listener.close()
            await intake.listener.drain(asyncio.get_running_loop().time() + 0.05)
            await client.rest()
            assert intake.listener.connections == 0
            assert intake.store.messages == []

    run(scenario, loop)


def test_reload_is_for_new_sessions() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as before:
            table = Listener(kind="smtp", address="127.0.0.1:0", networks=("192.0.2.0/24",))
            intake.listener.reload(table, Settings(node=Node(name="mx.example"), intake=Intake(max_recipients=7)))
            assert (await submit(before)).startswith("250")
            async with intake.session() as after:
                await after.send(ENVELOPE)
                assert await after.replies(2) == [250, 554]

    run(scenario)


def test_address_in_use_is_an_error_with_the_address() -> None:
    async def scenario() -> None:
        async with running() as intake:
            host, port = intake.listener.address
            with pytest.raises(NetworkError, match=f"{host}:{port}"):
                async with running(address=f"{host}:{port}"):
                    pass

    run(scenario)


def test_idle_session_times_out_and_active_one_does_not(tmp_path: Path) -> None:
    """Each command of progress moves the deadline."""

    async def scenario() -> None:
        limits = Intake(command_timeout=Duration(0.3))
        async with running(intake=limits) as intake, intake.session() as client:
            connection = next(iter(intake.listener._connections))
            seen = set()
            for _ in range(3):
                assert (await submit(client)).startswith("250")
                seen.add(connection._deadline)
                await asyncio.sleep(0.01)
            assert len(seen) == 3
            assert (await client.rest()).startswith(b"421 4.4.2")

    run(scenario)


def test_tls_and_plain_listeners_share_nothing_of_aiosmtpds_class_state(tmp_path: Path) -> None:
    """aiosmtpd's command size limits are on its class and grow with every EHLO."""

    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path)) as one, running() as two:
            for intake in (one, two):
                async with intake.session() as client:
                    for _ in range(50):
                        await client.send(HELLO)
                        await client.reply()
                    assert (await client.ask(b"MAIL FROM:<> " + b"X" * 2100 + b"\r\n")).startswith("500 5.5.2 Line")

    run(scenario)
