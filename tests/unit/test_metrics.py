"""The instruments, and the HTTP listener that shows them: who gets an answer, and what a slow client can hold."""

import contextlib
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.base.errors import ConfigError, NetworkError
from engine.base.instruments import Instrument
from engine.base.metrics import Metrics
from engine.base.settings import Listener, TlsFiles
from engine.daemon.http import MetricsServer

#: Labels whose values come from settings or from a fixed list. An address, a domain or a host name is none.
BOUNDED_LABELS = {
    "kind",
    "webhook",
    "command",
    "status",
    "provider",
    "class",
    "result",
    "reason",
    "state",
    "action",
    "where",
    "le",
    "level",
    "verdict",
    "carrier",
    "what",
    "type",
}


def listener(**fields: object) -> Listener:
    return Listener(kind="http", address="127.0.0.1:0", **fields)  # type: ignore[arg-type]  # chosen by the test


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def server(metrics: Metrics) -> Iterator[MetricsServer]:
    server = MetricsServer(listener(), metrics.registry, lambda: metrics.queued.labels("waiting").set(3))
    server.start()
    yield server
    server.close()


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{server.address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def connect(server: MetricsServer) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def test_no_label_takes_unbounded_values(metrics: Metrics) -> None:
    for collector in list(metrics.registry._collector_to_names):
        names = collector.labelnames if isinstance(collector, Instrument) else getattr(collector, "_labelnames", ())
        assert set(names) <= BOUNDED_LABELS


def test_two_engines_in_one_process_do_not_mix(metrics: Metrics) -> None:
    other = Metrics()
    other.accepted.labels("bulk").inc()
    assert metrics.registry.get_sample_value("postrider_accepted_total", {"class": "bulk"}) is None


def test_metrics_are_collected_at_the_scrape(server: MetricsServer, metrics: Metrics) -> None:
    metrics.accepted.labels("bulk").inc(5)
    status, text = get(server, "/metrics")
    assert status == 200
    samples = {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}
    assert samples["postrider_accepted_total"].value == 5
    assert samples["postrider_queue_deliveries"].value == 3


@pytest.mark.parametrize(
    ("path", "status", "start"),
    [("/", 200, "postrider"), ("/health", 200, "ok"), ("/nothing", 404, "not found"), ("/metrics/..", 404, "not")],
)
def test_the_other_pages(server: MetricsServer, path: str, status: int, start: str) -> None:
    found, text = get(server, path)
    assert found == status
    assert text.startswith(start)


@pytest.mark.parametrize("request_text", [b"\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"x" * 70000])
def test_nonsense_gets_an_error_and_the_next_client_an_answer(server: MetricsServer, request_text: bytes) -> None:
    with connect(server) as client:
        client.sendall(request_text)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(65536):
                pass
    assert get(server, "/health")[0] == 200


def test_clients_outside_the_networks_are_closed_without_a_word(metrics: Metrics) -> None:
    server = MetricsServer(listener(networks=("192.0.2.0/24",)), metrics.registry)
    server.start()
    try:
        with connect(server) as client:
            assert client.recv(100) == b""
    finally:
        server.close()


def test_slow_clients_are_cut_off_and_cannot_take_all_threads(metrics: Metrics) -> None:
    """Twice as many silent clients as there are threads: the first make room at once, the others end in time."""
    server = MetricsServer(listener(), metrics.registry, request_s=0.2)
    server.start()
    before = threading.active_count()
    try:
        clients = [connect(server) for _ in range(32)]
        for client in clients:
            with contextlib.suppress(ConnectionError):
                client.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        for client in clients:
            with client, contextlib.suppress(ConnectionError):
                assert client.recv(100) == b""
        # A thread ends a moment after its client saw the end.
        while threading.active_count() > before:
            threading.Event().wait(0.001)
        assert get(server, "/health")[0] == 200
    finally:
        server.close()


def test_silent_clients_keep_nobody_from_the_metrics(metrics: Metrics) -> None:
    server = MetricsServer(listener(), metrics.registry, request_s=60)
    server.start()
    try:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(connect(server)) for _ in range(40)]
            assert get(server, "/health")[0] == 200
            assert silent[0].recv(100) == b"", "the one that was there longest"
    finally:
        server.close()


def test_a_collector_that_fails_is_a_500_and_not_the_end(metrics: Metrics) -> None:
    def fail() -> None:
        raise RuntimeError("no snapshot")

    server = MetricsServer(listener(), metrics.registry, fail)
    server.start()
    try:
        assert get(server, "/metrics")[0] == 500
        assert get(server, "/health")[0] == 200
    finally:
        server.close()


def test_an_address_that_is_taken_is_a_clear_error(server: MetricsServer, metrics: Metrics) -> None:
    with pytest.raises(NetworkError, match=f"listener {server.address}: Address already in use"):
        MetricsServer(Listener(kind="http", address=server.address), metrics.registry)


def test_a_server_that_never_started_closes(metrics: Metrics) -> None:
    MetricsServer(listener(), metrics.registry).close()


def test_tls(tmp_path: Path, metrics: Metrics) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    server = MetricsServer(listener(tls=TlsFiles(cert=str(cert), key=str(key))), metrics.registry)
    server.start()
    try:
        # A client that speaks no TLS does not hold up the one that does.
        with connect(server) as silent:
            context = ssl.create_default_context(cafile=str(cert))
            with urllib.request.urlopen(f"https://{server.address}/health", timeout=30, context=context) as answer:
                assert answer.read() == b"ok\n"
            silent.close()
    finally:
        server.close()


def test_a_certificate_that_is_not_there_is_a_mistake_in_the_settings(metrics: Metrics) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        MetricsServer(listener(tls=TlsFiles(cert="/nowhere/cert.pem", key="/nowhere/key.pem")), metrics.registry)
