"""Chance that can be repeated, and tests that take as long as they are given.

POSTRIDER_SEED=N repeats a run. POSTRIDER_SOAK_S=N lets each test that asks for `rounds`, or is `fuzzed`, go on for so
many seconds (`make soak`); without it, it does the few rounds that `make test` has time for.
"""

import os
import random
import time
from collections.abc import Callable, Iterator

import hypothesis


def seeded() -> random.Random:
    """Chance for one test; its seed is printed, and pytest shows it when the test fails."""
    seed = int(os.environ.get("POSTRIDER_SEED", random.randrange(1 << 32)))
    print(f"POSTRIDER_SEED={seed}")
    return random.Random(seed)


def rounds(short: int) -> Iterator[int]:
    """Numbers of rounds: `short` of them, or as many as fit in a soak."""
    long_s = float(os.environ.get("POSTRIDER_SOAK_S", "0"))
    end, number = time.monotonic() + long_s, 0
    while number < short if not long_s else time.monotonic() < end:
        yield number
        number += 1


def fuzzed(test: Callable[[], None]) -> None:
    """Run a test of hypothesis as often as there is time for, each time by another seed; one is printed for all."""
    chance = seeded()
    for _ in rounds(1):
        hypothesis.seed(chance.randrange(1 << 32))(test)()


def soaking() -> bool:
    return "POSTRIDER_SOAK_S" in os.environ
