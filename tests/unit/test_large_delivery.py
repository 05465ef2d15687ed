"""Large contents on their way out: read a little ahead, never ended when they cannot be read to their end."""

import asyncio
import contextlib
import re

import pytest

from engine.base.errors import StorageError
from engine.delivery.feeder import Feeder
from engine.message.content import SLICE_BYTES
from engine.protocol import smtp_content
from engine.protocol.smtp_content import StreamedContent
from tests.support.large import Readable
from tests.support.smtp_script import Peer, envelope, fates, open_session, run, scripted, send

HEAD = b"Subject: large\r\n\r\n"
LINE = b".a line that begins with a dot\r\n"
LARGE = HEAD + LINE * (5 * SLICE_BYTES // len(LINE)) + b"the end\r\n"
DELIVERED = ("DELIVERED", "RECIPIENT", "2.0.0", "end-of-data")


async def chunks(peer: Peer) -> bytes:
    """The content of BDAT chunks; each but the last is answered."""
    content = b""
    while True:
        match = re.fullmatch(rb"BDAT (\d+)( LAST)?", await peer.line())
        assert match and int(match[1]) <= smtp_content.SLICE_BYTES + len(HEAD) + 1
        content += await peer.exactly(int(match[1]))
        if match[2]:
            return content
        await peer.send(b"250 2.0.0 go on\r\n")


@pytest.mark.parametrize("keywords", [(), ("PIPELINING",), ("PIPELINING", "CHUNKING"), ("CHUNKING",)])
def test_every_byte_arrives_by_data_and_by_bdat(keywords: tuple[str, ...]) -> None:
    sent = Readable(LARGE)

    async def server(peer: Peer) -> None:
        await peer.greet(*keywords)
        for _ in range(2):
            if "PIPELINING" in keywords:
                await peer.answer(*[b"250 ok\r\n"] * 2, *[b"354 go\r\n"] * ("CHUNKING" not in keywords))
            else:
                for reply in (b"250 ok\r\n", b"250 ok\r\n", *[b"354 go\r\n"] * ("CHUNKING" not in keywords)):
                    await peer.answer(reply)
            if "CHUNKING" in keywords:
                assert await chunks(peer) == b"X: y\r\n" + LARGE
            else:
                stuffed = LARGE.replace(b"\r\n.", b"\r\n..")
                assert await peer.content() == b"X: y\r\n" + stuffed + b".\r\n"
            await peer.send(b"250 2.0.0 queued\r\n")

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            for _ in range(2):
                assert fates(await send(session, content=sent.content, prefix=b"X: y\r\n")) == [DELIVERED]
            session.abort()

    run(test)


def test_size_is_told_and_checked_before_anything_is_read() -> None:
    sent = Readable(LARGE)

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING", f"SIZE {len(LARGE) - 1}")
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            (outcome,) = await send(session, content=sent.content)
            assert outcome.status_code == "5.3.4"
            assert sent.reads == 0
            session.abort()

    run(test)


def test_no_more_is_read_ahead_than_two_slices() -> None:
    """A receiver that takes nothing costs no more memory, however long the content is."""
    sent = Readable(LARGE)

    async def test() -> None:
        body = StreamedContent(sent.head, len(sent.rest))
        arrived = asyncio.Event()
        feeder = Feeder(sent.content.rest(), body, arrived.set, lambda fault: None)
        got, last = b"", False
        while not last:
            arrived.clear()
            if (taken := body.take(stuffed=False)) is None:
                await arrived.wait()
                continue
            piece, last = taken
            got += piece
            assert body.waiting <= 2
            assert sent.reads * SLICE_BYTES <= len(got) + 2 * SLICE_BYTES
        assert got == LARGE
        feeder.stop()

    run(test)


@pytest.mark.parametrize(
    "broken",
    [Readable(LARGE, damaged=True), Readable(LARGE, fails_at=0), Readable(LARGE, fails_at=3)],
    ids=["checksum", "at once", "in the middle"],
)
@pytest.mark.parametrize("keywords", [("PIPELINING",), ("PIPELINING", "CHUNKING")])
def test_a_content_that_cannot_be_read_is_not_ended(broken: Readable, keywords: tuple[str, ...]) -> None:
    heard: list[bytes] = []

    async def server(peer: Peer) -> None:
        await peer.greet(*keywords)
        await peer.answer(b"250 ok\r\n", b"250 ok\r\n", *[b"354 go\r\n"] * ("CHUNKING" not in keywords))
        with contextlib.suppress(ConnectionResetError):  # what it said last was not read
            while data := await peer.some():
                heard.append(data)

    async def test() -> None:
        broken.reads = 0
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            with pytest.raises(StorageError):
                await send(session, content=broken.content)
            assert not session.usable
            transaction = session._client.transaction
            assert transaction is not None and not transaction.end_sent, "the receiver cannot have taken it"

    run(test)
    content = b"".join(heard)
    assert b"\r\n.\r\n" not in content
    assert b" LAST" not in content
    assert b"the end" not in content


def test_reading_ends_when_the_receiver_refuses() -> None:
    sent = Readable(LARGE)

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.answer(b"250 ok\r\n", b"550 5.1.1 nobody\r\n", b"503 5.5.1 no recipients\r\n")
        await peer.answer(b"250 ok\r\n")
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            (outcome,) = await send(session, envelope("nobody@example.test"), sent.content)
            assert outcome.status.name == "FAILED"
            assert sent.reads <= 2
            session.abort()

    run(test)
