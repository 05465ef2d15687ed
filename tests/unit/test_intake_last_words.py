"""The last reply of a session reaches the client, whatever it is still sending; and nobody waits for it for ever."""

import asyncio
from pathlib import Path

import pytest

from engine.base.settings import Intake
from engine.base.units import Duration
from tests.support.intake import GUARD_S, RawClient, both_loops, run, running, tls_files

BARE = b"NOOP\n"
LONG = Intake(linger_timeout=Duration(10 * GUARD_S))


async def say_and_go_on(client: RawClient, command: bytes) -> bytes:
    """Send a command that ends the session and much behind it, and only then read: the first line of the answer."""
    await client.send(command + b"x" * 3_000_000)
    async with asyncio.timeout(GUARD_S):
        return await client.reader.readline()


@both_loops
@pytest.mark.parametrize("tls", [False, True])
def test_client_that_goes_on_sending_reads_why_it_was_cut_off(tmp_path: Path, loop: str, tls: bool) -> None:
    """A socket that is closed with input unread sends a RST, which takes the reply with it."""

    async def scenario() -> None:
        files = tls_files(tmp_path, implicit=True) if tls else None
        async with running(intake=LONG, tls=files) as intake:
            async with intake.session(tls=tls) as client:
                assert (await say_and_go_on(client, BARE)).startswith(b"521 5.5.2")
                if not tls:
                    async with asyncio.timeout(GUARD_S):
                        assert await client.reader.read() == b"", "our side is closed"
                await client.send(b"x" * 1000)
            await intake.sessions_end()

    run(scenario, loop)


@both_loops
@pytest.mark.parametrize("tls", [False, True])
def test_client_that_does_not_close_is_closed(tmp_path: Path, loop: str, tls: bool) -> None:
    async def scenario() -> None:
        files = tls_files(tmp_path, implicit=True) if tls else None
        limits = Intake(linger_timeout=Duration(0.05))
        async with running(intake=limits, tls=files) as intake, intake.session(tls=tls) as client:
            await client.send(BARE)
            assert (await client.rest()).startswith(b"521 5.5.2")
            await intake.sessions_end()

    run(scenario, loop)


@both_loops
def test_drain_does_not_wait_for_those_who_were_told_already(loop: str) -> None:
    async def scenario() -> None:
        async with running(intake=LONG) as intake, intake.session() as client:
            assert (await say_and_go_on(client, BARE)).startswith(b"521 5.5.2")
            await intake.listener.close()
            await intake.listener.drain(asyncio.get_running_loop().time() + 10 * GUARD_S)
            assert intake.listener.connections == 0

    run(scenario, loop)


def test_what_comes_behind_the_last_reply_is_not_obeyed() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(BARE)
            assert (await client.reply())[0] == 521
            await client.send(b"MAIL FROM:<ada@example.org>\r\nRCPT TO:<b@example.net>\r\nBDAT 2 LAST\r\n\r\n")
            assert await client.rest() == b""
            assert intake.store.messages == []

    run(scenario)
