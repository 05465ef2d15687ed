"""The event journal: ids that stay, tails that tear, files that come and go (E1, S4, S5)."""

import json
import os
import stat
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.cli.main import main
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Scope, Status
from engine.storage.events.event import event_id, outcome_lines, parse_id, received_lines
from engine.storage.events.journal import EventJournal, events_directory, segment_names
from engine.storage.events.reader import EventReader, read_events

ENVELOPE = Envelope(
    "0Hs7kQpf3Za2Wq",
    "sender@example.com",
    (Recipient("ada@example.org"), Recipient("bob@example.net"), Recipient("cy@example.org")),
    received_at=1000.0,
    expires_at=2000.0,
    content_bytes=10,
)
LARGE = 1 << 20


class StillClock:
    """A clock that the test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def received(seq: int) -> bytes:
    return received_lines(seq, ENVELOPE, [("example.org", (0, 2)), ("example.net", (1,))])


def outcome(index: int = 0, status: Status = Status.DEFERRED, reply: str = "451 4.2.1 busy") -> Outcome:
    return Outcome(
        index=index,
        status=status,
        scope=Scope.RECIPIENT,
        status_code="4.2.1",
        reply=reply,
        remote="mx1.example.org[192.0.2.7]:25",
        phase="rcpt",
    )


def journal_of(path: Path, segment_bytes: int = LARGE, keep_s: float = 800.0, now: float = 1000.0) -> EventJournal:
    return EventJournal(path, segment_bytes, keep_s, StillClock(now))


def ids(path: Path, from_id: str | None = None) -> list[str]:
    return [event["id"] for event in read_events(path, from_id)]


def test_a_received_event_for_each_recipient_and_nothing_at_its_default() -> None:
    events = [json.loads(line) for line in received(7).splitlines()]
    assert events[1] == {
        "id": "7.1",
        "at": 1000.0,
        "type": "received",
        "message": "0Hs7kQpf3Za2Wq",
        "class": "bulk",
        "sender": "sender@example.com",
        "recipient": "cy@example.org",
        "destination": "example.org",
    }
    assert [event["recipient"] for event in events] == ["ada@example.org", "cy@example.org", "bob@example.net"]


def test_an_outcome_event_says_who_said_what_where() -> None:
    (line,) = outcome_lines(8, 1001.2345, ENVELOPE, "example.org", 2, "other", [outcome()]).splitlines()
    event = json.loads(line)
    assert (
        event.items()
        >= {
            "id": "8.0",
            "at": 1001.234,
            "type": "deferred",
            "attempt": 2,
            "status": "4.2.1",
            "reply": "451 4.2.1 busy",
            "remote": "mx1.example.org[192.0.2.7]:25",
            "phase": "rcpt",
            "scope": "recipient",
            "provider": "other",
            "delay_s": 1.234,
        }.items()
    )


@pytest.mark.parametrize("status", Status)
def test_every_status_has_a_type_of_its_name(status: Status) -> None:
    line = outcome_lines(1, 1000.0, ENVELOPE, "example.org", 1, "other", [outcome(status=status)])
    assert json.loads(line)["type"] == status.name.lower()


@pytest.mark.parametrize("scope", Scope)
def test_every_scope_has_its_name(scope: Scope) -> None:
    one = Outcome(index=0, status=Status.FAILED, scope=scope, status_code="5.0.0", reply="")
    line = outcome_lines(1, 1000.0, ENVELOPE, "example.org", 1, "other", [one])
    assert json.loads(line)["scope"] == scope.name.lower()


def test_bytes_that_are_no_text_do_not_lose_the_event() -> None:
    line = outcome_lines(1, 1000.0, ENVELOPE, "example.org", 1, "other", [outcome(reply="550 caf\udce9\r\n{")])
    assert line.count(b"\n") == 1
    assert json.loads(line)["reply"] == "550 caf\\udce9\r\n{"


def test_the_same_frame_gives_the_same_ids() -> None:
    assert received(7) == received(7)
    assert [event_id(line) for line in received(7).splitlines()] == [(7, 0), (7, 1), (7, 2)]


@pytest.mark.parametrize("text", ["", "7", "7.", ".1", "7.1.2", "-1.0", "7.x", "٣.1"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an event id"):
        parse_id(text)


def test_the_journal_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for seq in (1, 2):
        journal = journal_of(tmp_path / "events")
        assert journal.last_seq == seq - 1
        journal.write(received(seq))
        journal.close()
    assert ids(tmp_path / "events") == ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2"]
    assert len(segment_names(tmp_path / "events")) == 1


def test_any_torn_tail_is_cut_to_whole_lines_and_the_rest_is_written_again(tmp_path: Path) -> None:
    """Cut at each byte of the last frame's events: after recovery every event is there once."""
    first, second = received(1), received(2)
    for cut in range(len(second) + 1):
        path = tmp_path / str(cut)
        path.mkdir(mode=0o700)
        (path / "000000000001.log").write_bytes(first + second[:cut])
        journal = journal_of(path)
        journal.write(journal.missing(first + second))
        journal.close()
        assert (path / "000000000001.log").read_bytes() == first + second


