"""SMS, side by side: submits over SMPP, through the spool to a carrier made of node-smpp, and its receipts back.

    python -m bench.sms [--n 50000] [--rounds 3] [--peers postrider,kannel] [--json FILE]

postrider: our load generator binds to its SMPP listener, each submit is on disk before it is answered, goes out over
one bind, and its receipt comes back to the load generator. The time is from the first submit to the last receipt there.
kannel: mtbatch puts the messages into bearerbox, with its spool store and its internal storage of receipts; nothing of
Debian's speaks SMPP to Kannel. The time is from the first submit at the carrier to the last receipt that Kannel has
acknowledged to it: mtbatch takes no receipts, so they stay in Kannel's store, and it has less to do than we have.
The carrier, its window and the text are the same for both; each round starts anew, in alternating order.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.bars import Bar, print_bars, print_machine
from bench.common import ENVIRONMENT, PROGRAM, Group, peak_memory, wait_until
from tests.support.ports import free_port
from tests.support.sms_peers import Kannel, Smsc, mtbatch, node_smsc

BAR = 5000.0  #: messages a second on two cores
WINDOW = 100  #: of the bind to the carrier
SESSIONS, SESSION_WINDOW = 2, 500  #: of our load generator
TEXT = "The quick brown fox jumps over the lazy dog, and the five boxing wizards jump quickly."
LIMIT_S = 120.0


@dataclass(slots=True, kw_only=True)
class Result:
    """One round. returned: receipts that came back. cpu_ms: of the program, for one message."""

    peer: str
    round: int
    messages: int
    taken: int
    returned: int
    rate: float
    cpu_ms: float
    pss_mib: float
    note: str = ""

    @property
    def complete(self) -> bool:
        return self.taken == self.returned == self.messages


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 if every message and receipt of every round arrived and no bar was missed."""
    args = _arguments(argv)
    folder = Path(tempfile.mkdtemp(prefix="postrider-bench-", dir=args.dir))
    facts = print_machine(folder)
    print(f"workload  {args.n} messages of one part, one bind of window {WINDOW} to node-smpp; rounds {args.rounds}")
    results = []
    for number in range(args.rounds):
        for name in args.peers if number % 2 == 0 else args.peers[::-1]:
            results.append(PEERS[name](folder / f"{name}{number + 1}", number, args.n))
            print(_line(results[-1]), flush=True)
    complete = all(result.complete for result in results)
    shutil.rmtree(folder) if complete else print(f"logs of what failed are in {folder}")
    medians = {
        name: statistics.median(result.rate for result in results if result.peer == name) for name in args.peers
    }  # fmt: skip
    bars = []
    if "postrider" in medians:
        bars.append(Bar("messages a second, receipts returned", medians["postrider"], BAR, "msg/s"))
        if "kannel" in medians:
            bars.append(Bar("beside Kannel with spool and receipts", medians["postrider"], medians["kannel"], "msg/s"))
    if args.json:
        report = {"machine": facts, "n": args.n, "medians": medians, "rounds": [asdict(result) for result in results]}
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if print_bars(bars) and complete else 1


def postrider(folder: Path, number: int, messages: int) -> Result:
    port = free_port()
    with node_smsc(folder / "smsc", told=False) as smsc:
        (folder / "postrider.toml").write_text(
            f"""[node]
name = "bench.example"
data_dir = "data"

[[listener]]
kind = "smpp"
address = "127.0.0.1:{port}"

[[account]]
system_id = "load"
password = "secret"
senders = ["Load"]

[[carrier]]
name = "node"
host = "127.0.0.1"
port = {smsc.port}
system_id = "bench"
password = "secret"
window = {WINDOW}
"""
        )
        with _group(folder, smsc, [*PROGRAM, "serve", "-c", str(folder / "postrider.toml")]) as group:
            before = group.cpu()
            with peak_memory(group) as peak:
                report = _load(port, messages)
            cpu = group.cpu() - before
            wait_until(lambda: smsc.counts().get("acknowledged", 0) >= messages, 2)
            taken = smsc.counts().get("taken", 0)
    returned, seconds = sum(report["receipts"].values()), report["receipt_seconds"]
    return Result(
        peer="postrider", round=number, messages=messages, taken=taken, returned=returned,
        rate=round(returned / seconds, 1) if seconds else 0.0, cpu_ms=round(1000 * cpu / messages, 4),
        pss_mib=round(peak[1] / 2**20, 1), note=_note(report),
    )  # fmt: skip


