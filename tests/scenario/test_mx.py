"""Where mail goes when nobody but DNS says so: MX records, sites, providers, and what must not be connected to.

The hosts are loopback addresses with one port; which of them listen is up to each story.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import dns
from tests.support.client import Client, Refused, letter, submit
from tests.support.engine import Daemon, Sink, daemon, sink, wait_until
from tests.support.ports import free_port
from tests.support.relay import route
from tests.support.report import Report

ZONE = """
    pref.test MX 20 b.pref.test
    pref.test MX 10 a.pref.test
    a.pref.test A 127.0.2.1
    b.pref.test A 127.0.2.2

    plain.test A 127.0.2.3
    www.alias.test CNAME plain.test

    null.test MX 0 .
    nowhere.test MX 10 gone.nowhere.test
    loop.test MX 10 mx.test
    shy.test MX 10 mx.shy.test
    mx.shy.test A 127.0.2.4

    one.test MX 10 mx.shared.test
    two.test MX 10 mx.shared.test
    mx.shared.test A 127.0.2.5

    big1.test MX 10 mx1.big.test
    big2.test MX 10 mx2.big.test
    mx1.big.test A 127.0.2.6
    mx2.big.test A 127.0.2.7

    many.test MX 10 a.many.test
    many.test MX 20 b.many.test
    many.test MX 30 c.many.test
    a.many.test A 127.0.2.9
    b.many.test A 127.0.2.10
    c.many.test A 127.0.2.11

    strict.test MX 10 mx.strict.test
    mx.strict.test A 127.0.2.8
"""
SETTINGS = """
    [resolver]
    nameservers = ["{dns}"]
    min_ttl = "100ms"
    [routing]
    allow_private = true
    port = {port}
    [site]
    connections = 1
    [[provider]]
    name = "big"
    mx = [".big.test"]
    scope = "provider"
    connections = 2
    messages_per_connection = 5
    [[provider]]
    name = "strict"
    mx = [".strict.test"]
    stop = [["[TS04]", "1h"]]
    [retry]
    schedule = "100ms*"
    jitter = 0.0
    [retry.transactional]
    expire_after = "3s"
    [delivery]
    idle_timeout = "1m"
    max_hosts = 2
    {home}