def test_a_newest_file_without_a_whole_line_does_not_hide_the_ones_before(tmp_path: Path) -> None:
    (tmp_path / "000000000001.log").write_bytes(received(1))
    (tmp_path / "000000000002.log").write_bytes(b'{"id":"2.')
    journal = journal_of(tmp_path)
    assert journal.last_id == (1, 2)
    journal.write(received(2))
    journal.close()
    assert segment_names(tmp_path)[-1] == "000000000003.log"
    assert ids(tmp_path) == ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2"]


def test_damage_in_the_tail_does_not_hide_the_last_id(tmp_path: Path) -> None:
    (tmp_path / "000000000001.log").write_bytes(received(1) + b"\0\0\xff{}\n")
    assert journal_of(tmp_path).last_id == (1, 2)


def test_a_file_that_is_full_is_followed_by_the_next(tmp_path: Path) -> None:
    journal = journal_of(tmp_path, segment_bytes=len(received(1)) * 2)
    for seq in range(1, 6):
        journal.write(received(seq))
    journal.close()
    assert segment_names(tmp_path) == ["000000000001.log", "000000000002.log", "000000000003.log"]
    assert ids(tmp_path)[::3] == ["1.0", "2.0", "3.0", "4.0", "5.0"]


def test_a_quiet_node_begins_a_file_in_time_to_forget_the_old(tmp_path: Path) -> None:
    """Personal data goes after keep_s even if the file never gets full, restarts or not."""
    for now in (1000.0, 1099.0, 1100.0):
        journal = journal_of(tmp_path, keep_s=800.0, now=now)
        journal.write(received(int(now)))
        journal.close()
    assert len(segment_names(tmp_path)) == 2


def test_old_files_are_deleted_but_never_the_newest_with_events(tmp_path: Path) -> None:
    """The newest says how far the projection got: without it all the spool would be told again."""
    for number in (1, 2, 3):
        (tmp_path / f"{number:012}.log").write_bytes(received(number))
        os.utime(tmp_path / f"{number:012}.log", (100 * number, 100 * number))
    (tmp_path / "000000000004.log").touch()
    (tmp_path / "notes.txt").touch()
    os.utime(tmp_path / "notes.txt", (0, 0))

    journal = journal_of(tmp_path, keep_s=800.0, now=950.0)
    assert segment_names(tmp_path) == ["000000000002.log", "000000000003.log", "000000000004.log"]
    assert journal.last_seq == 3

    journal = journal_of(tmp_path, keep_s=800.0, now=9999.0)
    assert segment_names(tmp_path) == ["000000000003.log", "000000000004.log"]
    assert (tmp_path / "notes.txt").exists()


def test_a_node_without_traffic_forgets_too(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number:012}.log").write_bytes(received(number))
        os.utime(tmp_path / f"{number:012}.log", (1000, 1000))
    clock = StillClock(1000.0)
    journal = EventJournal(tmp_path, LARGE, 800.0, clock)
    clock.now = 1801.0
    journal.sync()
    assert segment_names(tmp_path) == ["000000000002.log"]


def test_files_that_cannot_be_deleted_do_not_stop_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    (tmp_path / "000000000001.log").write_bytes(received(1))
    (tmp_path / "000000000002.log").write_bytes(received(2))
    os.utime(tmp_path / "000000000001.log", (0, 0))
    monkeypatch.setattr(os, "unlink", fault)
    journal = journal_of(tmp_path)
    journal.write(received(3))
    journal.sync()
    assert "old files stay: event journal" in caplog.text


