"""The whole daemon on loopback, and a test MX, as the processes a user starts; for scenario and fault tests."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.admin.client import ask
from engine.base.errors import EngineError
from engine.storage.events.merged import MergedReader
from tests.support.ports import free_port

POSTRIDER = [sys.executable, "-m", "engine.cli.main"]
#: For things that take milliseconds: long enough for the slowest machine, and only ever reached by a failure.
PATIENCE_S = 60.0
#: Types of events that `status` counts under the same name.
FATES = ("delivered", "failed", "expired", "suppressed", "removed", "deferred", "unknown")


def wait_until(done: Callable[[], Any], what: object) -> Any:
    """What `done` gives, once it is true. Fails after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not (result := done()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
    return result


class Daemon:
    """`postrider serve` with settings of its own in `path`; `more` is TOML behind [node] and the listeners.

    smtp: more of its SMTP listener; spool: of [spool]. program: how it is called.
    """

    def __init__(
        self,
        path: Path,
        more: str = "",
        *,
        smtp: str = "",
        spool: str = "min_free = 0.0",
        workers: int = 1,
        program: Sequence[str] = POSTRIDER,
    ) -> None:
        self.path = path
        self._program = program
        self.port = free_port()
        self.http_port = free_port()
        self.data = path / "data"
        self.log = path / "daemon.log"
        self.config = path / "postrider.toml"
        self.workers = workers
        self.write_config(more, smtp=smtp, spool=spool)
        self._process: subprocess.Popen[bytes] | None = None
        self._tally_at_start: Counter[str] = Counter()
        self._notify: socket.socket | None = None

    def write_config(self, more: str, *, smtp: str = "", spool: str = "min_free = 0.0") -> None:
        self.config.write_text(
            f"""
[node]
name = "mx.test"
data_dir = "{self.data}"
workers = {self.workers}

[[listener]]
kind = "smtp"
address = "127.0.0.1:{self.port}"
networks = ["127.0.0.0/8"]
{smtp}

[[listener]]
kind = "http"
address = "127.0.0.1:{self.http_port}"
networks = ["127.0.0.0/8"]

[spool]
{spool}

{more}
"""
        )

    def start(self, *, wait: bool = True, **environ: str) -> "Daemon":
        """Start it, and wait until it says READY to systemd."""
        path = str(self.path / "notify")
        self._tally_at_start = self.tally()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._forget_notify()
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(path)
        self._notify.settimeout(0.2)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, "serve", "-c", str(self.config)],
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environ, "NOTIFY_SOCKET": path},
            )
        if wait:
            self.said("READY=1")
        return self

    def said(self, what: str) -> str:
        """Wait for the next datagram to systemd that has this in it; the datagram."""
        assert self._notify is not None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                told = self._notify.recv(4096).decode()
            except TimeoutError:
                assert self.process.poll() is None, f"the daemon ended before {what}:\n{self.log_text()}"
                assert time.monotonic() < deadline, f"the daemon never said {what}:\n{self.log_text()}"
                continue
            if what in told:
                return told

    def reload(self) -> None:
        """SIGHUP; returns when the daemon has done with it, whatever it made of it."""
        self.signal(signal.SIGHUP)
        self.said("RELOADING=1")
        self.said("READY=1")

    def _forget_notify(self) -> None:
        if self._notify is not None:
            self._notify.close()
            self._notify = None

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE_S)
        self._forget_notify()
        return status

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._forget_notify()

    def ask(self, command: str, **arguments: Any) -> list[dict[str, Any]]:
        return list(ask(self.data, command, **arguments))

    def status(self) -> dict[str, Any]:
        return self.ask("status")[0]

    def events(self, *types: str) -> list[dict[str, Any]]:
        events = MergedReader(self.data).read()
        return [event for event in events if not types or event["type"] in types]

    def tally(self) -> Counter[str]:
        """How many events of each type; one that is there twice, after a fault of the disk, has one id (E1)."""
        return Counter({event["id"]: event["type"] for event in self.events()}.values())

    def books(self, queued: int = 0) -> dict[str, int]:
        """The full tally: events of each type, once this many recipients are queued and the books balance (Q2).

        Events, `status` and metrics must come to say the same, every notification included. No delivery without an
        owner (Q4) and no fault of the engine may have been seen meanwhile.
        """

        def agreed() -> bool:
            status = self.status()
            if status["queued"] != queued:
                return False
            tally = self.tally() - self._tally_at_start
            counted = {"received": status["accepted"], **{fate: status[fate] for fate in FATES}}
            if any(tally[kind] != count for kind, count in counted.items()):
                return False
            metrics = self.metrics()
            told = metrics["accepted_recipients"] + metrics["own_recipients"]
            return (
                bool(status["balanced"]) and told == status["accepted"] and metrics["delivered"] == tally["delivered"]
            )

        wait_until(agreed, f"balanced books; at first: {self.status()}, {self.tally()}")
        assert self.status()["orphans"] == 0
        assert self.metrics()["internal_errors"] == 0, self.log_text()
        assert "Traceback" not in self.log_text(), self.log_text()
        return dict(self.tally())

    def accounted_for(self) -> None:
        """The metrics of a node that was empty at its start balance by themselves, with what is queued (Q2)."""

        def balanced() -> bool:
            queued, metrics = self.status()["queued"], self.metrics()
            taken = metrics["accepted_recipients"] + metrics["own_recipients"]
            return bool(taken == queued + sum(metrics[fate] for fate in FATES[:5]))

        wait_until(balanced, "balanced metrics")

    def metrics(self) -> Counter[str]:
        """Every counter, summed over its labels, by its name without "postrider_" and "_total"."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=PATIENCE_S) as answer:
            lines = answer.read().decode().splitlines()
        found: Counter[str] = Counter()
        for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#")):
            counter, total, _ = name.removeprefix("postrider_").partition("_total")
            if total:
                found[counter] += int(float(value))
        return found

    def fates(self, message_id: str) -> dict[str, list[str]]:
        """What happened to each recipient of one message, in order: {"ada@one.test": ["received", "delivered"]}."""
        fates: dict[str, list[str]] = {}
        for event in self.events():
            if event["message"] == message_id:
                fates.setdefault(event["recipient"], []).append(event["type"])
        return fates

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def run(self, *arguments: str, check: bool = True, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """A `postrider` command with this daemon's settings."""
        return subprocess.run(
            [*POSTRIDER, *arguments, "-c", str(self.config)],
            capture_output=True,
            text=True,
            check=check,
            input=stdin,
            timeout=PATIENCE_S,
        )

    def until(self, **expected: int) -> Counter[str]:
        """Wait until at least so many events of each type have happened; all of them."""
        found: Counter[str] = wait_until(
            lambda: (t := self.tally()) and all(t[k] >= n for k, n in expected.items()) and t, expected
        )
        return found

    def empty(self) -> None:
        """Wait until nothing is queued."""
        wait_until(lambda: self.status()["queued"] == 0, "an empty queue")

    def alive(self) -> bool:
        with contextlib.suppress(EngineError):
            return bool(self.status())
        return False


