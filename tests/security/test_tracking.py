"""Checklist, tracker: no token but ours, no target but http and https, no line that was not meant, no slow client."""

import asyncio
import contextlib
import http.client
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings, TlsFiles
from engine.message.ids import join_id, node_number, split_id
from engine.message.link_token import LinkTokens
from engine.storage.ledger.sent import Sent
from engine.tools.certificate import self_signed
from engine.tracking.listener import TrackingListener
from tests.support.clock import ClockLoop, FakeClock, breathe
from tests.support.engine import PATIENCE_S, wait_until
from tests.support.tracking import LINKS, TOKENS, Mailing, Redirect, fetch, paths, post, redirect

ADA, BOB = "ada@one.test", "bob@two.test"
#: Links that no rewriter makes, which a table on a bad disk might have.
ODD = (
    "javascript:alert(1)",
    "//evil.example/",
    "https://a.example/\r\nSet-Cookie: a=b",
    "https://a.example/\nx",
    "data:text/html,x",
    "https://a.example/a b",
    "https://a.example/größe",
)


class Site:
    """A redirector and what was sent."""

    def __init__(self, running: Redirect, sent: dict[str, Sent]) -> None:
        self.running, self.sent = running, sent
        self.port = running.port

    def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """All that is said to these bytes until the end."""
        answer = b""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as client,
            contextlib.suppress(ConnectionError),
        ):
            client.sendall(data)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            while piece := client.recv(65536):
                answer += piece
        return answer


async def _note(data: Path) -> dict[str, Sent]:
    mailing = Mailing(data)
    old = time.time() - 400 * 86400
    sent = {
        "usual": mailing.note(ADA, tenant="acme", stream="news", batch="b1"),
        "two": mailing.note(ADA, BOB, tenant="acme", stream="news"),
        "odd": mailing.note(ADA, links=ODD),
        "old": mailing.note(ADA, sent_at=old),
        "anonymous": mailing.note(level="anonymous"),
        "unsubscribe": mailing.note(BOB, tenant="acme", stream="news"),
        "untracked": mailing.note(BOB, level="none", links=()),
    }
    await mailing.close()
    return sent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path = tmp_path_factory.mktemp("tracking")
    sent = asyncio.run(_note(path / "data"))
    with redirect(path, "[intake]\nmax_connections_per_address = 20\n") as running:
        yield Site(running, sent)
        running.stop()
        assert "Traceback" not in running.log.read_text()


# ---- tokens


def test_a_click_is_a_redirect_that_tells_nobody_where_from(site: Site) -> None:
    answer = fetch(site.port, paths(site.sent["usual"], 3)[0])
    assert answer.status == 302
    assert answer.headers["location"] == LINKS[0]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "server" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert answer.body == b""


@pytest.mark.parametrize("link", [0, 1, 2, 3, 7])
def test_every_flipped_bit_of_a_token_is_404_and_always_the_same(site: Site, link: int) -> None:
    path = paths(site.sent["usual"], link)[0]
    front, _, token = path.removesuffix(".gif").rpartition("/")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    rng = random.Random(link)
    answers = set()
    for at in range(len(token)):
        other = rng.choice([char for char in alphabet if char != token[at]])
        answer = fetch(site.port, f"{front}/{token[:at]}{other}{token[at + 1 :]}{'.gif' * (link == 1)}")
        answers.add(
            (answer.status, answer.body, tuple(sorted(answer.headers.items() - {("date", answer.headers["date"])})))
        )
    assert len(answers) == 1
    assert next(iter(answers))[0] == 404


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1], lambda token: token[1:], lambda token: token + "A", lambda token: token * 2,
        lambda token: "",
        lambda token: token + "=", lambda token: token + "%00", lambda token: token.lower(), lambda token: f"{token}/",
        lambda token: f"{token}/x", lambda token: "A" * 28, lambda token: "A" * 5000, lambda token: f"../c/{token}x",
        lambda token: f"%2e%2e/{token[:-1]}B", lambda token: f"{token}\u00e9".encode().hex(),
    ],
)  # fmt: skip
def test_what_is_no_whole_token_is_404(site: Site, change: object) -> None:
    front, _, token = paths(site.sent["usual"], 3)[0].rpartition("/")
    assert fetch(site.port, f"{front}/{change(token)}").status in (404, 400)  # type: ignore[operator]


