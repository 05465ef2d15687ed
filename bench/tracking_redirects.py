"""Redirects a second on one core, with every hit on disk, and how long they take at half of that load.

    .venv/bin/python -m bench.tracking_redirects [--seconds 10] [--folder DIR]

`postrider redirect` on one core, wrk on another. The load is that of a large mailing: many messages, each client with
an address of its own, named by a proxy (X-Forwarded-For), and a browser; so that most hits are judged unsure first and
human later, which is two events each. In the same run a bare ASGI application on uvicorn, with httptools and uvloop and
nothing to do but the same 302. Afterwards the events are counted: as many as wrk had answers, or more by those whose
answers were under way when it stopped.
"""

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.bars import Bar, print_bars, print_machine
from bench.common import ENVIRONMENT, PROGRAM, Group, wait_until
from engine.base.clock import SystemClock
from engine.base.settings_tracking import LedgerSettings
from engine.message.ids import IdSource
from engine.message.link_token import LinkTokens
from engine.storage.events.merged import MergedReader
from engine.storage.ledger.sent import Sent, table_hash
from engine.storage.ledger.writer import Ledger
from tests.support.ports import free_port

_MESSAGES, _LINKS = 50_000, 20
_CONNECTIONS = 64
_REDIRECTS_BAR, _P99_BAR_MS = 8000, 10
_KEY = bytes(range(32))
_BARE = """
HEADERS = [(b"location", b"https://shop.example/"), (b"cache-control", b"no-store"),
           (b"referrer-policy", b"no-referrer"), (b"content-length", b"0")]
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 302, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b""})
"""
_LUA = """
local paths = {}
for line in io.lines(os.getenv("PATHS")) do paths[#paths + 1] = line end
math.randomseed(1)
local wait = tonumber(os.getenv("WAIT_MS"))
if wait > 0 then function delay() return math.random(0, 2 * wait) end end
function request()
  local client = math.random(1, 223) .. "." .. math.random(0, 255) .. "." .. math.random(0, 255) .. "." ..
    math.random(1, 254)
  return wrk.format("GET", paths[math.random(#paths)], {
    ["Host"] = "click.example", ["X-Forwarded-For"] = client, ["Accept"] = "text/html,*/*;q=0.8",
    ["Accept-Language"] = "en-US,en;q=0.5",
    ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0" })
end
function done(summary, latency, requests)
  io.write(string.format('\\nJSON {"requests": %d, "us": %d, "p50": %d, "p99": %d, "max": %d, "bad": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status +
    summary.errors.timeout))
end
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where the events are written, and removed")
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is missing: make packages")
        return 1
    with tempfile.TemporaryDirectory(prefix="postrider-", dir=args.folder) as name:
        folder = Path(name)
        print_machine(folder)
        bars = _run(folder, args.seconds)
    return 0 if print_bars(bars) else 1


def _run(folder: Path, seconds: int) -> list[Bar]:
    asyncio.run(_mailing(folder))
    (folder / "load.lua").write_text(_LUA)
    (folder / "bare.py").write_text(_BARE)
    with _bare(folder) as (port, group):
        before = group.cpu()
        bare = _wrk(folder, port, seconds)
        bare_busy = (group.cpu() - before) / max(bare["requests"], 1)
    _say("bare uvicorn 302", bare)
    with _redirector(folder) as (port, group):
        before = group.cpu()
        full = _wrk(folder, port, seconds)
        busy = (group.cpu() - before) / max(full["requests"], 1)
        _say("redirector", full)
        rate = full["requests"] / full["us"] * 1e6
        half = _wrk(folder, port, seconds, wait_ms=round(2000 * _CONNECTIONS / rate))
        _say("redirector at half load", half)
        group.stop()
    events = MergedReader(folder / "data").read()
    hits = sum(event["type"] == "clicked" for event in events)
    answers = full["requests"] + half["requests"]
    print(f"{hits:,} hits on disk of {answers:,} answers; {busy * 1e6:.0f} us of CPU each, bare {bare_busy * 1e6:.0f}")
    return [
        Bar("redirects, every hit recorded", rate, _REDIRECTS_BAR, "/s"),
        Bar("hits on disk for each answer", hits / answers, 1.0),
        Bar("p99 at half load", half["p99"] / 1000, _P99_BAR_MS, "ms", at_most=True),
        Bar("errors", full["bad"] + half["bad"] + bare["bad"], 0, at_most=True),
        Bar("ratio to a bare uvicorn 302", rate / (bare["requests"] / bare["us"] * 1e6), 0.0),
    ]


async def _mailing(folder: Path) -> None:
    """Notes of many messages, as a worker makes them, and some of their links."""
    data = folder / "data"
    data.mkdir(mode=0o700)
    ledger = Ledger(data, 0, LedgerSettings(), 90 * 86400.0)
    ids, tokens, rng = IdSource("bench", 0, SystemClock()), LinkTokens({1: _KEY}), random.Random(1)
    links = tuple(f"https://shop.example/article/{number}?utm_source=mail" for number in range(_LINKS))
    table, yesterday = table_hash(links), time.time() - 86400
    with (folder / "paths").open("w") as paths:
        for number in range(_MESSAGES):
            sent = Sent(
                id=ids.next(), at=yesterday, sender="news@shop.example", recipients=(f"user{number}@example.org",),
                tenant="shop", stream="news", batch="november", level="full", table=table,
            )  # fmt: skip
            ledger.note(sent, links)
            ledger.delivered(sent.id, 0, yesterday)
            if not number % 1000:
                await ledger.keep()
            token = tokens.made(sent.id, None, [rng.randrange(3, 3 + _LINKS)])[0]
            paths.write(f"/c/{token.decode()}\n")
    await ledger.keep()
    await ledger.close()


def _cores() -> tuple[str, str]:
    """One for what is measured, one for the load."""
    cores = sorted(os.sched_getaffinity(0))
    return str(cores[0]), str(cores[-1])


@contextmanager
def _bare(folder: Path) -> Iterator[tuple[int, Group]]:
    port, group = free_port(), Group("bare")
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "bare:app",
        "--port",
        str(port),
        "--http",
        "httptools",
        "--loop",
        "uvloop",
    ]
    quiet = ["--no-access-log", "--no-server-header", "--log-level", "warning", "--lifespan", "off"]
    group.start(["taskset", "-c", _cores()[0], *command, *quiet], folder / "bare.log", cwd=folder)
    try:
        assert wait_until(lambda: _answers(f"http://127.0.0.1:{port}/robots.txt"), 20), "no uvicorn"
        yield port, group
    finally:
        group.stop()


@contextmanager
def _redirector(folder: Path) -> Iterator[tuple[int, Group]]:
    port, group = free_port(), Group("redirect")
    (folder / "postrider.toml").write_text(
        f'[node]\nname = "bench"\ndata_dir = "data"\n[tracking]\nbase_url = "https://click.example"\nlevel = "full"\n'
        f'keys = ["1:{_KEY.hex()}"]\nproxies = ["127.0.0.0/8"]\n[intake]\nmax_connections_per_address = 1000\n'
    )
    command = [*PROGRAM, "redirect", "-c", str(folder / "postrider.toml"), "--address", f"127.0.0.1:{port}"]
    group.start(["taskset", "-c", _cores()[0], *command], folder / "redirect.log")
    try:
        assert wait_until(lambda: _answers(f"http://127.0.0.1:{port}/robots.txt"), 20), "no redirector"
        yield port, group
    finally:
        group.stop()


def _answers(url: str) -> bool:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    try:
        urllib.request.build_opener(Stay).open(url, timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _wrk(folder: Path, port: int, seconds: int, wait_ms: int = 0) -> dict[str, Any]:
    """wait_ms: of each connection between two requests, on average."""
    command = ["taskset", "-c", _cores()[1], "wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "-s", "load.lua"]
    environ = {**ENVIRONMENT, "PATHS": str(folder / "paths"), "WAIT_MS": str(wait_ms)}
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"], cwd=folder, env=environ, capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"^JSON (.+)$", out, re.MULTILINE)
    assert found, out
    return dict(json.loads(found[1]))


def _say(what: str, figures: dict[str, Any]) -> None:
    rate = figures["requests"] / figures["us"] * 1e6
    p50, p99 = figures["p50"] / 1000, figures["p99"] / 1000
    print(f"{what:26} {rate:8,.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms, of {figures['requests']:,}")


if __name__ == "__main__":
    sys.exit(main())
