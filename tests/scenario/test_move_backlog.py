"""An operator moves a backlog to another node: hold, export, import there, purge here. Each message goes out once."""

import contextlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, letter
from tests.support.engine import POSTRIDER, Daemon, Sink, daemon, free_port, sink, wait_until
from tests.support.relay import route

SMALL = 'min_free = 0.0\nsegment_bytes = "16KiB"\njournal_files = 1'
MESSAGES = 40


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Daemon, Daemon, Sink]]:
    """The old node reaches moved.test no more; the new one does. Both reach stays.test, by the same sink."""
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(sink(tmp_path / "sink"))
        dead = route(f"127.0.0.1:{free_port()}", "moved.test")
        old = stack.enter_context(daemon(tmp_path / "old", dead + route(receiver.address), spool=SMALL))
        new = stack.enter_context(daemon(tmp_path / "new", route(receiver.address), spool=SMALL))
        yield old, new, receiver


def fill(node: Daemon) -> list[str]:
    """Messages to both destinations, tried once at moved.test."""
    with Client(node.port) as client:
        ids = [
            client.submit("ada@home.test", ["a@moved.test", "b@moved.test", "c@stays.test"], letter(f"{n}"))
            for n in range(MESSAGES)
        ]
    node.until(delivered=MESSAGES, deferred=2)
    wait_until(lambda: node.status()["connections"] == 0, "all attempts to be over")
    return ids


def run(node: Daemon, *command: str) -> dict[str, Any]:
    """The one row that a command answers."""
    done = node.run(*command, "--json")
    assert done.returncode == 0, done.stderr
    [row] = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(row)


def taken(receiver: Sink) -> Counter[tuple[str, ...]]:
    """What arrived, by recipients and subject."""
    found: Counter[tuple[str, ...]] = Counter()
    for envelope, content in receiver.messages():
        [subject] = [line for line in content.splitlines() if line.startswith(b"Subject:")]
        found[*sorted(envelope["recipients"]), subject.decode()] += 1
    return found


def once(recipients: tuple[str, ...]) -> Counter[tuple[str, ...]]:
    return Counter((*recipients, f"Subject: {n}") for n in range(MESSAGES))


MOVED, STAYS = ("a@moved.test", "b@moved.test"), ("c@stays.test",)


def test_hold_export_import_purge_sends_everything_once(nodes: tuple[Daemon, Daemon, Sink], tmp_path: Path) -> None:
    old, new, receiver = nodes
    ids = fill(old)
    run(old, "hold", "moved.test")
    file = tmp_path / "backlog"
    exported = run(old, "spool", "export", "--scope", "moved.test", str(file))
    assert exported == {"deliveries": MESSAGES, "recipients": 2 * MESSAGES, "unreadable": 0}
    assert file.stat().st_mode & 0o777 == 0o600
    run(new, "hold", "moved.test")
    assert run(new, "spool", "import", str(file)) == {"owner": "mx.test/0", "taken": MESSAGES, "left_out": 0}
    assert run(new, "spool", "import", str(file)) == {"owner": "mx.test/0", "taken": 0, "left_out": MESSAGES}
    with Client(old.port) as client:
        client.submit("ada@home.test", "late@moved.test", letter("late"))
    assert run(old, "spool", "purge", str(file)) == {"deliveries": MESSAGES, "in_attempt": 0}
    tried = {row["id"]: row["attempts"] for row in new.ask("list", target="moved.test")}
    assert sorted(tried) == sorted(ids)
    assert max(tried.values()) >= 1
    run(new, "resume", "moved.test")
    run(new, "retry", "moved.test")
    assert new.books() == {"received": 2 * MESSAGES, "delivered": 2 * MESSAGES}
    told = old.books(queued=1)  # what came after the export stays
    assert (told["received"], told["delivered"], told["removed"]) == (3 * MESSAGES + 1, MESSAGES, 2 * MESSAGES)
    assert taken(receiver) == once(MOVED) + once(STAYS)
    # One story: the same ids, and when each was received.
    at = {event["message"]: event["at"] for event in old.events("received") if event["message"] in ids}
    assert {event["message"]: event["at"] for event in new.events("received")} == at


