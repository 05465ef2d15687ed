"""Checklist, HTTP: who gets an answer, what a slow client costs, and no request that can be read in two ways."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from engine.base.metrics import Metrics
from engine.base.settings import Listener
from engine.daemon.http import MetricsServer

GUARD_S = 20.0


@contextlib.contextmanager
def serving(networks: tuple[str, ...] = (), request_s: float = GUARD_S) -> Iterator[MetricsServer]:
    listener = Listener(kind="http", address="127.0.0.1:0", networks=networks)
    server = MetricsServer(listener, Metrics().registry, request_s=request_s)
    server.start()
    try:
        yield server
    finally:
        server.close()


def ask(server: MetricsServer, request: bytes, source: str = "127.0.0.1") -> bytes:
    """All that the server says to these bytes until it closes."""
    host, _, port = server.address.rpartition(":")
    answer = b""
    with (
        socket.create_connection((host, int(port)), timeout=GUARD_S, source_address=(source, 0)) as client,
        contextlib.suppress(ConnectionError),
    ):
        client.sendall(request)
        while data := client.recv(65536):
            answer += data
    return answer


def status(answer: bytes) -> int:
    return int(answer.split()[1])


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"transfer-encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\ncontent-length: 0\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: +5\r\n",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_request_of_doubtful_length_is_refused_once(fields: bytes, method: bytes) -> None:
    smuggled = b"0\r\n\r\nGET /health HTTP/1.1\r\n\r\n"
    with serving() as server:
        answer = ask(server, method + b" /health HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n" + smuggled)
        assert status(answer) == 400
        assert answer.count(b"HTTP/1.") == 1


def test_plain_request_with_a_length_is_answered() -> None:
    with serving() as server:
        answer = ask(server, b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert status(answer) == 200
        assert answer.endswith(b"\r\n\r\nok\n")


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"get", b"X"])
@pytest.mark.parametrize("path", [b"/metrics", b"/health", b"/nothing"])
def test_other_methods_are_405(method: bytes, path: bytes) -> None:
    with serving() as server:
        assert status(ask(server, method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")) == 405


@pytest.mark.parametrize("path", [b"/metrics", b"/health", b"/nothing"])
def test_head_is_get_without_the_body(path: bytes) -> None:
    with serving() as server:
        head = ask(server, b"HEAD " + path + b" HTTP/1.1\r\n\r\n")
        body = ask(server, b"GET " + path + b" HTTP/1.1\r\n\r\n")
        assert status(head) == status(body)
        assert head.endswith(b"\r\n\r\n")
        assert b"Content-Length: 0" not in head


def test_without_networks_only_this_machine_gets_an_answer() -> None:
    with serving() as server:
        request = b"GET /health HTTP/1.1\r\n\r\n"
        assert status(ask(server, request, "127.0.0.2")) == 200
        assert not any(
            server._server.verify_request(None, (peer, 1)) for peer in ("192.0.2.1", "10.0.0.1", "2001:db8::1")
        )
        assert server._server.verify_request(None, ("::1", 1))
        assert server._server.verify_request(None, ("::ffff:127.0.0.1", 1))


def test_forwarded_for_is_nobody() -> None:
    """The peer counts, whatever it says of others."""
    with serving(networks=("127.0.0.2/32",)) as server:
        fields = b"X-Forwarded-For: 127.0.0.2\r\nForwarded: for=127.0.0.2\r\n"
        assert ask(server, b"GET /health HTTP/1.1\r\n" + fields + b"\r\n") == b""
        assert status(ask(server, b"GET /health HTTP/1.1\r\n\r\n", "127.0.0.2")) == 200


def test_slow_client_is_cut_off() -> None:
    with serving(request_s=0.2) as server:
        assert ask(server, b"GET /health HTTP/1.1\r\nX-Slow: ") == b""
        assert status(ask(server, b"GET /health HTTP/1.1\r\n\r\n")) == 200
