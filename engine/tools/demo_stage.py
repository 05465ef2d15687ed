"""The stage of the demo: a folder with settings and a key, the engine and two test MX as processes on loopback."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import engine
from engine.base.errors import EngineError
from engine.tools.submit import Server, submit

_PREFIX = "postrider-demo-"
_MARK = "made-by-postrider-demo"  #: a file that says so of its folder
#: What the next demo in the same folder removes; the rest it writes anew.
_LEFT = (
    "data", "good", "poor", "good.json", "poor.json", "smsc.json", "good.log", "poor.log", "smsc.log", "engine.log",
)  # fmt: skip
_PORTS = ("smtp", "http", "smpp", "good", "poor", "smsc", "click")
_KEPT = 3  #: folders of earlier demos that stay
_POLL_S = 0.05
_STOP_S = 35.0  #: the engine may take 30 s to finish what is in flight

SETTINGS = """\
# Made by `postrider demo`: three domains with static routes to test MX on this machine, so that no DNS is needed, and
# a carrier that is a test SMSC.
[node]
name = "mail.sender.example"
data_dir = "data"

[[listener]]
kind = "smtp"
address = "127.0.0.1:{smtp}"
networks = ["127.0.0.0/8"]

[[listener]]
kind = "http"
address = "127.0.0.1:{http}"
networks = ["127.0.0.0/8"]

[[listener]]
kind = "smpp"
address = "127.0.0.1:{smpp}"

[[listener]]
kind = "tracking"
address = "127.0.0.1:{click}"

[tracking]
base_url = "http://127.0.0.1:{click}"
level = "full"

[suppression]
notify = false                          # whoever unsubscribed is no news to the sender of the next newsletter

[[carrier]]
name = "demo"
host = "127.0.0.1"
port = {smsc}
system_id = "postrider"
password = "demo"

[[account]]
system_id = "shop"
password = "demo"

[[route]]
domain = "good.example"
relay = "127.0.0.1:{good}"

[[route]]
domain = "poor.example"
relay = "127.0.0.1:{poor}"

[[route]]
domain = "sender.example"
relay = "127.0.0.1:{good}"

[[dkim]]
domain = "*"
identity = "sender.example"
selector = "demo"
key = "keys/demo.pem"

