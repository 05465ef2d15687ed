"""How fast the spool takes messages, without SMTP: 20 tasks, each waits until its message is durable."""

import asyncio
import gc
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.bars import Bar
from bench.intake import MESSAGE
from engine.base.clock import SystemClock
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.message.envelope import Envelope, Recipient
from engine.message.ids import IdSource
from engine.storage.events.journal import EventJournal
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool

SESSIONS = 20
_WARM_UP = 2000


def run(folder: Path, messages: int, rounds: int) -> list[Bar]:
    """The median of the rounds counts."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # as the daemon
    sys.setswitchinterval(0.0005)
    found = []
    for number in range(rounds):
        wall, cpu = uvloop.run(_measure(folder / f"enqueue{number}", messages))
        found.append(messages / wall)
        print(f"  enqueue   round {number + 1}: {found[-1]:,.0f}/s, {1e6 * cpu / messages:.1f} us CPU a message")
    return [Bar("durable enqueue of 4 KiB from 20 tasks", statistics.median(found), 15_000, "/s")]


async def _measure(folder: Path, messages: int) -> tuple[float, float]:
    """Wall and CPU seconds."""
    settings, clock = Settings(), SystemClock()
    events = EventJournal(folder / "events", settings.events.segment_bytes, settings.events.keep)
    spool = Spool(folder / "spool", settings.spool, events, Metrics(), owner="bench.example/0")
    spool.start()
    await spool.load_backlog()

    def shelve(deliveries: Sequence[Delivery]) -> None:
        """As the manager does with what its site does not take now."""
        for delivery in deliveries:
            spool.cool(delivery, State.DUE)

    spool.accepted = shelve
    ids = IdSource("bench.example", 0, clock)
    splits = [("example.net", (0,))]

    async def session(count: int) -> None:
        for _ in range(count):
            now = clock.time()
            envelope = Envelope(
                ids.next(), "ada@example.org", (Recipient("bob@example.net"),), now, now + 86400, len(MESSAGE)
            )
            await spool.accept(envelope, MESSAGE, splits)

    async def everyone(count: int) -> None:
        await asyncio.gather(*(session(count // SESSIONS) for _ in range(SESSIONS)))

    await everyone(_WARM_UP)
    wall, cpu = time.perf_counter(), time.process_time()
    await everyone(messages)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await spool.close()
    events.close()
    shutil.rmtree(folder)
    return wall, cpu
