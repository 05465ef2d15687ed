"""The resolver against a real name server on loopback: answers, faults, cache, one question in flight."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar
from unittest import mock

import dns.resolver as dnspython
import pytest
import uvloop

from engine.base import settings
from engine.base.errors import ConfigError
from engine.base.metrics import Metrics
from engine.base.units import Duration
from engine.net.dns_query import Finding, NameServers, RecordType, Response
from engine.net.resolver import Answer, Resolver
from tests.support import dns
from tests.support.clock import FakeClock

ZONE = """
example.net.      300 MX 20 MX2.example.net.
example.net.      300 MX 10 mx1.example.net.
mx1.example.net.   60 A 192.0.2.1
mx1.example.net.   60 A 192.0.2.2
mx1.example.net.   60 AAAA 2001:db8::1
null.test.        300 MX 0 .
text.test.        300 TXT "v=1; " "p=abc"
alias.test.        30 CNAME example.net.
brief.test.         0 A 192.0.2.9
long.test.      90000 A 192.0.2.9
"""


@pytest.fixture
def server() -> Iterator[dns.Server]:
    with dns.start(ZONE, negative_ttl=120) as running:
        yield running


class Bench:
    """A resolver that asks these servers, on a clock of its own."""

    def __init__(self, *servers: dns.Server, timeout: float = 10, attempts: int = 3, **config: float) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        given = {name: kind(config[name]) for name, kind in _KINDS.items() if name in config}
        assert given.keys() == config.keys()
        nameservers = tuple(server.address for server in servers)
        self.config = settings.Resolver(nameservers=nameservers, timeout=Duration(timeout), attempts=attempts, **given)
        self.resolver = Resolver(self.config, self.metrics, self.clock)

    def counted(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("postrider_dns_query_seconds_count", {"result": result}) or 0.0


_KINDS = {"min_ttl": Duration, "max_ttl": Duration, "cache_entries": int, "max_queries": int}
_Result = TypeVar("_Result")


def run(bench: Bench, story: Callable[[Resolver], Awaitable[_Result]]) -> _Result:
    async def whole() -> _Result:
        try:
            return await story(bench.resolver)
        finally:
            await bench.resolver.close()

    return asyncio.run(whole())


def ask(bench: Bench, name: str, kind: RecordType) -> Answer:
    return run(bench, lambda resolver: resolver.lookup(name, kind))


def values(answer: Answer) -> list[str]:
    return sorted(record.value for record in answer.records)


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until it is so; a test that hangs here has failed."""
    while not condition():  # noqa: ASYNC110 - what is counted is counted in the server's thread
        await asyncio.sleep(0)


def test_mx_records_come_with_preferences_in_lower_case_without_final_dot(server: dns.Server) -> None:
    answer = ask(Bench(server), "Example.NET.", "MX")
    assert answer.finding is Finding.FOUND
    assert sorted((r.preference, r.value) for r in answer.records) == [(10, "mx1.example.net"), (20, "mx2.example.net")]


def test_addresses_texts_and_the_root(server: dns.Server) -> None:
    assert values(ask(Bench(server), "mx1.example.net", "A")) == ["192.0.2.1", "192.0.2.2"]
    assert values(ask(Bench(server), "mx1.example.net", "AAAA")) == ["2001:db8::1"]
    assert values(ask(Bench(server), "text.test", "TXT")) == ["v=1; p=abc"]
    assert values(ask(Bench(server), "null.test", "MX")) == ["."]


def test_it_works_on_uvloop(server: dns.Server) -> None:
    bench = Bench(server)
    assert values(uvloop.run(bench.resolver.lookup("mx1.example.net", "A"))) == ["192.0.2.1", "192.0.2.2"]


def test_no_name_and_no_data_are_told_apart(server: dns.Server) -> None:
    assert ask(Bench(server), "absent.test", "MX").finding is Finding.NO_NAME
    assert ask(Bench(server), "mx1.example.net", "MX").finding is Finding.NO_DATA
    # example.net exists below net: an empty non-terminal is a name.
    assert ask(Bench(server), "net", "MX").finding is Finding.NO_DATA


@pytest.mark.parametrize("fault", ["servfail", "refused", "formerr"])
def test_a_server_that_says_no_is_not_asked_twice(server: dns.Server, fault: str) -> None:
    server.misbehave("example.net", fault)
    bench = Bench(server)
    assert ask(bench, "example.net", "MX").finding is Finding.TROUBLE
    assert server.queries["example.net"] == 1
    assert bench.counted("trouble") == 1


