"""`postrider load --smpp` against `postrider sink --smpp` that misbehaves in several ways: both tallies agree."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import POSTRIDER, sink

PATIENCE_S = 30


def load(address: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit status and report."""
    argv = [*POSTRIDER, "load", "--smpp", address, "--json", *options]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def told(path: Path) -> dict[str, Any]:
    """The final counts of a sink that has ended."""
    return dict(json.loads((path / "status.json").read_text()))


def picked(counts: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: counts[name] for name in names}


def test_early_receipts_with_ids_of_every_kind_in_pieces(tmp_path: Path) -> None:
    """Throttled, refused and failed ones among them: each message is taken once, and no receipt is unmatched."""
    options = (
        "--smpp", "--receipts=early", "--message-ids=mixed", "--split=1,3,50", "--throttle=10%",
        "--reply=44770000009=ESME_RINVDSTADR", "--state=44770000008=UNDELIV", "--answer=44770000007=STOP",
    )  # fmt: skip
    accepted = tmp_path / "accepted"
    with sink(tmp_path / "smsc", *options, save=False) as smsc:
        status, report = load(
            smsc.address, "--count=300", "--sessions=3", "--size=200", "--receipts=20s", f"--accepted={accepted}"
        )
    assert status == 1  # some were refused
    # 300 messages of two parts, among them numbers ...07x, ...08x and ...09x.
    assert picked(report, "messages", "parts", "accepted", "refused", "unanswered", "lost_connections") == {
        "messages": 300, "parts": 2, "accepted": 580, "refused": 20, "unanswered": 0, "lost_connections": 0,
    }  # fmt: skip
    assert report["receipts"] == {"DELIVRD": 560, "UNDELIV": 20}
    assert picked(report, "missing_receipts", "unmatched_receipts", "repeated_receipts", "received") == {
        "missing_receipts": 0, "unmatched_receipts": 0, "repeated_receipts": 0, "received": 20,
    }  # fmt: skip
    counts = told(tmp_path / "smsc")
    assert picked(counts, "binds", "messages", "parts", "unique", "duplicates", "receipts_sent", "answers_sent") == {
        "binds": 3, "messages": 580, "parts": 580, "unique": 580, "duplicates": 0, "receipts_sent": 580,
        "answers_sent": 20,
    }  # fmt: skip
    assert (counts["receipts_acknowledged"], counts["refused"]) == (580, {"ESME_RINVDSTADR": 20})
    assert counts["throttled"] == report["throttled"] == 66  # a tenth of 666
    taken, answered = (sorted(file.read_text().splitlines()) for file in (tmp_path / "smsc" / "ids", accepted))
    assert taken == answered and len(taken) == 580


def test_lost_and_late_receipts_over_connections_that_are_closed(tmp_path: Path) -> None:
    options = ("--smpp", "--receipts=lost=25%", "--receipts=delay=200ms", "--close-after=40", "--login=load:secret")
    with sink(tmp_path / "smsc", *options, save=False) as smsc:
        status, report = load(smsc.address, "--count=200", "--password=secret", "--window=20", "--receipts=1s")
    counts = told(tmp_path / "smsc")
    assert status == 1  # receipts are missing
    assert picked(report, "accepted", "missing_receipts", "unmatched_receipts") == {
        "accepted": 200, "missing_receipts": 50, "unmatched_receipts": 0,
    }  # fmt: skip
    assert report["receipts"] == {"DELIVRD": 150}
    assert report["connections"] == counts["binds"] > 4
    assert picked(counts, "unique", "duplicates", "receipts_lost") == {
        "unique": 200,
        "duplicates": 0,
        "receipts_lost": 50,
    }


@pytest.mark.parametrize(
    ("misbehaviour", "accepted", "silent"), [("--dead-after=30", 30, 0), ("--silent=44770000005", 90, 10)]
)
def test_nobody_answers(tmp_path: Path, misbehaviour: str, accepted: int, silent: int) -> None:
    with sink(tmp_path / "smsc", "--smpp", misbehaviour, save=False) as smsc:
        status, report = load(smsc.address, "--count=100", "--window=20", "--patience=0.5")
    assert (status, report["accepted"], report["unanswered"]) == (1, accepted, 100 - accepted)
    assert told(tmp_path / "smsc")["silent"] == silent


def test_a_quiet_run_ends_with_a_tally_for_people(tmp_path: Path) -> None:
    with sink(tmp_path / "smsc", "--smpp", "--until=50", save=False) as smsc:
        argv = [*POSTRIDER, "load", "--smpp", smsc.address, "-n", "50", "--receipts", "10s"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        assert smsc.process.wait(PATIENCE_S) == 0
    assert done.stdout.startswith("50 of 50 submits for 50 messages accepted")
    assert "receipts: {'DELIVRD': 50}, missing: 0" in done.stdout
    assert "50 messages of 50 submits over 1 binds; 50 unique, 0 duplicates" in (tmp_path / "smsc/sink.log").read_text()
