"""Memory that the C library keeps for itself, given back to the system. Where it is not glibc nothing happens.

Left alone, glibc keeps what large contents took: the largest block that was ever freed is from then on not worth a
mapping of its own, every thread gets an arena, and what is free below something that lives stays resident. A daemon
that had a hundred contents of 20 MiB in hand was at 180 MiB when it had none, and its memory guard refused for good.
"""

import contextlib
import ctypes

# malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
#: Blocks from this size on are mapped, and unmapped when they are freed: slices of contents are, messages are not.
_MAPPED_BYTES = 256 << 10
_ARENAS = 2


def keep_little() -> None:
    """For this process, from now on."""
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for what, value in (
            (_MMAP_THRESHOLD, _MAPPED_BYTES),
            (_TRIM_THRESHOLD, 4 * _MAPPED_BYTES),
            (_ARENA_MAX, _ARENAS),
        ):
            mallopt(what, value)


def give_back() -> None:
    """What is free just now. Takes some 40 ms for each 100 MiB that is in many pieces."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