@pytest.mark.parametrize("fault", ["timeout", "garbage", "wrong_id", "empty"])
def test_silence_and_forgeries_are_waited_out_and_tried_again(server: dns.Server, fault: str) -> None:
    """An answer that does not fit the question is not an answer: whoever sent it cannot end the wait."""
    server.misbehave("example.net", fault)
    bench = Bench(server, timeout=0.05, attempts=3)
    answer = ask(bench, "example.net", "MX")
    assert (answer.finding, server.queries["example.net"]) == (Finding.TROUBLE, 3)
    assert bench.counted("timeout") == 3


def test_the_next_server_is_asked_when_one_fails(server: dns.Server) -> None:
    with dns.start() as gone, dns.start() as broken:
        gone.stop()
        broken.misbehave("*", "servfail")
        bench = Bench(gone, broken, server)

        async def story(resolver: Resolver) -> list[Finding]:
            return [
                (await resolver.lookup(name, "A")).finding for name in ("mx1.example.net", "brief.test", "long.test")
            ]

        assert run(bench, story) == [Finding.FOUND] * 3
        # Each lookup began with another server.
        assert (broken.queries.total(), server.queries.total()) == (2, 3)
        assert (bench.counted("error"), bench.counted("trouble"), bench.counted("found")) == (1, 2, 3)


def test_a_dead_server_on_this_host_costs_no_timeout(server: dns.Server) -> None:
    server.stop()
    assert ask(Bench(server, timeout=3600), "example.net", "MX").finding is Finding.TROUBLE


@pytest.mark.parametrize("fault", ["", "truncate"])
def test_a_cut_answer_is_asked_for_over_tcp(server: dns.Server, fault: str) -> None:
    server.set_zone({"big.test": [f"TXT {'x' * 200}{n}" for n in range(200)]} if not fault else ZONE)
    server.misbehave("*", fault)
    name = "mx1.example.net" if fault else "big.test"
    answer = ask(Bench(server), name, "A" if fault else "TXT")
    assert len(answer.records) == (2 if fault else 200)
    assert (server.queries[name], server.over_tcp[name]) == (2, 1)


def test_an_alias_is_followed_and_its_ttl_counts(server: dns.Server) -> None:
    bench = Bench(server)
    answer = ask(bench, "alias.test", "MX")
    assert values(answer) == ["mx1.example.net", "mx2.example.net"]
    assert answer.expires_at == bench.clock.now + 30


def test_an_alias_that_the_server_leaves_to_us_is_followed(server: dns.Server) -> None:
    server.misbehave("alias.test", "half_alias")
    bench = Bench(server)
    assert values(ask(bench, "alias.test", "MX")) == ["mx1.example.net", "mx2.example.net"]
    assert server.asked == {("alias.test", "MX"): 1, ("example.net", "MX"): 1}


def test_answers_are_kept_for_their_ttl(server: dns.Server) -> None:
    bench = Bench(server)

    async def story(resolver: Resolver) -> None:
        first = await resolver.lookup("mx1.example.net", "A")
        bench.clock.advance(59)
        assert await resolver.lookup("MX1.example.net.", "A") is first
        assert server.queries.total() == 1
        bench.clock.advance(1)
        assert await resolver.lookup("mx1.example.net", "A") is not first
        assert server.queries.total() == 2

    run(bench, story)


@pytest.mark.parametrize(("name", "lives"), [("brief.test", 5), ("long.test", 3600), ("absent.test", 120)])
def test_a_life_is_bounded_by_the_settings_and_a_negative_one_by_the_soa(
    server: dns.Server, name: str, lives: float
) -> None:
    bench = Bench(server, min_ttl=5, max_ttl=3600)
    assert ask(bench, name, "A").expires_at == bench.clock.now + lives


def test_a_negative_answer_without_soa_is_kept_too(server: dns.Server) -> None:
    server.misbehave("absent.test", "nodata_bare")
    bench = Bench(server)
    answer = ask(bench, "absent.test", "A")
    assert answer.finding is Finding.NO_NAME
    assert bench.clock.now < answer.expires_at <= bench.clock.now + 3600


def test_trouble_is_kept_for_min_ttl(server: dns.Server) -> None:
    server.misbehave("example.net", "servfail")
    bench = Bench(server, min_ttl=5)

    async def story(resolver: Resolver) -> None:
        await resolver.lookup("example.net", "MX")
        bench.clock.advance(4.9)
        assert (await resolver.lookup("example.net", "MX")).finding is Finding.TROUBLE
        assert server.queries.total() == 1
        server.misbehave("example.net", "")
        bench.clock.advance(0.2)
        assert (await resolver.lookup("example.net", "MX")).finding is Finding.FOUND

    run(bench, story)


