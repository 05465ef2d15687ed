"""Checklist, framing at intake: one reading of every byte, whatever its chunks; no smuggling through bare CR or LF."""

import asyncio
import itertools

import pytest

from engine.base.settings import Intake
from engine.base.units import Duration, Size
from tests.support.intake import DATA, ENVELOPE, MESSAGE, every_size, run, running

pytestmark = pytest.mark.usefixtures(every_size.__name__)

#: What other servers have taken for the end of data; none of it is.
FALSE_ENDS = [
    before + b"." + after
    for before, after in itertools.product((b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\0\r\n"), repeat=2)
    if not (before.endswith(b"\r\n") and after == b"\r\n")
]
SMUGGLED = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<victim@y.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nboo\r\n"


@pytest.mark.parametrize("end", FALSE_ENDS)
def test_only_crlf_dot_crlf_ends_data_and_bare_cr_or_lf_refuse_the_message(end: bytes) -> None:
    """After the real end the session goes on, and nothing behind the false one was a command."""

    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            code = (await client.ask(MESSAGE + b"x" + end + SMUGGLED + b".\r\n"))[:3]
            harmless = b"\r" not in end.replace(b"\r\n", b"") and b"\n" not in end.replace(b"\r\n", b"")
            assert code == ("250" if harmless else "550")
            assert await client.ask(b"NOOP\r\n") == "250 2.0.0 Ok"
            assert len(intake.store.messages) == harmless
            assert all(m.envelope.sender == "ada@example.org" for m in intake.store.messages)

    run(scenario)


def test_bare_line_ends_are_refused_with_a_reason() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            for content in (b"a\nb\r\n", b"a\rb\r\n", b"\n", b"a\r\r\nb\r\n", b"a\n\r\n"):
                await client.send(DATA)
                assert await client.replies(3) == [250, 250, 354]
                assert (await client.ask(content + b"\r\n.\r\n")).startswith("550 5.6.11")
            assert intake.store.messages == []
            assert intake.rejected("framing") == 5

    run(scenario)


@pytest.mark.parametrize("body", [b"", b".\r\n", b"..\r\n", b"a\r\n.b\r\n..\r\n", b"x\r\n.\r\ny\r\n"])
def test_message_is_the_same_for_every_place_of_a_cut(body: bytes) -> None:
    """P2: the stream is cut in two at every byte from DATA's content to the command behind it."""
    stuffed = b"".join(b"." + line if line.startswith(b".") else line for line in body.splitlines(keepends=True))
    wire = b"Subject: x\r\n\r\n" + stuffed + b".\r\nNOOP\r\n"

    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            for cut in range(len(wire) + 1):
                await client.send(DATA)
                assert await client.replies(3) == [250, 250, 354]
                connection = next(iter(intake.listener._connections))
                for piece in (wire[:cut], wire[cut:]):
                    # Straight into the protocol: sockets may join what is sent apart.
                    if piece:
                        connection.data_received(piece)
                assert await client.replies(2) == [250, 250]
            assert {m.body for m in intake.store.messages} == {body}
            assert len(intake.store.messages) == len(wire) + 1

    run(scenario)


def test_message_may_start_with_the_end() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            assert (await client.ask(b".\r\n")).startswith("250")
            assert intake.store.messages[0].header.startswith(b"Received: from client.example")

    run(scenario)


def test_one_byte_writes_give_the_same_message() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            connection = next(iter(intake.listener._connections))
            for byte in DATA[:-1]:
                connection.data_received(bytes([byte]))
            connection.data_received(b"\n")
            assert await client.replies(3) == [250, 250, 354]
            for byte in MESSAGE + b".\r\n":
                connection.data_received(bytes([byte]))
            assert await client.replies(1) == [250]
            assert intake.store.messages[0].body == b"world\r\n"

    run(scenario)


@pytest.mark.parametrize(
    "line", [b"NOOP\n", b"NO\rOP\r\n", b"NOOP\r\r\n", b"\n", b"NOOP\n\r\n", b"MAIL FROM:<a@b.c>\n"]
)
def test_command_line_with_bare_cr_or_lf_ends_the_session(line: bytes) -> None:
    """A line ends in CRLF. Another reading of these bytes may exist in front of us, so nothing more is read."""

    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(line + ENVELOPE)
            answer = await client.rest()
            assert answer.startswith(b"521 5.5.2 ")
            assert answer.count(b"\r\n") == 1

    run(scenario)


@pytest.mark.parametrize("data", [b"DATA\r\n", b"data\r\n", b"DATA \r\n"])
def test_input_behind_data_before_354_closes_the_session(data: bytes) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(ENVELOPE + data + MESSAGE + b".\r\n")
            answer = await client.rest()
            assert answer.splitlines()[2].startswith(b"503 5.5.0 ")
            assert len(answer.splitlines()) == 3
            assert intake.store.messages == []

    run(scenario)


def test_after_a_refused_message_the_rest_is_not_parsed_as_commands() -> None:
    async def scenario() -> None:
        limit = Intake(max_message_bytes=Size(1000))
        async with running(intake=limit) as intake, intake.session() as client:
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            await client.send(b"x" * 200_000 + b"\r\n" + SMUGGLED + b".\r\n")
            assert (await client.reply())[0] == 552
            assert await client.ask(b"RSET\r\n") == "250 2.0.0 Ok"
            assert intake.store.messages == []

    run(scenario)


def test_size_limit_is_exact_and_dots_do_not_count() -> None:
    """RFC 1870 6.1: stuffed dots are no part of the size."""

    async def scenario() -> None:
        body = b".x\r\n" * 100
        limit = Intake(max_message_bytes=Size(len(body)))
        async with running(intake=limit) as intake, intake.session() as client:
            for content, code in ((body, "250"), (body[:-2] + b"y\r\n", "552")):
                await client.send(DATA)
                assert await client.replies(3) == [250, 250, 354]
                stuffed = content.replace(b".x", b"..x")
                assert (await client.ask(stuffed + b".\r\n"))[:3] == code
            assert len(intake.store.messages) == 1

    run(scenario)


def test_oversized_message_is_not_kept_in_memory() -> None:
    async def scenario() -> None:
        limit = Intake(max_message_bytes=Size(1000))
        async with running(intake=limit) as intake, intake.session() as client:
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            connection = next(iter(intake.listener._connections))
            for _ in range(100):
                connection.data_received(b"x" * 65536)
                await asyncio.sleep(0)  # where a transport would be paused
                assert len(connection._reader._buffer) <= 1000 + 2 * 65536
            connection.data_received(b"\r")
            connection.data_received(b"\n.\r")
            connection.data_received(b"\nNOOP\r\n")
            assert await client.replies(2) == [552, 250]

    run(scenario)


def test_disconnect_inside_data_queues_nothing() -> None:
    async def scenario() -> None:
        async with running() as intake:
            async with intake.session() as client:
                await client.send(DATA)
                assert await client.replies(3) == [250, 250, 354]
                await client.send(MESSAGE + b"\r\n.")
            await intake.sessions_end()
            assert intake.store.messages == []

    run(scenario)


def test_message_is_accepted_though_the_client_leaves_before_its_reply() -> None:
    """It was handed to the store, so it is kept, once and whole; the reply has nobody to go to."""

    async def scenario() -> None:
        async with running() as intake:
            store = intake.store
            store.hold, store.waiting = asyncio.Event(), asyncio.Event()
            async with intake.session() as client:
                await client.send(DATA)
                assert await client.replies(3) == [250, 250, 354]
                await client.send(MESSAGE + b".\r\n")
                await store.waiting.wait()
                client.reset()
            await intake.sessions_end()
            store.waiting.clear()
            store.hold.set()
            await store.waiting.wait()
            assert [m.body for m in store.messages] == [b"world\r\n"]

    run(scenario)


@pytest.mark.parametrize("goodbye", [b"QUIT\r\n", b""])
def test_client_that_shuts_down_its_sending_side_still_gets_its_reply(goodbye: bytes) -> None:
    """Also one that comes when the end of the input is known already."""

    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            store = intake.store
            store.hold, store.waiting = asyncio.Event(), asyncio.Event()
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            await client.send(MESSAGE + b".\r\n" + goodbye)
            await store.waiting.wait()
            next(iter(intake.listener._connections)).eof_received()
            store.hold.set()
            assert b"queued as" in await client.rest()
            assert len(intake.store.messages) == 1

    run(scenario)


def test_data_has_a_deadline_that_bytes_do_not_move() -> None:
    """Slow-loris: a byte now and then keeps nothing open."""

    async def scenario() -> None:
        limit = Intake(data_timeout=Duration(0.2), command_timeout=Duration(60))
        async with running(intake=limit) as intake, intake.session() as client:
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            ended = asyncio.create_task(client.rest())
            while not ended.done():
                client.writer.write(b"x")
                await asyncio.sleep(0.01)
            assert b"421 4.4.2 " in ended.result()
            assert intake.store.messages == []

    run(scenario)
