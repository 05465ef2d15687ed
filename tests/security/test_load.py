"""Checklist, load at intake: slow and greedy clients cost time, connections and memory up to a bound."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.base.settings import Intake
from engine.base.units import Duration, Size
from engine.intake.clients import ALL
from engine.intake.reader import HIGH_WATER
from tests.support.intake import (
    ENVELOPE,
    HELLO,
    LOOPBACK,
    MESSAGE,
    Passwords,
    RawClient,
    both_loops,
    run,
    running,
    tls_files,
)


async def drip(client: RawClient, data: bytes) -> bytes:
    """Send this byte over and over until the server has closed; what it said."""
    ended = asyncio.create_task(client.rest())
    while not ended.done():
        client.writer.write(data)
        await asyncio.sleep(0.01)
    return ended.result()


@both_loops
def test_command_line_has_a_deadline_that_bytes_do_not_move(loop: str) -> None:
    async def scenario() -> None:
        async with running(intake=Intake(command_timeout=Duration(0.2))) as intake, intake.session() as client:
            assert (await drip(client, b"N")).startswith(b"421 4.4.2 ")
            await intake.sessions_end()

    run(scenario, loop)


@both_loops
def test_silent_client_is_sent_away(loop: str) -> None:
    async def scenario() -> None:
        async with running(intake=Intake(command_timeout=Duration(0.1))) as intake, intake.client() as client:
            assert (await client.rest()).splitlines()[1].startswith(b"421 4.4.2 ")

    run(scenario, loop)


@pytest.mark.parametrize(
    ("limits", "listener"),
    [
        (Intake(proxy_timeout=Duration(0.1)), {"proxy_from": ("127.0.0.0/8",)}),
        (Intake(handshake_timeout=Duration(0.1)), {"implicit": True}),
    ],
    ids=["proxy", "handshake"],
)
def test_what_must_come_first_has_a_deadline_of_its_own(
    tmp_path: Path, limits: Intake, listener: dict[str, Any]
) -> None:
    """Whoever is silent before it is known who he is, is not kept for command_timeout."""

    async def scenario() -> None:
        more = {"tls": tls_files(tmp_path, implicit=True)} if "implicit" in listener else listener
        async with running(intake=limits, **more) as intake, intake.client() as client:
            await client.rest()
            await intake.sessions_end()

    run(scenario)


def test_bdat_has_one_deadline_for_all_chunks() -> None:
    async def scenario() -> None:
        limits = Intake(data_timeout=Duration(0.2), command_timeout=Duration(60))
        async with running(intake=limits) as intake, intake.session() as client:
            await client.send(ENVELOPE)
            assert await client.replies(2) == [250, 250]
            assert b"421 4.4.2 " in await drip(client, b"BDAT 1\r\nx")
            assert intake.store.messages == []

    run(scenario)


def test_connections_are_limited_in_all_and_per_address() -> None:
    async def scenario() -> None:
        limits = Intake(max_connections=3, max_connections_per_address=2)
        async with running(intake=limits) as intake:
            async with intake.session(), intake.session():
                async with intake.client() as third:
                    assert (await third.rest()).startswith(b"421 4.7.0 ")
                async with intake.session(source="127.0.0.2"), intake.client(source="127.0.0.3") as fourth:
                    assert (await fourth.rest()).startswith(b"421 4.7.0 ")
            await intake.sessions_end()
            async with intake.session():
                assert intake.listener.connections == 1

    run(scenario)


def test_connections_behind_a_proxy_are_counted_to_their_client() -> None:
    async def scenario() -> None:
        limits = Intake(max_connections_per_address=1)
        async with running(intake=limits, proxy_from=("127.0.0.0/8",)) as intake:
            async with intake.client() as one, intake.client() as two, intake.client() as three:
                await one.send(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 25\r\n")
                assert (await one.reply())[0] == 220
                await two.send(b"PROXY TCP4 192.0.2.2 192.0.2.9 1 25\r\n")
                assert (await two.reply())[0] == 220
                await three.send(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 25\r\n")
                assert (await three.rest()).startswith(b"421 4.7.0 ")
            await intake.sessions_end()
            assert not any(map(intake.listener._clients.used, (ALL, "127.0.0.1", "192.0.2.1", "192.0.2.2")))

    run(scenario)


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"NOOP " + b"x" * 3000, 500), (b"NOOP " + b"x" * 1000, 250), (b"AUTH PLAIN " + b"A" * 12_000, 502)],
)
def test_line_limits(line: bytes, code: int) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            assert int((await client.ask(line + b"\r\n"))[:3]) == code
            assert (await client.ask(b"NOOP\r\n")).startswith("250")

    run(scenario)


@both_loops
def test_line_without_end_is_consumed_and_not_kept(loop: str) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            connection = next(iter(intake.listener._connections))
            for _ in range(1000):
                connection.data_received(b"x" * 10_000)
                await asyncio.sleep(0)
                assert len(connection._reader._buffer) <= 30_000
            assert (await client.ask(b"\r\n")).startswith("500 5.5.2 Line too long")
            assert (await client.ask(b"NOOP\r\n")).startswith("250")

    run(scenario, loop)


def test_bad_commands_end_the_session() -> None:
    async def scenario() -> None:
        async with running(intake=Intake(max_bad_commands=3)) as intake, intake.session() as client:
            await client.send(b"FOO\r\nBAR\r\nMAIL\r\nNOOP\r\n")
            answer = (await client.rest()).splitlines()
            assert [line[:3] for line in answer] == [b"500", b"500", b"501", b"421"]

    run(scenario)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"\r\n", b"500"),
        (b"\xff\xff\r\n", b"500"),
        (b"NOOP " + b"x" * 3000 + b"\r\n", b"500"),
        (b"EHLO\r\n", b"501"),
        (b"EHLO <>\r\n", b"501"),
        (b"HELO a b\r\n", b"501"),
        (b"MAIL FROM:<a@b@c>\r\n", b"553"),
        (b"MAIL FROM:<a@b.example> X=Y\r\n", b"555"),
        (b"RCPT TO:<a@b.example>\r\n", b"503"),
        (b"STARTTLS\r\n", b"502"),
        (b"AUTH\r\n", b"501"),
        (b"AUTH FOO\r\n", b"504"),
        (b"AUTH PLAIN !\r\n", b"501"),
        (b"AUTH LOGIN =\r\n*\r\n", b"501"),
        (b"MAIL FROM:<a@b.example>\r\n", b"530"),
    ],
)
def test_bad_commands_are_counted_whoever_answers_them(command: bytes, code: bytes) -> None:
    async def scenario() -> None:
        networks = () if code == b"530" else LOOPBACK
        limits = Intake(max_bad_commands=3)
        async with (
            running(intake=limits, credentials=Passwords(ada="x"), networks=networks) as intake,
            intake.session() as client,
        ):
            await client.send(command * 5)
            codes = [line[:3] for line in (await client.rest()).splitlines()]
            assert [each for each in codes if each != b"334"] == [code] * 3 + [b"421"]

    run(scenario)


def test_recipients_and_messages_refused_are_no_bad_commands() -> None:
    async def scenario() -> None:
        limits = Intake(max_bad_commands=2, max_recipients=1, max_message_bytes=Size(1000))
        async with running(intake=limits) as intake, intake.session() as client:
            large = b"MAIL FROM:<> SIZE=1001\r\n"
            await client.send(large * 3 + b"MAIL FROM:<>\r\n" + b"RCPT TO:<a@b.example>\r\n" * 4 + b"NOOP\r\n")
            assert await client.replies(9) == [552] * 3 + [250, 250, 452, 452, 452, 250]

    run(scenario)


@pytest.mark.parametrize("command", [b"NOOP\r\n", b"RSET\r\n", HELLO, b"HELO x\r\n", b"VRFY x\r\n", b"HELP\r\n"])
def test_commands_without_a_message_are_limited(command: bytes) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(command * (Intake().max_idle_commands + 10))
            assert (await client.rest()).splitlines()[-1].startswith(b"421 4.7.0 ")

    run(scenario)


def test_messages_give_the_commands_back() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            for _ in range(3):
                await client.send(b"NOOP\r\n" * (Intake().max_idle_commands - 10))
                await client.replies(Intake().max_idle_commands - 10)
                await client.send(ENVELOPE + b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE)
                assert await client.replies(3) == [250, 250, 250]

    run(scenario)


def test_recipients_are_limited() -> None:
    async def scenario() -> None:
        async with running(intake=Intake(max_recipients=3)) as intake, intake.session() as client:
            await client.send(b"MAIL FROM:<>\r\n" + b"".join(b"RCPT TO:<%d@x.example>\r\n" % i for i in range(5)))
            assert await client.replies(6) == [250, 250, 250, 250, 452, 452]
            assert (await client.ask(b"BDAT 2 LAST\r\n\r\n")).startswith("250")
            assert len(intake.store.messages[0].envelope.recipients) == 3

    run(scenario)


@both_loops
def test_client_that_never_reads_is_neither_served_for_ever_nor_kept(loop: str) -> None:
    """Its commands are read no further than its replies are taken; then the deadline comes."""

    async def scenario() -> None:
        limits = Intake(command_timeout=Duration(0.3), linger_timeout=Duration(0.3), max_bad_commands=10**9)
        async with running(intake=limits) as intake, intake.session() as client:
            client.writer.transport.pause_reading()
            connection = next(iter(intake.listener._connections))
            line = b"RCPT TO:<someone@x.example>\r\n"
            for _ in range(2000):
                client.writer.write(line * 100)
                await asyncio.sleep(0)
                assert len(connection._reader._buffer) <= 3 * HIGH_WATER
                if connection.transport is None:
                    break
            await intake.sessions_end()
            client.writer.transport.abort()

    run(scenario, loop)


def test_declared_size_over_the_limit_is_refused_at_once() -> None:
    async def scenario() -> None:
        async with running(intake=Intake(max_message_bytes=Size(1000))) as intake, intake.session() as client:
            assert (await client.ask(b"MAIL FROM:<> SIZE=1001\r\n")).startswith("552 5.3.4")
            assert (await client.ask(b"MAIL FROM:<> BODY=8BITMIME SIZE=1001\r\n")).startswith("552 5.3.4")
            assert (await client.ask(b"MAIL FROM:<> SIZE=1000\r\n")).startswith("250")

    run(scenario)


def test_deep_mime_and_endless_base64_are_bytes_to_intake() -> None:
    """Nothing here parses bodies, so nothing can be made to recurse."""

    async def scenario() -> None:
        deep = b"".join(
            b"--%d\r\nContent-Type: multipart/mixed; boundary=%d\r\n\r\n" % (i, i + 1) for i in range(10_000)
        )
        body = deep + b"QUJD" * 100_000 + b"\r\n"
        content = b"Content-Type: multipart/mixed; boundary=0\r\n\r\n" + body
        async with running() as intake, intake.session() as client:
            await client.send(ENVELOPE + b"BDAT %d LAST\r\n" % len(content) + content)
            assert await client.replies(3) == [250, 250, 250]
            assert intake.store.messages[0].body == body

    run(scenario)
