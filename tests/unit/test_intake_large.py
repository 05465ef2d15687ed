"""Messages that are written while they arrive: what becomes of them when the disk, the client or we fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine.base.errors import StorageError
from engine.base.settings import Intake
from engine.base.units import Size
from tests.support.intake import ENVELOPE, MESSAGE, MemoryStore, RawClient, Running, run, running

DATA = ENVELOPE + b"DATA\r\n"
BODY = b"a line of many\r\n" * 40_000
#: Would do harm if it were read as commands.
TRAP = b"QUIT\r\n" * 20_000


class Pausing:
    """A transport that tells when it is paused."""

    def __init__(self, transport: asyncio.Transport, paused: asyncio.Event) -> None:
        self._transport = transport
        self._paused = paused

    def pause_reading(self) -> None:
        self._transport.pause_reading()
        self._paused.set()

    def resume_reading(self) -> None:
        self._transport.resume_reading()


@asynccontextmanager
async def taking(store: MemoryStore | None = None) -> AsyncIterator[tuple[Running, RawClient]]:
    async with running(store, large_bytes=1000) as intake, intake.session() as client:
        yield intake, client


def by_data(content: bytes) -> bytes:
    return content + b".\r\n"


def by_bdat(content: bytes) -> bytes:
    half = len(content) // 2
    return b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (half, content[:half], len(content) - half, content[half:])


@pytest.mark.parametrize("size", [1000 - len(MESSAGE), 2 << 20])
def test_only_what_is_beyond_large_bytes_goes_to_a_file(size: int) -> None:
    async def scenario() -> None:
        async with taking() as (intake, client):
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            content = MESSAGE + b"x" * (size - 2) + b"\r\n"
            assert (await client.ask(by_data(content)))[:3] == "250"
            assert len(intake.store.writers) == (len(content) > 1000)
            assert intake.store.messages[0].body == content.partition(b"\r\n\r\n")[2]

    run(scenario)


@pytest.mark.parametrize("fault", [StorageError("no space"), ValueError("a fault of ours")], ids=["disk", "ours"])
def test_a_write_that_fails_is_451_after_the_end_and_nothing_of_the_rest_is_a_command(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with taking(MemoryStore(large_fault=fault)) as (intake, client):
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            assert (await client.ask(by_data(MESSAGE + BODY + TRAP))).startswith("451 4.3.0 ")
            await client.send(ENVELOPE + by_bdat(MESSAGE + BODY + TRAP))
            codes = await client.replies(4)
            assert codes[:3] == [250, 250, 451]
            assert await client.ask(b"NOOP\r\n") == "250 2.0.0 Ok"
            assert intake.store.messages == []
            assert all(writer.aborted for writer in intake.store.writers)
            intake.store.large_fault = None
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            assert (await client.ask(by_data(MESSAGE + BODY)))[:3] == "250"
        assert "Traceback" in caplog.text or isinstance(fault, StorageError)

    run(scenario)


@pytest.mark.parametrize("start", [DATA, ENVELOPE + b"BDAT 500000\r\n", ENVELOPE + b"BDAT 500000 LAST\r\n"])
def test_a_client_that_leaves_in_the_middle_leaves_nothing(start: bytes) -> None:
    async def scenario() -> None:
        async with running(large_bytes=1000) as intake:
            async with intake.session() as client:
                await client.send(start)
                await client.replies(2)
                await client.send(BODY[:400_000])
                async with asyncio.timeout(20):
                    await intake.store.writing.wait()
                client.reset()
            await intake.sessions_end()
            assert [writer.aborted for writer in intake.store.writers] == [True]
            assert intake.store.messages == []

    run(scenario)


@pytest.mark.parametrize("command", [b"RSET\r\n", b"EHLO again.example\r\n"])
def test_a_transaction_that_is_given_up_between_chunks_leaves_nothing(command: bytes) -> None:
    async def scenario() -> None:
        async with taking() as (intake, client):
            await client.send(ENVELOPE + b"BDAT %d\r\n" % len(BODY) + BODY + command)
            assert await client.replies(4) == [250, 250, 250, 250]
            assert [writer.aborted for writer in intake.store.writers] == [True]

    run(scenario)


@pytest.mark.parametrize("send", [by_data, by_bdat])
def test_a_message_over_the_limit_leaves_nothing(send) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        limit = Intake(max_message_bytes=Size(300_000))
        async with running(intake=limit, large_bytes=1000) as intake, intake.session() as client:
            await client.send(ENVELOPE)
            await client.replies(2)
            if send is by_data:
                await client.send(b"DATA\r\n")
                await client.replies(1)
            await client.send(send(MESSAGE + BODY))
            assert (await client.replies(2 - (send is by_data)))[-1] == 552
            assert all(writer.aborted for writer in intake.store.writers)
            assert intake.store.messages == []

    run(scenario)


def test_a_header_that_is_refused_leaves_nothing() -> None:
    async def scenario() -> None:
        async with taking() as (intake, client):
            for header in (b"From: a@b.example\r\nFrom: c@d.example\r\n\r\n", b"X: y\r\n" * 100_000):
                await client.send(DATA)
                assert await client.replies(3) == [250, 250, 354]
                assert (await client.ask(by_data(header + BODY)))[:3] in ("550", "552")
            assert [writer.aborted for writer in intake.store.writers] == [True, True]

    run(scenario)


def test_a_client_is_not_read_while_the_disk_is_behind() -> None:
    """Back-pressure: what waits is a buffer of the reader, and the sockets'."""

    async def scenario() -> None:
        store = MemoryStore(gate=asyncio.Event())
        async with taking(store) as (intake, client):
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            client.writer.write(by_data(MESSAGE + BODY * 20))
            connection = next(iter(intake.listener._connections))
            paused = asyncio.Event()
            connection._reader._transport = Pausing(connection.transport, paused)
            async with asyncio.timeout(20):
                await paused.wait()
            assert len(connection._reader._buffer) < 1 << 20
            assert len(store.writers[0].pieces) == 1
            store.gate.set()
            assert (await client.reply())[0] == 250
            assert store.messages[0].body == MESSAGE.partition(b"\r\n\r\n")[2] + BODY * 20

    run(scenario)
