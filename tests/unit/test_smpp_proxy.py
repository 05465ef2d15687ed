"""PROXY v1 and v2 before SMPP: who the client is, and who must say so."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.base.settings import Account, Intake
from engine.protocol.smpp_codec import encode
from engine.protocol.smpp_pdu import BindTransceiver, EnquireLink
from engine.tools.certificate import trusting_context
from tests.support.intake import both_loops, tls_files
from tests.support.smpp_intake import ACCOUNT, Client, play, taking, until
from tests.support.smpp_intake import Intake as Stage

PROXY = ("127.0.0.1/32",)
V1 = b"PROXY TCP4 192.0.2.9 192.0.2.1 40000 2775\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2 = SIGNATURE + b"\x21\x11\0\x0c" + bytes([192, 0, 2, 9, 192, 0, 2, 1, 0x9C, 0x40, 0, 25])
LOCAL = SIGNATURE + b"\x20\0\0\0"
UNKNOWN = (
    b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x21\x00\0\0",
    SIGNATURE + b"\x21\x31\0\xd8" + b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0"),
)  # fmt: skip


async def behind(intake: Stage, header: bytes) -> Client:
    """A client whose proxy says this first."""
    client = await intake.connect()
    transport = client.wire.transport
    assert transport is not None
    transport.write(header)
    return client


@both_loops
@pytest.mark.parametrize(
    ("header", "name"),
    [
        (V1, "192.0.2.9"), (V2, "192.0.2.9"), (LOCAL, "127.0.0.1"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 40000 25\r\n", "2001:db8::9"),
        (V1.replace(b"192.0.2.9", b"192.0.2.99"), None),
    ],
)  # fmt: skip
def test_the_client_is_who_the_proxy_says(tmp_path: Path, loop: str, header: bytes, name: str | None) -> None:
    """Its own address counts for the networks of its account, and for the log, not the proxy's."""
    account = Account(system_id="app", password="secret", networks=("192.0.2.9", "127.0.0.1", "2001:db8::/32"))

    async def story() -> None:
        async with taking(tmp_path, account, proxy_from=PROXY) as intake:
            client = await behind(intake, header)
            response = await client.bind()
            assert (response.command_status == 0) is (name is not None)
            if name is not None:
                assert (await client.submit()).command_status == 0
                [(_, bind, _)] = intake.binds.all()
                assert f"client=unknown[{name}]" in "".join(intake.lines)
                assert bind.peer == name or name == "127.0.0.1"
            client.wire.abort()

    play(story, loop)


def test_the_header_may_come_byte_by_byte_and_with_what_follows(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path, proxy_from=PROXY) as intake:
            bind = encode(BindTransceiver(system_id=b"app", password=b"secret"), 1)
            for header in (V1, V2):
                reader, writer = await asyncio.open_connection(*intake.listener.address)
                for byte in header + bind:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0)
                assert (await reader.readexactly(16))[:12] == b"\0\0\0\x1f\x80\0\0\x09\0\0\0\0"
                writer.close()
                reader, writer = await asyncio.open_connection(*intake.listener.address)
                writer.write(header + bind + encode(EnquireLink(), 2))
                assert len(await reader.readexactly(31 + 16)) == 47
                writer.close()
                await writer.wait_closed()

    play(story)


@both_loops
def test_tls_begins_behind_the_header(tmp_path: Path, loop: str) -> None:
    async def story() -> None:
        async with taking(tmp_path, proxy_from=PROXY, tls=tls_files(tmp_path)) as intake:
            for together in (True, False):
                client = await intake.connect()
                wire, plain = client.wire, client.wire.transport
                assert plain is not None
                plain.write(V1)
                if not together:
                    await asyncio.sleep(0.02)
                secured = await asyncio.get_running_loop().start_tls(plain, wire, trusting_context())
                assert secured is not None
                wire.connection_made(secured)
                assert (await client.bind()).command_status == 0
                wire.abort()

    play(story, loop)


@pytest.mark.parametrize("header", UNKNOWN)
def test_a_client_that_the_proxy_does_not_know_is_from_nowhere(tmp_path: Path, header: bytes) -> None:
    far = Account(system_id="far", password="secret", networks=PROXY)

    async def story() -> None:
        async with taking(tmp_path, ACCOUNT, far, proxy_from=PROXY) as intake:
            client = await behind(intake, header)
            assert (await client.bind("far")).command_status != 0, "the proxy's address is not the client's"
            assert (await client.bind("app")).command_status == 0
            client.wire.abort()

    play(story)


@both_loops
@pytest.mark.parametrize(
    "header",
    [
        encode(BindTransceiver(system_id=b"app", password=b"secret"), 1), b"PROXY TCP4 x\r\n", V1[:-2] + b"\n",
        SIGNATURE + b"\x31\x11\0\0", b"PROXY " + b"x" * 70_000, b"PROXY TCP4 192.0.2.9\r\n", V2[:-4],
    ],
)  # fmt: skip
def test_a_listed_proxy_must_say_it_and_in_time(tmp_path: Path, loop: str, header: bytes) -> None:
    async def story() -> None:
        limits = {"intake": Intake(proxy_timeout=0.1)}
        async with taking(tmp_path, proxy_from=PROXY, tables=limits) as intake:
            client = await behind(intake, header)
            await client.ended()
            await until(lambda: not intake.listener.connections)
            assert list(intake.binds.all()) == []

    play(story, loop)


def test_nobody_else_may_say_it(tmp_path: Path) -> None:
    """To others it is a PDU of 1,347,571,544 octets."""

    async def story() -> None:
        async with taking(tmp_path, proxy_from=("192.0.2.1",)) as intake:
            reader, writer = await asyncio.open_connection(*intake.listener.address)
            writer.write(V1)
            assert (await reader.read())[4:8] == b"\x80\0\0\0", "generic_nack"
            writer.close()
            async with intake.bound():
                pass

    play(story)


def test_a_place_is_taken_of_the_clients_address_and_not_of_the_proxys(tmp_path: Path) -> None:
    async def story() -> None:
        limits = {"intake": Intake(max_connections_per_address=1)}
        async with taking(tmp_path, proxy_from=PROXY, tables=limits) as intake:
            first = await behind(intake, V1)
            assert (await first.bind()).command_status == 0
            second = await behind(intake, V1)
            await second.ended()
            other = await behind(intake, V1.replace(b"2.9", b"2.8"))
            assert (await other.bind()).command_status == 0
            for client in (first, other):
                client.wire.abort()
            await until(lambda: not intake.listener.connections)

    play(story)


@both_loops
def test_a_stop_does_not_wait_for_a_header(tmp_path: Path, loop: str) -> None:
    async def story() -> None:
        async with taking(tmp_path, proxy_from=PROXY, tables={"intake": Intake(proxy_timeout=3600)}) as intake:
            client = await behind(intake, V1[:9])
            await until(lambda: intake.listener.connections)
        await client.ended()

    play(story, loop)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(lambda rest: SIGNATURE + rest),
                 st.binary(max_size=60).map(lambda rest: b"PROXY " + rest + b"\r\n")))  # fmt: skip
def test_any_bytes_end_it_or_begin_smpp(tmp_path: Path, data: bytes) -> None:
    async def story() -> None:
        limits = {"intake": Intake(proxy_timeout=0.05)}
        async with taking(tmp_path, proxy_from=PROXY, tables=limits) as intake:
            client = await behind(intake, data)
            await asyncio.sleep(0.002)
            client.wire.abort()
            await until(lambda: not intake.listener.connections)

    play(story)
