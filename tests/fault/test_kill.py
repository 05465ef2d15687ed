"""kill -9 at random moments under load, twenty times: what was accepted is delivered, and hardly anything twice.

S1, S2, S3, Q2, and the bound of engine/delivery/courier.py: a kill can double two messages for each connection.
The seed is printed; POSTRIDER_SEED=N repeats the moments.
"""

import contextlib
import time
from pathlib import Path

from tests.support.engine import Daemon, Load, free_port, load, sink, wait_until
from tests.support.seed import rounds, seeded

KILLS = 20
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


def test_twenty_kills_lose_nothing_and_double_no_more_than_was_in_flight(tmp_path: Path) -> None:
    chance, kills = seeded(), 0
    accepted, reports = tmp_path / "accepted", []
    with contextlib.ExitStack() as stack:
        mx = stack.enter_context(sink(tmp_path / "mx", "--reply", "rcpt:user*3@*=451 4.2.1 try later x1", save=False))
        engine = Daemon(tmp_path, SETTINGS.replace("RELAY", mx.address), spool=SPOOL)
        stack.callback(engine.kill)
        arguments = (engine.port, accepted, "--rate", "2000/s", "-n", "3000", "--domains", "10")
        load = stack.enter_context(Load(*arguments))
        for _ in rounds(KILLS):
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


def test_killed_when_a_backlog_has_moved(tmp_path: Path) -> None:
    """A backlog that stays, in files whose other messages are gone, grows old; a kill loses none of it."""
    with sink(tmp_path / "mx", save=False) as mx:
        stays = f'[[route]]\ndomain = "stays.example"\nrelay = "127.0.0.1:{free_port()}"\n'
        engine = Daemon(tmp_path, stays + SETTINGS.replace("RELAY", mx.address), spool=SPOOL)
        with contextlib.ExitStack() as stack:
            engine.start()
            stack.callback(engine.kill)
            files = engine.data / "spool" / "0" / "journal"
            seen: set[Path] = set()
            for _ in range(10):
                load(engine.port, tmp_path / "stays", "-n", "10", "--domain", "stays.example")
                load(engine.port, tmp_path / "goes", "-n", "300", "--domain", "goes.example")
                seen.update(files.glob("*.log"))
            assert len(seen) > 8
            wait_until(lambda: not min(seen).exists(), "the oldest file to be emptied")
            assert list((engine.data / "spool" / "0" / "mail").glob("*/*.seg"))
            engine.kill()
            engine.start()
            assert {row["destination"] for row in engine.ask("list")} == {"stays.example"}
            assert engine.status()["queued"] == 100
            assert engine.tally()["received"] == 3100, "what was moved is not received again"
            assert engine.stop() == 0
