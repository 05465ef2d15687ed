"""Memory that was in use goes back to the system, and what was refused for want of it is taken again."""

import subprocess
import sys

#: Blocks of 2,000 bytes, 160 MiB of them, and after each ten thousand one that lives on: the heap cannot shrink.
_PROGRAM = """
import pathlib, tempfile
from engine.base.settings import SpoolSettings
from engine.base.units import Size
from engine.storage.spool.files import DiskFiles
from engine.storage.spool.guards import _GIVE_BACK_EVERY, Guards

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

guards = Guards(pathlib.Path(tempfile.mkdtemp()), DiskFiles())
before = resident()
limit = SpoolSettings(min_free=0.0, max_memory=Size(before + (80 << 20)), memory_guard=1.0)
blocks = [bytes(2000) for _ in range(80_000)]
guards.measure(limit)
print(guards.refusal)
blocks = blocks[::10_000]
print(resident() - before > 100 << 20)
for _ in range(_GIVE_BACK_EVERY):
    guards.measure(limit)
print(guards.refusal)
"""


def test_the_memory_guard_takes_messages_again_when_memory_is_free_again() -> None:
    said = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True).stdout
    refused, kept, taken = said.splitlines()
    assert refused.startswith("452 4.3.1 Insufficient system memory")
    assert kept == "True", "by itself the C library gives nothing back"
    assert taken == "None"
