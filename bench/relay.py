"""Relay, side by side: smtp-source into each program, from there to smtp-sink, everything on loopback and durable.

    .venv/bin/python -m bench.relay [--peers postrider,postfix] [--rounds 3] [--n 20000] [--json FILE]

In each round every peer starts anew with an empty queue, takes a warm-up, then 20,000 messages of 4 KiB from 20
sessions of smtp-source; rounds alternate the order. The rate is messages over the time from the start of smtp-source
to the last message at smtp-sink, by smtp-sink's own count. Latency to 250 comes from a short run of our own load
generator afterwards, on the same process. smtp-source keeps its connections (-d) for all alike: without it the cost
of a connection for each message, the same for all, would hide the difference.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.common import ENVIRONMENT, PROGRAM, greets, machine, peak_memory, wait_until
from bench.haraka import HarakaSigned
from bench.peers import DOMAIN, Peer, Postfix, PostfixSigned, Postrider, PostriderOne, PostriderSigned, Unavailable
from bench.postfix_tools import SmtpSink, SmtpSource, missing
from tests.support.ports import free_port

PEERS: tuple[type[Peer], ...] = (
    Postrider, PostriderOne, Postfix, PostriderSigned, PostfixSigned, HarakaSigned,
)  # fmt: skip

WARM_UP = 200
SESSIONS = 20
ADDRESSES = (f"sender@{DOMAIN}", "user@sink.example")
STALL_S = 20.0  #: nothing at the sink for so long: what is missing will not come
LIMIT_S = 180.0  #: for one measurement
LATENCY_MESSAGES = 2000

#: What is medianed, and how it is printed.
COLUMNS = {
    "rate": "msg/s",
    "cpu_ms": "CPU ms/msg",
    "pss_mib": "PSS MiB",
    "rss_mib": "RSS MiB",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
}


@dataclass(slots=True, kw_only=True)
class Result:
    """One round of one peer. cpu_ms: user and system of all its processes for one message. Memory: the peak."""

    peer: str
    round: int
    messages: int
    delivered: int
    seconds: float
    rate: float
    cpu_ms: float
    rss_mib: float
    pss_mib: float
    p50_ms: float
    p99_ms: float


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 if every peer that can run here delivered everything in every round."""
    args = _arguments(argv)
    if lacking := missing():
        print(lacking, file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="postrider-bench-", dir=args.dir))
    folder.chmod(0o755)  # Postfix's processes run as users of their own
    facts = machine(folder)
    print("machine   " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()))
    print(f"workload  {args.n} x 4 KiB, {SESSIONS} sessions of smtp-source -d to smtp-sink; rounds {args.rounds}")
    peers = _available(args.peers)
    results = []
    for number in range(args.rounds):
        for kind in peers if number % 2 == 0 else peers[::-1]:
            try:
                results.append(measure(kind, number, args.n, folder))
                print(_line(results[-1]), flush=True)
            except (Unavailable, subprocess.SubprocessError, OSError, ValueError) as error:
                print(f"  round {number + 1}  {kind.name}: failed: {error}", flush=True)
    shutil.rmtree(folder) if len(results) == args.rounds * len(peers) else print(f"logs of what failed are in {folder}")
    medians = _medians(results)
    _print_table(medians)
    if args.json:
        report = {"machine": facts, "messages": args.n, "medians": medians, "rounds": [asdict(r) for r in results]}
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    complete = len(results) == args.rounds * len(peers) and all(r.delivered >= r.messages for r in results)
    return 0 if complete else 1


def measure(kind: type[Peer], number: int, messages: int, folder: Path) -> Result:
    """One round of one peer, from an empty queue. Raises Unavailable; its folder with the log then stays."""
    peer = kind(folder / f"round{number + 1}", free_port())
    sink = None
    try:
        peer.start()
        if kind.signs:
            _see_a_signature(peer)
        sink = SmtpSink(folder, peer.sink_port)
        warm_up = SmtpSource(peer.port, WARM_UP, SESSIONS, *ADDRESSES)
        warm, _ = sink.wait_for(WARM_UP, STALL_S, LIMIT_S)
        warm_up.end()
        if warm < WARM_UP:
            raise Unavailable(f"relayed {warm} of {WARM_UP} messages; see {peer.log}")
        cpu = peer.group.cpu()
        with peak_memory(peer.group) as peak:
            began = time.monotonic()
            source = SmtpSource(peer.port, messages, SESSIONS, *ADDRESSES)
            count, last_at = sink.wait_for(warm + messages, STALL_S, LIMIT_S)
            source.end()
            cpu = peer.group.cpu() - cpu
        p50, p99 = latency(peer.port)
    finally:
        peer.stop()
        if sink is not None:
            sink.stop()
    shutil.rmtree(peer.folder)
    delivered, seconds = count - warm, last_at - began
    return Result(
        peer=kind.name,
        round=number,
        messages=messages,
        delivered=delivered,
        seconds=round(seconds, 3),
        rate=round(delivered / seconds, 1) if seconds > 0 else 0.0,
        cpu_ms=round(1000 * cpu / max(1, delivered), 4),
        rss_mib=round(peak[0] / 2**20, 1),
        pss_mib=round(peak[1] / 2**20, 1),
        p50_ms=p50,
        p99_ms=p99,
    )


