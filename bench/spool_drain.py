"""How fast a backlog goes out: filled while nobody is at the next hop, then smtp-sink comes up, and all is tried again.

The rate is messages over the time from the operator's word to the last message at smtp-sink. Beside it: what the same
program passes through (bench.relay), and what Haraka drains.
"""

import shutil
import subprocess
import time
from pathlib import Path

from bench import relay
from bench.bars import Bar
from bench.haraka import Haraka
from bench.peers import Peer, Unavailable
from bench.postfix_tools import SmtpSink
from bench.spool_fill import fill
from bench.spool_peers import OneWorker, TwoWorkers, available
from tests.support.ports import free_port

_STALL_S, _LIMIT_S = 30.0, 1800.0
#: Its fill is slow: it gets no more than so many.
_HARAKA_MESSAGES = 20_000


def run(folder: Path, messages: int, passed: int) -> list[Bar]:
    """messages: of our backlog. passed: of the run that passes through."""
    kinds = available((OneWorker, TwoWorkers, Haraka))
    through: dict[str, float] = {}
    drained: dict[str, float] = {}
    for kind in kinds:
        try:
            if kind.ours:
                result = relay.measure(kind, 0, passed, folder / "through")
                through[kind.name] = result.rate
                print(f"  through   {kind.name:12} {result.rate:,.0f}/s, {result.cpu_ms:.2f} CPU ms a message")
            count = messages if kind.ours else min(messages, _HARAKA_MESSAGES)
            drained[kind.name] = _drain(kind, folder / "drain", count)
        except (Unavailable, subprocess.SubprocessError, OSError, ValueError) as error:
            print(f"  drain     {kind.name:12} failed: {error}")
    ours = {kind.name for kind in kinds if kind.ours} & drained.keys()
    best = max((drained[name] for name in ours), default=None)
    haraka = drained.get(Haraka.name)
    bars = [
        Bar(f"draining beside passing through, {name}", drained[name] / through[name], 0.8)
        for name in sorted(ours & through.keys())
    ]
    return [*bars, Bar("draining, times Haraka", best / haraka if best and haraka else None, 2.0)]


def _drain(kind: type[Peer], folder: Path, messages: int) -> float:
    """Messages a second."""
    peer, sink = kind(folder, free_port()), None
    try:
        peer.start()
        filled = fill(peer, messages)
        sink = SmtpSink(folder, peer.sink_port)
        cpu, began = peer.group.cpu(), time.monotonic()
        peer.flush()
        count, last_at = sink.wait_for(messages, _STALL_S, _LIMIT_S)
        cpu = peer.group.cpu() - cpu
    finally:
        peer.stop()
        if sink is not None:
            sink.stop()
    if count < messages:
        raise Unavailable(f"drained {count} of {messages}; see {peer.log}")
    shutil.rmtree(peer.folder)
    rate = messages / (last_at - began)
    print(
        f"  drain     {kind.name:12} {rate:,.0f}/s of {messages:,}, {1000 * cpu / messages:.2f} CPU ms a message"
        f" (filled at {messages / filled:,.0f}/s)",
        flush=True,
    )
    return rate