def kannel(folder: Path, number: int, messages: int) -> Result:
    with node_smsc(folder / "smsc", told=False) as smsc:
        gateway = Kannel(folder, smsc.port, window=WINDOW, smsbox=False)
        with _group(folder, smsc, gateway.commands[0]) as group:
            before = group.cpu()
            numbers = [f"44770{n:07}" for n in range(messages)]
            batch = mtbatch(gateway.box, folder, numbers, TEXT)
            with peak_memory(group) as peak, (folder / "mtbatch.log").open("wb") as log:
                source = subprocess.Popen(batch, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                try:
                    wait_until(lambda: smsc.counts().get("acknowledged", 0) >= messages, LIMIT_S)
                finally:
                    source.kill()
                    source.wait()
            cpu = group.cpu() - before
            counts = smsc.counts()
    seconds = counts["ended"] - counts["began"]
    return Result(
        peer="kannel", round=number, messages=messages, taken=counts["taken"], returned=counts["acknowledged"],
        rate=round(counts["acknowledged"] / seconds, 1), cpu_ms=round(1000 * cpu / messages, 4),
        pss_mib=round(peak[1] / 2**20, 1),
    )  # fmt: skip


PEERS: dict[str, Callable[[Path, int, int], Result]] = {"postrider": postrider, "kannel": kannel}


class _group:
    """A program as a group of its own, once it has bound to the carrier."""

    def __init__(self, folder: Path, smsc: Smsc, command: list[str]) -> None:
        self._group = Group("sms")
        self._folder, self._smsc, self._command = folder, smsc, command

    def __enter__(self) -> Group:
        self._group.start(self._command, self._folder / "log")
        if not wait_until(lambda: self._smsc.counts().get("binds", 0) > 0 or not self._group.alive(), 30):
            self._group.stop()
            raise SystemExit(f"{self._command[0]} did not bind; see {self._folder}/log")
        return self._group

    def __exit__(self, *exc: object) -> None:
        self._group.stop()


def _load(port: int, messages: int) -> dict[str, Any]:
    command = [*PROGRAM, "load", "--json", "--smpp", f"127.0.0.1:{port}", "-n", str(messages), "--password", "secret"]
    command += ["--sessions", str(SESSIONS), "--window", str(SESSION_WINDOW), "--text", TEXT, "--receipts", "20s"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S + 60, check=False, env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if not done.stdout:
        raise SystemExit(f"the load generator failed: {done.stderr}")
    return dict(json.loads(done.stdout))


def _note(report: dict[str, Any]) -> str:
    return (
        f"accepted at {report['rate']:,.0f}/s; p50 to submit_sm_resp {report['p50_ms']:.1f} ms, to the receipt "
        f"{report['receipt_p50_ms']:.0f} ms"
    )


def _line(result: Result) -> str:
    lost = "" if result.complete else f"  ONLY {result.taken} taken, {result.returned} returned"
    figures = f"{result.rate:8,.0f} msg/s  CPU {result.cpu_ms:.3f} ms/msg  PSS {result.pss_mib:.0f} MiB"
    return f"  round {result.round + 1}  {result.peer:10} {figures}  {result.note}{lost}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.sms", description="SMS through a spool, side by side")
    parser.add_argument("--peers", default=",".join(PEERS), help="some of %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--n", type=int, default=50_000, help="messages in each round")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="spools go below; a real disk [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    args = parser.parse_args(argv)
    args.peers = args.peers.split(",")
    if unknown := [name for name in args.peers if name not in PEERS]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