"""


class Stage:
    """An engine that asks our DNS, the sender's mail server, and hosts as the stories need them."""

    def __init__(self, path: Path, engine: Daemon, server: dns.Server, home: Sink, port: int) -> None:
        self.path, self.engine, self.dns, self.home, self.port = path, engine, server, home, port

    def host(self, address: str, *options: str) -> contextlib.AbstractContextManager[Sink]:
        return sink(self.path / address, *options, port=self.port, host=address)

    def send(self, *recipients: str, sender: str = "ada@home.test") -> list[str]:
        """A message for each recipient; their ids."""
        with Client(self.engine.port) as client:
            return [client.submit(sender, recipient, letter()) for recipient in recipients]

    def outcomes(self, message_id: str) -> list[dict[str, str]]:
        return [e for e in self.engine.events() if e["message"] == message_id and e["type"] != "received"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    path, port = tmp_path_factory.mktemp("mx"), free_port()
    with dns.start(ZONE) as server, sink(path / "home") as home:
        settings = SETTINGS.format(dns=server.address, port=port, home=route(home.address, "home.test"))
        with daemon(path / "engine", settings) as engine:
            yield Stage(path, engine, server, home, port)


def test_the_best_preference_gets_everything(stage: Stage) -> None:
    with stage.host("127.0.2.1") as best, stage.host("127.0.2.2") as other:
        ids = stage.send(*(f"r{n}@pref.test" for n in range(10)))
        stage.engine.books()
        assert {event["remote"] for i in ids for event in stage.outcomes(i)} == {f"a.pref.test[127.0.2.1]:{stage.port}"}
        assert best.has(messages=10)["unique"] == 10
        other.stop()
        assert other.connections() == 0
        shown = stage.engine.run("route", "r1@pref.test").stdout
        assert shown.index("a.pref.test[127.0.2.1]") < shown.index("b.pref.test[127.0.2.2]")


def test_only_so_many_hosts_are_tried_for_one_transaction(stage: Stage) -> None:
    with stage.host("127.0.2.11") as third:
        (message_id,) = stage.send("bob@many.test")
        event = wait_until(lambda: stage.outcomes(message_id), "a deferral")[0]
        assert (event["type"], event["remote"]) == ("deferred", f"b.many.test[127.0.2.10]:{stage.port}")
        wait_until(lambda: stage.engine.run("purge", message_id, check=False).returncode == 0, "it to be in no attempt")
        stage.engine.books()
        third.stop()
        assert third.connections() == 0


def test_a_domain_without_mx_is_its_own_host(stage: Stage) -> None:
    """RFC 5321 5.1; also behind an alias, and as an address in brackets."""
    with stage.host("127.0.2.3") as host:
        ids = stage.send("bob@plain.test", "bob@www.alias.test", "bob@[127.0.2.3]")
        stage.engine.books()
        remotes = [event["remote"].partition("[")[0] for i in ids for event in stage.outcomes(i)]
        assert remotes == ["plain.test", "www.alias.test", "127.0.2.3"]
        assert sorted(envelope["recipients"][0] for envelope, _ in host.messages()) == [
            "bob@[127.0.2.3]", "bob@plain.test", "bob@www.alias.test",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("domain", "status", "words"),
    [
        ("null.test", "5.1.10", "accepts no mail"),
        ("no-such-domain.test", "5.1.2", "does not exist"),
        ("nowhere.test", "5.4.4", "no mail host"),
        ("loop.test", "5.4.6", "loops back"),
        ("[224.0.0.1]", "5.4.4", "multicast"),
    ],
)
def test_nowhere_to_go_is_told_at_once(stage: Stage, domain: str, status: str, words: str) -> None:
    (message_id,) = stage.send(f"bob@{domain}")
    stage.engine.books()
    (event,) = stage.outcomes(message_id)
    assert (event["type"], event["status"], event["remote"]) == ("failed", status, "none")
    report = Report(stage.home.messages()[-1][1])
    assert report.message["In-Reply-To"] == f"<{message_id}@mx.test>"
    assert report.field("Status") == [status]
    assert words in report.field("Diagnostic-Code")[0]


def test_silence_of_dns_is_no_answer(stage: Stage) -> None:
    """Deferred until the name server says something (Q3); `why` says what we wait for."""
    with stage.host("127.0.2.4"):
        stage.dns.misbehave("shy.test", "servfail")
        (message_id,) = stage.send("bob@shy.test")
        event = wait_until(lambda: stage.outcomes(message_id), "a deferral")[0]
        assert (event["type"], event["status"], event["scope"]) == ("deferred", "4.4.3", "site")
        assert "DNS gave no answer about the mail hosts of shy.test" in stage.engine.run("why", message_id).stdout
        stage.dns.misbehave("shy.test", "")
        stage.engine.books()
        assert stage.outcomes(message_id)[-1]["type"] == "delivered"


def test_domains_with_the_same_hosts_share_a_connection(stage: Stage) -> None:
    """They are one site, and [site] allows it one connection."""
    engine = stage.engine
    with stage.host("127.0.2.5") as host:
        for domain in ("one.test", "two.test"):
            engine.run("hold", domain)
        stage.send(*(f"r{n}@{domain}" for n in range(15) for domain in ("one.test", "two.test")))
        for domain in ("one.test", "two.test"):
            engine.run("resume", domain)
        engine.books()
        assert host.has(messages=30)["unique"] == 30
        assert host.connections() == 1
        assert "mx.shared.test" in engine.run("route", "bob@two.test").stdout


def test_limits_of_a_provider(stage: Stage) -> None:
    """Two sites of one provider share two connections, each good for five messages."""
    engine = stage.engine
    with stage.host("127.0.2.6", "--listen", f"127.0.2.7:{stage.port}", "--delay", "mail=5ms") as host:
        recipients = [f"r{n}@{domain}" for n in range(25) for domain in ("big1.test", "big2.test")]
        ids = stage.send(*recipients)
        engine.books()
        counts = host.has(messages=50)
        assert (counts["unique"], counts["duplicates"]) == (50, 0)
        assert counts["max_open"] <= 2
        assert host.connections() >= 10
        assert {event["provider"] for i in ids for event in stage.outcomes(i)} == {"big"}
        assert {event["remote"].partition("[")[0] for i in ids for event in stage.outcomes(i)} == {
            "mx1.big.test", "mx2.big.test",
        }  # fmt: skip


def test_a_stop_rule_closes_the_site(stage: Stage) -> None:
    """Nothing is tried any more, what comes later waits as well, and what is too old meanwhile is given up."""
    engine = stage.engine
    rule = "mail:first@home.test=451 4.7.650 [TS04] too many complaints x1"
    with stage.host("127.0.2.8", "--reply", rule) as host:
        (first,) = stage.send("bob@strict.test", sender="first@home.test")
        event = wait_until(lambda: stage.outcomes(first), "the block")[0]
        assert (event["type"], event["provider"], event["scope"]) == ("deferred", "strict", "site")
        (second,) = stage.send("carl@strict.test")
        urgent = submit(
            engine.port,
            "ada@home.test",
            "dora@strict.test",
            letter("u", "a@b.test", "X-Postrider-Class: transactional"),
        )
        (row,) = engine.ask("why", what=second)
        assert (row["state"], row["attempts"]) == ("ready", 0)
        assert row["limit"].startswith("site closed for ") and "[TS04] too many complaints" in row["limit"]
        (row,) = engine.ask("why", what=first)
        assert row["state"] == "waiting" and 3000 < row["next_attempt_s"] <= 3600
        wait_until(lambda: stage.outcomes(urgent), "the end of its time")
        engine.books(queued=2)
        (expired,) = stage.outcomes(urgent)
        assert (expired["type"], expired["status"]) == ("expired", "4.4.7")
        assert expired["reply"].endswith("its site is closed: 451 4.7.650 [TS04] too many complaints")
        assert host.connections() == 1
        assert "2 deliveries" in engine.run("retry", "strict.test").stdout
        engine.books()
        assert [stage.outcomes(i)[-1]["type"] for i in (first, second)] == ["delivered", "delivered"]
        assert host.has(messages=2)["duplicates"] == 0


def test_private_hosts_are_refused_unless_allowed(tmp_path: Path) -> None:
    """Whoever has a domain could else send us into our own network; our own relays may well be there."""
    port = free_port()
    hosts = {"loopback": "A 127.0.2.9", "ten": "A 10.0.0.1", "link": "A 169.254.169.254", "six": "AAAA ::1"}
    zone = "\n".join(f"{name}.test MX 10 mx.{name}.test\nmx.{name}.test {record}" for name, record in hosts.items())
    with dns.start(zone) as server, contextlib.ExitStack() as stack:
        home = stack.enter_context(sink(tmp_path / "home"))
        target = stack.enter_context(sink(tmp_path / "target", port=port, host="127.0.2.9"))
        settings = f"""
            [resolver]
            nameservers = ["{server.address}"]
            [routing]
            port = {port}
            {route(home.address, "home.test")}"""
        engine = stack.enter_context(daemon(tmp_path / "engine", settings))
        submit(engine.port, "ada@home.test", [f"bob@{name}.test" for name in hosts] + ["bob@[127.0.2.9]"], letter())
        assert engine.books() == {"received": 6, "failed": 5, "delivered": 1}, "and one report of all"
        assert {event["status"] for event in engine.events("failed")} == {"5.4.4"}
        target.stop()
        assert target.connections() == 0


def test_addresses_that_dns_cannot_hold_are_refused_at_the_door(stage: Stage) -> None:
    for address in ("bob@under_score..test", "bob@" + "a" * 64 + ".test", "bob@[999.1.1.1]"):
        with pytest.raises(Refused):
            submit(stage.engine.port, "ada@home.test", address, letter())
    stage.engine.books()
