"""SMS through the whole daemon: receipts that come before their responses, kill -9 in mid-window."""

import contextlib
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.engine import Daemon, Load, Sink, daemon, sink, wait_until
from tests.support.ports import free_port
from tests.support.seed import rounds, seeded

WINDOW = 20
LOGIN = ("--password=secret", "--text=Hello")


def settings(port: int, smsc: Sink, binds: int = 1) -> str:
    """An account of the load generator, and a carrier. A receipt waits a second for a better match than a guess."""
    return f"""
[sms]
park = "1s"

[[listener]]
kind = "smpp"
address = "127.0.0.1:{port}"

[[account]]
system_id = "load"
password = "secret"

[[carrier]]
name = "one"
host = "127.0.0.1"
port = {smsc.port}
system_id = "us"
password = "secret"
binds = {binds}
window = {WINDOW}
"""


def test_ten_thousand_early_receipts_with_ids_of_every_kind(tmp_path: Path) -> None:
    """Each comes before its response, over the binds in turn, in its own notation: none is unmatched or goes astray."""
    port, accepted = free_port(), tmp_path / "accepted"
    habits = ("--smpp", "--receipts=early", "--receipts=spread", "--message-ids=mixed", "--state=447700000=UNDELIV")
    with contextlib.ExitStack() as stack:
        smsc = stack.enter_context(sink(tmp_path / "smsc", *habits, save=False))
        with daemon(tmp_path / "engine", settings(port, smsc, binds=2)) as engine:
            options = (*LOGIN, "-n", "10000", "--window=500", "--receipts=30s")
            with Load(port, accepted, *options, smpp=True) as running:
                report = running.report()
            engine.empty()
            engine.accounted_for()
            metrics, types = engine.metrics(), engine.tally()
            assert "Traceback" not in engine.log_text(), engine.log_text()
    assert report["accepted"] == 10_000, report
    # Of the numbers 447700000000 to 447700009999 those that end in 0 to 999 begin with 447700000.
    assert report["receipts"] == {"DELIVRD": 9_000, "UNDELIV": 1_000}
    assert (report["missing_receipts"], report["unmatched_receipts"], report["repeated_receipts"]) == (0, 0, 0)
    assert types == {
        "received": 10_000, "sent": 10_000, "delivered": 9_000, "undelivered": 1_000, "handed-over": 10_000,
    }  # fmt: skip
    assert metrics["sms_receipts"] == 10_000


def test_kills_in_mid_window_lose_nothing_and_doubles_are_flagged(tmp_path: Path) -> None:
    """S1, Q2: what was answered is sent; what may have been sent before a kill is at most the window, and says so."""
    port, accepted, chance, kills = free_port(), tmp_path / "accepted", seeded(), 0
    reports: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        smsc = stack.enter_context(sink(tmp_path / "smsc", "--smpp", save=False))
        (tmp_path / "engine").mkdir()
        engine = Daemon(tmp_path / "engine", settings(port, smsc))
        stack.callback(engine.kill)
        options = (*LOGIN, "-n", "8000", "--rate=2000/s", "--window=100", "--patience=30")
        load = stack.enter_context(Load(port, accepted, *options, smpp=True))
        for _ in rounds(5):
            before = engine.tally()["sent"]
            engine.start()
            # What the last kill caught goes first. Caught again before it is settled it would be sent three times, and
            # say so once.
            wait_until(lambda least=before + 3 * WINDOW: engine.tally()["sent"] >= least, "the window of the last kill")
            time.sleep(chance.uniform(0.0, 0.6))
            engine.kill()
            kills += 1
            if not load.running():
                reports.append(load.report())
                load = stack.enter_context(Load(port, accepted, *options, smpp=True))
        engine.start()
        reports.append(load.report())
        engine.empty()
        status, events = engine.status(), engine.events()
        assert "Traceback" not in engine.log_text(), engine.log_text()
        assert engine.stop() == 0
        smsc.stop()
    assert all(report["unanswered"] == report["refused"] == 0 for report in reports), reports
    assert status["balanced"] and status["orphans"] == 0, status
    lines = [line.split() for line in accepted.read_text().splitlines()]
    taken = {line.split()[1] for line in (tmp_path / "smsc" / "ids").read_text().splitlines()}
    assert {number for _, number in lines} - taken == set(), "accepted and never sent"
    received = Counter(event["message"] for event in events if event["type"] == "received")
    sent = Counter(event["message"] for event in events if event["type"] == "sent")
    assert received == sent and set(sent.values()) == {1}, "one event of each kind for every message"
    assert {message for message, _ in lines} <= set(received)
    flagged = [event for event in events if event["type"] == "sent" and "sent before" in event.get("reply", "")]
    twice = smsc.status()["messages"] - len(received)
    print(f"{len(received)} received, {twice} twice, {len(flagged)} flagged, {kills} kills")
    assert 0 <= twice <= len(flagged) <= kills * WINDOW
