"""kill -9 of the daemon while the mover moves, seals and drops: a dead destination fills the old generation, a live one
keeps the journal turning. What goes to several destinations is there, too, and what is large: contents that are shared,
and files of their own. S1, S2, S3, Q2.

The seed is printed; POSTRIDER_SEED=N repeats the moments.
"""

import contextlib
import smtplib
import threading
import time
from pathlib import Path

from tests.support.engine import Daemon, Load, sink, wait_until
from tests.support.ports import free_port
from tests.support.seed import rounds, seeded

CONNECTIONS = 10
SPOOL = """
min_free = 0.0
segment_bytes = "64KiB"
journal_files = 2
hot_bytes = "64KiB"
large_bytes = "64KiB"
"""
DEAD = "dead.example", "dead2.example", "dead3.example"
#: One in so many of the messages that go to all of them is large: more than the engine takes from a socket at a time.
LARGE_EVERY = 16


class Several(threading.Thread):
    """Sends messages to every destination, each until it is accepted; `accepted` has the ids."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.accepted: list[str] = []
        self._over = threading.Event()

    def __enter__(self) -> "Several":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError, smtplib.SMTPException), smtplib.SMTP("127.0.0.1", self.port) as client:
                while not self._over.wait(0.02):
                    self._send(client)

    def _send(self, client: smtplib.SMTP) -> None:
        number = len(self.accepted)
        lines = 12_000 if number % LARGE_EVERY == 0 else 10
        text = f"Subject: several\r\nX-Load-Id: several-{number}\r\n\r\n" + "A line of a message.....\r\n" * lines
        client.sendmail("ada@several.example", [f"bob@{domain}" for domain in (*DEAD, "live.example")], text)
        self.accepted.append(f"several-{number}")


def test_killed_while_messages_move(tmp_path: Path) -> None:
    chance, dead_port, kills = seeded(), free_port(), 0
    dead, live = tmp_path / "dead", tmp_path / "live"
    with contextlib.ExitStack() as stack:
        mx = stack.enter_context(sink(tmp_path / "mx", save=False))
        settings = "".join(
            f'[[route]]\ndomain = "{domain}"\nrelay = "{relay}"\nconnections = {CONNECTIONS}\n'
            for domain, relay in (*((dead, f"127.0.0.1:{dead_port}") for dead in DEAD), ("live.example", mx.address))
        )
        engine = Daemon(tmp_path, settings + '[retry]\nschedule = "2s*"\n', spool=SPOOL)
        stack.callback(engine.kill)
        with contextlib.ExitStack() as loads:
            for accepted, domain in ((dead, DEAD[0]), (live, "live.example")):
                options = "--rate", "150/s", "-n", "100000", "--domain", domain
                loads.enter_context(Load(engine.port, accepted, *options))
            several = loads.enter_context(Several(engine.port))
            for _ in rounds(10):
                kills += 1
                engine.start(wait=chance.random() < 0.8)  # else: in the middle of a start
                time.sleep(chance.uniform(0.2, 1.5))
                engine.kill()
        engine.start()
        spool = engine.data / "spool" / "0"
        for files in ("mail/*/*.seg", "shared/*.con", "large/*.dat"):
            wait_until(lambda: list(spool.glob(files)), f"{files} to be there")  # noqa: B023
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
    assert set(several.accepted) <= mx.ids() & other.ids()
    received = [(event["message"], event["recipient"]) for event in events if event["type"] == "received"]
    delivered = [(event["message"], event["recipient"]) for event in events if event["type"] == "delivered"]
    assert sorted(set(received)) == sorted(set(delivered))
    assert len(delivered) == len(set(delivered)), "nothing that was final came to life again"
    twice = mx.status()["messages"] + other.status()["messages"] - len(set(received))
    print(f"{kills} kills, {len(set(received))} deliveries, {len(several.accepted)} for several, {twice} twice")
    assert 0 <= twice <= kills * 2 * CONNECTIONS
