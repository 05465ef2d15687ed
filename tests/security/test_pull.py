"""Checklist, events that are pulled: nobody's but the reader's own, no password in the clear, no slow client."""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Events, Intake, Listener, Settings, TlsFiles
from engine.feed import walk
from engine.feed.pull import Pull
from engine.feed.pull_desk import Desk
from engine.feed.pull_listener import PullListener
from engine.feed.pull_login import Logins
from engine.intake.guesses import Guesses
from engine.intake.http_asgi import reply
from engine.intake.http_listener import HttpListener
from engine.storage.events.event import Event
from engine.storage.events.journal import EventJournal, events_directory
from engine.storage.events.lines import noted_lines
from engine.tools.certificate import self_signed
from tests.support.clock import ClockLoop, FakeClock, breathe
from tests.support.engine import PATIENCE_S
from tests.support.pull import PASSWORD, basic

SHOP = {"Authorization": basic("shop")}


class Table:
    """Logins with the one password; broken: it cannot be read."""

    broken = False

    async def verify(self, login: str, password: str) -> bool:
        if self.broken:
            raise StorageError("no table")
        await asyncio.sleep(0)
        return login in ("ops", "shop", "Shop", "none") and password == PASSWORD


def event(seq: int, tenant: str, **fields: Any) -> bytes:
    """One event of a frame."""
    made = Event(
        id="", at=1000.0 + seq, type=fields.pop("type", "delivered"), message="0Hs7kQpf3Za2Wq", message_class="bulk",
        sender="ada@example.org", recipient="bob@example.org", destination="example.org", tenant=tenant, **fields,
    )  # fmt: skip
    return noted_lines(seq, [made])


