"""What the benchmarks share: facts about the machine, the CPU and memory of a tree of processes, child processes."""

import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "bench" / ".cache"  #: what is installed or made for the benchmarks only; ignored by git
#: Where the program is that is measured: as it is installed if `make` calls, else this tree, whatever the folder.
ENGINE = Path(os.environ.get("POSTRIDER_ENGINE", ROOT)).resolve()
PROGRAM = (sys.executable, "-P", "-m", "engine.cli.main")
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ENGINE}:{ROOT}"}

_TICK = os.sysconf("SC_CLK_TCK")
_CPUACCT = Path("/sys/fs/cgroup/cpuacct")
_SAMPLE_S = 0.25


def find(name: str) -> str | None:
    """Path of a program; Debian keeps mail tools where only root looks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def machine(folder: Path) -> dict[str, object]:
    """What the figures depend on. `folder`: where the queues will be."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "unknown")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "file_system": _file_system(folder),
        "fdatasync_ms": round(1000 * sync_cost(folder), 3),
        "load": round(os.getloadavg()[0], 2),
        "engine": "compiled" if any(ENGINE.glob("engine/*/*.so")) else "plain Python",
    }


def sync_cost(folder: Path, times: int = 200) -> float:
    """Median seconds to append 4 KiB and fdatasync."""
    costs = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(times):
            began = time.perf_counter()
            os.write(file.fileno(), b"x" * 4096)
            os.fdatasync(file.fileno())
            costs.append(time.perf_counter() - began)
    return statistics.median(costs)


def _file_system(folder: Path) -> str:
    found = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def wait_until(happened: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
    """Look until it has happened or the time is over."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def greets(port: int) -> bool:
    """An SMTP server at this port says 220."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as peer:
            peer.settimeout(2)
            ready = peer.recv(200).startswith(b"220")
            peer.sendall(b"QUIT\r\n")
            return ready
    except OSError:
        return False


class Group:
    """The processes of one program under test: started together, measured together, ended by their ids.

    CPU comes from a cgroup of their own where this user may make one (version 1, cpuacct), so that processes that
    lived and died between are counted; elsewhere from /proc: the living, and their children that were waited for.
    """

    def __init__(self, name: str) -> None:
        self._roots: list[subprocess.Popen[bytes]] = []
        self._cgroup: Path | None = None
        path = _CPUACCT / f"postrider-bench-{os.getpid()}-{name}"
        try:
            path.mkdir()
            self._cgroup = path
        except OSError:
            pass

    @property
    def exact(self) -> bool:
        """CPU is the kernel's account of a cgroup, not a sum over /proc."""
        return self._cgroup is not None

    def start(self, command: list[str], log: Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        cgroup = self._cgroup

        def join() -> None:
            if cgroup is not None:
                (cgroup / "cgroup.procs").write_text("0")

        with log.open("ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd, preexec_fn=join,
                env={**ENVIRONMENT, **(env or {})}, start_new_session=True,
            )  # fmt: skip
        self._roots.append(process)

    def alive(self) -> bool:
        return bool(self._roots) and all(root.poll() is None for root in self._roots)

    def pids(self) -> list[int]:
        """All living processes."""
        if self._cgroup is not None:
            return [int(pid) for pid in (self._cgroup / "cgroup.procs").read_text().split()]
        parents = {pid: int(_stat(pid)[1]) for pid in _all_pids() if _stat(pid)}
        found = {root.pid for root in self._roots}
        while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
            found |= more
        return sorted(found & set(parents))

    def cpu(self) -> float:
        """User and system seconds so far."""
        if self._cgroup is not None:
            return int((self._cgroup / "cpuacct.usage").read_text()) / 1e9
        ticks = 0
        for pid in self.pids():
            if fields := _stat(pid):
                ticks += sum(int(field) for field in fields[11:15])
        return ticks / _TICK

    def memory(self) -> tuple[int, int]:
        """RSS and PSS in bytes, summed; PSS shares out what processes have in common."""
        rss = pss = 0
        for pid in self.pids():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            rss += sum(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
            pss += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return rss << 10, pss << 10

    def stop(self, seconds: float = 35.0) -> None:
        """TERM to those started here, in reverse, then KILL to whatever of the group is left."""
        for root in reversed(self._roots):
            if root.poll() is None:
                root.terminate()
        for root in self._roots:
            try:
                root.wait(seconds)
            except subprocess.TimeoutExpired:
                root.kill()
                root.wait()
        wait_until(lambda: not self._left(), 5)
        for pid in self._left():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self._left(), 5)
        if self._cgroup is not None:
            self._cgroup.rmdir()
            self._cgroup = None
        self._roots.clear()

    def _left(self) -> list[int]:
        """What outlived those started here: of their cgroup, else of their sessions."""
        if self._cgroup is not None:
            return self.pids()
        sessions = {str(root.pid) for root in self._roots}
        return [pid for pid in _all_pids() if (fields := _stat(pid)) and fields[3] in sessions and fields[0] != "Z"]


@contextmanager
def peak_memory(group: Group) -> Iterator[list[int]]:
    """While inside, [RSS, PSS] at their peak, sampled four times a second."""
    peak = [0, 0]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_S):
            peak[:] = (max(a, b) for a, b in zip(peak, group.memory(), strict=True))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third (state) on; [] if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
