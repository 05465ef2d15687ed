"""What an operator sees and does while mail flows: status, queues, list, show, why; retry, hold, resume, bounce, purge.

By the commands, as typed. `why` names what stands between a message and its next attempt, in every state.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, letter, submit
from tests.support.engine import Daemon, Load, Sink, daemon, load, sink, wait_until
from tests.support.ports import free_port
from tests.support.relay import route
from tests.support.report import Report


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[tuple[Daemon, Sink]]:
    """One destination for each state a message can wait in, and the sink for all that is delivered."""
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(sink(tmp_path / "sink", "--reply", "rcpt:*@later.test=451 4.2.1 busy"))
        silent = stack.enter_context(socket.socket())  # connections are made, nothing is said
        silent.bind(("127.0.0.1", 0))
        silent.listen(10)
        nameserver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))  # that never answers
        nameserver.bind(("127.0.0.1", 0))
        settings = f'[resolver]\nnameservers = ["127.0.0.1:{nameserver.getsockname()[1]}"]\n'
        settings += route(f"127.0.0.1:{silent.getsockname()[1]}", "silent.test", connections=1)
        settings += route(f"127.0.0.1:{free_port()}", "dead.test")
        settings += route(receiver.address, "slow.test", rate="1/m", connections=3)
        settings += route(receiver.address, ".test") + route(receiver.address, "home.test")
        engine = stack.enter_context(daemon(tmp_path / "engine", settings))
        yield engine, receiver
        silent.close()


def rows(engine: Daemon, *command: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in engine.run(*command, "--json").stdout.splitlines()]


def row(engine: Daemon, *command: str) -> dict[str, Any]:
    (only,) = rows(engine, *command)
    return only


def reaches(engine: Daemon, message_id: str, state: str) -> None:
    wait_until(lambda: engine.ask("why", what=message_id)[0]["state"] == state, f"{message_id} to be {state}")


def send(engine: Daemon, to: str) -> str:
    return submit(engine.port, "ada@home.test", to, letter())


# Seeing.


def test_status_counts_everything_once(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    submit(engine.port, "ada@home.test", ["a@fine.test", "b@fine.test", "c@later.test"], letter())
    engine.until(delivered=2, deferred=1)
    status = row(engine, "status")
    counts = {key: status[key] for key in ("accepted", "delivered", "deferred", "queued", "deliveries", "destinations")}
    assert counts == {
        "accepted": 3, "delivered": 2, "deferred": 1, "queued": 1, "deliveries": 1, "destinations": 1,
    }  # fmt: skip
    assert (status["node"], status["accepting"], status["trouble"]) == ("mx.test", True, None)
    assert status["balanced"] is True and status["orphans"] == 0
    table = engine.run("status").stdout.splitlines()
    assert table[0].split() == ["field", "value"]
    assert ["queued", "1"] in [line.split() for line in table]


def test_queues_list_and_show(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    first = send(engine, "bob@later.test")
    second = submit(engine.port, "ada@home.test", ["c@later.test", "d@dead.test"], letter("a subject"))
    engine.until(deferred=3)
    queues = {queue["destination"]: queue for queue in rows(engine, "queues")}
    assert {name: queue["queued"] for name, queue in queues.items()} == {"later.test": 2, "dead.test": 1}
    assert (queues["later.test"]["waiting"], queues["later.test"]["ready"]) == (2, 0)
    assert 0 < queues["later.test"]["next_s"] <= 66

    assert [line["id"] for line in rows(engine, "list", "later.test")] == [first, second]
    assert [line["id"] for line in rows(engine, "list", "--limit", "1")] == [first]
    assert [line["destination"] for line in rows(engine, "list", second)] == ["later.test", "dead.test"]
    assert len(engine.run("list").stdout.splitlines()) == 4, "a heading and a line for each delivery"

    shown = row(engine, "show", second)
    assert (shown["sender"], shown["class"], shown["bytes"] > 100) == ("ada@home.test", "bulk", True)
    assert [delivery["recipients"] for delivery in shown["deliveries"]] == [["c@later.test"], ["d@dead.test"]]
    assert "Subject: a subject\n" in shown["header"]
    assert "Text." not in shown["header"], "the text of a message is nobody's business"
    assert "\nSubject: a subject\n" in engine.run("show", second).stdout


def test_why_waiting_says_when_and_the_last_reply(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    message_id = send(engine, "Bob@later.test")
    engine.until(deferred=1)
    why = row(engine, "why", message_id)
    assert (why["queue"], why["state"], why["attempts"]) == ("later.test", "waiting", 1)
    assert (why["last_reply"], why["limit"]) == ("451 4.2.1 busy", "the retry schedule, after 1 attempt")
    assert 0 < why["next_attempt_s"] <= 66
    assert [by_address["id"] for by_address in rows(engine, "why", "bob@LATER.test")] == [message_id]
    said = engine.run("why", message_id).stdout
    assert "451 4.2.1 busy" in said and "next_attempt  in " in said


def test_why_held(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    engine.run("hold", "fine.test")
    message_id = send(engine, "a@fine.test")
    why = row(engine, "why", message_id)
    assert (why["state"], why["limit"]) == ("held", "held by an operator (fine.test)")
    other = send(engine, "a@later.test")
    engine.until(deferred=1)
    engine.run("hold", other)
    assert row(engine, "why", other)["limit"] == "held by an operator (this message)"


def test_why_the_site_is_closed(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    with Client(engine.port) as client:
        ids = [client.submit("ada@home.test", f"r{n}@dead.test", letter()) for n in range(20)]
    reaches(engine, ids[-1], "ready")
    why = wait_until(
        lambda: (found := row(engine, "why", ids[-1])) and "site closed" in found["limit"] and found, "a closed site"
    )
    assert "Connection refused" in why["limit"]
    assert (why["attempts"], why["last_reply"]) == (0, None)


def test_why_an_attempt_is_under_way_and_who_waits_for_its_connection(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    first, second = (send(engine, f"r{n}@silent.test") for n in range(2))
    reaches(engine, first, "attempt")
    assert row(engine, "why", first)["limit"] == "none: an attempt is under way"
    why = row(engine, "why", second)
    assert (why["state"], why["limit"].startswith("1 of 1 connections to the relay 127.0.0.1:")) == ("ready", True)


def test_why_the_rate(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    with Client(engine.port) as client:
        ids = [client.submit("ada@home.test", f"r{n}@slow.test", letter()) for n in range(3)]
    engine.until(delivered=1)
    assert row(engine, "why", ids[-1])["limit"] == "rate of 1/m"


def test_why_the_lookup(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    message_id = send(engine, "a@elsewhere.example")
    why = row(engine, "why", message_id)
    assert (why["state"], why["limit"]) == ("resolving", "the MX lookup is not answered yet")


# Asking for what is not there.


def test_what_is_not_queued(stage: tuple[Daemon, Sink]) -> None:
    """One line that names it, and exit status 1."""
    engine, _ = stage
    for command in (
        ("show", "0Unknown"), ("why", "0Unknown"), ("retry", "0Unknown"), ("hold", "0Unknown"), ("resume", "0Unknown"),
        ("bounce", "0Unknown"), ("purge", "0Unknown"), ("purge", "nobody.test"), ("resume", "nobody.test"),
        ("hold", "no domain"),
    ):  # fmt: skip
        done = engine.run(*command, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"postrider: {command[1]}"), line


def test_nothing_queued_for_an_address(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    done = engine.run("why", "nobody@fine.test", check=False)
    assert (done.returncode, done.stdout) == (1, "nothing is queued for nobody@fine.test\n")
    assert rows(engine, "queues") == rows(engine, "list", "fine.test") == []


@pytest.mark.parametrize("command", ["status", "queues", "list", "show x", "why x", "retry x", "hold x", "purge --all"])
def test_a_daemon_that_does_not_run(tmp_path: Path, command: str) -> None:
    engine = Daemon(tmp_path)
    done = engine.run(*command.split(), check=False)
    assert done.returncode == 1
    assert (
        done.stderr == f"postrider: the daemon does not answer at {engine.data}/admin.sock: No such file or directory\n"
    )


def test_wrong_usage_is_status_2(tmp_path: Path) -> None:
    engine = Daemon(tmp_path)
    for command in (["purge"], ["hold", "x", "--all"], ["list", "--limit", "many"]):
        assert engine.run(*command, check=False).returncode == 2


# Acting.


def test_retry_tries_what_waits_at_once(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    message_id = send(engine, "a@later.test")
    engine.until(deferred=1)
    for attempts, target in enumerate((message_id, "LATER.test", "--all"), 2):
        assert row(engine, "retry", target) == {"deliveries": 1, "in_attempt": 0, "held": 0}
        engine.until(deferred=attempts)


def test_hold_keeps_what_is_there_and_what_comes_and_survives_a_restart(stage: tuple[Daemon, Sink]) -> None:
    engine, receiver = stage
    waiting = send(engine, "a@later.test")
    engine.until(deferred=1)
    assert row(engine, "hold", "Fine.TEST.") == {"deliveries": 0, "in_attempt": 0}
    assert row(engine, "hold", waiting) == {"deliveries": 1, "in_attempt": 0}
    held = send(engine, "a@fine.test")
    free = send(engine, "a@free.test")
    engine.until(delivered=1)
    assert engine.stop() == 0
    engine.start()
    later = send(engine, "b@fine.test")
    states = {line["id"]: line["state"] for line in rows(engine, "list")}
    assert states == {waiting: "held", held: "held", later: "held"}
    assert engine.fates(free) == {"a@free.test": ["received", "delivered"]}

    assert row(engine, "resume", "fine.test") == {"deliveries": 2, "in_attempt": 0, "held": 0}
    engine.until(delivered=3)
    assert row(engine, "resume", waiting)["deliveries"] == 1
    engine.books(queued=1)
    assert receiver.has(messages=3)["duplicates"] == 0
    assert engine.run("resume", "fine.test", check=False).returncode == 1, "it is not held any more"


def test_hold_all_and_resume_all(stage: tuple[Daemon, Sink]) -> None:
    """Everything: also what comes later, for whomever."""
    engine, _ = stage
    first = send(engine, "a@later.test")
    engine.until(deferred=1)
    assert row(engine, "hold", "--all")["deliveries"] == 1
    second = send(engine, "a@new.test")
    assert {line["id"]: line["state"] for line in rows(engine, "list")} == {first: "held", second: "held"}
    assert "held by an operator" in row(engine, "why", second)["limit"]
    assert row(engine, "resume", "--all")["deliveries"] == 2
    engine.until(delivered=1)
    engine.books(queued=1)


def test_bounce_tells_the_sender_and_purge_tells_nobody(stage: tuple[Daemon, Sink]) -> None:
    engine, receiver = stage
    returned, removed = send(engine, "a@later.test"), send(engine, "b@later.test")
    engine.until(deferred=2)
    assert row(engine, "bounce", returned, "--reason", "not wanted") == {"deliveries": 1, "in_attempt": 0}
    assert row(engine, "purge", removed) == {"deliveries": 1, "in_attempt": 0}
    books = engine.books()
    assert (books["failed"], books["removed"], books["delivered"]) == (1, 1, 1)
    ((envelope, content),) = receiver.messages()
    assert (envelope["sender"], envelope["recipients"]) == ("", ["ada@home.test"])
    assert "returned by an operator: not wanted" in Report(content).field("Diagnostic-Code")[0]
    assert engine.fates(removed)["b@later.test"][-1] == "removed"


def test_what_is_in_an_attempt_has_its_turn_after_it_which_is_said(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    message_id = send(engine, "a@silent.test")
    reaches(engine, message_id, "attempt")
    assert row(engine, "purge", message_id) == {"deliveries": 0, "in_attempt": 1}
    told = engine.run("purge", "silent.test").stdout
    assert told == "purge: 0 deliveries; 1 in an attempt, to be dealt with after it\n"
    assert row(engine, "status")["orders"] == 2


def test_purge_of_ten_thousand_while_other_mail_flows(tmp_path: Path) -> None:
    """The command line complaint of the field: a purge of a big queue locks the server."""
    with sink(tmp_path / "sink", save=False) as receiver:
        settings = route(receiver.address, "live.example") + route(f"127.0.0.1:{free_port()}", "dead.example")
        with daemon(tmp_path / "engine", settings) as engine:
            load(
                engine.port, tmp_path / "dead", "-n", "10000", "--size", "1KiB", "--domain", "dead.example",
                "--messages-per-connection", "100",
            )  # fmt: skip
            with Load(
                engine.port, tmp_path / "live", "-n", "3000", "--size", "1KiB", "--domain", "live.example"
            ) as live:
                live.more(100)
                began = time.monotonic()
                purged = row(engine, "purge", "dead.example")
                assert live.running(), "it went on meanwhile"
                report = live.report()
            assert purged["deliveries"] + purged["in_attempt"] == 10_000
            wait_until(lambda: engine.status()["queued"] <= purged["in_attempt"], "the purge")
            print(f"purged and delivered after {time.monotonic() - began:.1f} s")
            assert (report["accepted"], report["lost_connections"]) == (3000, 0)
            print(f"longest wait for a 250 during the purge: {report['max_ms']:.0f} ms")
            status = engine.status()
            assert (status["removed"], status["delivered"], status["balanced"]) == (purged["deliveries"], 3000, True)
            receiver.stop()
            assert receiver.ids() == live.ids()