def test_modes_and_links(tmp_path: Path) -> None:
    path = events_directory(tmp_path)
    journal = journal_of(path)
    journal.write(received(1))
    journal.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "000000000001.log").stat().st_mode) == 0o600

    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"")
    (path / "000000000001.log").rename(tmp_path / "kept")
    (path / "000000000002.log").symlink_to(elsewhere)
    with pytest.raises(StorageError):
        journal_of(path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(StorageError):
        journal_of(tmp_path / "link")


@pytest.mark.parametrize("operation", ["write", "fdatasync"])
def test_after_a_fault_the_file_is_left_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """S4: the owner gets a StorageError, writes again, and no event is missing; a repeated one has the same id."""
    journal = journal_of(tmp_path)
    journal.write(received(1))
    journal.sync()

    def fault(*_: object) -> int:
        raise OSError(28, "No space left on device")

    def write_and_sync() -> None:
        journal.write(received(2))
        journal.sync()

    with monkeypatch.context() as patched:
        patched.setattr(os, operation, fault)
        with pytest.raises(StorageError, match="No space left"):
            write_and_sync()
    journal.write(received(2))
    journal.close()
    assert segment_names(tmp_path) == ["000000000001.log", "000000000002.log"]
    assert list(dict.fromkeys(ids(tmp_path))) == ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2"]


def test_a_full_disk_does_not_get_a_new_file_for_every_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = journal_of(tmp_path)

    def fault(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fault)
    for _ in range(5):
        with pytest.raises(StorageError):
            journal.write(received(1))
    assert segment_names(tmp_path) == []


def test_reading_from_an_id(tmp_path: Path) -> None:
    journal = journal_of(tmp_path, segment_bytes=len(received(1)) * 2)
    for seq in range(1, 8):
        journal.write(received(seq))
    everything = ids(tmp_path)
    for position, event in enumerate(everything):
        assert ids(tmp_path, event) == everything[position + 1 :]
    assert ids(tmp_path, "0.0") == everything
    assert ids(tmp_path, "99.0") == []
    assert ids(tmp_path / "nothing") == []


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 21, 22, 500])
def test_the_newest_few(tmp_path: Path, count: int) -> None:
    journal = journal_of(tmp_path, segment_bytes=len(received(1)) * 2)
    for seq in range(1, 8):
        journal.write(received(seq))
    reader = EventReader(tmp_path)
    reader.seek_tail(count)
    everything = ids(tmp_path)
    assert [event["id"] for event in reader.read()] == everything[len(everything) - min(count, 21) :]


def test_following_a_journal_over_rotation_and_half_written_lines(tmp_path: Path) -> None:
    journal = journal_of(tmp_path, segment_bytes=len(received(1)))
    reader = EventReader(tmp_path)
    assert list(reader.read()) == []
    for seq in (1, 2, 3):
        journal.write(received(seq))
        assert [event["id"] for event in reader.read()] == [f"{seq}.0", f"{seq}.1", f"{seq}.2"]
    with (tmp_path / "000000000003.log").open("ab") as file:
        file.write(received(4)[:50])
        file.flush()
        assert list(reader.read()) == []
        file.write(received(4)[50:])
    assert [event["id"] for event in reader.read()] == ["4.0", "4.1", "4.2"]
    assert reader.damaged == 0


def test_a_reader_survives_the_deletion_of_its_file(tmp_path: Path) -> None:
    journal = journal_of(tmp_path, segment_bytes=len(received(1)))
    journal.write(received(1))
    reader = EventReader(tmp_path)
    list(reader.read())
    journal.write(received(2))
    (tmp_path / "000000000001.log").unlink()
    assert [event["id"] for event in reader.read()] == ["2.0", "2.1", "2.2"]


@pytest.mark.parametrize(
    "damage", [b"\0" * 100 + b"\n", b"[]\n", b'{"id":5}\n', b"{\n", b"\xff\n", b'{"id":"x"}\n', b"[" * 9999 + b"\n"]
)
def test_a_damaged_line_is_passed_over_and_counted(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "000000000001.log").write_bytes(received(1) + damage + received(2))
    reader = EventReader(tmp_path)
    assert [event["id"] for event in reader.read()] == ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2"]
    assert reader.damaged == 1


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "postrider.toml").write_text(f'[node]\nname = "mx.example.com"\ndata_dir = "{tmp_path}/data"\n')
    journal = journal_of(events_directory(tmp_path / "data"))
    journal.write(received(1))
    journal.write(outcome_lines(2, 1001.5, ENVELOPE, "example.org", 1, "other", [outcome(reply="451 a\x1b[2Jb")]))
    journal.close()
    return str(tmp_path / "postrider.toml")


def test_events_tail_for_people_escapes_what_a_terminal_obeys(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "tail", "-n", "1", "-c", config]) == 0
    assert capsys.readouterr().out == (
        "1970-01-01T00:16:41Z deferred  0Hs7kQpf3Za2Wq to=<ada@example.org> "
        "remote=mx1.example.org[192.0.2.7]:25 status=4.2.1 (451 a\\x1b[2Jb)\n"
    )


def test_events_list_as_json_lines_filters(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "list", "--json", "--recipient", "ADA@example.org", "-c", config]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == ["1.0", "2.0"]
    assert main(["events", "list", "--json", "--from", "1.1", "--type", "received", "-c", config]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == ["1.2"]


def test_events_list_refuses_what_is_no_id(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "list", "--from", "yesterday", "-c", config]) == 2
    assert capsys.readouterr().err == 'postrider: "yesterday" is not an event id, such as "1042.0"\n'
