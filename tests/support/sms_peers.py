"""SMPP programs nobody here wrote, on loopback: node-smpp, Net::SMPP and smpp.twisted3 as SMSC and as client, Kannel as
client.

They tell what happens to them as lines of JSON (smpp_smsc.js, smpp_esme.js, their .pl and smpp_twisted.py say which).
All are children of the test, ended by their pid.

Jasmin is not among them: 0.11.1 wants cryptography 41 and prometheus-client 0.18, which cannot be installed beside
ours, RabbitMQ and Redis. Its SMPP is smpp.twisted3.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.tools.certificate import self_signed
from tests.support.engine import PATIENCE_S, wait_until
from tests.support.ports import free_port

_HERE = Path(__file__).parent
_NODE_MODULES = _HERE.parents[1] / "build" / "node" / "node_modules"
ENVIRONMENT = {**os.environ, "NODE_PATH": str(_NODE_MODULES)}
Line = dict[str, Any]


def program(name: str) -> str:
    """Its path. Debian keeps Kannel where only root looks."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert found is not None, f"{name} is missing: tests/support/packages.sh installs it"
    return found


def script(name: str, options: dict[str, Any]) -> list[str]:
    """The command that runs a script of tests/support with these options."""
    if name.endswith(".py"):
        # -P: or the modules beside it would stand in the way of others.
        return [sys.executable, "-P", "-W", "ignore", str(_HERE / name), json.dumps(options)]
    if name.endswith(".js"):
        assert (_NODE_MODULES / "smpp").exists(), "node-smpp is missing: tests/support/packages.sh installs it"
        interpreter = program("node")
    else:
        interpreter = program("perl")
    return [interpreter, str(_HERE / name), json.dumps(options)]


class Smsc:
    """An SMSC of such a script. options: as it says. Started at once; `port` stays over `restart`."""

    def __init__(self, path: Path, name: str, **options: Any) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._command = script(name, {"port": self.port, **options})
        self._out = path / f"{name}.{self.port}.out"
        self._err = path / f"{name}.{self.port}.err"
        self.start()

    def start(self) -> None:
        before = len(self.told("listening"))
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=ENVIRONMENT
            )
        wait_until(lambda: self._listens(before), "the SMSC")

    def _listens(self, before: int) -> bool:
        assert self._process.poll() is None, f"the SMSC did not start: {self._err.read_text()}"
        return len(self.told("listening")) > before

    def lines(self) -> list[Line]:
        """Everything it told so far; a line that is being written is left out."""
        text = self._out.read_text() if self._out.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def told(self, what: str) -> list[Any]:
        return [line[what] for line in self.lines() if what in line]

    def has(self, what: str, count: int = 1) -> list[Any]:
        """Wait until it told this so often."""
        found: list[Any] = wait_until(lambda: (all := self.told(what)) and len(all) >= count and all, f"{count} {what}")
        return found

    def counts(self) -> Line:
        """The last counts of smpp_smsc.js."""
        return next((line for line in reversed(self.lines()) if "taken" in line), {})

    def kill(self) -> None:
        """No goodbye. What forked to serve a connection ends with its client's connection."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)


@contextlib.contextmanager
def node_smsc(path: Path, *, tls: bool = False, **options: Any) -> Iterator[Smsc]:
    path.mkdir(parents=True, exist_ok=True)
    if tls:
        for name, pem in zip(("cert", "key"), self_signed("localhost"), strict=True):
            options[name] = str(path / f"{name}.pem")
            with open(os.open(options[name], os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(pem)
    with contextlib.closing(_Stopped(Smsc(path, "smpp_smsc.js", **options))) as stopped:
        yield stopped.smsc


@contextlib.contextmanager
def perl_smsc(path: Path, **options: Any) -> Iterator[Smsc]:
    with contextlib.closing(_Stopped(Smsc(path, "smpp_smsc.pl", **options))) as stopped:
        yield stopped.smsc


@contextlib.contextmanager
def twisted_smsc(path: Path) -> Iterator[Smsc]:
    with contextlib.closing(_Stopped(Smsc(path, "smpp_twisted.py"))) as stopped:
        yield stopped.smsc


class _Stopped:
    def __init__(self, smsc: Smsc) -> None:
        self.smsc = smsc

    def close(self) -> None:
        self.smsc.stop()


def esme(name: str, **options: Any) -> list[Line]:
    """Run smpp_esme.js, smpp_esme.pl or smpp_twisted.py to its end: what it told."""
    done = subprocess.run(
        script(name, options), capture_output=True, text=True, timeout=PATIENCE_S, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


_KANNEL = """
group = core
admin-port = {admin}
admin-interface = 127.0.0.1
admin-password = test
smsbox-port = {box}
smsbox-interface = 127.0.0.1
log-file = {path}/bearerbox.log
log-level = {level}
store-type = {store}
store-location = {path}/store
dlr-storage = internal
sms-resend-freq = 1

