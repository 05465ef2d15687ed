"""kill -9 of the daemon while the mover moves, seals and drops: a dead destination fills the old generation, a live one
keeps the journal turning. S1, S2, S3, Q2.

The seed is printed; POSTRIDER_SEED=N repeats the moments.
"""

import contextlib
import time
from pathlib import Path

from tests.support.engine import Daemon, Load, free_port, sink, wait_until
from tests.support.seed import rounds, seeded

CONNECTIONS = 10
SPOOL = """
min_free = 0.0
segment_bytes = "64KiB"
journal_files = 2
hot_bytes = "64KiB"
"""


def test_killed_while_messages_move(tmp_path: Path) -> None:
    chance, dead_port, kills = seeded(), free_port(), 0
    dead, live = tmp_path / "dead", tmp_path / "live"
    with contextlib.ExitStack() as stack:
        mx = stack.enter_context(sink(tmp_path / "mx", save=False))
        settings = "".join(
            f'[[route]]\ndomain = "{domain}"\nrelay = "{relay}"\nconnections = {CONNECTIONS}\n'
            for domain, relay in (("dead.example", f"127.0.0.1:{dead_port}"), ("live.example", mx.address))
        )
        engine = Daemon(tmp_path, settings + '[retry]\nschedule = "2s*"\n', spool=SPOOL)
        stack.callback(engine.kill)
        with contextlib.ExitStack() as loads:
            for accepted, domain in ((dead, "dead.example"), (live, "live.example")):
                options = "--rate", "150/s", "-n", "100000", "--domain", domain
                loads.enter_context(Load(engine.port, accepted, *options))
            for _ in rounds(10):
                kills += 1
                engine.start(wait=chance.random() < 0.8)  # else: in the middle of a start
                time.sleep(chance.uniform(0.2, 1.5))
                engine.kill()
        engine.start()
        folders = engine.data / "spool" / "0" / "mail"
        wait_until(lambda: list(folders.glob("*/*.seg")), "something to have moved")
        other = stack.enter_context(sink(tmp_path / "mx2", port=dead_port, save=False))
        engine.ask("retry", target="*")
        engine.empty()
        status, events = engine.status(), engine.events()
        assert engine.stop() == 0
        mx.stop()
        other.stop()
    assert status["balanced"] and status["orphans"] == 0, status
    assert set(live.read_text().split()) <= mx.ids()
    assert set(dead.read_text().split()) <= other.ids()
    received = [event["message"] for event in events if event["type"] == "received"]
    delivered = [event["message"] for event in events if event["type"] == "delivered"]
    assert sorted(set(received)) == sorted(set(delivered))
    assert len(delivered) == len(set(delivered)), "nothing that was final came to life again"
    twice = mx.status()["messages"] + other.status()["messages"] - len(set(received))
    print(f"{kills} kills, {len(set(received))} accepted, {twice} taken twice")
    assert 0 <= twice <= kills * 2 * CONNECTIONS
