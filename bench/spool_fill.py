"""How fast a queue for a dead destination is filled over SMTP: 20 sessions of smtp-source, nobody at the next hop.

The rate is messages over the time until smtp-source has its last 250.
"""

import shutil
import statistics
import subprocess
import time
from pathlib import Path

from bench.bars import Bar
from bench.peers import Peer, Unavailable
from bench.postfix_tools import SmtpSource
from bench.spool_peers import FILLERS, available
from tests.support.ports import free_port

ADDRESSES = ("sender@load.example", "user@dead.example")
SESSIONS = 20
_WARM_UP = 200
_LIMIT_S = 1800.0


def run(folder: Path, messages: int, rounds: int) -> list[Bar]:
    """Medians of rounds that alternate the order; the bar is over the fastest program that is not ours."""
    kinds = available(FILLERS)
    rates: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    for number in range(rounds):
        for kind in kinds if number % 2 == 0 else kinds[::-1]:
            peer = kind(folder / f"fill{number}", free_port())
            try:
                rate, cpu_ms = _measure(peer, messages)
                rates[kind.name].append(rate)
                print(f"  fill      round {number + 1}  {kind.name:12} {rate:,.0f}/s, {cpu_ms:.2f} CPU ms a message")
            except (Unavailable, subprocess.SubprocessError) as error:
                print(f"  fill      round {number + 1}  {kind.name:12} failed: {error}")
    medians = {name: statistics.median(found) for name, found in rates.items() if found}
    ours = max((medians[kind.name] for kind in kinds if kind.ours and kind.name in medians), default=None)
    best = max((medians[kind.name] for kind in kinds if not kind.ours and kind.name in medians), default=None)
    ratio = ours / best if ours and best else None
    return [Bar("filling for a dead destination, times the fastest peer", ratio, 3.0)]


def fill(peer: Peer, messages: int) -> float:
    """Seconds until all are accepted. Raises Unavailable: not all were."""
    began = time.monotonic()
    source = SmtpSource(peer.port, messages, SESSIONS, *ADDRESSES)
    if source.end(_LIMIT_S) != 0:
        raise Unavailable(f"did not take {messages} messages; see {peer.log}")
    return time.monotonic() - began


def _measure(peer: Peer, messages: int) -> tuple[float, float]:
    """Messages a second, and user and system milliseconds of all its processes for one."""
    try:
        peer.start()
        fill(peer, _WARM_UP)
        cpu = peer.group.cpu()
        seconds = fill(peer, messages)
        cpu = peer.group.cpu() - cpu
    finally:
        peer.stop()
    shutil.rmtree(peer.folder)
    return messages / seconds, 1000 * cpu / messages
