"""The story every newcomer sees first: `postrider demo` ends well, and leaves no process behind."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_demo_ends_well(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engine.cli.main", "demo", "--dir", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 recipients accepted = 7 delivered, 1 failed, 0 queued (1 waited)" in done.stdout
    assert "postrider status and the metrics say the same" in done.stdout
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and str(tmp_path) in _command_line(pid)]


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
