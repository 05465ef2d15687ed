"""The story every newcomer sees first: `postrider demo` ends well, and leaves no process behind."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path


def demo(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "engine.cli.main", "demo", "--dir", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_demo_ends_well_and_again_in_the_same_folder(tmp_path: Path) -> None:
    for _ in range(2):
        done = demo(tmp_path / "demo")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "10 recipients accepted = 8 delivered, 1 failed, 1 suppressed, 0 queued (1 waited)" in done.stdout
        assert "tally: clicks: 1, of people: 1; unsubscribed: 1\n" in done.stdout
        assert "postrider status and the metrics say the same" in done.stdout
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and str(tmp_path) in _command_line(pid)]


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_a_folder_that_no_demo_made_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "postrider.toml"
    own.write_text("# mine")
    done = demo(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"postrider: {tmp_path} is not empty, and no demo made it; name a new folder\n"
    assert (list(tmp_path.iterdir()), own.read_text()) == ([own], "# mine")


def test_a_demo_does_not_begin_anew_under_an_engine_that_runs(tmp_path: Path) -> None:
    (tmp_path / "made-by-postrider-demo").touch()
    (tmp_path / "data").mkdir()
    with (tmp_path / "data/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = demo(tmp_path)
    assert (done.returncode, f"an engine runs in {tmp_path}" in done.stderr) == (1, True)
    assert (tmp_path / "data/lock").exists()


def test_a_folder_that_cannot_be_made_is_said() -> None:
    done = demo(Path("/proc/x"))
    assert (done.returncode, done.stderr) == (1, "postrider: cannot use /proc/x: No such file or directory\n")