def test_a_token_of_another_kind_is_404(site: Site) -> None:
    """The MAC is about the kind: who has a click link has no unsubscribe."""
    leave, picture, trap, click = (
        path.rpartition("/")[2].removesuffix(".gif") for path in paths(site.sent["usual"], 0, 1, 2, 3)
    )
    for kind, tokens in (("c", (leave, picture)), ("o", (leave, click, trap)), ("u", (picture, click, trap))):
        for token in tokens:
            assert fetch(site.port, f"/{kind}/{token}").status == 404
            assert post(site.port, f"/{kind}/{token}").status == 404


def test_a_token_of_another_key_is_404(site: Site) -> None:
    for key in (bytes(32), bytes(range(1, 33))):
        token = LinkTokens({1: key}).made(site.sent["usual"].id, None, [3])[0].decode()
        assert fetch(site.port, f"/c/{token}").status == 404


def test_nothing_can_be_enumerated(site: Site) -> None:
    """Neighbours of a valid token, in message, link and recipient, made without the key: none is answered."""
    sent = site.sent["usual"]
    packed, node = split_id(sent.id)
    guess = LinkTokens({1: bytes(32)})
    assert node_number(node)
    for step in range(-10, 11):
        for link in (0, 3, 4):
            token = guess.made(join_id(packed + step, node), None, [link])[0].decode()
            assert fetch(site.port, f"/{'u' if not link else 'c'}/{token}").status == 404


def test_an_expired_token_leads_to_a_page(site: Site) -> None:
    answer = fetch(site.port, paths(site.sent["old"], 3)[0])
    assert answer.status == 410
    assert "location" not in answer.headers
    assert "leads nowhere any more" in answer.text
    assert "больше никуда" in fetch(site.port, paths(site.sent["old"], 3)[0], Accept_Language="ru").text


def test_a_token_of_a_message_that_nobody_knows_leads_to_the_same_page(site: Site) -> None:
    packed, node = split_id(site.sent["usual"].id)
    unknown = TOKENS.made(join_id(packed + (1 << 40), node), None, [3, 0])
    assert fetch(site.port, f"/c/{unknown[0].decode()}").status == 410
    assert post(site.port, f"/u/{unknown[1].decode()}").status == 410


def test_a_recipient_or_link_that_there_is_not_leads_nowhere(site: Site) -> None:
    sent = site.sent["two"]
    beyond = TOKENS.made(sent.id, 7, [0])[0].decode()
    assert fetch(site.port, f"/u/{beyond}").status == 410
    no_link = TOKENS.made(sent.id, 0, [100])[0].decode()
    assert fetch(site.port, f"/c/{no_link}").status == 404


# ---- targets


@pytest.mark.parametrize("number", range(len(ODD)))
def test_an_odd_target_is_404_whatever_the_table_says(site: Site, number: int) -> None:
    answer = fetch(site.port, paths(site.sent["odd"], 3 + number)[0])
    assert answer.status == 404
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers


def test_a_request_cannot_name_a_target(site: Site) -> None:
    path = paths(site.sent["usual"], 3)[0]
    for more in ("?url=https://evil.example", "?next=//evil.example", "#//evil.example"):
        assert fetch(site.port, path + more).headers["location"] == LINKS[0]
    answer = fetch(
        site.port, path, Host="evil.example", X_Forwarded_Host="evil.example", X_Original_URL="//evil.example"
    )
    assert answer.headers["location"] == LINKS[0]
    for front in ("//evil.example", "/\\evil.example", "/https://evil.example"):
        assert fetch(site.port, front + path).status == 404