@contextlib.contextmanager
def daemon(
    path: Path, more: str = "", *, smtp: str = "", spool: str = "min_free = 0.0", workers: int = 1, **environ: str
) -> Iterator[Daemon]:
    """A running daemon, ended with SIGTERM; it must then say that it stopped in order."""
    path.mkdir(parents=True, exist_ok=True)
    engine = Daemon(path, more, smtp=smtp, spool=spool, workers=workers)
    engine.start(wait=True, **environ)
    try:
        yield engine
    finally:
        if engine.process.poll() is None:
            assert engine.stop() == 0, engine.log_text()
        engine._forget_notify()


class Sink:
    """`postrider sink` on a free port, with rules. save: keep every message, for `messages`.

    host: any of 127.0.0.0/8, to have several on one port.
    """

    def __init__(
        self, path: Path, *options: str, port: int | None = None, save: bool = True, host: str = "127.0.0.1"
    ) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.host = host
        self.port = port or free_port()
        self.address = f"{host}:{self.port}"
        self.saved = path / "saved"
        self._ids = path / "ids"
        self._status = path / "status.json"
        self._log = (path / "sink.log").open("ab")
        self.process = subprocess.Popen(
            [*POSTRIDER, "sink", "--listen", self.address, "--status", str(self._status), "--ids", str(self._ids)]
            + ["--save", str(self.saved)] * save
            + list(options),
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )
        wait_until(self._listens, "the sink")

    def _listens(self) -> bool:
        assert self.process.poll() is None, "the sink did not start"
        with contextlib.suppress(OSError):
            socket.create_connection((self.host, self.port), 1).close()
            return True
        return False

    def status(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return dict(json.loads(self._status.read_text()))
        return {}

    def has(self, **expected: int) -> dict[str, Any]:
        """Wait until these counts of its status are reached; all counts."""
        found: dict[str, Any] = wait_until(
            lambda: (s := self.status()) and all(s[k] >= n for k, n in expected.items()) and s, expected
        )
        return found

    def connections(self) -> int:
        """Connections of clients, as last reported; our look whether it listens is not one."""
        return int(self.status()["connections"]) - 1

    def messages(self) -> list[tuple[dict[str, Any], bytes]]:
        """Envelope and content of everything taken, in order of arrival."""
        files = sorted(self.saved.glob("*.eml")) if self.saved.exists() else []
        return [(json.loads(file.with_suffix(".json").read_text()), file.read_bytes()) for file in files]

    def ids(self) -> set[str]:
        """Ids (X-Load-Id, else Message-ID) of what was taken; up to date within 0.2 s, complete after `stop`."""
        return {line.split(" ", 1)[0] for line in self._ids.read_text().splitlines()} if self._ids.exists() else set()

    def stop(self) -> None:
        """End it; may be said twice."""
        self.process.terminate()
        self.process.wait(PATIENCE_S)
        self._log.close()


@contextlib.contextmanager
def sink(
    path: Path, *options: str, port: int | None = None, save: bool = True, host: str = "127.0.0.1"
) -> Iterator[Sink]:
    """A running sink, ended at the end."""
    running = Sink(path, *options, port=port, save=save, host=host)
    try:
        yield running
    finally:
        running.stop()


class Load:
    """`postrider load` into a port; the ids of what was accepted are appended to a file. Ended at the end of `with`.

    smpp: instead of SMTP; the file has lines `ID DESTINATION` then.
    """

    def __init__(self, port: int, accepted: Path, *options: str, smpp: bool = False) -> None:
        self.accepted = accepted
        to = ["--smpp" if smpp else "--to", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(
            [*POSTRIDER, "load", *to, "--accepted", str(accepted), "--json", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *exc: object) -> None:
        if self.running():
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def running(self) -> bool:
        return self.process.poll() is None

    def report(self) -> dict[str, Any]:
        """Wait for its end; what it says."""
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        return dict(json.loads(out))

    def more(self, count: int) -> None:
        """Wait until so many more are accepted."""
        enough = len(self.ids()) + count
        wait_until(lambda: len(self.ids()) >= enough, f"{count} more messages")

    def ids(self) -> set[str]:
        """What has been accepted so far."""
        return set(self.accepted.read_text().split()) if self.accepted.exists() else set()


def load(port: int, accepted: Path, *options: str) -> dict[str, Any]:
    """Run `postrider load` to its end; every message must be accepted."""
    with Load(port, accepted, *options) as running:
        report = running.report()
    assert report["unanswered"] == report["refused"] == 0, report
    return report
