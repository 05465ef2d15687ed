"""The HTTP listener: /metrics for Prometheus, /health for load balancers.

prometheus_client's WSGI application on its threading server, a thread per scrape, beside the event loop. Only clients
in `networks` get an answer, loopback if there are none; others are closed without a word. The number of threads is
bounded, and a request that is not done in time is cut off, so a slow client costs one thread for a short while.
GET and HEAD only; a request whose length can be read in two ways is refused (request smuggling).
"""

import contextlib
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from engine.base.errors import ConfigError, NetworkError
from engine.base.hostport import format_host_port, parse_host_port
from engine.base.settings import Listener, TlsFiles

log = logging.getLogger(__name__)

#: Prometheus gives a scrape ten seconds by default; a request takes milliseconds.
_REQUEST_S = 10.0
_MAX_THREADS = 16
_ROOM_S = 0.25  #: for a thread whose connection was cut off to end

_INDEX = b"postrider\n\n/metrics  for Prometheus\n/health   ok while the daemon serves\n"


class MetricsServer:
    """One HTTP listener, bound when made. Raises NetworkError (cannot bind), ConfigError (certificate).

    collect: called in a server thread before metrics are rendered, to set gauges; it must be safe there.
    healthy: also called there; what /health says.
    reuse_port: as net.port wants it.
    """

    def __init__(
        self,
        listener: Listener,
        registry: CollectorRegistry,
        collect: Callable[[], None] = lambda: None,
        request_s: float = _REQUEST_S,
        healthy: Callable[[], bool] = lambda: True,
        *,
        reuse_port: bool = False,
    ) -> None:
        networks = listener.networks or ("127.0.0.0/8", "::1/128")
        tls = _tls_context(listener.tls) if listener.tls else None
        host, port = parse_host_port(listener.address)
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._server = _Server(family, address, networks, tls, request_s, reuse_port)
        except OSError as exc:
            raise NetworkError(f"listener {listener.address}: {exc.strerror or exc}") from exc
        self._server.set_app(_application(registry, collect, healthy))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.25,), name="http", daemon=True)

    @property
    def address(self) -> str:
        """Where it listens, "host:port"; of use when the settings left the port to the kernel."""
        return format_host_port(self._server.server_name, self._server.server_port)

    @property
    def fileno(self) -> int:
        """The listening socket."""
        return self._server.fileno()

    def start(self) -> None:
        """Answer requests, in threads."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut off what is unfinished. Blocks a moment."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.cut_off(older_than_s=0)


def _application(
    registry: CollectorRegistry, collect: Callable[[], None], healthy: Callable[[], bool]
) -> WSGIApplication:
    metrics = cast(WSGIApplication, make_wsgi_app(registry))
    one_at_a_time = threading.Lock()

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            return page(environ, start_response)
        said: list[Any] = []

        def keep(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
            said[:] = status, dict(headers)
            return bytes

        length = sum(map(len, page({**environ, "REQUEST_METHOD": "GET"}, keep)))
        status, headers = said
        start_response(status, list({**headers, "Content-Length": str(length)}.items()))
        return []

    def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            try:
                with one_at_a_time:
                    collect()
            except Exception:
                log.exception("http: the gauges could not be collected")
                start_response("500 Internal Server Error", [("Content-Length", "0")])
                return []
            return metrics(environ, start_response)
        health = ("200 OK", b"ok\n") if healthy() else ("503 Service Unavailable", b"not all workers serve\n")
        pages = {"/": ("200 OK", _INDEX), "/health": health}
        status, body = pages.get(path, ("404 Not Found", b"not found\n"))
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
        return [body]

    return application


class _Handler(WSGIRequestHandler):
    def parse_request(self) -> bool:
        """False: the request is answered already."""
        if not super().parse_request():
            return False
        if self.command not in ("GET", "HEAD"):
            self.send_error(405)
            return False
        headers: Any = self.headers  # wsgiref's stub knows them no closer
        lengths = headers.get_all("Content-Length", [])
        if headers.defects or "Transfer-Encoding" in headers or len(lengths) > 1 or not all(map(_is_number, lengths)):
            self.send_error(400)
            return False
        return True

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not news."""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


class _Server(ThreadingMixIn, WSGIServer):
    """wsgiref's server with an access list, TLS in the request's own thread, a bound on threads and on time."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(
        self,
        family: int,
        address: Any,  # what getaddrinfo gave: its shape depends on the family
        networks: Iterable[str],
        tls: ssl.SSLContext | None,
        request_s: float,
        reuse_port: bool,
    ) -> None:
        self.address_family = family
        self._reuse_port = reuse_port
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._tls = tls
        self._request_s = request_s
        self._slots = threading.BoundedSemaphore(_MAX_THREADS)
        self._open: dict[socket.socket, float] = {}
        self._open_lock = threading.Lock()
        handler = type("_TimedHandler", (_Handler,), {"timeout": request_s})
        super().__init__(address, handler)

    def server_bind(self) -> None:
        if self._reuse_port:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
        # Not HTTPServer's, which asks the DNS for the name of the address.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        address = ipaddress.ip_address(client_address[0].partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            # A scrape takes milliseconds: who is there longest says nothing, and makes room.
            self._cut_off_oldest()
            if not self._slots.acquire(timeout=_ROOM_S):
                self.shutdown_request(request)
                return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(self._request_s)
        if self._tls is None:
            with self._watched(request):
                super().finish_request(request, client_address)
            return
        # The handshake is the client's affair too: here, not in the thread that accepts.
        secured = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with secured, self._watched(secured):
            secured.do_handshake()
            super().finish_request(secured, client_address)

    def service_actions(self) -> None:
        self.cut_off(self._request_s)

    def cut_off(self, older_than_s: float) -> None:
        """End the connections that are older: their threads get an error and finish."""
        limit = time.monotonic() - older_than_s
        with self._open_lock:
            for connection, since in self._open.items():
                if since <= limit:
                    _cut_off(connection)

    def _cut_off_oldest(self) -> None:
        with self._open_lock:
            if self._open:
                _cut_off(next(iter(self._open)))

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("http: %s: request failed", client_address[0], exc_info=True)

    @contextlib.contextmanager
    def _watched(self, connection: socket.socket) -> Any:
        with self._open_lock:
            self._open[connection] = time.monotonic()
        try:
            yield
        finally:
            with self._open_lock:
                del self._open[connection]


def _cut_off(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Below TLS: its object belongs to the other thread.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.cert, files.key)
    except OSError as exc:
        raise ConfigError([f"listener: tls: {files.cert}, {files.key}: {exc.strerror or exc}"]) from exc
    return context
