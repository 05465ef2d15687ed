"""Not faster and not more at once than a receiver takes; and who asks is told which limit it is."""

import signal
from pathlib import Path

from tests.support.client import Client, letter, submit
from tests.support.engine import Daemon, daemon, sink, wait_until
from tests.support.relay import relayed, route

#: What the clock of the journal leaves out.
MILLISECOND = 0.001


def backlog(engine: Daemon, count: int, sender: str = "ada@home.test", domain: str = "one.test") -> list[str]:
    """Messages that all become ready at one moment."""
    engine.ask("hold", target=domain)
    with Client(engine.port) as client:
        ids = [client.submit(sender, f"r{number}@{domain}", letter()) for number in range(count)]
    engine.ask("resume", target=domain)
    return ids


def limit_of(engine: Daemon, message_id: str) -> str:
    """What `postrider why` says is in the way."""
    rows = engine.ask("why", what=message_id) if engine.status()["deliveries"] else []
    return str(rows[0]["limit"]) if rows else ""


def limited(engine: Daemon, message_id: str, limit: str) -> bool:
    """Wait until this is in the way: as soon as all have begun that can."""
    return bool(wait_until(lambda: limit_of(engine, message_id) == limit, limit))


def test_a_rate_is_kept(tmp_path: Path) -> None:
    """A burst of one second, then one message after the other: at no time more than that since the start.

    Times are those of the journal; a slow machine can only make them later, so lower bounds hold on any.
    """
    rate, count = 20, 60
    with relayed(tmp_path, rate=f"{rate}/s") as (engine, receiver):
        ids = backlog(engine, count)
        began = max(event["at"] for event in engine.events("received"))
        assert engine.books() == {"received": count, "delivered": count}
        times = sorted(event["at"] for event in engine.events("delivered"))
        assert len(ids) == len(times)
        for number, at in enumerate(times):
            assert at >= began + (number - (rate - 1)) / rate - MILLISECOND, number
        assert receiver.has(messages=count)["duplicates"] == 0


def test_a_slow_rate_has_no_burst_and_does_not_keep_the_daemon(tmp_path: Path) -> None:
    """One message an hour: the first goes at once, the others wait, and SIGTERM waits for none of them."""
    with relayed(tmp_path, rate="1/h") as (engine, _):
        ids = backlog(engine, 5)
        engine.until(delivered=1)
        waiting = [i for i in ids if engine.fates(i) == {f"r{ids.index(i)}@one.test": ["received"]}]
        assert len(waiting) == 4
        assert limited(engine, waiting[-1], "rate of 1/h")
        assert "rate of 1/h" in engine.run("queues").stdout
        engine.books(queued=4)
        engine.signal(signal.SIGTERM)
        # Whoever is not asked to stop sleeps for an hour; the daemon would wait 30 s for it, and then cut it off.
        assert engine.process.wait(25) == 0
        engine.start()
        assert engine.status()["recovered"] == 4


def test_connections_stay_within_their_limit(tmp_path: Path) -> None:
    """The receiver takes a second for each: time enough to ask what the rest waits for."""
    with relayed(tmp_path, "--delay", "end-of-data=1s", connections=3) as (engine, receiver):
        ids = backlog(engine, 6)
        assert limited(engine, ids[-1], f"3 of 3 connections to the relay {receiver.address} in use")
        assert engine.books() == {"received": 6, "delivered": 6}
        counts = receiver.has(messages=6)
        assert (counts["unique"], counts["duplicates"], counts["max_open"]) == (6, 0, 3)


def test_the_limit_of_the_node(tmp_path: Path) -> None:
    """[delivery] max_connections counts all sites together; an idle connection makes room for another site."""
    more = '[delivery]\nmax_connections = 2\nidle_timeout = "1m"\n'
    with relayed(tmp_path, "--delay", "end-of-data=1s", more=more) as (engine, receiver):
        ids = backlog(engine, 3)
        assert limited(engine, ids[-1], "all 2 connections of the node are in use")
        assert engine.books() == {"received": 3, "delivered": 3}
        with sink(tmp_path / "other") as other:
            settings = more + route(other.address, "other.test") + route(receiver.address)
            engine.write_config(settings)
            engine.reload()
            submit(engine.port, "ada@home.test", "bob@other.test", letter())
            assert engine.books() == {"received": 4, "delivered": 4}
            assert other.has(messages=1)["unique"] == 1
        assert receiver.has(messages=3)["max_open"] == 2


