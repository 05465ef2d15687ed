"""Suppression with ten million entries: a list imported and exported, the memory it takes, what a look-up costs.

    .venv/bin/python -m bench.suppression [--n 10000000] [--folder DIR]

Look-ups are of addresses that are all different, in no order, so that caches of the processor help as little as they
do in life; CPU time, the best of several runs. One with tenant and stream is three: everything, the tenant, the stream.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.bars import Bar, print_bars, print_machine
from bench.common import ENVIRONMENT, PROGRAM
from engine.base.clock import SystemClock
from engine.storage.tables.suppressions import Suppressions

_DOMAINS = 1000
_LOOKUPS = 100_000
_RUNS = 7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where the table is made, and removed; 3 GiB for ten million")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="postrider-", dir=args.folder) as name:
        folder = Path(name)
        print_machine(folder)
        bars = _files(folder, args.n) + asyncio.run(_memory(folder, args.n))
    return 0 if print_bars(bars) else 1


def _address(number: int) -> str:
    return f"user{number}@example{number % _DOMAINS}.org"


def _files(folder: Path, n: int) -> list[Bar]:
    """By the command, as typed."""
    (folder / "postrider.toml").write_text('[node]\ndata_dir = "."\n[routing]\nproviders_file = "none.toml"\n')
    (folder / "none.toml").touch()
    listed = folder / "list.csv"
    with listed.open("w") as file:
        file.write("address,cause,evidence\n")
        file.writelines(f"{_address(number)},hard-bounce,550 5.1.1 unknown\n" for number in range(n))
    bars = []
    for what, target in (("import", listed), ("export", folder / "out.csv")):
        took_s, peak_mib = _command(folder, "suppress", what, str(target))
        print(f"{what:24} {took_s:6.1f} s, {n / took_s:9,.0f}/s, at most {peak_mib:.0f} MiB")
        bars.append(Bar(f"memory of {what}", peak_mib, 256, "MiB", at_most=True))
    size = (folder / "suppression.db").stat().st_size
    print(f"{'table':24} {size / n:6.0f} bytes a row on disk")
    for file_ in (listed, folder / "out.csv"):
        file_.unlink()
    return bars


def _command(folder: Path, *arguments: str) -> tuple[float, float]:
    """(seconds, MiB at most) of a command."""
    watch = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    command = [sys.executable, "-c", watch, *PROGRAM, *arguments, "-c", str(folder / "postrider.toml")]
    started = time.perf_counter()
    done = subprocess.run(command, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, int(done.stdout) / 1024


async def _memory(folder: Path, n: int) -> list[Bar]:
    known = Suppressions(folder, SystemClock())
    rng = random.Random(1)
    hits = [_address(rng.randrange(n)) for _ in range(_LOOKUPS)]
    misses = [f"other{rng.randrange(1 << 40)}@example{number % _DOMAINS}.org" for number in range(_LOOKUPS)]
    table = _cost(known.mail, misses[:2000])
    before_mib, started = _resident(), time.perf_counter()
    await known.grow()
    took_s, after_mib = time.perf_counter() - started, _resident()
    size = f"{known.nbytes / n:.1f} bytes an entry, {after_mib - before_mib:.0f} MiB more"
    print(f"{'in memory':24} {took_s:6.1f} s, {size}; at most {_resident('VmHWM') - before_mib:.0f} MiB meanwhile")
    assert all(map(known.mail, hits)) and not any(map(known.mail, misses))
    costs = {
        "a look-up, not there": _cost(known.mail, misses),
        "a look-up, there": _cost(known.mail, hits),
        "the same with tenant and stream, not there": _cost(lambda a: known.mail(a, "shop", "news"), misses),
    }
    await known.close()
    with tempfile.TemporaryDirectory() as empty:
        nobody = Suppressions(Path(empty), SystemClock())
        costs["a look-up in an empty table"] = _cost(nobody.mail, misses)
        await nobody.close()
    for what, cost_us in (("from the table, at a start", table), *costs.items()):
        print(f"{what:44} {cost_us:6.2f} us")
    bars = [Bar(what, costs[what], 2.0, "us", at_most=True) for what in list(costs)[:2]]
    return [*bars, Bar("bytes an entry", known.nbytes / n, 16, at_most=True)]


def _cost(look_up: Callable[[str], bool], addresses: Sequence[str]) -> float:
    """Microseconds of one."""

    def run() -> float:
        started = time.thread_time()
        for address in addresses:
            look_up(address)
        return (time.thread_time() - started) / len(addresses) * 1e6

    return min(run() for _ in range(_RUNS))


def _resident(field: str = "VmRSS") -> float:
    """MiB of this process."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
