"""Checklist, STARTTLS and AUTH at intake: nothing said in the clear counts afterwards, no password without TLS."""

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.base.errors import ConfigError
from engine.base.settings import Intake, Settings, TlsFiles
from engine.base.units import Duration
from engine.intake.clients import ALL
from tests.support.intake import (
    ENVELOPE,
    GUARD_S,
    HELLO,
    MESSAGE,
    Passwords,
    RawClient,
    both_loops,
    run,
    running,
    tls_files,
    trusting_context,
)

PLAIN = base64.b64encode(b"\0ada\0secret")


async def submit(client: RawClient) -> None:
    await client.send(ENVELOPE + b"DATA\r\n")
    assert await client.replies(3) == [250, 250, 354]
    assert (await client.ask(MESSAGE + b".\r\n")).startswith("250")


@both_loops
def test_mail_goes_through_starttls(loop: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path)) as intake, intake.client() as client:
            assert "STARTTLS" in await client.hello()
            await client.starttls()
            await client.send(HELLO)
            assert "STARTTLS" not in (await client.reply())[1]
            await submit(client)
            # Larger than any buffer on the way.
            body = (b"x" * 76 + b"\r\n") * 20_000
            await client.send(ENVELOPE + b"BDAT %d LAST\r\n" % len(body) + body)
            assert await client.replies(3) == [250, 250, 250]
            assert b"with ESMTPS id " in intake.store.messages[0].header
            # No header in it: all of it is body.
            assert intake.store.messages[1].body == body
            assert (await client.ask(b"QUIT\r\n"))[:3] == "221"
            await intake.sessions_end()

    run(scenario, loop)


@both_loops
@pytest.mark.parametrize("injected", [ENVELOPE, b"NOOP\r\n", b"RSET\r\nNO", b"EHLO evil.example\r\n"])
def test_commands_injected_behind_starttls_are_dropped(loop: str, injected: bytes, tmp_path: Path) -> None:
    """CVE-2011-0411: in the same segment as STARTTLS, and answered under TLS as if the client had sent them there."""

    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path)) as intake, intake.session() as client:
            await client.send(b"STARTTLS\r\n" + injected)
            assert (await client.reply())[0] == 220
            await client.upgrade()
            assert (await client.ask(b"MAIL FROM:<real@example.org>\r\n")).startswith("503 5.5.1 Send EHLO")
            assert (await client.ask(HELLO)).startswith("250")
            await submit(client)
            assert len(intake.store.messages) == 1

    run(scenario, loop)


@both_loops
def test_what_comes_after_the_220_in_the_clear_ends_the_session(loop: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path)) as intake:
            async with intake.session() as client:
                assert (await client.ask(b"STARTTLS\r\n")).startswith("220")
                await client.send(ENVELOPE + b"DATA\r\n" + MESSAGE + b".\r\n" * 10)
                assert b"250" not in await client.rest()
            await intake.sessions_end()
            assert intake.store.messages == []

    run(scenario, loop)


@both_loops
def test_session_state_does_not_survive_starttls(loop: str, tmp_path: Path) -> None:
    """RFC 3207 4.2: also not the login (from loopback it may come before TLS)."""

    async def scenario() -> None:
        credentials = Passwords(ada="secret")
        async with (
            running(tls=tls_files(tmp_path), credentials=credentials, networks=()) as intake,
            intake.session() as client,
        ):
            assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith("235 2.7.0")
            await client.starttls()
            assert (await client.ask(HELLO)).startswith("250")
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("530 5.7.0")

    run(scenario, loop)


@both_loops
def test_starttls_twice_is_503(loop: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path)) as intake, intake.session() as client:
            await client.starttls()
            assert (await client.ask(HELLO)).startswith("250")
            assert (await client.ask(b"STARTTLS\r\n")).startswith("503 5.5.1")
            assert (await client.ask(b"NOOP\r\n")).startswith("250")

    run(scenario, loop)


def test_starttls_in_a_transaction_is_503(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path)) as intake, intake.session() as client:
            await client.send(ENVELOPE + b"STARTTLS\r\n")
            assert await client.replies(3) == [250, 250, 503]
            assert (await client.ask(b"RSET\r\n")).startswith("250")
            assert (await client.ask(b"STARTTLS now\r\n")).startswith("501 5.5.4")

    run(scenario)


