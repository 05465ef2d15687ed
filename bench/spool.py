"""The spool's figures beside their bars: what it takes, passes through, keeps and gives back.

    .venv/bin/python -m bench.spool [--parts enqueue,fill,drain,writes,latency] [--n 200000] [--rounds 3]

    enqueue   durable appends without SMTP                      bench/spool_enqueue.py
    fill      a queue for a dead destination, beside others     bench/spool_fill.py
    drain     a backlog, beside passing through and Haraka      bench/spool_drain.py
    writes    bytes written for each byte accepted              bench/spool_writes.py
    latency   of a 250 while the mover works                    bench/spool_latency.py

--n is the backlog that is drained; the other parts take a fraction of it. bench.millions is a program of its own.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import spool_drain, spool_enqueue, spool_fill, spool_latency, spool_writes
from bench.bars import Bar, print_bars, print_machine
from bench.postfix_tools import missing


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 if no bar was missed."""
    args = _arguments(argv)
    if lacking := missing():
        print(lacking, file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="postrider-spool-", dir=args.dir))
    folder.chmod(0o755)  # processes of other programs run as users of their own
    facts = print_machine(folder)
    print(f"workload  4 KiB, 20 sessions; backlog {args.n:,}; rounds {args.rounds}", flush=True)
    parts: dict[str, Callable[[], list[Bar]]] = {
        "enqueue": lambda: spool_enqueue.run(folder, args.n // 2, args.rounds),
        "fill": lambda: spool_fill.run(folder, args.n // 10, args.rounds),
        "drain": lambda: spool_drain.run(folder, args.n, args.n // 4),
        "writes": lambda: spool_writes.run(folder, args.n // 2),
        "latency": lambda: spool_latency.run(folder, args.n, 10),
    }
    bars = [bar for name in args.parts for bar in parts[name]()]
    if any(path.is_file() for path in folder.rglob("*")):
        print(f"logs of what failed are in {folder}")
    else:
        shutil.rmtree(folder)
    if args.json:
        rows = [{"what": bar.what, "figure": bar.figure, "bar": bar.bar, "kept": bar.kept} for bar in bars]
        args.json.write_text(json.dumps({"machine": facts, "n": args.n, "bars": rows}, indent=1) + "\n")
    return 0 if print_bars(bars) else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.spool", description="the spool's figures")
    names = ("enqueue", "fill", "drain", "writes", "latency")
    parser.add_argument("--parts", default=",".join(names), help="some of %(default)s")
    parser.add_argument("--n", type=int, default=200_000, help="messages of the backlog [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="queues go below; a real disk [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    args = parser.parse_args(argv)
    args.parts = args.parts.split(",")
    if unknown := [name for name in args.parts if name not in names]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(names)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
