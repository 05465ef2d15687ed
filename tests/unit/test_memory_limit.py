"""The memory that this process may have: what its own control group, one above it, or the machine allows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.base.memory_limit import memory_limit

_MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
_MIB = 1 << 20
_VERSION_1 = "9:name=systemd:/system.slice\n4:cpu,memory:/a/b\n1:cpu:/else\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        # As systemd starts a service on a host of version 2: the top has no memory.max, and mostly nobody set a limit.
        ("0::/system.slice/postrider.service\n", {"system.slice/postrider.service/memory.max": "max"}, _MACHINE),
        ("0::/system.slice/postrider.service\n", {"system.slice/postrider.service/memory.max": "7340032"}, 7 * _MIB),
        (
            "0::/system.slice/postrider.service\n",
            {"system.slice/postrider.service/memory.max": "7340032", "system.slice/memory.max": "5242880"},
            5 * _MIB,
        ),
        ("0::/a/b\n", {"other/memory.max": "1"}, _MACHINE),
        ("0::/a/b\n", {"a/b/memory.max": str(_MACHINE * 2)}, _MACHINE),
        # A container with a name space of its own, and one without.
        ("0::/\n", {"memory.max": "3145728"}, 3 * _MIB),
        ("0::/docker/0123\n", {"memory.max": "3145728"}, 3 * _MIB),
        ("0::/../../other\n", {"memory.max": "3145728"}, 3 * _MIB),
        (_VERSION_1, {"memory/a/b/memory.limit_in_bytes": "2097152"}, 2 * _MIB),
        (_VERSION_1, {"memory/a/memory.limit_in_bytes": "2097152"}, 2 * _MIB),
        (_VERSION_1, {"memory/memory.limit_in_bytes": "2097152"}, 2 * _MIB),
        (_VERSION_1, {"memory/a/b/memory.limit_in_bytes": "9223372036854771712"}, _MACHINE),
        (_VERSION_1, {"memory/else/memory.limit_in_bytes": "1"}, _MACHINE),
        ("", {}, _MACHINE),
        ("not\na line::of it\n", {"memory.max": "no number"}, _MACHINE),
    ],
)
def test_the_least_of_all_that_apply(tmp_path: Path, own: str, files: dict[str, str], limit: int) -> None:
    (tmp_path / "cgroup").write_text(own)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert memory_limit(tmp_path / "cgroup", tmp_path / "fs") == limit


def test_it_is_known_without_what_is_hidden_from_a_service(tmp_path: Path) -> None:
    """ProcSubset=pid hides /proc/meminfo: nothing of /proc is needed but what is below /proc/self."""
    program = f"""
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from engine.base.settings import SpoolSettings
from engine.storage.spool.files import DiskFiles
from engine.storage.spool.guards import Guards
from pathlib import Path
opened.clear()
Guards(Path({str(tmp_path)!r}), DiskFiles()).measure(SpoolSettings(min_free=0.0))
print([path for path in opened if path.startswith("/proc") and not path.startswith("/proc/self/")])
"""
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout == "[]\n"
