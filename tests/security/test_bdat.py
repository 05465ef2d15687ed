"""Checklist, BDAT at intake (RFC 3030): the length frames, and nothing inside a chunk is ever a command."""

import pytest

from engine.base.settings import Intake
from engine.base.units import Size
from tests.support.intake import ENVELOPE, MESSAGE, every_size, run, running

pytestmark = pytest.mark.usefixtures(every_size.__name__)

TRICKY = b"QUIT\r\nMAIL FROM:<evil@x.test>\r\n.\r\n"


def test_chunks_make_one_message() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            half = len(MESSAGE) // 2
            first, second = MESSAGE[:half], MESSAGE[half:]
            await client.send(
                ENVELOPE
                + b"BDAT %d\r\n%bBDAT %d\r\n%bBDAT 0 LAST\r\n" % (len(first), first, len(second), second)
                + b"NOOP\r\n"
            )
            assert await client.replies(6) == [250] * 6
            assert intake.store.messages[0].body == b"world\r\n"
            assert intake.store.messages[0].splits == [("example.net", (0,))]

    run(scenario)


def test_content_is_taken_by_its_length_wherever_it_is_cut() -> None:
    """P2, with content that looks like commands and like the end of data."""
    wire = b"BDAT %d LAST\r\n" % len(TRICKY) + TRICKY + b"NOOP\r\n"

    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            connection = next(iter(intake.listener._connections))
            for cut in range(1, len(wire)):
                await client.send(ENVELOPE)
                assert await client.replies(2) == [250, 250]
                connection.data_received(wire[:cut])
                connection.data_received(wire[cut:])
                assert await client.replies(2) == [250, 250]
            assert len(intake.store.messages) == len(wire) - 1
            assert {m.body for m in intake.store.messages} == {TRICKY}

    run(scenario)


@pytest.mark.parametrize(
    "prelude", [b"", b"MAIL FROM:<a@b.example>\r\n", b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x>\r\n"]
)
def test_without_recipient_the_chunk_is_consumed_and_then_503(prelude: bytes) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(prelude)
            await client.replies(prelude.count(b"\n"))
            await client.send(b"BDAT %d LAST\r\n%bNOOP\r\n" % (len(TRICKY), TRICKY))
            assert await client.replies(2) == [503, 250]
            assert intake.store.messages == []

    run(scenario)


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b" ",
        b" -1",
        b" +5",
        b" 1e3",
        b" 0x10",
        b" 5 FIRST",
        b" 5 LAST LAST",
        b" LAST",
        b" 99999999999999999999",
        b" 5LAST",
    ],
)
def test_silly_size_closes_the_session(argument: bytes) -> None:
    """Where the chunk ends is unknown, so what follows cannot be told from commands."""

    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(ENVELOPE)
            assert await client.replies(2) == [250, 250]
            await client.send(b"BDAT" + argument + b"\r\n" + MESSAGE + b"NOOP\r\n")
            answer = await client.rest()
            assert answer.startswith(b"501 5.5.4 ")
            assert answer.count(b"\r\n") == 1
            assert intake.store.messages == []

    run(scenario)


def test_after_last_the_transaction_is_over() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(ENVELOPE + b"BDAT %d LAST\r\n%bBDAT 4 LAST\r\nNOOPNOOP\r\n" % (len(MESSAGE), MESSAGE))
            assert await client.replies(5) == [250, 250, 250, 503, 250]
            assert len(intake.store.messages) == 1

    run(scenario)


@pytest.mark.parametrize("command", [b"DATA\r\n", b"RCPT TO:<c@d.example>\r\n", b"MAIL FROM:<c@d.example>\r\n"])
def test_bdat_does_not_mix_with(command: bytes) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(ENVELOPE + b"BDAT 4\r\nabcd")
            assert await client.replies(3) == [250, 250, 250]
            assert (await client.ask(command)).startswith("503 5.5.1")
            assert (await client.ask(b"BDAT 2 LAST\r\n\r\n")).startswith("250")
            assert [m.body for m in intake.store.messages] == [b"abcd\r\n"]

    run(scenario)


def test_rset_inside_queues_nothing() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(ENVELOPE + b"BDAT 4\r\nabcdRSET\r\nBDAT 2 LAST\r\n\r\n")
            assert await client.replies(5) == [250, 250, 250, 250, 503]
            assert intake.store.messages == []

    run(scenario)


@pytest.mark.parametrize("data", [b"BDAT 4\r\nabcd", b"BDAT 400\r\nabcd", b"BDAT 400 LAST\r\nabcd"])
def test_disconnect_inside_queues_nothing(data: bytes) -> None:
    async def scenario() -> None:
        async with running() as intake:
            async with intake.session() as client:
                await client.send(ENVELOPE + data)
                assert await client.replies(2) == [250, 250]
            await intake.sessions_end()
            assert intake.store.messages == []

    run(scenario)


def test_size_is_limited_over_all_chunks_and_the_rest_consumed() -> None:
    async def scenario() -> None:
        async with running(intake=Intake(max_message_bytes=Size(100))) as intake, intake.session() as client:
            await client.send(ENVELOPE + b"BDAT 60\r\n" + b"a" * 60 + b"BDAT 60\r\n" + b"b" * 60)
            assert await client.replies(4) == [250, 250, 250, 552]
            await client.send(b"BDAT 20000\r\n" + b"c" * 20000 + b"BDAT 1 LAST\r\nd" + b"NOOP\r\n")
            assert await client.replies(3) == [552, 552, 250]
            assert intake.store.messages == []
            await client.send(ENVELOPE + b"BDAT 100 LAST\r\n" + b"a" * 98 + b"\r\n")
            assert await client.replies(3) == [250, 250, 250]

    run(scenario)


def test_bare_line_ends_are_made_crlf() -> None:
    """The length has framed the content, so they smuggle nothing; what is stored is framed by CRLF."""

    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            content = b"Subject: x\n\na\rb\n.\nc\r\nd"
            await client.send(ENVELOPE + b"BDAT %d LAST\r\n" % len(content) + content)
            assert await client.replies(3) == [250, 250, 250]
            assert intake.store.messages[0].body == b"a\r\nb\r\n.\r\nc\r\nd\r\n"

    run(scenario)
