"""What cannot be delivered now: tried again, at the next host or over the next connection, and given up in time."""

import contextlib
import signal
from pathlib import Path

import pytest

from tests.support import dns
from tests.support.client import Client, letter, submit
from tests.support.engine import Sink, daemon, sink, wait_until
from tests.support.ports import free_port
from tests.support.relay import relayed, route
from tests.support.report import Report

#: Waits that a test can sit out.
SOON = '[retry]\nschedule = "200ms*"\njitter = 0.0\n'


def report_of(receiver: Sink) -> Report:
    """The one report to ada@home.test."""
    (content,) = [content for envelope, content in receiver.messages() if envelope["recipients"] == ["ada@home.test"]]
    return Report(content)


def test_deferred_then_delivered(tmp_path: Path) -> None:
    """Only who was deferred is tried again; nobody gets a second copy."""
    with relayed(tmp_path, "--reply", "rcpt:later@*=451 4.2.1 busy x2", more=SOON) as (engine, receiver):
        message_id = submit(engine.port, "ada@home.test", ["now@one.test", "later@one.test"], letter())
        assert engine.books() == {"received": 2, "delivered": 2, "deferred": 2}
        assert engine.fates(message_id) == {
            "now@one.test": ["received", "delivered"],
            "later@one.test": ["received", "deferred", "deferred", "delivered"],
        }
        first, second, third = (
            event for event in engine.events() if event.get("attempt") and "later" in event["recipient"]
        )
        assert [first["attempt"], second["attempt"], third["attempt"]] == [1, 2, 3]
        assert (first["status"], first["scope"], first["phase"]) == ("4.2.1", "recipient", "rcpt")
        assert first["reply"] == "451 4.2.1 busy"
        # Journal times are rounded to milliseconds.
        assert second["at"] - first["at"] >= 0.199 and third["at"] - second["at"] >= 0.199
        assert [envelope["recipients"] for envelope, _ in receiver.messages()] == [["now@one.test"], ["later@one.test"]]
        log = engine.log_text()
        assert f"{message_id}: to=<later@one.test>, relay=127.0.0.1[127.0.0.1]:{receiver.port}" in log
        assert "dsn=4.2.1, status=deferred (451 4.2.1 busy)" in log


def test_each_step_can_defer(tmp_path: Path) -> None:
    """Before MAIL nothing is permanent, not even a 5xx: it speaks of us, never of an address."""
    rules = (
        "mail:mail@home.test=451 4.3.0 not now x1",
        "mail:goodbye@home.test=421 4.3.2 not now x1",
        "data:data@*=451 4.3.0 not now x1",
        "end-of-data:end@*=452 4.3.1 not now x1",
    )
    with contextlib.ExitStack() as stack:
        later = [f"--reply={rule}" for rule in rules]
        receiver = stack.enter_context(sink(tmp_path / "later", *later))
        goodbye = stack.enter_context(sink(tmp_path / "goodbye", "--reply", "ehlo:mx.test=421 4.3.2 not now x1"))
        # Twice: to EHLO, and to the HELO that follows.
        unfriendly = stack.enter_context(sink(tmp_path / "unfriendly", "--reply", "ehlo:mx.test=554 5.7.1 not now x2"))
        routes = '[delivery]\nidle_timeout = "50ms"\n'
        routes += route(goodbye.address, "goodbye.test") + route(unfriendly.address, "unfriendly.test")
        engine = stack.enter_context(daemon(tmp_path / "engine", SOON + routes + route(receiver.address)))
        for sender, recipient, phase, scope, status in (
            ("mail@home.test", "a@one.test", "mail", "message", "4.3.0"),
            ("goodbye@home.test", "b@one.test", "mail", "session", "4.3.2"),
            ("ada@home.test", "data@one.test", "data", "message", "4.3.0"),
            ("ada@home.test", "end@one.test", "end-of-data", "message", "4.3.1"),
            ("ada@home.test", "c@goodbye.test", "ehlo", "session", "4.3.2"),
            ("ada@home.test", "d@unfriendly.test", "ehlo", "site", "4.7.1"),
        ):
            message_id = submit(engine.port, sender, recipient, letter())
            engine.books()
            assert engine.fates(message_id) == {recipient: ["received", "deferred", "delivered"]}, recipient
            event = engine.events("deferred")[-1]
            assert (event["phase"], event["scope"], event["status"]) == (phase, scope, status), recipient
            assert event["reply"].endswith("not now")
            # In a connection used before a goodbye would have another meaning.
            wait_until(lambda: engine.status()["connections"] == 0, "the end of the connection")
        assert engine.books() == {"received": 6, "delivered": 6, "deferred": 6}


