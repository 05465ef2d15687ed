"""kill -9 under load: what was accepted is delivered, and hardly anything twice (tests/support/kills.py)."""

import contextlib
from pathlib import Path

from tests.support.engine import Daemon, load, sink, wait_until
from tests.support.kills import SETTINGS, SPOOL, survive_kills
from tests.support.ports import free_port


def test_twenty_kills_lose_nothing_and_double_no_more_than_was_in_flight(tmp_path: Path) -> None:
    survive_kills(tmp_path, 20)


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
