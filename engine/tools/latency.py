"""Latencies of many messages in three figures."""

from collections.abc import Collection
from typing import NamedTuple


class Latency(NamedTuple):
    """Milliseconds; 0 of none."""

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0


def latency_of(seconds: Collection[float]) -> Latency:
    """The middle one, the one that 99 of 100 do not exceed, the longest."""
    if not seconds:
        return Latency()
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return Latency(*(1000 * ordered[place] for place in (len(ordered) // 2, min(last, len(ordered) * 99 // 100), last)))
