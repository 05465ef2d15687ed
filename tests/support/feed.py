"""Events, and receivers of them: a real HTTP server on loopback, in this process or beside it."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from engine.base.settings import Events
from engine.feed.post import is_signed
from engine.storage.events.compact import Compactor
from engine.storage.events.event import Event
from engine.storage.events.lines import noted_lines
from tests.support.clock import FakeClock
from tests.support.engine import Daemon, wait_until

#: Settings of events: a backlog is a matter of many files, and of compressed ones.
SMALL_FILES = '[events]\nsegment_bytes = "256KiB"\n'
SECRET = "0123456789abcdef" * 4


def event_lines(seq: int, *, at: float = 1000.0, type: str = "delivered", reply: str = "250 taken") -> bytes:
    """One event of a frame."""
    event = Event(
        id="", at=at, type=type, message="0Hs7kQpf3Za2Wq", message_class="bulk", sender="ada@example.org",
        recipient=f"bob{seq}@example.org", destination="example.org", reply=reply,
    )  # fmt: skip
    return noted_lines(seq, [event])


def compact(path: Path) -> None:
    """Compress what is to be compressed of a journal."""

    async def run() -> None:
        compactor = Compactor([path], FakeClock())
        await compactor.work(Events())
        compactor.close()

    asyncio.run(run())


class Receiver:
    """A webhook on a port of loopback. says: the statuses it answers with, the last one again and again.
    now: its clock.

    bodies: what it was posted, signed as it must be; events: of those that it took.
    """

    def __init__(self, *says: int, port: int = 0, secret: str = SECRET, now: Callable[[], float] = time.time) -> None:
        self.says = list(says) or [200]
        self.secret, self._now = secret, now
        self.bodies: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.forged = 0
        self.at_once, self.most_at_once = 0, 0
        self.before: Callable[[], None] | None = None  #: it answers
        self.lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.take(dict(self.headers), body)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", receiver.url + "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if self.before is not None:
                self.before()
            with self.lock:
                if not is_signed(self.secret, headers, body, self._now()):
                    self.forged += 1
                    return 401
                status = self.says.pop(0) if len(self.says) > 1 else self.says[0]
                self.headers.append(headers)
                self.bodies.append(json.loads(body))
                if 200 <= status < 300:
                    self.events += self.bodies[-1]["events"]
                return status
        finally:
            with self.lock:
                self.at_once -= 1

    def ids(self) -> list[str]:
        with self.lock:
            return [event["id"] for event in self.events]


def webhook(url: str, name: str = "shop", **more: object) -> str:
    """TOML of a webhook on loopback."""
    rows = {"name": name, "url": url, "secret": SECRET, "allow_private": True, "batch_wait": "20ms", **more}
    return "[[webhook]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items()) + "\n"


def consumers(engine: Daemon) -> list[dict[str, object]]:
    return engine.ask("consumers")


def ids_of(engine: Daemon) -> list[str]:
    """All events, each journal in its order."""
    return [event["id"] for event in sorted(engine.events(), key=lambda event: worker_of(event["id"]))]


def worker_of(event_id: str) -> str:
    return event_id.rpartition(":")[0]


def caught_up(engine: Daemon, receiver: Receiver) -> list[str]:
    """Wait until every event there is now has come; their ids."""
    wanted = ids_of(engine)
    wait_until(lambda: set(receiver.ids()) >= set(wanted), f"every event: {consumers(engine)}")
    return wanted


def each_once_in_order(engine: Daemon, receiver: Receiver) -> None:
    """By worker: one has no order with the other."""
    wanted = caught_up(engine, receiver)
    got = receiver.ids()
    assert receiver.forged == 0
    for worker in {worker_of(event_id) for event_id in wanted}:
        assert [each for each in got if worker_of(each) == worker] == [
            each for each in wanted if worker_of(each) == worker
        ]
