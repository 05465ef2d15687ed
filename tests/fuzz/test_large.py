"""Large contents against small ones: whatever the size limit and the cuts, one reading of every byte (P2)."""

import asyncio
import base64
import hashlib
import itertools
import re

import pytest
from dkim.canonicalization import Relaxed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.base.settings import Intake
from engine.base.units import Size
from engine.intake import reader, smtp
from engine.message.dkim import BodyHash
from engine.protocol.smtp_content import Content, Reframer, StreamedContent, reframed
from tests.support.intake import run, running

few = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
HEAD = b"EHLO a.example\r\nMAIL FROM:<a@b.example> SMTPUTF8\r\nRCPT TO:<c@d.example>\r\n"
FRAMED = [
    b"From: a@b.example\r\n", b"Subject:\r\n x\r\n", b"X-Postrider-Class: bulk\r\n", b"Date: today\r\n",
    b"Message-ID: <a@b>\r\n", b"\r\n", b".", b"..", b"\r\n.", b"\r\n..\r\n", b"text", b"\xc3\xa4", b" ", b"x" * 40,
    b"\0",
]  # fmt: skip
framed = st.lists(st.sampled_from(FRAMED), max_size=25).map(b"".join)
loose = st.lists(st.sampled_from([*FRAMED, b"\r", b"\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r"]), max_size=25).map(b"".join)
cuts = st.lists(st.integers(0, 600), max_size=12)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place for place in places if place < len(data)}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


@pytest.fixture(autouse=True, scope="module")
def small_pieces():
    with pytest.MonkeyPatch.context() as patch:
        for module in (reader, smtp):
            patch.setattr(module, "PIECE_BYTES", 10)
        yield


def same(data: bytes) -> bytes:
    """Without what differs from message to message."""
    data = re.sub(rb"\w{3}, \d\d \w{3} \d{4} [\d:]{8} \+0000", b"DATE", data)
    return re.sub(rb"\b[0-9A-Za-z]{14}\b", b"ID", data)


async def outcome(intake: Intake, large_bytes: int, pieces: list[bytes]) -> tuple[bytes, list[tuple[object, ...]]]:
    """Replies, and what is stored."""
    async with running(intake=intake, large_bytes=large_bytes) as server:
        async with server.client() as client:
            await client.reader.readline()
            connection = next(iter(server.listener._connections))
            for piece in pieces:
                connection.data_received(piece)
                await asyncio.sleep(0)
            client.writer.write_eof()
            answer = await client.rest()
        await server.sessions_end()
        assert all(writer.finished or writer.aborted for writer in server.store.writers)
        assert server.metrics.internal_errors.labels("intake").value == 0
        stored = [
            (same(m.content), m.envelope.body, m.envelope.smtputf8, m.envelope.message_class, m.envelope.header_from,
             m.envelope.content_bytes == len(m.content))
            for m in server.store.messages
        ]  # fmt: skip
        return same(answer), stored


def compare(intake: Intake, large_bytes: int, pieces: list[bytes]) -> None:
    async def scenario() -> None:
        small = await outcome(intake, 1 << 20, pieces)
        assert await outcome(intake, large_bytes, pieces) == small

    run(scenario)


@few
@given(loose, cuts, st.integers(1, 300), st.sampled_from([20, 60, 1000]))
def test_data_is_read_the_same_at_every_size(content, places, large_bytes, header_bytes):
    wire = content + b"\r\n.\r\nNOOP\r\n"
    pieces = [HEAD, b"DATA\r\n", *cut(wire, places)]
    compare(Intake(max_header_bytes=Size(header_bytes), max_bad_commands=1000), large_bytes, pieces)


@few
@given(framed, cuts, st.integers(1, 90))
def test_the_size_limit_of_data_is_as_exact(content, places, large_bytes):
    wire = re.sub(rb"\r\n\.(?=\r\n)", b"\r\n..", b"\r\n" + content + b"\r\n")[2:] + b".\r\nNOOP\r\n"
    compare(Intake(max_message_bytes=Size(100)), large_bytes, [HEAD, b"DATA\r\n", *cut(wire, places)])


@few
@given(loose, cuts, cuts, st.integers(1, 300))
def test_bdat_is_read_the_same_at_every_size(content, chunks, places, large_bytes):
    parts = cut(content, chunks)
    wire = b"".join(b"BDAT %d\r\n%b" % (len(part), part) for part in parts) + b"BDAT 0 LAST\r\nNOOP\r\n"
    compare(Intake(max_message_bytes=Size(400)), large_bytes, [HEAD, *cut(wire, places)])


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n"]), max_size=40).map(b"".join), cuts)
def test_reframing_in_pieces_is_reframing(content, places):
    frame = Reframer()
    pieces = [frame.feed(piece) for piece in cut(content, [place % 60 for place in places])]
    whole = reframed(content)
    assert b"".join([*pieces, frame.end()]) == (whole if whole.endswith(b"\r\n") or not whole else whole + b"\r\n")


@given(loose, cuts, st.booleans())
def test_content_goes_out_the_same_in_pieces(content, places, stuffed):
    parts = cut(b"X: y\r\n" + content, places)
    streamed = StreamedContent(parts[0], sum(map(len, parts[1:])))
    sent, last = [], False
    for part in parts[1:]:
        streamed.feed(part)
    while not last:
        piece, last = streamed.take(stuffed)
        sent.append(bytes(piece))
    assert streamed.take(stuffed) is None
    assert b"".join(sent) == Content(b"X: y\r\n", content).whole(stuffed)


@given(
    st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"bc", b"\r\n\r\n", b"  "]), max_size=40).map(b"".join), cuts
)
def test_body_hash_does_not_depend_on_the_cuts(body, places):
    hashed = BodyHash()
    for piece in cut(body, [place % 50 for place in places]):
        hashed.update(piece)
    ended = body if body.endswith(b"\r\n") or not body else body + b"\r\n"
    theirs = Relaxed.canonicalize_body(ended)
    assert hashed.result() == base64.b64encode(hashlib.sha256(b"" if theirs == b"\r\n" else theirs).digest())
