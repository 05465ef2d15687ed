"""How long a 250 takes while the mover works at full rate, beside the same without.

A backlog is filled with a journal that may have many files; then the settings are reloaded with a journal of one, and
the mover has all of it to move, while a steady load comes in.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from bench.bars import Bar
from bench.common import ENVIRONMENT, PROGRAM
from bench.peers import Unavailable
from bench.spool_fill import fill
from bench.spool_peers import OneWorker
from engine.admin.client import ask
from tests.support.ports import free_port

_RATE, _SESSIONS = 300, 20
_SETTLE_S = 6.0  #: upkeep comes every five seconds


class _Loaded(OneWorker):
    name = "postrider-moving"

    def configure(self) -> None:
        super().configure()
        with (self.folder / "postrider.toml").open("a") as file:
            file.write('\n[spool]\njournal_files = 1000\nsegment_bytes = "16 MiB"\n')

    def move(self) -> None:
        """Everything but the newest file of the journal is to be moved from now on."""
        settings = self.folder / "postrider.toml"
        settings.write_text(settings.read_text().replace("journal_files = 1000", "journal_files = 1"))
        os.kill(self.group.pids()[0], signal.SIGHUP)


def run(folder: Path, messages: int, seconds: int) -> list[Bar]:
    """messages: to be moved. seconds: of each of the two loads."""
    peer = _Loaded(folder / "latency", free_port())
    try:
        peer.start()
        fill(peer, messages)
        idle = _load(peer, seconds)
        before = _spool(peer)
        peer.move()
        time.sleep(_SETTLE_S)
        began, start = time.monotonic(), _spool(peer)
        busy = _load(peer, seconds)
        end, took = _spool(peer), time.monotonic() - began
    except (Unavailable, subprocess.SubprocessError, OSError) as error:
        print(f"  latency   failed: {error}")
        return []
    finally:
        peer.stop()
    shutil.rmtree(peer.folder)
    for what, report in (("idle", idle), ("moving", busy)):
        print(
            f"  latency   mover {what:7} p50 {report['p50_ms']:.1f}, p99 {report['p99_ms']:.1f}, "
            f"most {report['max_ms']:.1f} ms at {_RATE}/s"
        )
    print(f"  latency   journal files {before} -> {start} before the load, {end} after it ({took:.0f} s)", flush=True)
    if end >= start or end <= 2:
        print("  latency   the mover was not at work all the time: more messages, or fewer seconds")
    return [
        Bar("a 250 while the mover works, p50 more than without", busy["p50_ms"] - idle["p50_ms"], 3.0, "ms", True),
        Bar("a 250 while the mover works, p99 more than without", busy["p99_ms"] - idle["p99_ms"], 5.0, "ms", True),
    ]


def _load(peer: OneWorker, seconds: int) -> dict[str, float]:
    """Our own generator at a steady rate: its report."""
    command = [*PROGRAM, "load", "--json", "--to", f"127.0.0.1:{peer.port}", "--rate", f"{_RATE}/s"]
    command += ["-n", str(_RATE * seconds), "--sessions", str(_SESSIONS), "--messages-per-connection", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=ENVIRONMENT)
    report: dict[str, float] = json.loads(done.stdout)
    if report["accepted"] != _RATE * seconds:
        raise Unavailable(f"{report['accepted']} of {_RATE * seconds} accepted; {report['last_error']}")
    return report


def _spool(peer: OneWorker) -> int:
    """Files of the journal."""
    [status] = ask(peer.folder / "data", "status")
    return int(status["journal_files"])
