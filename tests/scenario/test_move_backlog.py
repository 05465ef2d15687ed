"""An operator moves a backlog to another node: hold, export, import there, purge here. Each message goes out once."""

import contextlib
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.base.clock import SystemClock
from engine.message.ids import IdSource
from tests.support.client import Client, letter
from tests.support.engine import POSTRIDER, Daemon, Sink, daemon, sink, wait_until
from tests.support.ports import free_port
from tests.support.relay import route

#: Of a message id: the node and worker that gave it out.
MAKER = slice(8, 12)
FIRST = IdSource("mx.test", 0, SystemClock()).next()[MAKER]
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


@pytest.fixture
def wide_and_narrow(tmp_path: Path) -> Iterator[tuple[Daemon, Daemon]]:
    """A node with two workers and one with one; both reach nobody."""
    with contextlib.ExitStack() as stack:
        dead = route(f"127.0.0.1:{free_port()}")
        yield (
            stack.enter_context(daemon(tmp_path / "wide", dead, spool=SMALL, workers=2)),
            stack.enter_context(daemon(tmp_path / "narrow", dead, spool=SMALL)),
        )


def fill_both(node: Daemon, most_of_one: int = 12) -> list[str]:
    """Held messages with two deliveries each, until each of two workers has some; who comes first gets a client."""
    run(node, "hold", "--all")
    ids: list[str] = []
    while len({message_id[MAKER] for message_id in ids}) < 2 or len(ids) < most_of_one:
        with Client(node.port) as client:
            ids.append(client.submit("ada@home.test", ["a@moved.test", "c@stays.test"], letter(f"{len(ids)}")))
    return ids


def queued(node: Daemon) -> list[tuple[str, str]]:
    """Message and destination of each delivery."""
    return sorted((row["id"], row["destination"]) for row in node.ask("list", limit=100_000))


def both(ids: list[str]) -> list[tuple[str, str]]:
    return sorted((message_id, domain) for message_id in ids for domain in ("moved.test", "stays.test"))


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
    done = new.run("spool", "import", str(tmp_path), check=False)
    assert (done.returncode, "Is a directory" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    with open("/dev/full", "wb") as full:
        export = [*POSTRIDER, "spool", "export", "-c", str(old.config), "-"]
        refused = subprocess.run(export, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (refused.returncode, "No space left on device" in refused.stderr) == (1, True), refused.stderr
    assert "Traceback" not in refused.stderr
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


# Several workers.


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_two_workers_hand_over_to_one_and_back(
    wide_and_narrow: tuple[Daemon, Daemon], tmp_path: Path, stopped: bool
) -> None:
    """One stream of both spools; what any worker has queued is left out, whoever takes in."""
    wide, narrow = wide_and_narrow
    ids = fill_both(wide)
    run(narrow, "hold", "--all")
    there, part = tmp_path / "there", tmp_path / "part"
    count = 2 * len(ids)
    if stopped:
        assert (wide.stop(), narrow.stop()) == (0, 0)
    assert run(wide, "spool", "export", str(there))["deliveries"] == count
    run(wide, "spool", "export", "--scope", "moved.test", str(part))
    assert run(narrow, "spool", "import", str(there))["taken"] == count
    # Its own backlog, of which each spool has a part.
    assert run(wide, "spool", "import", str(there)) == {"owner": "mx.test/0", "taken": 0, "left_out": count}
    if stopped:
        wide.start()
        narrow.start()
        wait_until(lambda: not wide.status()["loading"] and not narrow.status()["loading"], "both to be read")
    assert queued(wide) == queued(narrow) == both(ids)
    assert run(wide, "spool", "purge", str(part)) == {"deliveries": len(ids), "in_attempt": 0}
    assert run(wide, "spool", "purge", str(part)) == {"deliveries": 0, "in_attempt": 0}
    wait_until(lambda: wide.status()["queued"] == len(ids), "the purge to be durable")
    if stopped:
        assert (wide.stop(), narrow.stop()) == (0, 0)
    back = tmp_path / "back"
    assert run(narrow, "spool", "export", str(back))["deliveries"] == count
    # Half of it is here still, spread over both spools; the other half came from both.
    returned = {"owner": "mx.test/0", "taken": len(ids), "left_out": len(ids)}
    assert run(wide, "spool", "import", str(back)) == returned
    assert run(wide, "spool", "import", str(back)) == {**returned, "taken": 0, "left_out": count}
    assert run(wide, "spool", "verify")["faults"] == []
    if stopped:
        wide.start()
        wait_until(lambda: not wide.status()["loading"], "both spools to be read")
    assert queued(wide) == both(ids)
    assert wide.status()["balanced"]


def test_looking_at_two_spools(wide_and_narrow: tuple[Daemon, Daemon]) -> None:
    """verify, status, compact: the same of both, running or stopped; a fault says which spool."""
    wide, _ = wide_and_narrow
    ids = fill_both(wide)
    count = 2 * len(ids)
    for running in (True, False):
        if not running:
            assert wide.stop() == 0
        found = run(wide, "spool", "verify")
        assert (found["faults"], found["spools"], found["deliveries"]) == ([], 2, count)
        status = run(wide, "spool", "status")
        assert (status["running"], status["deliveries"]) == (running, count)
        assert status["journal"]["deliveries"] + status["backlog"]["deliveries"] == count
        assert run(wide, "spool", "compact")["bytes_after"] > 0
    shutil.copytree(wide.data / "spool" / "1", wide.data / "spool" / "7")
    twice = wide.run("spool", "verify", "--json", check=False)
    faults = json.loads(twice.stdout)["faults"]
    of_second = sum(message_id[MAKER] != FIRST for message_id in ids)
    assert (twice.returncode, len(faults)) == (1, 2 * of_second)
    assert all(fault.startswith("spool 7: ") and "lives in spool 1, too" in fault for fault in faults)
    shutil.rmtree(wide.data / "spool" / "7")
    [journal, *_] = sorted((wide.data / "spool" / "1").rglob("*.log")) or sorted(
        (wide.data / "spool" / "1").rglob("*.seg")
    )
    damaged = bytearray(journal.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    journal.write_bytes(damaged)
    told = wide.run("spool", "verify", check=False)
    assert (told.returncode, told.stdout.splitlines()[0][:9]) == (1, "spool 1: ")


def test_an_import_ends_where_a_worker_does_not_say_what_it_has(
    wide_and_narrow: tuple[Daemon, Daemon], tmp_path: Path
) -> None:
    """Better nothing than twice; said again when it is back, all of it is left out or taken."""
    wide, narrow = wide_and_narrow
    ids = fill_both(wide)
    run(narrow, "hold", "--all")
    file = tmp_path / "file"
    run(wide, "spool", "export", str(file))
    (wide.data / "admin.1.sock").rename(wide.data / "elsewhere")
    for command, words in (
        ("import", "worker 1 does not answer; 0 deliveries"),
        ("purge", "worker 1 does not answer; the others"),
    ):
        done = wide.run("spool", command, str(file), check=False)
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    (wide.data / "elsewhere").rename(wide.data / "admin.1.sock")
    first = sum(message_id[MAKER] == FIRST for message_id in ids)
    wait_until(lambda: wide.status()["queued"] == 2 * (len(ids) - first), "the purge of the first to be durable")
    assert run(wide, "spool", "import", str(file))["taken"] == 2 * first
    assert queued(wide) == both(ids)
