"""What is posted to URLs of others: never to private addresses, never elsewhere, never without end, always signed."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from engine.feed.post import FRESH_S, SIGNATURE, TIMESTAMP, body_of, is_signed, signed_headers
from engine.net.dns_query import Finding, Record, RecordType
from engine.net.http_post import HttpPoster, PostFailed, literal_refusal
from engine.net.resolver import Answer
from engine.tools.certificate import server_context
from tests.support.clock import FakeClock, breathe
from tests.support.engine import wait_until
from tests.support.lookup import ZoneLookup
from tests.support.ports import free_port

Answerer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ZONE = """
private.test A 10.0.0.1
mixed.test A 10.0.0.1
mixed.test A 8.8.8.8
mixed.test AAAA ::1
here.test A 127.0.0.1
"""


class Rebinding:
    """A name whose address is another one each time it is looked up."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)
        self.asked: Counter[RecordType] = Counter()

    async def lookup(self, name: str, kind: RecordType) -> Answer:
        self.asked[kind] += 1
        if kind != "A":
            return Answer(finding=Finding.NO_DATA, expires_at=0.0)
        address = self._addresses.pop(0)
        return Answer(finding=Finding.FOUND, expires_at=0.0, records=(Record(address),))


class Server:
    """Answers each request with these bytes, or as `answer` does. requests: their heads."""

    def __init__(self, says: bytes = OK, answer: Answerer | None = None) -> None:
        self._says, self._answer = says, answer
        self.requests: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                self.requests.append(head)
                if self._answer is not None:
                    await self._answer(reader, writer)
                else:
                    writer.write(self._says)
                    await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def serving(
    server: Server, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    listening = await asyncio.start_server(server.serve, host, port, ssl=tls)
    try:
        yield server
    finally:
        listening.close()
        for writer in server.writers:
            writer.transport.abort()
        await breathe()


async def post(poster: HttpPoster, url: str, timeout_s: float = 20.0) -> int:
    try:
        return await poster.post(url, b"{}", {}, timeout_s)
    finally:
        await poster.close()


def poster(allow_private: bool = False) -> HttpPoster:
    return HttpPoster(ZoneLookup(ZONE, FakeClock()), allow_private)


#: An address to whoever connects: full-width and other digits, ideographic dots.
DISGUISED = ["127。0。0。1", "１２７.0.0.1", "127｡0．0.①", "127.0.0.1\u00ad"]


@pytest.mark.parametrize("host", DISGUISED)
def test_an_address_in_disguise_is_one(host: str) -> None:
    assert literal_refusal(f"https://{host}/", allow_private=False)
    assert not literal_refusal("https://bücher.example/", allow_private=False)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "LOCALHOST", "[::1]", "0.0.0.0", "[::]", "10.1.2.3", "172.16.0.1", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]", "127.1", "2130706433", "0177.0.0.1", "0x7f000001", "private.test", "here.test", "224.0.0.1",
        *DISGUISED,
    ],
)  # fmt: skip
def test_no_private_address_is_connected_to(host: str) -> None:
    async def story() -> None:
        port = free_port()
        async with serving(Server(), port) as server:
            with pytest.raises(PostFailed) as failed:
                await post(poster(), f"http://{host}:{port}/secret")
            assert server.requests == []
            assert "secret" not in str(failed.value)

    asyncio.run(story())


def test_of_several_addresses_only_the_public_ones_are_used() -> None:
    assert asyncio.run(poster().addresses("mixed.test")) == ["8.8.8.8"]
    with pytest.raises(OSError, match=r"private\.test: its address is private or reserved, and allow_private is off"):
        asyncio.run(poster().addresses("private.test"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "here.test"])
def test_private_addresses_where_they_are_allowed(host: str) -> None:
    async def story() -> None:
        port = free_port()
        async with serving(Server(), port):
            assert await post(poster(allow_private=True), f"http://{host}:{port}/") == 200

    asyncio.run(story())


def test_what_was_looked_at_is_what_is_connected_to() -> None:
    """A name that is another address a moment later (DNS rebinding): it is looked up once for a connection."""

    async def story() -> None:
        port, dns = free_port(), Rebinding("127.0.0.1", "127.0.0.2", "127.0.0.3")
        async with serving(Server(), port) as first, serving(Server(), port, "127.0.0.2") as second:
            assert await post(HttpPoster(dns, True), f"http://moves.test:{port}/") == 200
            assert (len(first.requests), len(second.requests)) == (1, 0)
            assert dns.asked == {"A": 1, "AAAA": 1}
            assert b"Host: moves.test" in first.requests[0]

    asyncio.run(story())


