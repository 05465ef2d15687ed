"""Who is suppressed gets nothing, of what comes and of what waits; never silently, and the books balance.

By the command, as typed, while the daemon runs.
"""

import json
import time
from pathlib import Path

from tests.support.client import Client, letter, submit
from tests.support.engine import Daemon, daemon, wait_until
from tests.support.ports import free_port
from tests.support.relay import relayed, route

ADA, BOB, CARL, DORA, EMIL = "ada@home.test", "bob@one.test", "carl@two.test", "dora@two.test", "emil@one.test"


def suppress(engine: Daemon, *command: str) -> None:
    """Change the list; what comes from then on sees it: a worker knows within a second."""
    engine.run("suppress", *command)
    time.sleep(1.0)


def books(engine: Daemon, queued: int = 0) -> dict[str, int]:
    """Without what operators did, which is told when there is time."""
    return {kind: count for kind, count in engine.books(queued).items() if kind != "admin"}


def test_those_who_are_suppressed_get_nothing_and_the_others_of_the_message_do(tmp_path: Path) -> None:
    with relayed(tmp_path, workers=2) as (engine, sink):
        suppress(engine, "add", "BOB@one.test", DORA)
        with Client(engine.port) as client:
            several = client.submit("", [BOB, CARL, DORA, EMIL], letter())
            alone = client.submit("", [BOB], letter())
        assert books(engine) == {"received": 5, "delivered": 2, "suppressed": 3}
        gone, there = ["received", "suppressed"], ["received", "delivered"]
        assert engine.fates(several) == {BOB: gone, DORA: gone, CARL: there, EMIL: there}
        assert engine.fates(alone) == {BOB: gone}
        [event, *_] = engine.events("suppressed")
        assert (event["status"], event["phase"]) == ("5.7.1", "queue") and "manual, since" in event["reply"]
        assert {to for envelope, _ in sink.messages() for to in envelope["recipients"]} == {CARL, EMIL}

        suppress(engine, "remove", BOB, "--reason", "asked for it")
        submit(engine.port, "", BOB, letter())
        engine.until(delivered=3, admin=3)
        assert "asked for it" in engine.events("admin")[-1]["text"]


def test_the_sender_is_told_as_of_others_that_fail_if_that_is_wanted(tmp_path: Path) -> None:
    with relayed(tmp_path) as (engine, sink):
        suppress(engine, "add", BOB)
        submit(engine.port, ADA, [BOB, CARL], letter())
        assert books(engine) == {"received": 3, "delivered": 2, "suppressed": 1}
        [notice] = [content for envelope, content in sink.messages() if envelope["recipients"] == [ADA]]
        assert b"Final-Recipient: rfc822; bob@one.test" in notice and b"Status: 5.7.1" in notice
        engine.write_config(f"[suppression]\nnotify = false\n{route(sink.address)}")
        engine.reload()
        submit(engine.port, ADA, BOB, letter())
        assert books(engine) == {"received": 4, "delivered": 2, "suppressed": 2}


def test_who_is_suppressed_while_his_mail_waits_does_not_get_it(tmp_path: Path) -> None:
    """It waits for a host that does not answer, and is held; who was suppressed before waits for nothing."""
    with daemon(tmp_path, route(f"127.0.0.1:{free_port()}")) as engine:
        engine.run("hold", "two.test")
        submit(engine.port, "", [BOB, CARL], letter())
        engine.until(deferred=1)
        suppress(engine, "add", BOB, CARL)
        submit(engine.port, "", CARL, letter())
        assert books(engine, queued=2) == {"received": 3, "deferred": 1, "suppressed": 1}
        engine.run("retry", "one.test")
        engine.run("resume", "two.test")
        assert books(engine) == {"received": 3, "deferred": 1, "suppressed": 3}


def test_a_stream_is_suppressed_and_what_else_the_tenant_sends_is_not(tmp_path: Path) -> None:
    """At admission, and of what waits; by the names in the header, which nobody else sees."""
    news = ("X-Postrider-Tenant: shop", "X-Postrider-Stream: news", "X-Postrider-Batch: spring")
    with relayed(tmp_path) as (engine, sink):
        engine.run("hold", "two.test")
        submit(engine.port, "", CARL, letter("waits", ADA, *news))
        for address in (BOB, CARL):
            suppress(engine, "add", address, "--tenant", "shop", "--stream", "news")
        submit(engine.port, "", BOB, letter("news", ADA, *news))
        submit(engine.port, "", BOB, letter("receipt", ADA, news[0]))
        submit(engine.port, "", BOB, letter("elsewhere", ADA, *news[1:]))
        engine.run("resume", "two.test")
        assert books(engine) == {"received": 4, "delivered": 2, "suppressed": 2}
        for event in engine.events("suppressed"):
            assert (event["tenant"], event["stream"], event["batch"]) == ("shop", "news", "spring")
        assert all(b"X-Postrider" not in content for _, content in sink.messages())
        assert {event.get("tenant") for event in engine.events("delivered")} == {"shop", None}


def test_a_list_is_imported_beside_the_daemon_and_what_is_done_without_it_is_told_later(tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text("".join(f"user{n}@one.test\n" for n in range(3000)))
    with relayed(tmp_path) as (engine, sink):
        suppress(engine, "import", str(listed))
        submit(engine.port, "", [f"user{n}@one.test" for n in (0, 2999, 3000)], letter())
        assert books(engine) == {"received": 3, "delivered": 1, "suppressed": 2}
        engine.kill()
        told = json.loads(engine.run("suppress", "import", str(listed), "--json").stdout)
        assert told == {"added": 0, "already": 3000, "bad": 0}
        engine.run("suppress", "erase", "user7@one.test")
        engine.start()
        submit(engine.port, "", ["user0@one.test", "user7@one.test"], letter())
        engine.until(suppressed=4)
        wait_until(
            lambda: any("erased" in event["text"] for event in engine.events("admin")), "what was done meanwhile"
        )
        assert len(sink.messages()) == 1


def test_who_leaves_while_others_of_his_message_are_sent_theirs_gets_nothing(tmp_path: Path) -> None:
    """A transaction for each recipient, of a receiver that takes its time."""
    one_at_a_time = "[delivery]\nmax_recipients = 1\n"
    with relayed(tmp_path, "--delay=data=1", more=one_at_a_time) as (engine, _):
        readers = [f"reader{n}@one.test" for n in range(6)]
        message = submit(engine.port, "", readers, letter())
        engine.until(delivered=1)
        engine.run("suppress", "add", readers[-1])
        assert books(engine) == {"received": 6, "delivered": 5, "suppressed": 1}
        assert engine.fates(message)[readers[-1]] == ["received", "suppressed"]