def test_the_cache_forgets_what_was_used_longest_ago(server: dns.Server) -> None:
    server.set_zone({f"h{n}.test": ["A 192.0.2.1"] for n in range(4)})
    bench = Bench(server, cache_entries=3)

    async def story(resolver: Resolver) -> None:
        for name in ("h0.test", "h1.test", "h2.test", "h0.test", "h3.test"):
            await resolver.lookup(name, "A")
        assert server.queries.total() == 4
        for name in ("h0.test", "h2.test", "h3.test"):
            await resolver.lookup(name, "A")
        assert server.queries.total() == 4
        await resolver.lookup("h1.test", "A")
        assert server.queries["h1.test"] == 2

    run(bench, story)


def test_one_question_is_in_flight_for_a_name_and_type(server: dns.Server) -> None:
    server.hold()
    bench = Bench(server)

    async def story(resolver: Resolver) -> list[Answer]:
        waiting = [asyncio.create_task(resolver.lookup("mx1.example.net", "A")) for _ in range(100)]
        await until(lambda: server.queries.total() == 1)
        server.release()
        return await asyncio.gather(*waiting)

    answers = run(bench, story)
    assert all(answer is answers[0] for answer in answers)
    assert server.queries.total() == 1


def test_one_who_stops_waiting_disturbs_no_other(server: dns.Server) -> None:
    """R2: the first to ask is cancelled, the others still get the answer, of one question."""
    server.hold()
    bench = Bench(server)

    async def story(resolver: Resolver) -> Answer:
        first = asyncio.create_task(resolver.lookup("mx1.example.net", "A"))
        await until(lambda: server.queries.total() == 1)
        second = asyncio.create_task(resolver.lookup("mx1.example.net", "A"))
        await asyncio.sleep(0)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        assert first.cancelled()
        server.release()
        return await second

    assert values(run(bench, story)) == ["192.0.2.1", "192.0.2.2"]
    assert server.queries.total() == 1


def test_closing_ends_the_wait_with_trouble_and_leaves_no_task(server: dns.Server) -> None:
    server.hold()
    bench = Bench(server, timeout=3600)

    async def story(resolver: Resolver) -> Answer:
        waiting = asyncio.create_task(resolver.lookup("mx1.example.net", "A"))
        await until(lambda: server.queries.total() == 1)
        await resolver.close()
        answer = await waiting
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return answer

    assert run(bench, story).finding is Finding.TROUBLE
    server.release()


def test_no_more_than_max_queries_are_in_flight() -> None:
    bench = Bench(dns_that_is_not_asked(), max_queries=3)
    running = most = 0

    async def ask_nobody(self: NameServers, name: str, kind: RecordType) -> Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return Response(finding=Finding.NO_NAME, ttl=60)

    async def story(resolver: Resolver) -> None:
        with mock.patch.object(NameServers, "ask", ask_nobody):
            await asyncio.gather(*(resolver.lookup(f"h{n}.test", "A") for n in range(50)))

    run(bench, story)
    assert most == 3


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a..b",
        "-x.test",
        "ex ample.net",
        "exämple.net",
        "a\\b.test",
        "x" * 64 + ".test",
        "a." * 127 + "test",
        "1.2.3.4",
    ],
)
def test_what_dns_cannot_hold_is_not_asked(server: dns.Server, name: str) -> None:
    assert ask(Bench(server), name, "MX").finding is Finding.NO_NAME
    assert server.queries.total() == 0


def test_a_reload_asks_the_new_servers_and_forgets_the_old_answers(server: dns.Server) -> None:
    with dns.start("mx1.example.net A 192.0.2.77") as other:
        bench = Bench(server)

        async def story(resolver: Resolver) -> Answer:
            await resolver.lookup("mx1.example.net", "A")
            resolver.reload(settings.Resolver(nameservers=(other.address,)))
            return await resolver.lookup("mx1.example.net", "A")

        assert values(run(bench, story)) == ["192.0.2.77"]


def test_no_server_anywhere_is_a_mistake_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: object, path: str = "/etc/resolv.conf") -> None:
        raise dnspython.NoResolverConfiguration

    with monkeypatch.context() as patched:
        patched.setattr(dnspython.Resolver, "read_resolv_conf", read)
        with pytest.raises(ConfigError, match="nameservers"):
            Resolver(settings.Resolver(), Metrics(), FakeClock())


def dns_that_is_not_asked() -> dns.Server:
    """An address for the settings; nothing listens there."""
    server = dns.start()
    server.stop()
    return server
