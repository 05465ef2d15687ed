"""Millions of deliveries in the old generation: how the daemon starts on them, what they cost, how it answers.

    .venv/bin/python -m bench.millions [--n 10000000] [--destinations 1000] [--keep DIR] [--dir /var/tmp] [--json FILE]

An old generation is made (millions_make.py), then the real daemon is started on it. Everything is asked over its own
doors: the banner of its listener, the operator's socket, messages by SMTP. With --keep a made one is used again.

Memory is VmRSS and VmHWM (the peak) of the daemon. Bytes a delivery: VmRSS beyond that of a daemon with an empty
spool, by the number of deliveries.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.bars import Bar, print_bars, print_machine
from bench.common import PROGRAM, Group, greets, wait_until
from bench.millions_make import make, name_of
from bench.postfix_tools import SmtpSink, SmtpSource, missing
from bench.smtp_probe import probing
from engine.admin.client import ask
from tests.support.ports import free_port

_START_S, _LOAD_S, _PURGE_S = 120.0, 600.0, 600.0
#: A hold is looked at after this long: by then the daemon has swept over it.
_HELD_S = 5.0
#: What is sent to another destination while a big one is purged.
_OTHERS, _OTHERS_S = 10_000, 60.0
#: A made one is of use until its deliveries are due.
_FRESH_S = 5 * 86400
#: The destination that is purged to its end: one of this rank has some thousands of ten million.
_MODERATE = 200

_SETTINGS = """[node]
name = "bench.example"
data_dir = "data"

[[listener]]
kind = "smtp"
address = "127.0.0.1:{port}"
networks = ["127.0.0.0/8"]

[[route]]
domain = "other.example"
relay = "127.0.0.1:{sink}"
connections = 20
messages_per_connection = 1000

