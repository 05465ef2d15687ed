"""A redirector that runs, and messages whose links it knows: notes in a ledger, as a worker makes them."""

import contextlib
import http.client
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.base.clock import SystemClock
from engine.base.settings_tracking import LedgerSettings
from engine.message.ids import IdSource
from engine.message.link_token import LinkTokens
from engine.storage.events.merged import MergedReader
from engine.storage.ledger.sent import Sent, table_hash
from engine.storage.ledger.writer import Ledger
from tests.support.engine import PATIENCE_S, POSTRIDER, wait_until
from tests.support.ports import free_port

KEY = bytes(range(32))
TOKENS = LinkTokens({1: KEY})
#: A browser of a person.
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
LINKS = tuple(f"https://shop.example/{number}?a=1&b=2" for number in range(5))


class Mailing:
    """Notes messages as the worker of a node would; make it inside the running loop."""

    def __init__(self, data_dir: Path, worker: int = 0) -> None:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ids = IdSource("mx.test", worker, SystemClock())
        self._ledger = Ledger(data_dir, worker, LedgerSettings(), 90 * 86400.0)

    def note(
        self,
        *recipients: str,
        links: Sequence[str] = LINKS,
        delivered_at: float | None = 1.0,
        sent_at: float | None = None,
        message: str = "",
        **fields: Any,
    ) -> Sent:
        """A message that was delivered long ago, if nothing else is said. None: it is not yet."""
        sent = Sent(
            id=message or self.id(),
            at=time.time() if sent_at is None else sent_at,
            sender="news@shop.test",
            recipients=recipients,
            level=fields.pop("level", "full"),
            table=table_hash(links) if links else b"",
            **fields,
        )
        self._ledger.note(sent, tuple(links))
        if delivered_at is not None:
            for index in range(len(recipients)):
                self._ledger.delivered(sent.id, index, delivered_at)
        return sent

    def delivered(self, sent: Sent, index: int = 0, at: float | None = None) -> None:
        self._ledger.delivered(sent.id, index, time.time() if at is None else at)

    def short(self, number: int, sent: Sent) -> None:
        """Short links with this number are those of its recipient."""
        self._ledger.short(number, sent.id, 0)

    def id(self) -> str:
        """Of a message that is not noted."""
        return self._ids.next()

    async def keep(self) -> None:
        """On disk."""
        await self._ledger.keep()

    async def close(self) -> None:
        await self._ledger.keep()
        await self._ledger.close()


async def noted(data_dir: Path, *recipients: str, **fields: Any) -> Sent:
    """One message, on disk."""
    mailing = Mailing(data_dir)
    sent = mailing.note(*recipients, **fields)
    await mailing.close()
    return sent


def paths(sent: Sent, *links: int, index: int | None = None) -> list[str]:
    """Where links of a message lead: number 0 to unsubscribe, 1 the picture, 2 the hidden one, 3... the table's."""
    made = TOKENS.made(sent.id, index if index is not None or len(sent.recipients) < 2 else 0, links)
    forms = {0: "/u/{}", 1: "/o/{}.gif"}
    return [forms.get(link, "/c/{}").format(token.decode()) for link, token in zip(links, made, strict=True)]


class Answer:
    """status, headers (lower case), body."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def text(self) -> str:
        return self.body.decode()


def fetch(
    port: int,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    agent: str = BROWSER,
    host: str = "127.0.0.1",
    **headers: str,
) -> Answer:
    """One request on a connection of its own. headers: with _ for -. host: any of 127.0.0.0/8 to come from."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S, source_address=(host, 0))
    fields = {"User-Agent": agent, **{name.replace("_", "-"): value for name, value in headers.items()}}
    try:
        connection.request(method, path, body, fields)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def post(port: int, path: str, form: str = "List-Unsubscribe=One-Click", **headers: str) -> Answer:
    return fetch(port, path, "POST", form.encode(), **{"Content_Type": "application/x-www-form-urlencoded", **headers})


def settings(more: str = "", keys: str = f'keys = ["1:{KEY.hex()}"]') -> str:
    """[tracking] of a redirector. more: of that table, and tables behind it."""
    return f'[tracking]\nbase_url = "https://click.test"\nlevel = "full"\n{keys}\n{more}\n'


class Redirect:
    """`postrider redirect`, in `path`; ended at the end of `with`. data: of a daemon, if there is one."""

    def __init__(
        self, path: Path, more: str = "", *, tls: str = "", config: Path | None = None, options: Sequence[str] = ()
    ) -> None:  # fmt: skip
        path.mkdir(parents=True, exist_ok=True)
        self.port, self.metrics_port = free_port(), free_port()
        self.data = path / "data"
        self.log = path / "redirect.log"
        self.config = config or path / "postrider.toml"
        self._arguments = ["--metrics", f"127.0.0.1:{self.metrics_port}", *options]
        if config is None:
            self.config.write_text(
                f'[node]\nname = "mx.test"\ndata_dir = "{self.data}"\n'
                f'[[listener]]\nkind = "tracking"\naddress = "127.0.0.1:{self.port}"\n{tls}\n'
                + settings(f"separate = true\n{more}")
            )
        else:
            self._arguments += ["--address", f"127.0.0.1:{self.port}"]
        self._notify = path / "notify.redirect"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Redirect":
        return self.start()

    def __exit__(self, *exc: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE_S)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def start(self) -> "Redirect":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._notify)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, self.log.open("ab") as log:
            notify.bind(str(self._notify))
            notify.settimeout(0.2)
            self._process = subprocess.Popen(
                [*POSTRIDER, "redirect", "-c", str(self.config), *self._arguments],
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "NOTIFY_SOCKET": str(self._notify)},
            )

            def ready() -> bool:
                assert self.process.poll() is None, self.log.read_text()
                with contextlib.suppress(TimeoutError):
                    return b"READY=1" in notify.recv(4096)
                return False

            wait_until(ready, "a redirector")
        return self

    def stop(self) -> None:
        """In order; every hit is on disk then."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.log.read_text()

    def hang_up(self) -> None:
        """SIGHUP; returns when the settings are read."""
        before = self.log.read_text().count("reloaded")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log.read_text().count("reloaded") > before, "a reload")

    def events(self, *types: str) -> list[dict[str, Any]]:
        return events_in(self.data, *types)


def events_in(data_dir: Path, *types: str) -> list[dict[str, Any]]:
    """The events of all journals of a node; of these types, if any are named."""
    return [event for event in MergedReader(data_dir).read() if not types or event["type"] in types]


def verdicts(events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The last verdict of each hit, by the id of its event within its journal."""
    found: dict[str, str] = {}
    for event in events:
        if event["type"] in ("clicked", "opened"):
            found[event["id"].rpartition(":")[2]] = event["verdict"]
        elif event["type"] == "verdict":
            found[event["hit"]] = event["verdict"]
    return found


@contextlib.contextmanager
def redirect(path: Path, more: str = "", *, tls: str = "") -> Iterator[Redirect]:
    with Redirect(path, more, tls=tls) as running:
        yield running


def nonce() -> str:
    return secrets.token_hex(16)
