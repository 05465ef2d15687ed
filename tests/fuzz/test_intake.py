"""Intake against P1 (any bytes give replies or an end, never an internal error) and P2 (chunks do not matter)."""

import asyncio
import itertools
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.base.settings import Intake
from engine.intake.connection import Connection
from tests.support.intake import MESSAGE, Running, run, running

#: A dialogue in which nothing has to wait for a reply, with much in it that is wrong.
DIALOGUE = (
    b"EHLO a.example\r\nFOO\r\nMAIL FROM:<a@b.example> SIZE=10\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<bad\r\n"
    + b"BDAT %d LAST\r\n%b" % (len(MESSAGE), MESSAGE)
    + b"MAIL FROM:<>\r\nBDAT 12\r\nMAIL FROM:<>RSET\r\nmail from:<x@y.example>\r\nRCPT TO:<c@d.example>\r\n"
    b"BDAT 4\r\nQUITBDAT 8 LAST\r\n\r\nDATA\r\nNOOP\r\nDATA\r\nHELO b.example\r\nMAIL FROM:<a@b.example>\r\nQUIT\r\n"
)
words = st.sampled_from(
    [
        *(line + b"\r\n" for line in DIALOGUE.split(b"\r\n")),
        b"DATA\r\n",
        b"\r\n.\r\n",
        b".",
        b"\r",
        b"\n",
        b"\0",
        b"\xff",
        b"AUTH PLAIN\r\n",
        b"STARTTLS\r\n",
        b"BDAT 5\r\n",
        b"BDAT 0 LAST\r\n",
        b"x" * 3000,
    ]
)
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


async def replies(intake: Running, pieces: list[bytes]) -> bytes:
    """What the server says to these pieces, handed to the protocol one by one, and then the end of input."""
    async with intake.client() as client:
        greeting = await client.reader.readline()
        connection: Connection = next(iter(intake.listener._connections))
        for piece in pieces:
            connection.data_received(piece)
            await asyncio.sleep(0)
        client.writer.write_eof()
        answer = await client.rest()
    await intake.sessions_end()
    return re.sub(rb"queued as \w+", b"queued", greeting + answer)


@few
@given(st.lists(st.integers(1, len(DIALOGUE) - 1), max_size=30))
def test_replies_do_not_depend_on_the_cuts(cuts: list[int]) -> None:
    async def scenario() -> None:
        async with running(intake=Intake(max_bad_commands=100)) as intake:
            edges = [0, *sorted(set(cuts)), len(DIALOGUE)]
            pieces = [DIALOGUE[a:b] for a, b in itertools.pairwise(edges)]
            assert await replies(intake, pieces) == await replies(intake, [DIALOGUE])
            assert [m.body for m in intake.store.messages] == [b"world\r\n", b"QUIT\r\nDATA\r\n"] * 2

    run(scenario)


@few
@given(st.lists(words, max_size=25))
def test_any_bytes_give_replies_and_an_end(pieces: list[bytes]) -> None:
    async def scenario() -> None:
        async with running() as intake:
            answer = await replies(intake, pieces)
            assert all(re.match(rb"[2345]\d\d[ -]", line) for line in answer.splitlines())
            assert intake.metrics.internal_errors.labels("intake").value == 0

    run(scenario)