[[route]]
domain = "*"
relay = "127.0.0.1:{nobody}"
"""


class Daemon:
    """The real daemon in a folder with a made data directory."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.log = folder / "log"
        self.port, self.sink_port = free_port(), free_port()
        self._settings = folder / "postrider.toml"
        self._settings.write_text(_SETTINGS.format(port=self.port, nobody=free_port(), sink=self.sink_port))
        self._group = Group(f"millions-{folder.name}")

    def start(self) -> float:
        """Seconds from its start to its banner."""
        began = time.monotonic()
        self._group.start([*PROGRAM, "serve", "-c", str(self._settings)], self.log)
        if not wait_until(lambda: greets(self.port) or not self._group.alive(), _START_S) or not self._group.alive():
            raise RuntimeError(f"the daemon did not start; see {self.log}")
        return time.monotonic() - began

    def ask(self, command: str, **arguments: Any) -> tuple[list[dict[str, Any]], float]:
        """The rows of an answer, and the seconds to the last of them."""
        began = time.monotonic()
        rows = list(ask(self.data_dir, command, **arguments))
        return rows, time.monotonic() - began

    def memory(self) -> tuple[int, int]:
        """Bytes resident now, and at most so far."""
        [pid] = self._group.pids()
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.startswith("Vm")}
        return found["VmRSS"], found["VmHWM"]

    def stop(self) -> None:
        self._group.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 if no bar was missed."""
    args = _arguments(argv)
    folder = args.keep or Path(tempfile.mkdtemp(prefix="postrider-millions-", dir=args.dir))
    folder.mkdir(exist_ok=True)
    facts = print_machine(folder)
    print(f"workload  {args.n:,} deliveries to {args.destinations:,} destinations in the old generation")
    try:
        _have(folder, args.n, args.destinations)
        base = _empty_daemon(folder)
        figures = measure(Daemon(folder), args.n, base, min(_MODERATE, args.destinations - 1))
    finally:
        if args.keep is None:
            shutil.rmtree(folder)
    for name, value in figures.items():
        print(f"  {name.replace('_', ' '):34} {value:>14,.3f}".rstrip("0").rstrip("."))
    if args.json:
        args.json.write_text(json.dumps({"machine": facts, "n": args.n, "figures": figures}, indent=1) + "\n")
    return 0 if print_bars(_bars(args.n, figures)) else 1


def measure(daemon: Daemon, count: int, base: int, moderate: int) -> dict[str, float]:
    """Everything, in the order in which an operator would see it. base: bytes of a daemon with nothing queued."""
    figures: dict[str, float] = {}
    began = time.monotonic()
    figures["banner_s"] = daemon.start()
    try:
        with probing(daemon.port) as latencies:
            _wait_for_backlog(daemon)
        figures["loaded_s"] = time.monotonic() - began
        print(f"  a 250 while the old generation is loaded: {latencies}")
        resident, peak = daemon.memory()
        figures["resident_mib"], figures["peak_mib"] = resident / 2**20, peak / 2**20
        figures["bytes_a_delivery"] = (resident - base) / count
        [status], figures["status_s"] = daemon.ask("status")
        if not count <= status["deliveries"] < count + 100_000:
            raise RuntimeError(f"{status['deliveries']} deliveries of {count} are there; see {daemon.log}")
        with probing(daemon.port) as latencies:
            figures |= _ask_everything(daemon, moderate)
        print(f"  a 250 while operators ask: {latencies}")
        if not missing():
            figures |= _purge_beside_others(daemon)
        figures["resident_after_mib"], figures["peak_after_mib"] = (part / 2**20 for part in daemon.memory())
    finally:
        daemon.stop()
    return figures


def _ask_everything(daemon: Daemon, moderate: int) -> dict[str, float]:
    """What an operator does to a big destination, and to one of moderate size."""
    figures: dict[str, float] = {}
    rows, figures["queues_s"] = daemon.ask("queues")
    queued = {row["destination"]: row["queued"] for row in rows}
    big, small = name_of(0), name_of(moderate)
    figures["big_destination_deliveries"] = queued[big]
    for action in ("hold", "resume"):
        [row], figures[f"{action}_big_destination_s"] = daemon.ask(action, target=big)
        if row["deliveries"] != queued[big]:
            raise RuntimeError(f"{action} of {big} touched {row['deliveries']} of {queued[big]}")
        if action == "hold":
            time.sleep(_HELD_S)
            if (held := _queue(daemon, big)["held"]) != queued[big]:
                raise RuntimeError(f"{held} of {queued[big]} to {big} are held")
    for target in ("tenant:tenant1", "batch:batch7", "class:bulk"):
        for action in ("hold", "resume"):
            _, figures[f"{action}_{target.partition(':')[0]}_s"] = daemon.ask(action, target=target)
    _, figures["list_100_of_all_s"] = daemon.ask("list")
    figures["purged_deliveries"] = queued[small]
    began = time.monotonic()
    _, figures["purge_answer_s"] = daemon.ask("purge", target=small)
    if not wait_until(lambda: not daemon.ask("status")[0][0]["orders"], _PURGE_S, 0.2):
        raise RuntimeError(f"the purge of {small} does not end; see {daemon.log}")
    figures["purge_done_s"] = time.monotonic() - began
    return figures


def _purge_beside_others(daemon: Daemon) -> dict[str, float]:
    """How fast mail to another destination goes in and out, alone and while the biggest one is purged."""
    sink, big = SmtpSink(daemon.log.parent, daemon.sink_port), name_of(0)
    try:
        figures = {"others_a_second": _others_a_second(daemon, sink)}
        before, began = _queue(daemon, big)["queued"], time.monotonic()
        daemon.ask("purge", target=big)
        figures["others_a_second_while_purging"] = _others_a_second(daemon, sink)
        purged = before - _queue(daemon, big)["queued"]
        figures["purged_meanwhile"] = purged
        figures["purged_a_second_meanwhile"] = purged / (time.monotonic() - began)
    finally:
        sink.stop()
    return figures


def _others_a_second(daemon: Daemon, sink: SmtpSink) -> float:
    """From the first message's beginning to the last at smtp-sink."""
    wanted, began = sink.count() + _OTHERS, time.monotonic()
    source = SmtpSource(daemon.port, _OTHERS, 20, "ada@bench.example", "bob@other.example")
    count, last_at = sink.wait_for(wanted, _OTHERS_S, 10 * _OTHERS_S)
    if source.end() or count < wanted:
        raise RuntimeError(f"{wanted - count} of {_OTHERS} messages did not arrive; see {daemon.log}")
    return _OTHERS / (last_at - began)


