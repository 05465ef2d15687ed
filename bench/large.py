"""Many sessions of large messages at once, through the daemon to a sink: memory, rate, and that each byte arrived.

    python -m bench.large [--sessions 100] [--size 25] [--signed]

Sender and sink are in this process and keep nothing either: each hashes what it sees of a body, on the wire.
"""

import argparse
import asyncio
import base64
import hashlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.common import ENVIRONMENT, PROGRAM, greets, machine, wait_until
from bench.peers import DOMAIN, SELECTOR, key_file
from tests.support.ports import free_port

_LINE = 78  # bytes, with its CRLF
_TEXT_LINES = 40_000
_WRITE_BYTES = 64 << 10
_END = b"\r\n.\r\n"


def wire_text() -> bytes:
    """Some MiB of lines as DATA carries them; every hundredth begins with a stuffed dot."""
    noise = base64.b64encode(random.Random(1).randbytes(_TEXT_LINES * (_LINE - 2)))
    lines = [noise[at : at + _LINE - 2] for at in range(0, _TEXT_LINES * (_LINE - 2), _LINE - 2)]
    return b"".join((b".." + line[2:] if n % 100 == 0 else line) + b"\r\n" for n, line in enumerate(lines))


class HashingSink(asyncio.Protocol):
    """Takes every message, and tells its X-Id and the hash of its body as it came. connections: those open."""

    def __init__(self, arrived: Callable[[bytes, bytes], None], connections: "set[HashingSink]") -> None:
        self._arrived = arrived
        self._connections = connections
        self.ended = asyncio.get_running_loop().create_future()
        self._held = b""
        self._in_content = False
        self._id = b""  # known: the header is over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._connections.add(self)
        self._say(b"220 sink ESMTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        self.ended.set_result(None)

    def _say(self, reply: bytes) -> None:
        self.transport.write(reply + b"\r\n")  # type: ignore[attr-defined]  # uvloop's is no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (self._content if self._in_content else self._command)():
            pass

    def _command(self) -> bool:
        line, end, rest = self._held.partition(b"\r\n")
        if not end:
            return False
        self._held = rest
        if line == b"DATA":
            self._in_content, self._id, self._hash = True, b"", hashlib.sha256()
            self._say(b"354 go on")
        elif line[:4] == b"EHLO":
            self._say(b"250-sink\r\n250-SIZE\r\n250 8BITMIME")
        else:
            self._say(b"250 ok")
        return True

    def _content(self) -> bool:
        if not self._id:
            head, empty_line, body = self._held.partition(b"\r\n\r\n")
            if not empty_line:
                return False
            self._id = head.partition(b"X-Id: ")[2].partition(b"\r\n")[0]
            self._held = body
        end = self._held.find(_END)
        if end < 0:
            self._hash.update(self._held[:-4])
            self._held = self._held[-4:]
            return False
        self._hash.update(self._held[: end + 2])
        self._held = self._held[end + len(_END) :]
        self._arrived(self._id, self._hash.digest())
        self._in_content = False
        self._say(b"250 taken")
        return True


@dataclass
class Flood:
    """So many sessions, each of one message with a body of so many bytes, all at the same time."""

    port: int
    sessions: int
    body_bytes: int

    async def send(self) -> dict[bytes, bytes]:
        """The hash of each body that got its 250, by X-Id."""
        text = memoryview(wire_text())
        started = asyncio.Barrier(self.sessions)
        return dict(await asyncio.gather(*(self._session(number, text, started) for number in range(self.sessions))))

    async def _session(self, number: int, text: memoryview, started: asyncio.Barrier) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await _expect(reader, b"220")
        for command in (b"HELO bench", b"MAIL FROM:<ada@%b>" % DOMAIN.encode(), b"RCPT TO:<bob@example.net>"):
            writer.write(command + b"\r\n")
            await _expect(reader, b"250")
        writer.write(b"DATA\r\n")
        await _expect(reader, b"354")
        name = b"m%d" % number
        writer.write(b"X-Id: %b\r\nFrom: <ada@%b>\r\nSubject: large\r\n\r\n" % (name, DOMAIN.encode()))
        digest = hashlib.sha256()
        for count, piece in enumerate(self._pieces(number, text)):
            digest.update(piece)
            writer.write(piece)
            await writer.drain()
            if count == 1:
                await started.wait()  # nobody is done before everybody has begun
        writer.write(b".\r\n")
        await _expect(reader, b"250")
        writer.close()
        await writer.wait_closed()
        return name, digest.digest()

    def _pieces(self, number: int, text: memoryview) -> Iterator[bytes]:
        left = self.body_bytes // _LINE * _LINE
        at = number * 997 % _TEXT_LINES * _LINE
        while left:
            piece = bytes(text[at : at + min(_WRITE_BYTES // _LINE * _LINE, left)])
            left -= len(piece)
            at = (at + len(piece)) % len(text)
            yield piece


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    line = await reader.readline()
    if not line.startswith(code):
        raise RuntimeError(f"wanted {code!r}, got {line!r}")


async def flood(port: int, sink_port: int, sessions: int, body_bytes: int, patience_s: float) -> float:
    """Send, and wait until the sink has all; seconds. Raises RuntimeError: a body is missing or is another one."""
    arrived: dict[bytes, bytes] = {}
    complete = asyncio.Event()

    def count(name: bytes, digest: bytes) -> None:
        arrived[name] = digest
        if len(arrived) == sessions:
            complete.set()

    open_ones: set[HashingSink] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: HashingSink(count, open_ones), "127.0.0.1", sink_port
    )
    began = time.perf_counter()
    try:
        async with asyncio.timeout(patience_s):
            sent = await Flood(port, sessions, body_bytes).send()
            await complete.wait()
    finally:
        server.close()
        for connection in open_ones:
            connection.transport.abort()  # type: ignore[attr-defined]  # as above
        await asyncio.gather(*(connection.ended for connection in open_ones))
    if arrived != sent:
        raise RuntimeError("a body that arrived is not the one that was sent")
    return time.perf_counter() - began


def peak_rss(pid: int) -> int:
    """Bytes of resident memory at its highest (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) << 10


def settings(folder: Path, port: int, sink_port: int, more: str) -> str:
    return f"""[node]
name = "bench.example"
data_dir = "{folder}/data"

[[listener]]
kind = "smtp"
address = "127.0.0.1:{port}"
networks = ["127.0.0.0/8"]

[intake]
max_connections_per_address = 1000

[[route]]
domain = "*"
relay = "127.0.0.1:{sink_port}"
{more}"""


@contextmanager
def _daemon(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [*PROGRAM, "serve", "-c", str(folder / "postrider.toml")], stderr=log, env=ENVIRONMENT
        )
    try:
        if not wait_until(lambda: greets(port), 30):
            raise RuntimeError((folder / "log").read_text())
        yield daemon
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--size", type=float, default=24.9, help="MiB of each message [24.9, just below the limit]")
    parser.add_argument("--signed", action="store_true", help="DKIM, rsa-sha256 2048")
    parser.add_argument("--dir", help="parent of the queue's folder [the system's for temporary files]")
    options = parser.parse_args()
    key = f'[[dkim]]\ndomain = "{DOMAIN}"\nselector = "{SELECTOR}"\nkey = "{key_file()}"\n' if options.signed else ""
    body = int(options.size * (1 << 20)) - 1024
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder, port, sink_port = Path(name), free_port(), free_port()
        (folder / "postrider.toml").write_text(settings(folder, port, sink_port, key))
        print(", ".join(f"{key} {value}" for key, value in machine(folder).items()))
        with _daemon(folder, port) as daemon:
            idle = peak_rss(daemon.pid)
            seconds = uvloop.run(flood(port, sink_port, options.sessions, body, 3600))
            cpu = sum(int(n) for n in Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[11:13])
            print(
                f"{options.sessions} sessions of {options.size:g} MiB: {seconds:.1f} s, "
                f"{options.sessions * options.size / seconds:.0f} MiB/s in and out, "
                f"CPU {1000 * cpu / os.sysconf('SC_CLK_TCK') / (options.sessions * options.size):.2f} ms a MiB, "
                f"peak RSS {peak_rss(daemon.pid) / (1 << 20):.0f} MiB ({idle / (1 << 20):.0f} idle)"
            )


if __name__ == "__main__":
    main()