def test_stopped_nodes_hand_over_through_a_pipe(nodes: tuple[Daemon, Daemon, Sink]) -> None:
    """No daemon runs on either; afterwards the new one is started, and knows them as recovered."""
    old, new, receiver = nodes
    fill(old)
    assert (old.stop(), new.stop()) == (0, 0)
    export = [*POSTRIDER, "spool", "export", "-c", str(old.config), "-"]
    taking = [*POSTRIDER, "spool", "import", "-c", str(new.config), "--json", "-"]
    with subprocess.Popen(export, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as giver:
        done = subprocess.run(taking, stdin=giver.stdout, capture_output=True, text=True, check=True)
    assert giver.returncode == 0
    assert json.loads(done.stdout)["taken"] == MESSAGES
    assert run(new, "spool", "verify")["faults"] == []
    assert run(new, "spool", "status")["recipients"] == 2 * MESSAGES
    new.start()
    run(new, "retry", "--all")
    wait_until(lambda: new.status()["queued"] == 0, "an empty queue")
    status = new.status()
    assert (status["recovered"], status["delivered"], status["balanced"]) == (2 * MESSAGES, 2 * MESSAGES, True)
    wait_until(lambda: taken(receiver) == once(MOVED) + once(STAYS), "everything to arrive once")


def test_looking_at_a_running_spool(nodes: tuple[Daemon, Daemon, Sink]) -> None:
    old, _, _ = nodes
    fill(old)
    assert run(old, "spool", "verify")["faults"] == []
    compacted = run(old, "spool", "compact")
    assert compacted["bytes_after"] <= compacted["bytes_before"]
    found = run(old, "spool", "verify")
    assert (found["faults"], found["deliveries"], found["recipients"]) == ([], MESSAGES, 2 * MESSAGES)
    running = run(old, "spool", "status")
    assert (running["running"], running["recipients"]) == (True, 2 * MESSAGES)
    assert old.stop() == 0
    stopped = run(old, "spool", "status")
    assert (stopped["running"], stopped["clean"], stopped["recipients"]) == (False, True, 2 * MESSAGES)
    run(old, "spool", "compact")
    assert run(old, "spool", "verify")["faults"] == []
    old.start()
    wait_until(lambda: not old.status()["loading"], "the old generation to be read")
    assert old.status()["queued"] == 2 * MESSAGES


def test_mistakes_are_named_and_change_nothing(nodes: tuple[Daemon, Daemon, Sink], tmp_path: Path) -> None:
    old, new, _ = nodes
    fill(old)
    file = tmp_path / "backlog"
    run(old, "spool", "export", str(file))
    whole = file.read_bytes()
    again = old.run("spool", "export", str(file), check=False)
    assert (again.returncode, "File exists" in again.stderr, file.read_bytes()) == (1, True, whole)
    for name, content, words in (
        ("cut", whole[:-200], "cut short"),
        ("damaged", whole[:5000] + b"x" + whole[5001:], "damaged frame"),
        ("letter", letter(), "this is no export of a spool"),
    ):
        (tmp_path / name).write_bytes(content)
        done = new.run("spool", "import", str(tmp_path / name), check=False)
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    assert new.status()["accepted"] == 0
    (tmp_path / "elsewhere").mkdir()
    config = tmp_path / "elsewhere" / "postrider.toml"
    config.write_text('[node]\ndata_dir = "nowhere"\n')
    for command in ("status", "verify", "compact"):
        done = subprocess.run(
            [*POSTRIDER, "spool", command, "-c", str(config)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, "there is no spool at" in done.stderr) == (1, True), done.stderr
    assert os.listdir(tmp_path / "elsewhere") == ["postrider.toml"]


def test_a_pipe_that_breaks_can_be_repeated(nodes: tuple[Daemon, Daemon, Sink], tmp_path: Path) -> None:
    old, new, receiver = nodes
    fill(old)
    run(old, "hold", "moved.test")
    run(new, "hold", "moved.test")
    file = tmp_path / "backlog"
    run(old, "spool", "export", str(file))
    command = [*POSTRIDER, "spool", "import", "-c", str(new.config), "-"]
    broken = subprocess.run(command, input=file.read_bytes()[:-200], capture_output=True, check=False)
    assert broken.returncode == 1
    assert b"cut short" in broken.stderr
    assert b"deliveries were taken in before" in broken.stderr
    subprocess.run(command, input=file.read_bytes(), capture_output=True, check=True)
    run(old, "purge", "moved.test")
    run(new, "resume", "moved.test")
    run(new, "retry", "--all")
    assert new.books() == {"received": 2 * MESSAGES, "delivered": 2 * MESSAGES}
    assert taken(receiver) == once(MOVED) + once(STAYS)