def _queue(daemon: Daemon, name: str) -> dict[str, Any]:
    """What `queues` says of a destination."""
    rows, _ = daemon.ask("queues")
    return next((row for row in rows if row["destination"] == name), {"queued": 0, "held": 0})


def _bars(count: int, figures: dict[str, float]) -> list[Bar]:
    millions = count / 1e6
    bars = [Bar("answer of `queues`", figures["queues_s"], 1.0, "s", at_most=True)]
    if count >= 1_000_000:  # below, the interpreter itself is most of it
        bars.append(Bar("bytes a delivery", figures["bytes_a_delivery"], 100.0, at_most=True))
    if millions <= 1:
        bars.append(Bar("start, up to one million: loaded after", figures["loaded_s"], 5.0, "s", at_most=True))
    elif millions <= 10:
        bars.append(Bar("start, ten million: loaded after", figures["loaded_s"], 60.0, "s", at_most=True))
        bars.append(Bar("resident, ten million", figures["resident_mib"] / 1024, 1.2, "GiB", at_most=True))
        bars.append(Bar("resident at most", figures["peak_after_mib"] / 1024, 1.2, "GiB", at_most=True))
    return bars


def _wait_for_backlog(daemon: Daemon) -> None:
    def loaded() -> bool:
        [status], _ = daemon.ask("status")
        return not status["loading"]

    if not wait_until(loaded, _LOAD_S, 0.1):
        raise RuntimeError(f"the old generation is not loaded after {_LOAD_S:.0f} s; see {daemon.log}")


def _empty_daemon(folder: Path) -> int:
    """Bytes resident of a daemon with nothing queued."""
    empty = folder / "empty"
    empty.mkdir()
    daemon = Daemon(empty)
    try:
        daemon.start()
        return daemon.memory()[0]
    finally:
        daemon.stop()
        shutil.rmtree(empty)


def _have(folder: Path, count: int, destinations: int) -> None:
    """Make the old generation, unless a fresh one of the same size was kept."""
    note = folder / "made.json"
    made = json.loads(note.read_text()) if note.exists() else {}
    fresh = made.get("at", 0) > time.time() - _FRESH_S and [made["n"], made["destinations"]] == [count, destinations]
    for path in (folder / "data",) if fresh else (folder / "data", folder / "made"):
        shutil.rmtree(path, ignore_errors=True)
    if not fresh:
        note.unlink(missing_ok=True)
        began = time.time()
        make(folder / "made", count, destinations, began)
        print(f"  made in {time.time() - began:.0f} s")
        note.write_text(json.dumps({"at": began, "n": count, "destinations": destinations}))
    # The daemon changes it only by files of its own, removals and side files: links keep the made one as it is.
    shutil.copytree(folder / "made", folder / "data/spool/0", copy_function=os.link)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.millions", description="a very large old generation")
    add = parser.add_argument
    add("--n", type=int, default=10_000_000, help="deliveries [%(default)s]")
    add("--destinations", type=int, default=1000, help="[%(default)s]")
    add("--keep", type=Path, metavar="DIR", help="keep what is made there, and use it if it is there")
    add("--dir", type=Path, default=Path("/var/tmp"), help="without --keep: it goes below; a real disk [%(default)s]")
    add("--json", type=Path, metavar="FILE", help="write everything there too")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