def test_given_up_after_its_time(tmp_path: Path) -> None:
    """The sender is told, with the last reply."""
    settings = '[retry]\nschedule = "300ms*"\nexpire_after = "1s"\njitter = 0.0\n'
    with relayed(tmp_path, "--reply", "rcpt:*@full.test=452 4.2.2 mailbox full", more=settings) as (engine, receiver):
        submit(engine.port, "ada@home.test", "bob@full.test", letter())
        books = engine.books()
        assert {kind: books[kind] for kind in ("received", "delivered", "expired")} == {
            "received": 2, "delivered": 1, "expired": 1,
        }  # fmt: skip
        assert set(books) == {"received", "delivered", "expired", "deferred"}
        (event,) = engine.events("expired")
        assert event["status"] == "4.4.7" and event["reply"].endswith("452 4.2.2 mailbox full")
        assert event["delay_s"] >= 1.0
        report = report_of(receiver)
        assert (report.field("Action"), report.field("Status")) == (["failed"], ["4.4.7"])
        assert "452 4.2.2 mailbox full" in report.field("Diagnostic-Code")[0]


def test_a_schedule_can_end(tmp_path: Path) -> None:
    """Without a star it is over after its last step, long before expire_after."""
    settings = '[retry]\nschedule = "100ms, 200ms"\n'
    with relayed(tmp_path, "--reply", "rcpt:*@full.test=452 4.2.2 mailbox full", more=settings) as (engine, receiver):
        submit(engine.port, "ada@home.test", "bob@full.test", letter())
        assert engine.books() == {"received": 2, "delivered": 1, "deferred": 2, "expired": 1}
        (event,) = engine.events("expired")
        assert (event["attempt"], event["status"]) == (3, "4.4.7")
        assert report_of(receiver).field("Status") == ["4.4.7"]


@pytest.mark.parametrize(("times", "fate"), [("x1", "delivered"), ("", "failed")])
def test_no_reply_to_the_end_of_data(times: str, fate: str, tmp_path: Path) -> None:
    """D3: recorded as unknown, tried once more, and never a third time: the receiver took it each time."""
    with relayed(tmp_path, "--drop", f"taken:bob@one.test {times}".strip(), more=SOON) as (engine, receiver):
        message_id = submit(engine.port, "ada@home.test", "bob@one.test", letter())
        engine.books()
        assert engine.fates(message_id) == {"bob@one.test": ["received", "unknown", fate]}
        (unknown,) = engine.events("unknown")
        assert (unknown["phase"], unknown["attempt"]) == ("end-of-data", 1)
        copies = [envelope for envelope, _ in receiver.messages() if envelope["recipients"] == ["bob@one.test"]]
        assert len(copies) == 2
        if fate == "delivered":
            assert engine.books() == {"received": 1, "unknown": 1, "delivered": 1}
            return
        assert engine.books() == {"received": 2, "unknown": 1, "failed": 1, "delivered": 1}
        report = report_of(receiver)
        assert report.field("Status") == ["5.4.2"]
        assert "may have been delivered" in report.field("Diagnostic-Code")[0]


def test_goodbye_in_the_middle_of_a_session(tmp_path: Path) -> None:
    """421 in a connection used before: the next connection, at once, and no deferral."""
    with relayed(tmp_path, "--reply", "rcpt:second@*=421 4.3.2 shutting down x1", connections=1) as (engine, receiver):
        with Client(engine.port) as client:
            client.submit("ada@home.test", "first@one.test", letter())
            engine.until(delivered=1)
            client.submit("ada@home.test", "second@one.test", letter())
        assert engine.books() == {"received": 2, "delivered": 2}
        receiver.has(messages=2)
        assert receiver.connections() == 2


def test_a_receiver_that_closes_idle_connections(tmp_path: Path) -> None:
    """Nobody's failure: the message goes over a new connection. The receiver is restarted between two messages."""
    with relayed(tmp_path, connections=1) as (engine, receiver):
        submit(engine.port, "ada@home.test", "first@one.test", letter())
        engine.until(delivered=1)
        receiver.stop()
        with sink(tmp_path / "again", port=receiver.port) as again:
            submit(engine.port, "ada@home.test", "second@one.test", letter())
            assert engine.books() == {"received": 2, "delivered": 2}
            assert again.has(messages=1)["unique"] == 1


#: What the first host of a domain does, and whether the second is asked for the same message.
FIRST_HOSTS = {
    "dead": ((), True),
    "closed": (("--reply", "connect:*=554 5.3.2 no mail here"), True),
    "away": (("--reply", "ehlo:*=421 4.3.2 not now"), True),
    "silent": (("--drop", "ehlo:*"), True),
    "goodbye": (("--reply", "mail:*=421 4.3.2 shutting down"), True),
    "broken": (("--drop", "rcpt:*"), True),
    "sender": (("--reply", "mail:*=550 5.7.1 no"), False),
    "content": (("--reply", "end-of-data:*=554 5.6.0 no"), False),
}


