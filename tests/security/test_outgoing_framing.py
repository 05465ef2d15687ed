"""Checklist, framing on the way out: whatever content is handed in, a server sees one message and its end."""

import itertools

import pytest

from engine.protocol import smtp_content
from engine.protocol.smtp_content import (
    SLICE_BYTES,
    WHOLE_BYTES,
    Content,
    dot_stuffed,
    is_framed,
    needs_nothing,
    reframed,
)
from tests.support.smtp_script import Peer, envelope, fates, open_session, run, scripted, send

#: Known smuggling sequences, each around a fake end of data.
SMUGGLED = [
    b"x" + before + b"." + after + b"MAIL FROM:<evil@x.test>" + b"\r\n"
    for before, after in itertools.product((b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\0\r\n"), repeat=2)
]


def everything(prefix: bytes, content: bytes, stuffed: bool) -> bytes:
    """All that goes out for a content, slice by slice or whole."""
    parts = Content(prefix, content)
    if parts.small:
        return parts.whole(stuffed)
    pieces, last = [], False
    while not last:
        piece, last = parts.take(stuffed)
        pieces.append(bytes(piece))
    return b"".join(pieces)


def received(wire: bytes) -> list[bytes]:
    """The lines a strict server finds between DATA and the dot; asserts that the dot ends everything."""
    assert is_framed(wire)
    lines = (wire + b".\r\n").split(b"\r\n")
    end = lines.index(b".")
    assert lines[end:] == [b".", b""]
    return [line.removeprefix(b".") for line in lines[:end]]


@pytest.mark.parametrize("content", SMUGGLED)
@pytest.mark.parametrize("padding", [0, WHOLE_BYTES, SLICE_BYTES - 30, SLICE_BYTES * 2])
def test_no_sequence_ends_the_data_early(content: bytes, padding: int) -> None:
    whole = b"y" * padding + content
    assert b"\r\n".join(received(everything(b"", whole, stuffed=True))) + b"\r\n" == reframed(whole)
    assert everything(b"", whole, stuffed=False) == reframed(whole)


@pytest.mark.parametrize("cut", range(-4, 5))
def test_crlf_dot_crlf_across_a_slice_edge(cut: int) -> None:
    content = b"y" * (SLICE_BYTES + cut) + b"\r\n.\r\n..\r\n.z\r\n"
    wire = everything(b"", content, stuffed=True)
    assert wire.endswith(b"y\r\n..\r\n...\r\n..z\r\n")
    assert b"\r\n".join(received(wire)) + b"\r\n" == content
    assert everything(b"", content, stuffed=False) == content


@pytest.mark.parametrize("size", [0, 100, WHOLE_BYTES, 3 * SLICE_BYTES])
@pytest.mark.parametrize("start", [b".", b"..", b".\r\n", b"\n.\n"])
def test_a_dot_that_comes_first(size: int, start: bytes) -> None:
    content = start + b"x" * size + b"\r\n"
    for prefix in (b"", b"DKIM-Signature: x\r\n"):
        wire = everything(prefix, content, stuffed=True)
        assert b"\r\n".join(received(wire)) + b"\r\n" == prefix + reframed(content)


@pytest.mark.parametrize("end", [b"", b"\r", b"\n", b".", b"\r\n.", b"x"])
@pytest.mark.parametrize("size", [10, 2 * SLICE_BYTES, 2 * SLICE_BYTES - 1])
def test_the_last_line_is_always_ended(end: bytes, size: int) -> None:
    for stuffed in (True, False):
        wire = everything(b"", b"x" * size + end, stuffed)
        assert wire.endswith(b"\r\n")
        assert is_framed(wire)


@pytest.mark.parametrize("prefix", [b"A: b", b"A: b\n", b"A: b\r", b"A: b\nC: d\r\n"])
def test_a_prefix_cannot_run_into_the_content(prefix: bytes) -> None:
    for size in (10, 2 * SLICE_BYTES):
        wire = everything(prefix, b"Subject: x\r\n\r\n" + b"x" * size + b"\r\n", stuffed=True)
        assert b"\r\nSubject: x\r\n" in wire
        assert is_framed(wire)


def test_a_framed_content_is_not_copied() -> None:
    content = (b"x" * 76 + b"\r\n") * 200
    assert Content(b"", content).whole(stuffed=True) is content
    large = content * 100
    piece, _ = Content(b"", large).take(stuffed=True)
    assert isinstance(piece, memoryview)
    assert piece.obj is large


def test_what_is_said_to_need_nothing_is_what_stuffing_and_framing_leave_alone() -> None:
    """Every content of up to seven of the bytes that matter."""
    for length in range(1, 8):
        for content in map(bytes, itertools.product(b"\r\n.x", repeat=length)):
            alone = reframed(content) == content == dot_stuffed(content) and content.endswith(b"\r\n")
            assert needs_nothing(content) == alone, content


def test_an_empty_content() -> None:
    assert everything(b"", b"", stuffed=True) == b""
    assert dot_stuffed(b"") == b""


def test_slices_are_bounded() -> None:
    parts, last = Content(b"", b"x" * (5 * smtp_content.SLICE_BYTES)), False
    while not last:
        piece, last = parts.take(stuffed=True)
        assert len(piece) <= SLICE_BYTES + 2


@pytest.mark.parametrize("offer", [("PIPELINING",), ("PIPELINING", "CHUNKING"), ("CHUNKING",), ()])
@pytest.mark.parametrize("size", [0, WHOLE_BYTES, 3 * SLICE_BYTES])
def test_a_server_reads_one_message_whatever_it_holds(offer: tuple[str, ...], size: int) -> None:
    content = b"x" * size + b"".join(SMUGGLED)
    taken: list[bytes] = []

    async def server(peer: Peer) -> None:
        await peer.greet(*offer)
        await peer.answer(b"250 ok\r\n")
        await peer.answer(b"250 ok\r\n")
        if "CHUNKING" in offer:
            while True:
                verb, count, *last = (await peer.line()).split()
                assert verb == b"BDAT"
                taken.append(await peer.exactly(int(count)))
                await peer.send(b"250 2.0.0 ok\r\n")
                if last:
                    break
        else:
            await peer.answer(b"354 go\r\n")
            taken.append(b"\r\n".join(received((await peer.content()).removesuffix(b".\r\n"))) + b"\r\n")
            await peer.send(b"250 2.0.0 ok\r\n")
        assert await peer.line() == b"QUIT"
        await peer.send(b"221 bye\r\n")
        assert await peer.rest() == b""

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            outcomes = await send(session, envelope(), content)
            assert fates(outcomes) == [("DELIVERED", "RECIPIENT", "2.0.0", "end-of-data")]
            await session.quit()
        assert b"".join(taken) == reframed(content)

    run(test)
