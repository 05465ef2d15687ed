"""Write amplification: bytes the spool writes for each byte of content it accepts, counted in its file layer.

    pass-through    messages leave at once
    moved           nobody is at the next hop until everything has been moved to the segments of its destination

The events and the log are not the spool's and stand beside it, as the sizes of their files; so does the reserve for a
full disk, which is written once and not for messages.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.bars import Bar
from bench.common import wait_until
from bench.peers import Unavailable
from bench.postfix_tools import SmtpSink
from bench.spool_fill import fill
from bench.spool_peers import OneWorker
from engine.admin.client import ask
from tests.support.ports import free_port

_STALL_S, _LIMIT_S = 30.0, 600.0
_CONTENT_BYTES = 4096


class _Counted(OneWorker):
    name = "postrider-counted"

    def run(self) -> None:
        command = [sys.executable, "-P", "-m", "bench.counted", str(self.counts_file)]
        self.group.start([*command, "serve", "-c", str(self.folder / "postrider.toml")], self.log)

    @property
    def counts_file(self) -> Path:
        return self.folder / "counts.json"


class _Moving(_Counted):
    """With a journal so small that nearly everything is moved. content_bytes: of all messages that will come."""

    content_bytes = 0

    def configure(self) -> None:
        super().configure()
        with (self.folder / "postrider.toml").open("a") as file:
            file.write(f"\n[spool]\njournal_files = 1\nmove_rate = 0\nsegment_bytes = {self.content_bytes // 20}\n")


def run(folder: Path, messages: int) -> list[Bar]:
    bars = []
    for kind, what, bar in ((_Counted, "pass-through", 1.2), (_Moving, "a backlog that is moved", 2.5)):
        try:
            amplification = _measure(kind(folder / "writes", free_port()), messages, what)
        except (Unavailable, subprocess.SubprocessError, OSError) as error:
            print(f"  writes    {what}: failed: {error}")
            amplification = None
        bars.append(Bar(f"bytes written for each accepted, {what}", amplification, bar, at_most=True))
    return bars


def _measure(peer: _Counted, messages: int, what: str) -> float:
    """Bytes written for each byte of content."""
    sink, moves, content = None, isinstance(peer, _Moving), messages * _CONTENT_BYTES
    if isinstance(peer, _Moving):
        peer.content_bytes = content
    try:
        peer.start()
        if not moves:
            sink = SmtpSink(peer.folder, peer.sink_port)
        fill(peer, messages)
        if moves:
            if not wait_until(lambda: _journal_files(peer) <= 2, _LIMIT_S, 0.5):
                raise Unavailable(f"is not done with moving; see {peer.log}")
            sink = SmtpSink(peer.folder, peer.sink_port)
            peer.flush()
        assert sink is not None
        count, _ = sink.wait_for(messages, _STALL_S, _LIMIT_S)
        if count < messages:
            raise Unavailable(f"delivered {count} of {messages}; see {peer.log}")
        time.sleep(1.0)  # the last outcomes
    finally:
        peer.stop()
        if sink is not None:
            sink.stop()
    counts = json.loads(peer.counts_file.read_text())
    reserve = counts.pop("reserve", 0) / content
    parts = ", ".join(f"{suffix} {size / content:.3f}" for suffix, size in sorted(counts.items()))
    events = sum(path.stat().st_size for path in (peer.folder / "data/events").rglob("*.log")) / content
    log = peer.log.stat().st_size / content
    total = sum(counts.values()) / content
    beside = f"events {events:.3f}, log {log:.3f}, reserve {reserve:.3f}"
    print(f"  writes    {what}: {total:.3f} = {parts}; beside it {beside}", flush=True)
    shutil.rmtree(peer.folder)
    return float(total)


def _journal_files(peer: OneWorker) -> int:
    [status] = ask(peer.folder / "data", "status")
    return int(status["journal_files"])