def test_the_next_host(tmp_path: Path) -> None:
    """A session that fails says nothing about the message: the next host is asked in the same attempt.

    A word about the message is the word of all of them; another host would only be one more chance to get it past.
    """
    port = free_port()
    zone = "mx2.test A 127.0.1.99\n"
    with contextlib.ExitStack() as stack:
        second = stack.enter_context(sink(tmp_path / "second", port=port, host="127.0.1.99"))
        for number, (name, (rule, _)) in enumerate(FIRST_HOSTS.items(), 1):
            zone += (
                f"{name}.test MX 10 mx1.{name}.test\n{name}.test MX 20 mx2.test\nmx1.{name}.test A 127.0.1.{number}\n"
            )
            if rule:
                stack.enter_context(sink(tmp_path / name, *rule, port=port, host=f"127.0.1.{number}"))
        server = stack.enter_context(dns.start(zone))
        settings = f"""
            [resolver]
            nameservers = ["{server.address}"]
            [routing]
            allow_private = true
            port = {port}
            {SOON}"""
        engine = stack.enter_context(daemon(tmp_path / "engine", settings))
        with Client(engine.port) as client:
            for name in FIRST_HOSTS:
                client.submit("", f"bob@{name}.test", letter())
        assert engine.books() == {"received": 8, "delivered": 6, "failed": 2}
        answers = {event["destination"]: event for event in engine.events("delivered", "failed")}
        for name, (_, next_host) in FIRST_HOSTS.items():
            event = answers[f"{name}.test"]
            assert event["type"] == ("delivered" if next_host else "failed")
            host = f"mx2.test[127.0.1.99]:{port}" if next_host else f"mx1.{name}.test["
            assert event["remote"].startswith(host)
        counts = second.has(messages=6)
        assert (counts["messages"], counts["duplicates"]) == (6, 0)


def test_a_dead_site_rests_and_retry_wakes_it(tmp_path: Path) -> None:
    """After a few failed connections nothing is tried for a while, however much is due; `why` says so."""
    port = free_port()
    with daemon(tmp_path / "engine", SOON + route(f"127.0.0.1:{port}")) as engine, Client(engine.port) as client:
        ids = [client.submit("ada@home.test", f"r{n}@one.test", letter()) for n in range(20)]
        wait_until(
            lambda: any("site closed" in (row["limit"] or "") for row in engine.ask("queues")), "the site is closed"
        )
        assert engine.status()["queued"] == 20
        (deferred, *_) = engine.events("deferred")
        assert (deferred["status"], deferred["scope"], deferred["phase"]) == ("4.4.1", "site", "connect")
        said = wait_until(
            lambda: (out := engine.run("why", ids[0]).stdout) and "site closed" in out and out,
            "why names the closed site",
        )
        assert f"connect to 127.0.0.1[127.0.0.1]:{port}: " in said
        with sink(tmp_path / "sink", port=port) as receiver:
            assert "20 deliveries" in engine.run("retry", "--all").stdout
            books = engine.books()
            assert (books["received"], books["delivered"]) == (20, 20)
            assert receiver.has(messages=20)["duplicates"] == 0


def test_what_waits_survives_a_restart(tmp_path: Path) -> None:
    """With its attempts, its last reply and its due time."""
    hour = '[retry]\nschedule = "1h*"\n'
    with relayed(tmp_path, "--reply", "rcpt:later@*=451 4.2.1 busy x1", more=hour) as (engine, receiver):
        message_id = submit(engine.port, "ada@home.test", ["now@one.test", "later@one.test"], letter())
        engine.until(deferred=1, delivered=1)
        assert engine.stop() == 0
        engine.start()
        assert engine.status()["recovered"] == 1
        (row,) = engine.ask("why", what=message_id)
        assert (row["state"], row["attempts"], row["last_reply"]) == ("waiting", 1, "451 4.2.1 busy")
        assert 3000 < row["next_attempt_s"] <= 3960
        engine.run("retry", "one.test")
        assert engine.books() == {"received": 2, "delivered": 2, "deferred": 1}
        assert receiver.has(messages=2)["duplicates"] == 0


def test_settings_read_again_count_from_the_next_deferral(tmp_path: Path) -> None:
    """SIGHUP: a new schedule and a new route, and what waits goes the new way."""
    with (
        sink(tmp_path / "new") as new,
        relayed(tmp_path, "--reply", "rcpt:*=451 4.2.1 busy", more='[retry]\nschedule = "1h*"\n') as (engine, _),
    ):
        submit(engine.port, "ada@home.test", "bob@one.test", letter())
        engine.until(deferred=1)
        engine.write_config(SOON + route(new.address))
        engine.reload()
        engine.run("retry", "--all")
        assert engine.books() == {"received": 1, "deferred": 1, "delivered": 1}
        assert new.has(messages=1)["unique"] == 1


def test_stopping_finishes_what_is_in_flight(tmp_path: Path) -> None:
    """SIGTERM in the middle of a transaction: it ends as it would have, and nothing new is begun."""
    with relayed(tmp_path, "--delay", "end-of-data=300ms", connections=1) as (engine, receiver):
        with Client(engine.port) as client:
            for number in range(5):
                client.submit("ada@home.test", f"r{number}@one.test", letter())
        wait_until(lambda: engine.ask("queues")[0]["attempt"] == 1, "an attempt")
        engine.signal(signal.SIGTERM)
        assert engine.process.wait(60) == 0
        assert engine.tally() == {"received": 5, "delivered": 1}
        engine.start()
        assert engine.status()["recovered"] == 4
        assert engine.books() == {"received": 5, "delivered": 5}
        assert receiver.has(messages=5)["duplicates"] == 0
