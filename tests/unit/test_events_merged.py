"""The journals of several workers, read as one: by time, each in its own order, nothing lost and nothing twice (E1)."""

from pathlib import Path

import pytest

from engine.cli.main import main
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Scope, Status
from engine.storage.events.journal import EventJournal, events_directory
from engine.storage.events.lines import outcome_lines
from engine.storage.events.merged import MergedReader
from engine.storage.events.place import Place, parse_ids, parse_place

ENVELOPE = Envelope(
    "0Hs7kQpf3Za2Wq",
    "sender@example.com",
    (Recipient("ada@example.org"),),
    received_at=1000.0,
    expires_at=2000.0,
    content_bytes=10,
)


def write(data_dir: Path, worker: int, *events: tuple[int, float]) -> None:
    """Add events to a worker's journal: number of the frame, and time."""
    journal = EventJournal(events_directory(data_dir, worker), 1 << 20, 1e9)
    outcome = Outcome(index=0, status=Status.DELIVERED, scope=Scope.RECIPIENT, status_code="2.0.0", reply="250 taken")
    for number, at in events:
        journal.write(outcome_lines(number, at, ENVELOPE, "example.org", 1, "other", [outcome]))
    journal.close()


def ids(reader: MergedReader) -> list[str]:
    return [event["id"] for event in reader.read()]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write(tmp_path, 0, (1, 1001.0), (2, 1004.0), (3, 1003.0))
    write(tmp_path, 1, (1, 1002.0), (2, 1005.0))
    return tmp_path


def test_one_journal_reads_as_ever(tmp_path: Path) -> None:
    assert ids(MergedReader(tmp_path)) == []
    write(tmp_path, 0, (1, 1001.0))
    assert ids(MergedReader(tmp_path)) == ["1.0"]


def test_time_decides_between_journals_and_order_within(data_dir: Path) -> None:
    assert ids(MergedReader(data_dir)) == ["1.0", "1:1.0", "2.0", "3.0", "1:2.0"]


def test_what_comes_later_is_read_later(data_dir: Path) -> None:
    reader = MergedReader(data_dir)
    assert len(ids(reader)) == 5
    write(data_dir, 0, (4, 1010.0))
    write(data_dir, 1, (3, 1009.0))
    write(data_dir, 2, (1, 900.0))
    assert ids(reader) == ["2:1.0", "1:3.0", "4.0"]


def test_a_place_is_an_id_of_each_journal(data_dir: Path) -> None:
    reader = MergedReader(data_dir)
    reader.seek(parse_ids("2.0,1:1.0"))
    assert ids(reader) == ["3.0", "1:2.0"]
    reader = MergedReader(data_dir)
    reader.seek({0: (3, 0)})
    assert ids(reader) == ["1:1.0", "1:2.0"], "a journal that is not named is read whole"


@pytest.mark.parametrize("place", ["x", "x:1.0", "1:", "1:x", ":1.0", "1.0,", "-1:1.0"])
def test_what_is_no_place(place: str) -> None:
    with pytest.raises(ValueError, match="is not "):
        parse_place(place, 0.0)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("oldest", Place()),
        ("now", Place(end=True)),
        ("25.0, 1:17.2", Place(ids={0: (25, 0), 1: (17, 2)})),
        ("2h", Place(at=2800.0)),
        ("1970-01-01T01:00:00Z", Place(at=3600.0)),
        ("1970-01-01T02:00:00+01:00", Place(at=3600.0)),
        ("1970-01-02", Place(at=86400.0)),
    ],
)
def test_places_as_they_are_written(text: str, place: Place) -> None:
    assert parse_place(text, 10_000.0) == place


def test_a_time_is_a_place(data_dir: Path) -> None:
    reader = MergedReader(data_dir)
    reader.seek_time(1002.5)
    assert ids(reader) == ["2.0", "3.0", "1:2.0"]


@pytest.mark.parametrize("count", range(7))
def test_the_newest_of_all(data_dir: Path, count: int) -> None:
    reader = MergedReader(data_dir)
    reader.seek_tail(count)
    assert ids(reader) == ["1.0", "1:1.0", "2.0", "3.0", "1:2.0"][max(5 - count, 0) :]
    write(data_dir, 1, (3, 1009.0))
    assert ids(reader) == ["1:3.0"]


def test_the_command_reads_all_of_them(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = data_dir / "postrider.toml"
    config.write_text(f'[node]\ndata_dir = "{data_dir}"\n')
    assert main(["events", "list", "--from", "2.0,1:1.0", "--json", "-c", str(config)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["events", "tail", "-n", "3", "-c", str(config)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