def test_starttls_is_not_offered_without_a_certificate() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.client() as client:
            assert "STARTTLS" not in await client.hello()
            assert (await client.ask(b"STARTTLS\r\n")).startswith("502 5.5.1")

    run(scenario)


@both_loops
def test_implicit_tls(loop: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        files = tls_files(tmp_path, implicit=True)
        async with running(tls=files, credentials=Passwords(ada="secret"), networks=()) as intake:
            async with intake.client(tls=True) as client:
                lines = await client.hello()
                assert "STARTTLS" not in lines
                assert "AUTH PLAIN LOGIN" in lines
                assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith("235")
                await submit(client)
                assert b"with ESMTPSA id " in intake.store.messages[0].header
                assert intake.store.messages[0].envelope.user == "ada"
            async with intake.client() as client:
                await client.send(b"EHLO plain.example\r\n" * 20)
                assert b"250" not in await client.rest()

    run(scenario, loop)


@both_loops
@pytest.mark.parametrize("apart", [False, True])
def test_implicit_tls_behind_a_proxy_begins_after_its_header(loop: str, apart: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        files = tls_files(tmp_path, implicit=True)
        async with running(tls=files, networks=("192.0.2.0/24",), proxy_from=("127.0.0.0/8",)) as intake:
            async with intake.client() as client:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = trusting_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
                with pytest.raises(ssl.SSLWantReadError):
                    tls.do_handshake()
                hello = outgoing.read()
                await client.send(b"PROXY TCP4 192.0.2.9 192.0.2.1 40000 465\r\n" + (b"" if apart else hello))
                if apart:
                    await asyncio.sleep(0.02)
                    await client.send(hello)
                while True:
                    incoming.write(await client.reader.read(65536))
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        pass
                await client.send(outgoing.read())
                greeting = b""
                while not greeting.endswith(b"\r\n"):
                    try:
                        greeting += tls.read()
                    except ssl.SSLWantReadError:
                        incoming.write(await client.reader.read(65536))
                assert greeting.startswith(b"220 ")
            await intake.sessions_end()

    run(scenario, loop)


def test_old_tls_versions_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path)) as intake, intake.session() as client:
            context = intake.listener._tls
            assert context is not None
            assert context.minimum_version == ssl.TLSVersion.TLSv1_2
            assert (await client.ask(b"NOOP\r\n")).startswith("250")

    run(scenario)


def test_reload_brings_the_new_certificate_to_new_sessions(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path)) as intake, intake.session() as before:

            async def certificate() -> bytes:
                async with intake.session() as client:
                    await client.starttls()
                    seen = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                    assert isinstance(seen, bytes)
                    return seen

            old = await certificate()
            table = intake.listener._listener
            tls_files(tmp_path)
            intake.listener.reload(table, Settings())
            assert await certificate() != old
            assert (await before.ask(b"NOOP\r\n")).startswith("250")

    run(scenario)


def test_reload_with_a_broken_certificate_changes_nothing(tmp_path: Path) -> None:
    def break_key() -> None:
        (tmp_path / "key.pem").write_text("no key")

    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path)) as intake:
            table = intake.listener._listener
            break_key()
            with pytest.raises(ConfigError):
                intake.listener.reload(table, Settings())
            async with intake.session() as client:
                await client.starttls()

    run(scenario)


def test_listener_with_an_unreadable_certificate_does_not_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        files = TlsFiles(cert=str(tmp_path / "none.pem"), key=str(tmp_path / "none.key"))
        with pytest.raises(ConfigError):
            async with running(tls=files):
                pass

    run(scenario)


def test_auth_is_refused_without_tls_unless_from_loopback(tmp_path: Path) -> None:
    """XCLIENT makes the peer a client from elsewhere."""

    async def scenario() -> None:
        credentials = Passwords(ada="secret")
        async with (
            running(
                tls=tls_files(tmp_path), credentials=credentials, networks=(), xclient_from=("127.0.0.1/32",)
            ) as intake,
            intake.client() as client,
        ):
            assert "AUTH PLAIN LOGIN" in await client.hello()
            assert (await client.ask(b"XCLIENT ADDR=192.0.2.7\r\n")).startswith("220")
            await client.send(HELLO)
            code, lines = await client.reply()
            assert code == 250
            assert not [line for line in lines if line.startswith("AUTH")]
            assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith("538 5.7.11")
            assert credentials.asked == 0
            await client.starttls()
            await client.send(HELLO)
            assert "AUTH PLAIN LOGIN" in (await client.reply())[1]
            assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith("235")

    run(scenario)