def test_domains_of_one_host_with_different_needs_share_its_connections(tmp_path: Path) -> None:
    """They cannot use one connection, for one wants TLS and the other must not; so one is closed for the other."""
    with sink(tmp_path / "sink", "--tls", "starttls") as receiver:
        routes = [route(receiver.address, f"{tls}.test", tls=tls, connections=1) for tls in ("none", "encrypt")]
        settings = '[delivery]\nidle_timeout = "1m"\n' + "".join(routes)
        with daemon(tmp_path / "engine", settings) as engine, Client(engine.port) as client:
            for number in range(20):
                client.submit("ada@home.test", [f"r{number}@none.test", f"r{number}@encrypt.test"], letter())
            assert engine.books() == {"received": 40, "delivered": 40}
            # A receiver sees the end of TLS a moment after the next connection.
            assert receiver.has(messages=40)["max_open"] <= 2
            tls = {
                (envelope["recipients"][0].partition("@")[2], envelope["tls"]) for envelope, _ in receiver.messages()
            }
            assert tls == {("none.test", False), ("encrypt.test", True)}


def test_a_new_site_begins_with_a_few_connections(tmp_path: Path) -> None:
    """Deliveries widen the window, step by step; until then `why` says that it is the window."""
    with relayed(tmp_path, "--delay", "end-of-data=100ms", connections=20) as (engine, receiver):
        ids = backlog(engine, 60)
        assert wait_until(lambda: limit_of(engine, ids[-1]).startswith("window of "), "the window")
        engine.books()
        assert 5 < receiver.has(messages=60)["max_open"] <= 20


def test_a_block_halves_and_clean_mail_gives_back(tmp_path: Path) -> None:
    """4.7.x speaks of us: half the rate, half the connections, also after a restart; then back, step by step."""
    rule = "mail:blocked@home.test=451 4.7.1 too much from you, slow down x1"
    more = '[retry]\nschedule = "1h*"\n'
    with relayed(tmp_path, "--reply", rule, more=more, rate="1000/s") as (engine, receiver):
        blocked = submit(engine.port, "blocked@home.test", "bob@one.test", letter())
        engine.until(deferred=1)
        assert engine.events("deferred")[0]["scope"] == "site"
        slow = "slowed down to 500/s: 451 4.7.1 too much from you, slow down"
        assert engine.ask("queues")[0]["limit"] == slow
        assert limited(engine, blocked, "the retry schedule, after 1 attempt")
        assert engine.stop() == 0
        engine.start()
        submit(engine.port, "ada@home.test", "carl@one.test", letter())
        engine.until(delivered=1)
        assert engine.ask("queues")[0]["limit"] == slow
        # Twenty clean deliveries a step: from 2 connections to 20, and from half of the rate to all of it.
        backlog(engine, 400, domain="two.test")
        engine.until(delivered=401)
        assert "slowed" not in str(engine.ask("queues")[0]["limit"])
        engine.run("retry", blocked)
        assert engine.books() == {"received": 402, "deferred": 1, "delivered": 402}
        assert receiver.has(messages=402)["duplicates"] == 0


def test_greylisting_is_no_block(tmp_path: Path) -> None:
    """Many say it with 4.7.1 (RFC 6647), but it is about this one message."""
    rule = "rcpt:bob@*=450 4.7.1 Greylisted, come back later x1"
    with relayed(tmp_path, "--reply", rule, more='[retry]\nschedule = "1h*"\n', rate="100/s") as (engine, _):
        message_id = submit(engine.port, "ada@home.test", "bob@one.test", letter())
        engine.until(deferred=1)
        assert engine.events("deferred")[0]["scope"] == "recipient"
        assert engine.ask("queues")[0]["limit"] is None
        engine.run("retry", message_id)
        assert engine.books() == {"received": 1, "deferred": 1, "delivered": 1}