def _see_a_signature(peer: Peer) -> None:
    """One message through it, to our own sink at the same address. Raises Unavailable if it comes without signature."""
    kept = peer.folder / "signed"
    command = [*PROGRAM, "sink", "--listen", f"127.0.0.1:{peer.sink_port}", "--save", str(kept), "--until", "1"]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sink:
        try:
            if not wait_until(lambda: greets(peer.sink_port), 10):
                raise Unavailable("our own sink did not start")
            SmtpSource(peer.port, 1, 1, *ADDRESSES).end()
            sink.wait(STALL_S)
            if b"DKIM-Signature:" not in next(kept.glob("*.eml")).read_bytes():
                raise Unavailable("relays without a signature")
        finally:
            sink.kill()


def latency(port: int) -> tuple[float, float]:
    """p50 and p99 in ms from MAIL to the last 250: 10 messages a connection, pipelined."""
    command = [*PROGRAM, "load", "--json", "--to", f"127.0.0.1:{port}"]
    command += ["-n", str(LATENCY_MESSAGES), "--sessions", str(SESSIONS), "--patience", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=ENVIRONMENT)
    report = json.loads(done.stdout)
    if report["accepted"] != LATENCY_MESSAGES:
        print(f"  latency run: {report['accepted']} of {LATENCY_MESSAGES} accepted; {report['last_error']}")
    return float(report["p50_ms"]), float(report["p99_ms"])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.relay", description="relay rates, side by side")
    names = [kind.name for kind in PEERS]
    parser.add_argument("--peers", default=",".join(names), help="some of %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--n", type=int, default=20_000, help="messages in each round")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="queues go below; a real disk [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    args = parser.parse_args(argv)
    args.peers = args.peers.split(",")
    if unknown := [name for name in args.peers if name not in names]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(names)}")
    return args


def _available(names: Sequence[str]) -> list[type[Peer]]:
    """The peers asked for that can run here; why the others cannot is printed."""
    peers = []
    for kind in PEERS:
        if kind.name not in names:
            continue
        try:
            kind.check()
        except Unavailable as reason:
            print(f"SKIPPED   {kind.name}: {reason}", flush=True)
            continue
        peers.append(kind)
        print(f"peer      {kind.name}: {'; '.join(kind.settings)}", flush=True)
    return peers


def _line(result: Result) -> str:
    lost = "" if result.delivered >= result.messages else f"  ONLY {result.delivered} of {result.messages} delivered"
    figures = "  ".join(f"{title} {getattr(result, name):,.2f}" for name, title in COLUMNS.items())
    return f"  round {result.round + 1}  {result.peer:18} {figures}{lost}"


def _medians(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Peer -> figure -> median of its rounds.

    `ratio`: its rate over that of the fastest other program that does the same, signed or unsigned.
    """
    medians: dict[str, dict[str, float]] = {}
    for kind in PEERS:
        own = [result for result in results if result.peer == kind.name]
        if own:
            medians[kind.name] = {name: statistics.median(getattr(r, name) for r in own) for name in COLUMNS}
    for kind in PEERS:
        rivals = [k.name for k in PEERS if k.signs == kind.signs and k.name in medians and not k.ours]
        best = max((medians[name]["rate"] for name in rivals), default=0.0)
        if kind.name in medians and best:
            medians[kind.name]["ratio"] = round(medians[kind.name]["rate"] / best, 2)
    return medians


def _print_table(medians: dict[str, dict[str, float]]) -> None:
    """Medians; the ratio is to the fastest other peer that does the same (signs or does not)."""
    columns = {**COLUMNS, "ratio": "ratio"}
    print(f"\n{'median':18} " + " ".join(f"{title:>11}" for title in columns.values()))
    for name, row in medians.items():
        cells = [f"{row[column]:,.{2 if row[column] < 100 else 0}f}" if column in row else "-" for column in columns]
        print(f"{name:18} " + " ".join(f"{cell:>11}" for cell in cells))
    print("ratio: the rate beside the fastest other program that does the same (Postfix; the fastest that signs)")


if __name__ == "__main__":
    sys.exit(main())