@both_loops
def test_failed_handshakes_leave_nothing_behind(loop: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path)) as intake:
            for _ in range(5):
                async with intake.session() as client:
                    assert (await client.ask(b"STARTTLS\r\n")).startswith("220")
                    await client.send(b"\x16\x03\x01\x00\x05garbage" * 3)
                    await client.rest()
            await intake.sessions_end()
            assert intake.rejected("tls") == 5
            async with intake.session() as client:
                await client.starttls()

    run(scenario, loop)


@both_loops
@pytest.mark.parametrize("behind_proxy", [False, True])
def test_peers_that_never_finish_an_implicit_handshake_are_counted_and_cut_off(
    loop: str, behind_proxy: bool, tmp_path: Path
) -> None:
    async def scenario() -> None:
        proxies: dict[str, Any] = {"proxy_from": ("127.0.0.0/8",)} if behind_proxy else {}
        header = b"PROXY TCP4 127.0.0.9 192.0.2.1 40000 465\r\n" if behind_proxy else b""
        limits = Intake(command_timeout=Duration(0.5), max_connections_per_address=2)
        async with running(tls=tls_files(tmp_path, implicit=True), intake=limits, **proxies) as intake:
            async with intake.client() as silent, intake.client() as slow, intake.client() as third:
                await silent.send(header)
                await slow.send(header + b"\x16\x03\x01")
                if behind_proxy:
                    while intake.listener._clients.used("127.0.0.9") < 2:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
                    await third.send(header)
                assert (await third.rest()).startswith(b"421 4.7.0 ")
                assert await silent.rest() == b""
                assert await slow.rest() == b""
            await intake.sessions_end()
            assert not any(map(intake.listener._clients.used, (ALL, "127.0.0.1", "127.0.0.9")))
            assert intake.rejected("tls") == 2

    run(scenario, loop)


@both_loops
def test_failed_implicit_handshakes_leave_nothing_behind(loop: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path, implicit=True)) as intake:
            for garbage in (b"", b"EHLO x\r\n", b"\x16\x03\x01\x00\x05garbage" * 3):
                async with intake.client() as client:
                    await client.send(garbage)
                    client.writer.write_eof()
                    await client.rest()
                async with intake.client() as client:
                    await client.send(garbage)
                    client.reset()
            await intake.sessions_end()
            async with intake.client(tls=True) as client:
                await client.hello()
                await submit(client)

    run(scenario, loop)


@both_loops
@pytest.mark.parametrize("left_s", [0, 3600])
def test_unfinished_implicit_handshakes_do_not_hold_up_a_stop(loop: str, left_s: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path, implicit=True)) as intake, intake.client() as silent:
            while not intake.listener.connections or not next(iter(intake.listener._connections)).idle:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await intake.listener.close()
            async with asyncio.timeout(GUARD_S):
                await intake.listener.drain(asyncio.get_running_loop().time() + left_s)
            assert await silent.rest() == b""

    run(scenario, loop)


@both_loops
def test_implicit_tls_stays_when_a_reload_adds_or_removes_a_proxy(loop: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        files = tls_files(tmp_path, implicit=True)
        async with running(tls=files) as intake:
            table = intake.listener._listener
            for proxies in (("192.0.2.1/32",), ("127.0.0.0/8",), ()):
                intake.listener.reload(msgspec.structs.replace(table, proxy_from=proxies), Settings())
                if "127.0.0.0/8" in proxies:
                    async with intake.client() as client:
                        await client.send(b"PROXY TCP4 192.0.2.9 192.0.2.1 40000 465\r\nEHLO plain.example\r\n")
                        assert b"220" not in await client.rest()
                else:
                    async with intake.client(tls=True) as client:
                        await client.hello()

    run(scenario, loop)