class Site:
    """A listener on a loop whose time is told, over one journal."""

    def __init__(self, path: Path, networks: tuple[str, ...] = (), **intake: Any) -> None:
        self.clock = FakeClock(time.time())
        self.loop = ClockLoop(self.clock)
        self.metrics, self.table, self.data = Metrics(), Table(), path
        self.settings = Settings(intake=Intake(**intake), events=Events(readers=("ops",)))
        self.row = Listener(kind="events", address="127.0.0.1:0", networks=networks)
        self.journal = EventJournal(events_directory(path, 0), 1 << 30, 1e9)

    def __enter__(self) -> "Site":
        async def begin() -> None:
            self.desk = Desk(self.data, lambda: None, self.metrics)
            self.logins = Logins(self.table, Guesses(self.clock))
            self.listener = PullListener(self.row, self.settings, self.desk, self.logins, self.metrics)
            await self.listener.start()

        self.loop.run_until_complete(begin())
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            await self.listener.close()
            await self.listener.drain(self.loop.time())
            await self.desk.stop()
            await breathe()  # what was cut off is closed

        self.loop.run_until_complete(end())
        self.loop.close()
        self.journal.close()

    def write(self, *lines: bytes) -> None:
        self.journal.write(b"".join(lines))
        self.desk.wake()

    def client(self, data: bytes = b"", host: str = "127.0.0.1") -> socket.socket:
        client = socket.create_connection(self.listener.address[:2], PATIENCE_S, source_address=(host, 0))
        client.sendall(data)
        return client

    def until(self, done: Callable[[], bool], tick: float = 0.0) -> None:
        """tick: so many seconds go by between two looks."""
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline
            self.loop.run_until_complete(self.loop.jump(tick))

    def raw(self, data: bytes, host: str = "127.0.0.1") -> bytes:
        """All that is said to these bytes until the end; time goes by meanwhile."""
        answer, ended = b"", False
        with self.client(host=host) as client:
            client.setblocking(False)
            left = memoryview(data)

            def done() -> bool:
                nonlocal answer, ended, left
                with contextlib.suppress(BlockingIOError, BrokenPipeError):
                    left = left[client.send(left) :] if left else left
                try:
                    piece = client.recv(65536)
                    answer, ended = answer + piece, not piece
                except BlockingIOError:
                    pass
                except ConnectionError:
                    ended = True
                return ended

            self.until(done, tick=0.01)
        return answer

    def get(
        self, query: str = "", headers: dict[str, str] | None = None, path: str = "/events", method: str = "GET"
    ) -> "Said":
        fields = {"Host": "a", "Connection": "close", **(SHOP if headers is None else headers)}
        lines = [f"{method} {path}{query} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        return Said(self.raw("\r\n".join(lines).encode("latin-1")))


class Said:
    """An answer: status, head, body."""

    def __init__(self, data: bytes) -> None:
        self.head, _, self.body = data.partition(b"\r\n\r\n")
        self.status = int(self.head.split()[1])

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(json.loads(self.body)["events"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as running:
        yield running


# ---- whose


def test_no_spelling_of_a_tenant_reads_another_ones_events(site: Site) -> None:
    site.write(*(event(n, tenant) for n, tenant in enumerate(("shop", "SHOP", "shop ", "shop\0", "Shop", ""), 1)))
    assert [each["id"] for each in site.get().events] == ["1.0"]
    assert [each["id"] for each in site.get(headers={"Authorization": basic("Shop")}).events] == ["5.0"]
    assert site.get(headers={"Authorization": basic("none")}).events == []
    assert len(site.get(headers={"Authorization": basic("ops")}).events) == 6
    for login in ("SHOP", "shop ", " shop", "shop\0", "", "OPS", "ops\0", "*"):
        assert site.get(headers={"Authorization": basic(login)}).status == 401


def test_what_an_event_says_is_not_whose_it_is(site: Site) -> None:
    """Words of a peer, of a phone, of a client, that look like another tenant's."""
    fake = '","tenant":"shop","x":"'
    site.write(event(1, "other", reply=fake), event(2, "other", text=fake), event(3, 'a","tenant":"shop'))
    assert site.get().events == []
    assert len(site.get(headers={"Authorization": basic("ops")}).events) == 3


def test_a_cursor_says_the_same_whoever_asks_and_reads_nothing_else(site: Site) -> None:
    site.write(event(1, "other"), event(2, "shop"), event(3, "other"))
    for query in ("", "?after=0.0", "?after=1.0", "?after=oldest", "?types=delivered", "?limit=10000"):
        assert [each["id"] for each in site.get(query).events] == ["2.0"]


# ---- who


def test_a_login_and_a_wrong_password_are_answered_alike(site: Site) -> None:
    """So that nobody learns which logins, and tenants, there are."""
    answers = {
        (said.status, said.body, b"\r\n".join(sorted(said.head.lower().split(b"\r\n"))))
        for login in ("shop", "nobody", "SHOP", "ops")
        for said in [site.get(headers={"Authorization": basic(login, "guess")})]
    }
    assert len({(status, body) for status, body, _ in answers}) == 1
    assert site.get(headers={"Authorization": basic("shop", "guess")}, query="?wait=x").status == 401, "first of all"


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"Authorization": ""}, {"Authorization": "Basic"}, {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer x"}, {"Authorization": basic("shop") + "\r\nAuthorization: " + basic("ops")},
        {"Cookie": "a=b"},
    ],
)  # fmt: skip
def test_who_says_nothing_that_can_be_read_is_asked(site: Site, fields: dict[str, str]) -> None:
    said = site.get(headers=fields)
    assert said.status == 401
    assert b'www-authenticate: Basic realm="postrider", charset="UTF-8"' in said.head
    assert site.logins._guesses._failures == {}, "that was no guess"


def test_an_address_with_many_wrong_passwords_is_not_heard(tmp_path: Path) -> None:
    with Site(tmp_path, max_failed_logins_per_address=3) as site:
        for _ in range(3):
            assert site.get(headers={"Authorization": basic("shop", "guess")}).status == 401
        assert site.get().status == 429
        site.clock.advance(float(site.settings.intake.failed_login_window))
        assert site.get().status == 200


def test_a_wrong_password_is_answered_late(site: Site) -> None:
    request = f"GET /events HTTP/1.1\r\nAuthorization: {basic('shop', 'guess')}\r\n\r\n".encode()
    with site.client(request) as client:
        client.setblocking(False)
        site.until(lambda: bool(site.logins._guesses._failures))
        site.loop.run_until_complete(breathe())
        with pytest.raises(BlockingIOError):
            client.recv(1)
        site.until(lambda: received(client).startswith(b"HTTP/1.1 401 "), tick=0.01)


def received(client: socket.socket) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return client.recv(65536)
    return b""


def test_a_table_that_cannot_be_read_lets_nobody_in(site: Site) -> None:
    site.table.broken = True
    said = site.get()
    assert said.status == 503
    assert b"retry-after" in said.head


@pytest.mark.parametrize(
    ("scheme", "peer", "status"),
    [
        ("http", "127.0.0.1", 200), ("http", "::1", 200), ("http", "::ffff:127.0.0.1", 200),
        ("http", "192.0.2.1", 403), ("http", "2001:db8::1", 403), ("http", "10.0.0.1", 403), ("http", None, 403),
        ("https", "192.0.2.1", 200), ("https", "127.0.0.1", 200),
    ],
)  # fmt: skip
def test_passwords_only_under_tls_or_from_this_machine(site: Site, scheme: str, peer: str | None, status: int) -> None:
    said: list[Any] = []
    heard = [{"type": "http.request"}]

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> Any:
        if heard:
            return heard.pop()
        return await asyncio.get_running_loop().create_future()

    async def run() -> None:
        scope = {
            "type": "http", "path": "/events", "method": "GET", "query_string": b"", "scheme": scheme,
            "http_version": "1.1", "client": (peer, 1) if peer else None,
            "headers": [(b"authorization", basic("shop").encode()), (b"x-forwarded-proto", b"https"),
                        (b"x-forwarded-for", b"127.0.0.1")],
        }  # fmt: skip
        await Pull(site.desk, site.logins, lambda: site.settings, lambda: False)(scope, receive, send)

    site.loop.run_until_complete(run())
    assert said[0]["status"] == status


def test_others_than_those_of_networks_are_closed_without_a_word(tmp_path: Path) -> None:
    with Site(tmp_path / "a", ("127.0.0.9/32",)) as site:
        assert site.raw(b"GET /events HTTP/1.1\r\n\r\n") == b""
        assert site.raw(b"GET /events HTTP/1.0\r\n\r\n", host="127.0.0.9").startswith(b"HTTP/1.1 401")


# ---- requests


@pytest.mark.parametrize(
    "path", ["/", "/event", "/events/", "//events", "/events/..", "/EVENTS", "/metrics", "/events%00"]
)
def test_there_is_one_path(site: Site, path: str) -> None:
    assert site.get(path=path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_405(site: Site, method: str) -> None:
    said = site.get(method=method)
    assert said.status == 405
    assert b"allow: GET" in said.head


def test_a_mistake_says_which_and_only_in_the_body(site: Site) -> None:
    said = site.get("?limit=%0d%0aSet-Cookie:%20a=b%0d%0a%0d%0a<script>")
    assert said.status == 400
    assert b"set-cookie" not in said.head.lower()
    assert b"content-type: text/plain" in said.head
    assert b"x-content-type-options: nosniff" in said.head
    assert said.body.count(b"\n") == 1
    assert said.body.startswith(b"limit: ")
    for query in ("?x%0d%0aA:b=1", "?after=%0d%0aA:b", "?types=%0d%0aA:b"):
        said = site.get(query)
        assert (said.status, said.body.count(b"\n")) == (400, 1)


@pytest.mark.parametrize("length", [3_000, 15_000, 1_000_000])
def test_huge_queries_are_refused(site: Site, length: int) -> None:
    for query in ("after=" + "1:1.0," * (length // 6), "types=" + "a" * length, "a=b&" * (length // 4), "a" * length):
        request = f"GET /events?{query} HTTP/1.1\r\nConnection: close\r\nAuthorization: {basic('shop')}\r\n\r\n"
        answer = site.raw(request.encode())
        assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
        assert answer or length > 100_000


def test_words_of_others_stay_in_their_event(site: Site) -> None:
    """Whatever a peer said, the answer is the JSON that it was, and no header."""
    text = 'a"b\\c\r\nSet-Cookie: x\r\n\r\n\u2028\u0000\ud83d\ude00]}'.encode("utf-8", "surrogatepass").decode(
        "utf-8", "replace"
    )
    site.write(
        event(1, "shop", reply=text), b'{"id":"2.0","tenant":"shop","type":"\xff"}\n', b"{}}\n", event(3, "shop")
    )
    said = site.get()
    assert [each["id"] for each in said.events] == ["1.0", "3.0"]
    assert said.events[0]["reply"] == text
    assert b"set-cookie" not in said.head.lower()
    assert b"cache-control: no-store" in said.head


def test_http_1_0_has_a_piece_and_no_chunks(site: Site) -> None:
    site.write(*(event(n, "shop", reply="x" * 1000) for n in range(1, 2000)))
    said = Said(site.raw(f"GET /events?limit=10000 HTTP/1.0\r\nAuthorization: {basic('shop')}\r\n\r\n".encode()))
    assert b"chunked" not in said.head
    assert 100 < len(said.events) < 1000
    assert json.loads(said.body)["more"] is True


def test_an_answer_is_bounded(site: Site) -> None:
    site.write(*(event(n, "shop", reply="x" * 10_000) for n in range(1, 1000)))
    answer = site.raw(
        f"GET /events?limit=10000 HTTP/1.1\r\nConnection: close\r\nAuthorization: {basic('shop')}\r\n\r\n".encode()
    )
    assert 4 << 20 < len(answer) < 5 << 20


# ---- time


def test_who_waits_has_the_time_for_it_and_whoever_else_has_not(site: Site) -> None:
    """A request that does not end has ten seconds."""
    request = f"GET /events?after=now&wait=60 HTTP/1.1\r\nAuthorization: {basic('shop')}\r\n\r\n".encode()
    began = site.clock.time()
    with site.client(request) as client, site.client(b"GET /events?") as slow:
        client.setblocking(False)
        site.until(lambda: site.desk.readers == 1 and site.listener.connections == 2)
        site.until(lambda: site.listener.connections == 1, tick=0.1)
        assert site.clock.time() - began < 15
        assert slow.recv(1) == b""
        site.until(lambda: received(client).startswith(b"HTTP/1.1 200 "), tick=0.1)
        assert 60 <= site.clock.time() - began < 90
        assert site.desk.readers == 0


def test_who_does_not_read_is_cut_off(site: Site) -> None:
    site.write(*(event(n, "shop", reply="x" * 10_000) for n in range(1, 1000)))
    request = f"GET /events?limit=10000 HTTP/1.1\r\nAuthorization: {basic('shop')}\r\n\r\n".encode()
    with site.client(5 * request):
        site.until(lambda: site.desk.readers == 1)
        began = site.clock.time()
        site.until(lambda: site.listener.connections == 0 and site.desk.readers == 0, tick=0.1)
        assert 80 < site.clock.time() - began < 200, "once for each answer that it has read"


def test_whoever_hangs_up_has_no_place_also_with_a_second_request(site: Site) -> None:
    """uvicorn tells only the last of several requests that the client has gone."""
    request = f"GET /events?after=now&wait=60 HTTP/1.1\r\nAuthorization: {basic('shop')}\r\n\r\n".encode()
    began = site.clock.time()
    with site.client(2 * request):
        site.until(lambda: len(site.desk._waiters) == 1, tick=0.01)
    site.until(lambda: site.listener.connections == 0 and site.desk.readers == 0, tick=0.01)
    assert site.clock.time() - began < 30


def test_a_login_that_has_all_there_is_has_its_next_answer_a_moment_later(site: Site) -> None:
    """A reader in a loop costs the same, however fast it is and whether each event comes alone or not."""
    site.write(event(1, "shop"))
    began = site.clock.time()
    for _ in range(20):
        assert site.get().status == 200
    assert site.clock.time() - began > 1.8
    assert set(site.desk._next_at) == {"shop"}, "others have theirs"


def test_who_waits_goes_behind_what_is_not_for_him_without_a_look(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes is read once for all who wait, or a crowd of them would cost mail its share of the processor (E1)."""
    read = []
    decode = walk._head

    def noted(line: bytes) -> Any:
        read.append(line)
        return decode(line)

    monkeypatch.setattr(walk, "_head", noted)
    request = f"GET /events?after=now&wait=5 HTTP/1.1\r\nConnection: close\r\nAuthorization: {basic('shop')}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.client(request.encode())) for _ in range(10)]
        answers = dict.fromkeys(clients, b"")
        for client in clients:
            client.setblocking(False)
        site.until(lambda: len(site.desk._waiters) == 10, tick=0.01)
        for _ in range(3):  # each has looked once more
            site.loop.run_until_complete(site.desk.blocking(lambda: None))
            site.loop.run_until_complete(breathe())
        for number in range(1, 1001):
            site.write(event(number, "other"))
        site.until(lambda: len(read) >= 1000, tick=0.01)

        def done() -> bool:
            for client in clients:
                answers[client] += received(client)
            return all(answer.endswith(b"}\n") for answer in answers.values())

        site.until(done, tick=0.01)
        assert len(read) == 1000
        for answer in answers.values():
            assert json.loads(Said(answer).body) == {"events": [], "after": "1000.0"}


@pytest.mark.parametrize("secure", [True, False])
def test_whether_a_connection_is_secure_is_known(tmp_path: Path, secure: bool) -> None:
    """What decides whether a password may come from elsewhere: TLS, on the daemon's loop, not what a request says."""
    for name, pem in zip(("cert", "key"), self_signed("localhost"), strict=True):
        (tmp_path / name).write_bytes(pem)
    tls = TlsFiles(cert=str(tmp_path / "cert"), key=str(tmp_path / "key")) if secure else None
    row = Listener(kind="events", address="127.0.0.1:0", tls=tls)
    schemes: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        schemes.append(scope["scheme"])
        await reply(send, 204, ())

    async def run() -> None:
        listener = HttpListener(row, Settings(), app, Metrics())
        await listener.start()
        context = ssl._create_unverified_context() if secure else None
        reader, writer = await asyncio.open_connection(*listener.address[:2], ssl=context)
        writer.write(b"GET https://a/ HTTP/1.1\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 204 ")
        writer.close()
        await writer.wait_closed()
        await listener.close()
        await listener.drain(asyncio.get_running_loop().time() + 1)
        await breathe()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    assert schemes == ["https" if secure else "http"]
