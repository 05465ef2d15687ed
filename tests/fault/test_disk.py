"""A disk that fills up: intake says 452 or 451 and why, nothing accepted is lost, and all goes on when there is room.

S1, S4. The full disk is a real one, a tmpfs of a few MiB that the test mounts; that needs root.
"""

import contextlib
import os
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.message.outcome import Status
from engine.storage.spool.frame import Frame, FrameType, scan
from tests.support.engine import Daemon, Load, daemon, load, sink, wait_until
from tests.support.ports import free_port

ROUTE = '[[route]]\ndomain = "*"\nrelay = "127.0.0.1:{port}"\nconnections = {connections}\n'


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of this size at `path`."""
    if os.geteuid() != 0:
        raise RuntimeError("mounting a small disk needs root")
    path.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def fill(path: Path, leave: int = 0, name: str = "ballast") -> Path:
    """A file that takes all space but `leave` bytes."""
    ballast = path / name
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(64 << 10))
    os.truncate(ballast, max(0, ballast.stat().st_size - leave))
    return ballast


def journal_files(engine: Daemon) -> list[Path]:
    return list((engine.data / "spool" / "0" / "journal").glob("*.log"))


def outcomes_on_disk(engine: Daemon) -> int:
    """Deliveries that the journal knows of; the last blocks of its file may have room for a few more."""
    count = 0
    for path in journal_files(engine):
        for frame in scan(path.read_bytes(), int(path.name.split(".")[1], 16)):
            if isinstance(frame, Frame) and frame.type == FrameType.OUTCOME:
                count += any(row[1] == Status.DELIVERED for row in frame.header[6])
    return count


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Daemon]:
    """Running on a disk of 16 MiB; nobody listens where its mail should go."""
    route = ROUTE.format(port=free_port(), connections=4)
    with small_disk(tmp_path / "data", "16m"), daemon(tmp_path, route) as engine:
        yield engine


def the_port(engine: Daemon) -> int:
    return int(engine.config.read_text().rpartition("127.0.0.1:")[2].split('"')[0])


def test_the_guard_answers_452_with_the_reason_and_follows_a_reload(tmp_path: Path) -> None:
    with daemon(tmp_path, spool="min_free = 1.0") as engine:
        with smtplib.SMTP("127.0.0.1", engine.port) as client:
            client.ehlo()
            code, words = client.mail("a@example.net")
            assert code == 452
            assert words.startswith(b"4.3.1 Insufficient system storage (")
            status = engine.status()
            assert status["accepting"] is False
            assert status["trouble"] == words.decode().removeprefix("4.3.1 ")
            engine.write_config("")
            engine.reload()
            assert client.mail("a@example.net")[0] == 250, "on the same connection"
        assert engine.status()["accepting"] is True
        engine.write_config("", spool="min_free = 1.0")
        engine.reload()
        assert engine.status()["accepting"] is False


def test_a_full_disk_refuses_mail_loses_none_and_recovers(engine: Daemon, tmp_path: Path) -> None:
    accepted = tmp_path / "accepted"
    ballast = fill(engine.data, leave=1 << 20)
    with Load(engine.port, accepted, "-n", "600", "--sessions", "5") as first:
        report = first.report()
    assert 0 < report["accepted"] < 600
    assert set(report["replies"]) <= {"250", "451", "452"}, report
    assert report["accepted"] + report["refused"] == 600
    # What was cut off behind the last good batch made room for a little more.
    crumbs = fill(engine.data, name="crumbs")
    with Load(engine.port, tmp_path / "none", "-n", "5") as none:
        assert none.report()["accepted"] == 0
    assert engine.status()["accepting"] is False
    assert "No space left on device" in engine.status()["trouble"]
    assert engine.status()["queued"] == report["accepted"]

    ballast.unlink()
    crumbs.unlink()
    wait_until(lambda: engine.status()["accepting"], "intake to go on")
    assert engine.status()["trouble"] is None
    load(engine.port, accepted, "-n", "200", "--sessions", "5")
    assert len(journal_files(engine)) < 5, "no file is left behind for each time the disk was tried"
    with sink(tmp_path / "mx", port=the_port(engine), save=False) as mx:
        engine.ask("retry", target="*")
        engine.empty()
        assert engine.status()["balanced"]
        mx.stop()
        assert mx.ids() == set(accepted.read_text().split())
        assert mx.status()["duplicates"] == 0
    assert engine.tally() == {
        "received": report["accepted"] + 200, "delivered": report["accepted"] + 200, **deferrals(engine)
    }  # fmt: skip


def deferrals(engine: Daemon) -> dict[str, int]:
    """Of the deliveries that met the closed port first."""
    return {"deferred": len({event["id"] for event in engine.events("deferred")})}


def test_deliveries_stop_where_their_outcomes_cannot_be_recorded(engine: Daemon, tmp_path: Path) -> None:
    """A connection is at most one outcome ahead of the journal, however long the disk is full; no mail is doubled."""
    accepted = tmp_path / "accepted"
    load(engine.port, accepted, "-n", "200", "--sessions", "5")
    wait_until(lambda: engine.status()["connections"] == 0, "the site to be closed")
    ballast = fill(engine.data)
    with sink(tmp_path / "mx", port=the_port(engine), save=False) as mx:
        engine.ask("retry", target="*")
        wait_until(lambda: "No space left" in (engine.status()["trouble"] or ""), "the full disk to be met")
        wait_until(lambda: mx.status().get("messages"), "the first deliveries")
        with smtplib.SMTP("127.0.0.1", engine.port) as client:
            client.ehlo()
            assert client.mail("a@example.net") == (452, b"4.3.0 Storage failure, try again later")
        taken = mx.status()["messages"]
        assert taken <= outcomes_on_disk(engine) + 2 * 4
        ballast.unlink()
        engine.empty()
        assert engine.status()["balanced"]
        assert engine.status()["accepting"]
        mx.stop()
        assert mx.ids() == set(accepted.read_text().split())
        assert mx.status()["duplicates"] == 0


def test_what_is_queued_on_a_full_disk_can_be_purged(tmp_path: Path) -> None:
    """A reserve makes the first room; it is made again when there is enough."""
    route = ROUTE.format(port=free_port(), connections=4)
    spool = 'min_free = 0.05\nsegment_bytes = "1MiB"\njournal_files = 1000'
    with small_disk(tmp_path / "data", "16m"), daemon(tmp_path, route, spool=spool) as engine:
        reserve = engine.data / "spool" / "0" / "reserve"
        assert reserve.stat().st_size == 1 << 20
        load(engine.port, tmp_path / "accepted", "-n", "1000", "--sessions", "5")
        ballast = fill(engine.data)
        wait_until(lambda: "reserve is given up" in engine.log_text(), "the reserve to be given up")
        assert engine.ask("purge", target="*")[0]["deliveries"] > 0
        engine.empty()
        assert engine.books()["removed"] == 1000
        ballast.unlink()
        wait_until(lambda: reserve.exists() and engine.status()["accepting"], "room, and a reserve again")
        load(engine.port, tmp_path / "accepted", "-n", "10")


@pytest.mark.parametrize("end", [Daemon.kill, Daemon.stop])
def test_the_end_on_a_full_disk(engine: Daemon, tmp_path: Path, end: Callable[[Daemon], int | None]) -> None:
    """S4: what was refused stays refused, what was accepted is there at the next start."""
    accepted = tmp_path / "accepted"
    ballast = fill(engine.data, leave=1 << 20)
    with Load(engine.port, accepted, "-n", "600", "--sessions", "5") as first:
        report = first.report()
    assert not end(engine), "a stop in order"
    ballast.unlink()
    engine.start()
    assert engine.status()["queued"] == report["accepted"]
    with sink(tmp_path / "mx", port=the_port(engine), save=False) as mx:
        engine.ask("retry", target="*")
        engine.empty()
        mx.stop()
        assert mx.ids() == set(accepted.read_text().split())


def test_a_large_message_that_the_disk_cannot_hold_is_refused_and_leaves_no_file(engine: Daemon) -> None:
    """It fails in the middle, while it arrives; the session goes on, and what fits is taken."""
    large = engine.data / "spool" / "0" / "large"
    ballast = fill(engine.data, leave=3 << 20)
    content = b"Subject: large\r\n\r\n" + b"a line of a large message\r\n" * 250_000
    with smtplib.SMTP("127.0.0.1", engine.port) as client:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("a@example.net", "b@example.org", content)
        assert refused.value.smtp_code == 451
        wait_until(lambda: not list(large.iterdir()), "the half file to be removed")
        client.sendmail("a@example.net", "b@example.org", content[: 2 << 20].rpartition(b"\r\n")[0])
        ballast.unlink()
        client.sendmail("a@example.net", "b@example.org", content)
    assert len(list(large.iterdir())) == 2
    assert engine.status()["queued"] == 2
    engine.ask("purge", target="*")
    wait_until(lambda: not list(large.iterdir()), "the files of what was purged to be removed")


#: A dozen files of the journal and their mover behind, as far as 8 KiB messages go on a small disk.
SMALL_FILES = 'min_free = 0.1\nsegment_bytes = "4MiB"\njournal_files = 2\nmove_rate = "512KiB"'


def test_a_disk_that_the_spool_fills_by_itself_answers_452_in_time(tmp_path: Path) -> None:
    """However fast mail comes: no write fails, and a purge makes room for more."""
    route = ROUTE.format(port=free_port(), connections=4)
    with small_disk(tmp_path / "data", "48m"), daemon(tmp_path, route, spool=SMALL_FILES) as engine:
        with Load(engine.port, tmp_path / "accepted", "-n", "6000", "--size", "8192", "--sessions", "20") as first:
            report = first.report()
        assert set(report["replies"]) == {"250", "452"}, report
        assert "No space left" not in engine.log_text()
        engine.ask("purge", target="*")
        engine.empty()
        wait_until(lambda: engine.status()["accepting"], "room for more")
        load(engine.port, tmp_path / "accepted", "-n", "10")


def test_a_small_disk_opens_again_by_itself_when_all_that_filled_it_is_sent(tmp_path: Path) -> None:
    """One file of the journal may become as large as this whole disk."""
    with (
        small_disk(tmp_path / "data", "24m"),
        sink(tmp_path / "mx", save=False) as mx,
        daemon(tmp_path, ROUTE.format(port=mx.port, connections=4), spool="min_free = 0.1") as engine,
    ):
        for _ in range(2):
            # A message is refused sooner or later, whether those before it have been sent or not.
            wait_until(lambda: send_until_refused(engine, tmp_path / "accepted"), "a disk that is full")
            engine.empty()
            wait_until(lambda: engine.status()["accepting"], "room")
            assert engine.status()["trouble"] is None
        assert mx.status()["messages"] == len((tmp_path / "accepted").read_text().split())
        assert mx.status()["duplicates"] == 0
        assert "Traceback" not in engine.log_text()


def send_until_refused(engine: Daemon, accepted: Path) -> bool:
    with Load(engine.port, accepted, "-n", "1000", "--size", "16384", "--sessions", "5") as running:
        replies = running.report()["replies"]
    assert set(replies) <= {"250", "452"}, replies
    return "452" in replies


@pytest.mark.parametrize("restart", [False, True])
def test_the_mover_leaves_the_last_room_to_an_operator(tmp_path: Path, restart: bool) -> None:
    """What it would copy takes more than the reserve gives: it waits, and a purge gets through."""
    route = ROUTE.format(port=free_port(), connections=4)
    with small_disk(tmp_path / "data", "96m"), daemon(tmp_path, route, spool=SMALL_FILES) as engine:
        reserve = engine.data / "spool" / "0" / "reserve"
        load(engine.port, tmp_path / "accepted", "-n", "3500", "--size", "8192", "--sessions", "20")
        before = len(journal_files(engine))
        assert before > 4
        ballast = fill(engine.data)
        wait_until(lambda: "reserve is given up" in engine.log_text(), "the reserve to be given up")
        wait_until(lambda: "is not emptied: the disk has no room" in engine.log_text(), "the mover to wait")
        if restart:
            engine.kill()
            engine.start()
        engine.ask("hold", target="example.org")
        engine.ask("purge", target="*")
        engine.empty()
        wait_until(lambda: reserve.exists() and engine.status()["accepting"], "room, and a reserve again")
        assert ballast.exists()
        assert len(journal_files(engine)) < before