[retry]
schedule = "3s, 5s*"
jitter = 0.0
"""


class DemoFailed(EngineError):
    """Something expected did not happen."""


class Stage:
    """Processes are started in order and ended in reverse, by their ids, whatever happens between."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: a new or empty one, or that of an earlier demo. Raises DemoFailed: it is another, and as it was."""
        if folder is None:
            _forget_old()
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        _take(folder)
        self.folder = folder
        self.settings = folder / "postrider.toml"
        self.ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.txt = b""

    def build(self) -> None:
        """Settings and DKIM key. `txt`: what the DNS of sender.example would say at demo._domainkey."""
        self.settings.write_text(SETTINGS.format(**self.ports))
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / "keys").mkdir(mode=0o700, exist_ok=True)
        with open(os.open(self.folder / "keys/demo.pem", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(pem)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.txt = b"v=DKIM1; k=rsa; p=" + b"".join(public.split(b"\n")[1:-2])

    def start_sink(self, name: str, *rules: str) -> None:
        arguments = ["sink", "--name", f"mx.{name}.example", "--listen", f"127.0.0.1:{self.ports[name]}"]
        arguments += ["--save", str(self.folder / name), "--status", str(self.folder / f"{name}.json")]
        for rule in rules:
            arguments += ["--reply", rule]
        self._start(name, arguments)
        self.wait(lambda: self.answers(name), 15, f"the test MX of {name}.example")

    def start_smsc(self, *rules: str) -> None:
        """rules: options of `postrider sink --smpp`."""
        arguments = ["sink", "--smpp", "--listen", f"127.0.0.1:{self.ports['smsc']}", "--name", "smsc"]
        self._start("smsc", [*arguments, "--status", str(self.folder / "smsc.json"), *rules])
        self.wait(lambda: self.listens("smsc"), 15, "the test SMSC")

    def start_engine(self) -> None:
        self._start("engine", ["serve", "-c", str(self.settings)])
        self.wait(lambda: self.answers("smtp"), 20, "the engine")

    def answers(self, port: str) -> bool:
        """Somebody greets at this port."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports[port]), 1) as peer:
                peer.settimeout(1)
                greeting = peer.recv(200)
                peer.sendall(b"QUIT\r\n")
                return greeting.startswith(b"220")
        except OSError:
            return False

    def listens(self, port: str) -> bool:
        """Somebody takes connections at this port."""
        try:
            socket.create_connection(("127.0.0.1", self.ports[port]), 1).close()
        except OSError:
            return False
        return True

    def wait(self, happened: Callable[[], bool], seconds: float, what: str) -> None:
        """Look until it has happened. Raises DemoFailed after so many seconds, or if a process has died."""
        end = time.monotonic() + seconds
        while not happened():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise DemoFailed(f"{name} ended with status {process.returncode}:\n{self._last_lines(name)}")
            if time.monotonic() > end:
                raise DemoFailed(f"waited {seconds:.0f} s for {what} in vain; see {self.folder}")
            time.sleep(_POLL_S)

    def submit(self, sender: str, recipients: Sequence[str], content: bytes) -> str:
        """Hand a message in over SMTP; its queue id. Raises DemoFailed: the engine did not take it for everybody."""
        result = submit(Server(host="127.0.0.1", port=self.ports["smtp"]), sender, recipients, content)
        if not result.id or result.refused:
            raise DemoFailed(f"the engine refused a mail to {', '.join(recipients)}: {result.refused or result.reply}")
        return result.id

    def events(self) -> list[dict[str, Any]]:
        """The event journal so far."""
        out = []
        for path in sorted((self.folder / "data/events").glob("*/*.log")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                out.append(json.loads(line))
        return out

    def received(self, name: str) -> list[tuple[dict[str, Any], bytes]]:
        """Envelope and content of each message at a test MX, in order."""
        paths = sorted((self.folder / name).glob("*.eml"))
        return [(json.loads(path.with_suffix(".json").read_text()), path.read_bytes()) for path in paths]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the program to its end."""
        return subprocess.run(  # noqa: S603  our own program
            [*_PROGRAM, *arguments], capture_output=True, text=True, timeout=30, env=_environment(), check=False
        )

    def stop(self) -> None:
        """End everything: the engine first, so that nothing is in flight when the test MX go."""
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str, arguments: list[str]) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(  # noqa: S603  our own program
                [*_PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment()
            )

    def _last_lines(self, name: str) -> str:
        return "\n".join((self.folder / f"{name}.log").read_text("utf-8", "replace").splitlines()[-15:])


#: This program again, from where this one came, whatever folder it is called in.
_PROGRAM = (sys.executable, "-P", "-m", "engine.cli.main")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(engine.__file__).parents[1])}


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _take(folder: Path) -> None:
    """Make the folder ready for a demo. Raises DemoFailed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / _MARK).is_file():
            raise DemoFailed(f"{folder} is not empty, and no demo made it; name a new folder")
        if _in_use(folder):
            raise DemoFailed(f"an engine runs in {folder}; stop it, or name a new folder")
        for path in (folder / name for name in _LEFT):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        (folder / _MARK).touch()
    except OSError as exc:
        raise DemoFailed(f"cannot use {folder}: {exc.strerror}") from exc


def _in_use(folder: Path) -> bool:
    """An engine has the lock of its data directory."""
    with contextlib.suppress(FileNotFoundError), open(folder / "data/lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _forget_old() -> None:
    """Remove folders of earlier demos of this user, but the newest few and those younger than an hour."""
    old = [path for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*") if (path / "postrider.toml").is_file()]
    mine = [path for path in old if path.stat().st_uid == os.getuid() and not path.is_symlink()]
    mine.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in mine[_KEPT:]:
        if path.stat().st_mtime < time.time() - 3600:
            shutil.rmtree(path, ignore_errors=True)
