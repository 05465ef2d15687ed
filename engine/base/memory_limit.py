"""How much memory this process may have: what its control group allows, or the machine has.

The least of the machine's and of what the own group and each group above it allow: a limit of systemd's MemoryMax= or
of a container may be at any of them, and the top group of a host has none at all. /proc/self is enough to find out:
under ProcSubset=pid, as in systemd/postrider.service, there is no /proc/meminfo. Source: cgroups(7).
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from engine.base.errors import StorageError

_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def memory_limit(own_groups: Path = _OWN_GROUPS, groups: Path = _GROUPS) -> int:
    """In bytes. own_groups: lines "number:controllers:path"; groups: where the trees are mounted.

    Raises StorageError: neither says anything.
    """
    limits = [int(text) for path in _limit_files(own_groups, groups) if (text := _text(path)).isdecimal()]
    if (machine := _machine_bytes()) > 0:
        limits.append(machine)
    if not limits:
        raise StorageError("cannot find out how much memory there is")
    return min(limits)


def _limit_files(own_groups: Path, groups: Path) -> Iterator[Path]:
    """The files that may hold a limit, in the own group and upwards, of version 2 and 1. Not all of them exist."""
    for line in _text(own_groups).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            top, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = PurePosixPath(path.lstrip("/"))
        # Of a group outside of its name space, or outside of what a container mounts, only the top can be seen.
        if ".." not in own.parts:
            yield top / own / name
            yield from (top / above / name for above in own.parents)
        else:
            yield top / name


def _machine_bytes() -> int:
    """0 or less: not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