def test_each_connection_is_looked_at_anew() -> None:
    async def story() -> None:
        dns = Rebinding("8.8.8.8", "127.0.0.1")
        sender = HttpPoster(dns, False)
        assert await sender.addresses("moves.test") == ["8.8.8.8"]
        with pytest.raises(PostFailed, match="allow_private is off"):
            await post(sender, f"http://moves.test:{free_port()}/")

    asyncio.run(story())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    async def story() -> None:
        here, there = free_port(), free_port()
        says = f"HTTP/1.1 {status} Go\r\nLocation: http://127.0.0.1:{there}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with serving(Server(says), here) as one, serving(Server(), there) as other:
            with pytest.raises(PostFailed) as failed:
                await post(poster(allow_private=True), f"http://127.0.0.1:{here}/")
            assert failed.value.status == status
            assert (len(one.requests), len(other.requests)) == (1, 0)

    asyncio.run(story())


def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    async def story() -> None:
        port = free_port()
        async with serving(Server(), port, tls=server_context("localhost")) as server:
            with pytest.raises(PostFailed, match="certificate verify failed"):
                await post(poster(allow_private=True), f"https://localhost:{port}/")
            assert server.requests == []

    asyncio.run(story())


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def endless_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 4000 + b"\r\n")
        await writer.drain()


async def dripping_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"H")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("answer", [silent, endless_head, dripping_head])
def test_an_answer_that_does_not_come_has_its_time(answer: Answerer) -> None:
    async def story() -> None:
        port = free_port()
        async with serving(Server(answer=answer), port):
            with pytest.raises(PostFailed) as failed:
                await post(poster(allow_private=True), f"http://127.0.0.1:{port}/", timeout_s=0.3)
            assert failed.value.status == 0

    asyncio.run(story())


async def slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nx")
    await reader.read()


async def endless_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def bomb(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz")
    await writer.drain()


@pytest.mark.parametrize("answer", [slow_body, endless_body, bomb])
def test_an_answer_counts_whatever_its_body_is(answer: Answerer) -> None:
    """The events were taken; the rest is cut off and never unpacked."""

    async def story() -> None:
        port = free_port()
        async with serving(Server(answer=answer), port):
            assert await post(poster(allow_private=True), f"http://127.0.0.1:{port}/") == 202

    asyncio.run(story())


SECRET, NOW = "s" * 32, 1_800_000_000.0
BODY = body_of("shop", "mx.test", 0, [b'{"id":"1.0"}\n'])


def test_what_we_sign_verifies() -> None:
    headers = signed_headers(SECRET, BODY, NOW)
    assert headers[TIMESTAMP] == "1800000000"
    assert is_signed(SECRET, headers, BODY, NOW + FRESH_S)


@pytest.mark.parametrize(
    ("secret", "changes", "body", "now"),
    [
        ("t" * 32, {}, BODY, NOW),
        (SECRET, {}, BODY + b" ", NOW),
        (SECRET, {TIMESTAMP: "1800000001"}, BODY, NOW),
        (SECRET, {TIMESTAMP: ""}, BODY, NOW),
        (SECRET, {TIMESTAMP: "9" * 400}, BODY, NOW),
        (SECRET, {SIGNATURE: ""}, BODY, NOW),
        (SECRET, {SIGNATURE: "v1=é"}, BODY, NOW),
        (SECRET, {}, BODY, NOW + FRESH_S + 1),
        (SECRET, {}, BODY, NOW - FRESH_S - 1),
    ],
)
def test_what_does_not_verify(secret: str, changes: dict[str, str], body: bytes, now: float) -> None:
    """Another secret, another body or time, a replay."""
    assert not is_signed(secret, signed_headers(SECRET, BODY, NOW) | changes, body, now)


def test_the_receiver_of_the_readme(tmp_path: Path) -> None:
    """It takes what we sign, and nothing else."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    code = textwrap.dedent(
        "    import hashlib" + readme.partition("    import hashlib")[2].partition("\n\nIts host")[0]
    )
    port = free_port()
    (tmp_path / "shop.secret").write_text(f"{SECRET}\n")
    program = [sys.executable, "-c", code.replace('("", 8080)', f'("127.0.0.1", {port})')]
    with subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            wait_until(lambda: answers(port), "the receiver")
            event = b'{"id":"1.0","type":"delivered","recipient":"ada@example.org"}\n'
            for body in (body_of("shop", "mx.test", 0, [event]), body_of("shop", "mx.test", 1, [event, event])):
                headers = signed_headers(SECRET, body, time.time())
                assert send(port, body, headers) == 204
                assert send(port, body + b" ", headers) == 401
                assert send(port, body, signed_headers("t" * 32, body, time.time())) == 401
                assert send(port, body, signed_headers(SECRET, body, time.time() - 3600)) == 401
                assert send(port, body, {}) == 401
        finally:
            running.kill()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def send(port: int, body: bytes, headers: dict[str, str]) -> int:
    async def story() -> int:
        sender = poster(allow_private=True)
        try:
            return await sender.post(f"http://127.0.0.1:{port}/", body, headers, 20.0)
        except PostFailed as exc:
            return exc.status
        finally:
            await sender.close()

    return asyncio.run(story())
