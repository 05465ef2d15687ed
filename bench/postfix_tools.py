"""Postfix's smtp-source and smtp-sink as the two ends of a benchmark: load and receiver nobody here wrote."""

import os
import subprocess
import time
from pathlib import Path

from bench.common import find

_LOOK_S = 0.005


def missing() -> str:
    """What must be installed first, or ""."""
    lacking = [name for name in ("smtp-source", "smtp-sink") if find(name) is None]
    return f"{' and '.join(lacking)} missing: apt-get install postfix" if lacking else ""


class SmtpSink:
    """smtp-sink with its running counter in a file."""

    def __init__(self, folder: Path, port: int) -> None:
        self._counter = (folder / f"smtp-sink-{time.monotonic_ns()}").open("w+b")
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        command = [str(find("smtp-sink")), *user, "-c", "-m", "1000", f"127.0.0.1:{port}", "1000"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._counter)

    def count(self) -> int:
        """Messages so far."""
        size = os.fstat(self._counter.fileno()).st_size
        tail = os.pread(self._counter.fileno(), 256, max(0, size - 256))
        whole = tail[: tail.rfind(b"\r") + 1]  # the last line may be half written
        return int(whole.rpartition(b"mesg=")[2] or 0)

    def wait_for(self, wanted: int, stall_s: float, limit_s: float) -> tuple[int, float]:
        """Until so many have come, none came for `stall_s`, or the limit: how many came, when the last (monotonic)."""
        seen, moved_at = self.count(), time.monotonic()
        end = moved_at + limit_s
        while seen < wanted:
            now = time.monotonic()
            if now > end or now > moved_at + stall_s:
                break
            time.sleep(_LOOK_S)
            count = self.count()
            if count != seen:
                seen, moved_at = count, time.monotonic()
        return seen, moved_at

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._counter.close()
        Path(self._counter.name).unlink(missing_ok=True)


class SmtpSource:
    """smtp-source with messages of 4 KiB, each session keeping its connection (-d)."""

    def __init__(self, port: int, messages: int, sessions: int, sender: str, recipient: str) -> None:
        command = [str(find("smtp-source")), "-d", "-l", "4096", "-m", str(messages), "-s", str(sessions)]
        command += ["-M", "bench.example", "-f", sender, "-t", recipient, f"127.0.0.1:{port}"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end(self, seconds: float = 10.0) -> int:
        """It ends by itself when all is sent; if not, it is ended. Its exit status: 0 if every message got a 250."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