# ---- requests


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X: a\r\n b\x00c\r\n",
        b"X\x00: a\r\n",
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused_once(site: Site, fields: bytes) -> None:
    path = paths(site.sent["usual"], 3)[0].encode()
    answer = site.raw(
        b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n0\r\n\r\nGET " + path + b" HTTP/1.1\r\n\r\n"
    )
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("length", [300, 5_000, 15_000, 1_000_000])
def test_huge_paths_are_refused(site: Site, length: int) -> None:
    answer = site.raw(b"GET /c/" + b"A" * length + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer[:12] in (b"HTTP/1.1 404", b"HTTP/1.1 431", b"")
    assert answer or length > 100_000


def test_huge_and_many_fields_are_refused(site: Site) -> None:
    one = site.raw(b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n")
    many = site.raw(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 100_000 + b"\r\n")
    for answer in (one, many):
        assert answer.startswith(b"HTTP/1.1 431") or not answer, "cut off, the answer perhaps with it"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("link", [1, 3])
def test_other_methods_are_405(site: Site, method: str, link: int) -> None:
    assert fetch(site.port, paths(site.sent["usual"], link)[0], method).status == 405


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"\x00" * 100, b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\n\r\n"],
)
def test_what_is_no_request_is_refused(site: Site, data: bytes) -> None:
    answer = site.raw(data, half_close=True)
    assert not answer or answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 404")


def test_an_upgrade_is_not_taken(site: Site) -> None:
    path = paths(site.sent["usual"], 3)[0].encode()
    answer = site.raw(
        b"GET "
        + path
        + b" HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 302 ")


def test_pipelined_clicks_are_answered_in_order(site: Site) -> None:
    links = paths(site.sent["usual"], 3, 4, 5)
    requests = [f"GET {path} HTTP/1.1\r\nHost: a\r\n" for path in links]
    answer = site.raw(("\r\n".join(requests) + "Connection: close\r\n\r\n").encode())
    found = [line for line in answer.decode().split("\r\n") if line.startswith("location")]
    assert found == [f"location: {LINKS[number]}" for number in range(3)]


def test_a_long_form_is_refused_and_changes_nothing(site: Site) -> None:
    answer = post(site.port, paths(site.sent["unsubscribe"], 0)[0], "do=all&" + "a" * 10_000)
    assert answer.status == 413
    assert site.running.events("unsubscribed") == []


# ---- clients


def test_one_address_has_so_many_connections_and_others_have_theirs(site: Site) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", site.port), source_address=("127.0.0.9", 0)))
        with socket.create_connection(("127.0.0.1", site.port), PATIENCE_S, source_address=("127.0.0.9", 0)) as last:
            assert last.recv(1) == b""
        assert fetch(site.port, paths(site.sent["usual"], 3)[0]).status == 302

    def again() -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return fetch(site.port, paths(site.sent["usual"], 3)[0], host="127.0.0.9").status == 302
        return False

    wait_until(again, "a free place")


# ---- unsubscribing


def test_a_get_changes_nothing_whoever_asks(site: Site) -> None:
    path = paths(site.sent["unsubscribe"], 0)[0]
    for method in ("GET", "HEAD"):
        for query in ("", "?List-Unsubscribe=One-Click", "?do=all"):
            assert fetch(site.port, path + query, method, agent="Barracuda Sentinel").status == 200
    assert site.running.events("unsubscribed") == []


def test_the_page_is_for_its_reader_alone(site: Site) -> None:
    answer = fetch(site.port, paths(site.sent["unsubscribe"], 0)[0])
    headers = answer.headers
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-robots-tag"] == "noindex, nofollow"
    assert headers["cache-control"] == "no-store"
    assert "set-cookie" not in headers
    for text in ("<script", "http://", "https://", BOB, "bob", "two.test"):
        assert text not in answer.text
    assert "b•••@t•••.test" in answer.text


@pytest.mark.parametrize(
    "form", ["", "x=y", "do=", "do=everything", "List-Unsubscribe=", "List-Unsubscribe=Two-Click", "\x00" * 50]
)
def test_a_form_that_is_none_changes_nothing(site: Site, form: str) -> None:
    answer = post(site.port, paths(site.sent["unsubscribe"], 0)[0], form)
    assert answer.status == 400
    assert "Please press one of the buttons" in answer.text
    assert site.running.events("unsubscribed") == []


def test_robots_are_told_to_stay_away(site: Site) -> None:
    assert fetch(site.port, "/robots.txt").text == "User-agent: *\nDisallow: /\n"


# ---- slow clients, by a clock that jumps


class Slow:
    """A listener on a loop whose time is told."""

    def __init__(self, path: Path, tls: TlsFiles | None = None) -> None:
        self.clock = FakeClock(time.time())
        self.loop = ClockLoop(self.clock)
        self._row = Listener(kind="tracking", address="127.0.0.1:0", tls=tls)
        self._path = path

    def __enter__(self) -> "Slow":
        async def begin() -> TrackingListener:
            ready = asyncio.Event()
            ready.set()
            listener = TrackingListener(self._row, Settings(), self._answer, ready, Metrics())
            await listener.start()
            return listener

        self.listener = self.loop.run_until_complete(begin())
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            await self.listener.close()
            await self.listener.drain(self.loop.time())

        self.loop.run_until_complete(end())
        self.loop.close()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def client(self, data: bytes = b"") -> socket.socket:
        client = socket.create_connection(self.listener.address[:2], timeout=PATIENCE_S)
        client.sendall(data)
        self.until(lambda: self.listener.connections > 0)
        return client

    def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.loop.run_until_complete(breathe())

    def jump(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.loop.run_until_complete(self.loop.jump(1.0))


@pytest.mark.parametrize(
    "data",
    [b"", b"G", b"GET /c/", b"GET / HTTP/1.1\r\nHost: a\r\nX-", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\na"],
)
def test_a_request_that_is_not_here_in_time_is_cut_off(tmp_path: Path, data: bytes) -> None:
    with Slow(tmp_path) as slow, slow.client(data):
        slow.jump(9)
        if not data.startswith(b"POST"):  # which was answered; what follows is read for nobody
            assert slow.listener.connections == 1
        slow.jump(8)
        assert slow.listener.connections == 0


def test_one_byte_a_second_buys_no_time(tmp_path: Path) -> None:
    with Slow(tmp_path) as slow, slow.client(b"GET / HTTP/1.1\r\n") as client:
        for _ in range(9):
            client.sendall(b"X")
            slow.jump(1)
        assert slow.listener.connections == 1
        slow.jump(3)
        assert slow.listener.connections == 0


def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    with Slow(tmp_path) as slow, slow.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        client.setblocking(False)
        answer: list[bytes] = []

        def answered() -> bool:
            with contextlib.suppress(BlockingIOError):
                answer.append(client.recv(1000))
            return bool(answer)

        slow.until(answered)
        assert answer[0].startswith(b"HTTP/1.1 204 ")
        slow.jump(7)
        assert slow.listener.connections == 0


def test_a_handshake_that_does_not_end_is_cut_off(tmp_path: Path) -> None:
    for name, pem in zip(("cert.pem", "key.pem"), self_signed("click.test"), strict=True):
        (tmp_path / name).write_bytes(pem)
    tls = TlsFiles(cert=str(tmp_path / "cert.pem"), key=str(tmp_path / "key.pem"))
    with Slow(tmp_path, tls) as slow, slow.client(b"\x16\x03\x01\x02\x00"):
        slow.jump(8)
        assert slow.listener.connections == 1
        slow.jump(5)
        assert slow.listener.connections == 0