group = smsc
smsc = smpp
smsc-id = upstream
host = 127.0.0.1
port = {port}
smsc-username = {system_id}
smsc-password = {password}
system-type = ""
transceiver-mode = true
interface-version = 34
max-pending-submits = {window}
reconnect-delay = 1
source-addr-ton = 5
source-addr-npi = 0
dest-addr-ton = 1
dest-addr-npi = 1

group = smsbox
bearerbox-host = 127.0.0.1
bearerbox-port = {box}
sendsms-port = {http}
sendsms-interface = 127.0.0.1
log-file = {path}/smsbox.log
log-level = {level}

group = sendsms-user
username = app
password = app
max-messages = 10
concatenation = true

group = sms-service
keyword = default
catch-all = true
max-messages = 0
get-url = "http://127.0.0.1:{back}/answer?from=%p&to=%P&text=%a"
"""


class Kannel:
    """bearerbox, bound to a port as a client, and smsbox with its HTTP interface.

    back: the port of the web server that receipts and answers are told to. smsbox: whether there is one. store: file
    or spool.
    """

    def __init__(
        self, path: Path, port: int, *, system_id: str = "kannel", password: str = "secret", back: int = 0,
        window: int = 10, store: str = "spool", smsbox: bool = True, level: int = 1,
    ) -> None:  # fmt: skip
        self.path = path
        (path / "store").mkdir(parents=True, exist_ok=True)
        self.admin, self.box, self.http, self._back = free_port(), free_port(), free_port(), back
        config = path / "kannel.conf"
        config.write_text(
            _KANNEL.format(
                admin=self.admin, box=self.box, http=self.http, back=back, path=path, port=port, store=store,
                system_id=system_id, password=password, window=window, level=level,
            )
        )  # fmt: skip
        self.commands = [[program("bearerbox"), "-v", "4", str(config)]]
        if smsbox:
            self.commands.append([program("smsbox"), "-v", "4", str(config)])

    def start(self, run: Any = None) -> None:
        """bearerbox first. run: starts a command, gives a process or nothing; else they are children of ours."""
        self.processes: list[subprocess.Popen[bytes]] = []
        for command, port in zip(self.commands, (self.box, self.http), strict=False):
            if run is not None:
                run(command)
            else:
                with (self.path / "console.log").open("ab") as log:
                    self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            wait_until(partial(self._listens, port), command[0])
        wait_until(lambda: "(online" in self.status(), "Kannel's bind")

    def _listens(self, port: int) -> bool:
        if any(process.poll() is not None for process in self.processes):
            raise AssertionError(f"Kannel ended: {(self.path / 'console.log').read_text()}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        return False

    def status(self) -> str:
        return self._get(self.admin, "/status.txt?password=test")

    def send(self, to: str, text: str, *, sender: str = "ACME", **more: str) -> str:
        """Over smsbox's HTTP, with receipts told to `back`; its answer."""
        told = f"http://127.0.0.1:{self._back}/receipt?to={urllib.parse.quote(to)}&kind=%d&text=%A"
        query = {
            "username": "app", "password": "app", "from": sender, "to": to, "text": text, "charset": "UTF-8",
            "coding": "0" if text.isascii() else "2", "dlr-mask": "31", "dlr-url": told, **more,
        }  # fmt: skip
        return self._get(self.http, "/cgi-bin/sendsms?" + urllib.parse.urlencode(query))

    def _get(self, port: int, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def kannel(path: Path, port: int, **options: Any) -> Iterator[Kannel]:
    running = Kannel(path, port, **options)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def mtbatch(box: int, path: Path, numbers: Sequence[str], text: str, *, receipts: bool = True) -> list[str]:
    """The command that puts these into a bearerbox, as fast as it takes them."""
    (path / "content").write_text(text)
    (path / "receivers").write_text("".join(f"{number}\n" for number in numbers))
    options = ["-D", "3", "-u", "x"] if receipts else []
    return [
        program("mtbatch"), "-v", "4", "-b", "127.0.0.1", "-p", str(box), "-i", "batch", "-f", "ACME", *options,
        str(path / "content"), str(path / "receivers"),
    ]  # fmt: skip
