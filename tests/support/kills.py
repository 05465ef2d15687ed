"""kill -9 at random moments under load: what was accepted is delivered, and hardly anything twice.

S1, S2, S3, Q2, and the bound of engine/delivery/courier.py: a kill can double two messages for each connection.
The seed is printed; POSTRIDER_SEED=N repeats the moments.
"""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.engine import POSTRIDER, Daemon, Load, sink
from tests.support.seed import rounds, seeded

CONNECTIONS = 20

#: Small files, so that there are many.
SPOOL = """
min_free = 0.0
segment_bytes = "1MiB"
hot_bytes = "256KiB"
"""
#: One recipient in ten is deferred once, so that due times have to survive, too.
SETTINGS = f"""
[[route]]
domain = "*"
relay = "RELAY"
connections = {CONNECTIONS}

[retry]
schedule = "300ms*"
"""


def survive_kills(path: Path, times: int, program: Sequence[str] = POSTRIDER) -> None:
    """A daemon is killed so often (longer in a soak) and started again; then everything is looked at."""
    chance, kills = seeded(), 0
    accepted, reports = path / "accepted", []
    with contextlib.ExitStack() as stack:
        mx = stack.enter_context(sink(path / "mx", "--reply", "rcpt:user*3@*=451 4.2.1 try later x1", save=False))
        engine = Daemon(path, SETTINGS.replace("RELAY", mx.address), spool=SPOOL, program=program)
        stack.callback(engine.kill)
        arguments = (engine.port, accepted, "--rate", "2000/s", "-n", "3000", "--domains", "10")
        load = stack.enter_context(Load(*arguments))
        for _ in rounds(times):
            kills += 1
            engine.start(wait=chance.random() < 0.8)  # else: in the middle of start and recovery
            time.sleep(chance.uniform(0.0, 0.7))
            engine.kill()
            if not load.running():
                reports.append(load.report())
                load = stack.enter_context(Load(*arguments))
        engine.start()
        reports.append(load.report())
        engine.empty()
        status, events = engine.status(), engine.events()
        assert engine.stop() == 0
        mx.stop()

    assert all(report["unanswered"] == report["refused"] == 0 for report in reports), reports
    assert status["balanced"] and status["orphans"] == 0, status
    assert load.ids() - mx.ids() == set(), "accepted and never delivered"

    received = [event["message"] for event in events if event["type"] == "received"]
    delivered = [event["message"] for event in events if event["type"] == "delivered"]
    assert len(set(received)) == len(received) == len(delivered), "one event of each kind for every message"
    assert set(received) == set(delivered)
    taken = mx.status()["messages"]
    twice = taken - len(received)
    print(f"{len(received)} accepted, {taken} taken, {twice} twice, {sum(r['sent_again'] for r in reports)} resent")
    assert 0 <= twice <= kills * 2 * CONNECTIONS
