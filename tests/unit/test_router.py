"""From a destination to a plan: MX, static routes, sources, TLS levels, limits, keys, cache, reload."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.base.errors import ConfigError
from engine.base.settings import (
    Delivery,
    Listener,
    Node,
    Provider,
    Resolver,
    Route,
    Routing,
    Settings,
    SiteDefaults,
    Source,
    TlsLevel,
)
from engine.base.units import Duration, Rate
from engine.message.outcome import Status
from engine.routing.plan import Endpoint, Limits, NoRoute, Plan
from engine.routing.router import Router
from engine.routing.routes import own_relays, password_problems
from tests.support.clock import FakeClock
from tests.support.lookup import ZoneLookup

ZONE = """
example.net.       300 MX 20 mx2.example.net.
example.net.       300 MX 10 mx1.example.net.
twin.test.         300 MX 5 mx2.example.net.
twin.test.         300 MX 5 mx1.example.net.
mx1.example.net.   200 A 11.0.0.1
mx1.example.net.   200 AAAA 2600::1
mx2.example.net.   200 A 11.0.0.2
plain.test.        300 A 11.0.0.3
empty.test.        300 TXT nothing
null.test.         300 MX 0 .
hosted.test.       300 MX 10 in.big.test.
hosted.test.       300 MX 20 backup.elsewhere.test.
in.big.test.       300 A 11.0.0.4
backup.elsewhere.test. 300 A 11.0.0.5
hosted2.test.      300 MX 10 in2.big.test.
in2.big.test.      300 A 11.0.0.6
six.test.          300 MX 10 mx.six.test.
mx.six.test.       300 AAAA 2600::6
relay.test.        100 A 10.1.2.3
relay.test.        100 AAAA 2600::7
"""
BIG = Provider(
    name="big", mx=(".big.test",), scope="provider", connections=3, tls="encrypt", stop=(("[BUSY]", Duration(60)),)
)


class House:
    """A router over ZONE, with settings by keyword."""

    def __init__(self, zone: str = ZONE, troubled: tuple[str, ...] = (), **tables: Any) -> None:
        self.clock = FakeClock()
        self.dns = ZoneLookup(zone, self.clock, frozenset(troubled))
        self.settings = Settings(**{"node": Node(name="out.example.org")} | tables)
        self.router = Router(self.settings, self.dns, self.clock)

    def find(self, destination: str) -> Plan | NoRoute:
        return asyncio.run(self.router.resolve(destination))

    def plan(self, destination: str) -> Plan:
        found = self.find(destination)
        assert isinstance(found, Plan), found
        return found

    def refusal(self, destination: str) -> tuple[Status, str]:
        found = self.find(destination)
        assert isinstance(found, NoRoute), found
        return found.status, found.status_code


def test_mx_hosts_become_groups_by_preference() -> None:
    house = House()
    assert house.plan("example.net") == Plan(
        destination="example.net",
        site="mx1.example.net,mx2.example.net",
        provider="other",
        hosts=(
            (Endpoint("mx1.example.net", "2600::1", 25), Endpoint("mx1.example.net", "11.0.0.1", 25)),
            (Endpoint("mx2.example.net", "11.0.0.2", 25),),
        ),
        tls="opportunistic",
        source=Source(name="default", ehlo="out.example.org"),
        limits=Limits(key="mx1.example.net,mx2.example.net", connections=10, messages_per_connection=100, rate=100.0),
        credentials=None,
        stop=(),
        # The shortest of all answers it is made of: mx2 has no AAAA, and that is known for 60 seconds.
        expires_at=house.clock.now + 60,
    )


def test_domains_with_one_set_of_hosts_share_site_and_limits() -> None:
    """X1: whatever the preferences."""
    house = House()
    one, two = house.plan("example.net"), house.plan("twin.test")
    assert (one.site, one.limits.key) == (two.site, two.limits.key)
    assert len(two.hosts) == 1


def test_the_tls_need_stays_with_the_domain() -> None:
    house = House(route=(Route(domain="twin.test", tls="verify"),))
    one, two = house.plan("example.net"), house.plan("twin.test")
    assert (one.tls, two.tls) == ("opportunistic", "verify")
    assert (one.site, one.limits) == (two.site, two.limits)


def test_a_long_set_of_names_makes_a_short_key() -> None:
    names = [f"a-rather-long-name-of-host-{n}.example.net" for n in range(9)]
    lines = [f"{domain} MX 10 {name}" for domain in ("one.test", "two.test") for name in names]
    lines += [f"{name} A 11.0.0.{n}" for n, name in enumerate(names)]
    house = House("\n".join([*lines, f"three.test MX 10 {names[0]}", f"three.test MX 10 {names[1]}"]))
    one, two, three = (house.plan(f"{name}.test").site for name in ("one", "two", "three"))
    assert one == two != three
    assert one.startswith(names[0] + "+")
    assert len(one) < 80


def test_without_mx_the_domain_s_own_address_is_used() -> None:
    plan = House().plan("plain.test")
    assert plan.hosts == ((Endpoint("plain.test", "11.0.0.3", 25),),)
    assert plan.site == "plain.test"


@pytest.mark.parametrize(
    ("destination", "status", "code"),
    [
        ("absent.test", Status.FAILED, "5.1.2"),
        ("null.test", Status.FAILED, "5.1.10"),
        ("empty.test", Status.FAILED, "5.4.4"),
        ("not a name", Status.FAILED, "5.1.2"),
        ("[nonsense]", Status.FAILED, "5.1.2"),
        ("[IPv6:2600::zz]", Status.FAILED, "5.1.2"),
        ("[127.0.0.1]", Status.FAILED, "5.4.4"),
        ("[IPv6:::1]", Status.FAILED, "5.4.4"),
    ],
)
def test_what_cannot_be_reached_fails_with_its_code(destination: str, status: Status, code: str) -> None:
    assert House().refusal(destination) == (status, code)


def test_trouble_with_the_domain_is_deferred() -> None:
    assert House(troubled=("example.net",)).refusal("example.net") == (Status.DEFERRED, "4.4.3")


def test_trouble_with_one_host_leaves_the_other() -> None:
    """The site and its key do not change with the weather."""
    house, calm = House(troubled=("mx1.example.net",)), House()
    plan = house.plan("example.net")
    assert [[endpoint.name for endpoint in group] for group in plan.hosts] == [["mx2.example.net"]]
    assert plan.site == calm.plan("example.net").site
    assert plan.expires_at == house.clock.now + 5


def test_trouble_with_every_host_is_deferred_and_absence_fails() -> None:
    assert House(troubled=("mx1.example.net", "mx2.example.net")).refusal("example.net") == (Status.DEFERRED, "4.4.3")
    assert House("lost.test MX 10 mx.gone.test").refusal("lost.test") == (Status.FAILED, "5.4.4")
    # One is gone for sure, of the other nobody knows: doubt means later (X2).
    zone = "lost.test MX 10 mx.gone.test\nlost.test MX 20 mx.dim.test"
    assert House(zone, troubled=("mx.dim.test",)).refusal("lost.test") == (Status.DEFERRED, "4.4.3")


def test_a_family_that_is_off_is_not_even_asked_for() -> None:
    house = House(routing=Routing(ipv6=False))
    assert [endpoint.address for group in house.plan("example.net").hosts for endpoint in group] == [
        "11.0.0.1",
        "11.0.0.2",
    ]
    assert not [name for name, kind in house.dns.asked if kind == "AAAA"]
    assert house.refusal("six.test") == (Status.FAILED, "5.4.4")
    with pytest.raises(ConfigError, match="both off"):
        House(routing=Routing(ipv4=False, ipv6=False))


def test_the_port_of_the_settings_is_used() -> None:
    assert House(routing=Routing(port=2600)).plan("plain.test").hosts == ((Endpoint("plain.test", "11.0.0.3", 2600),),)


def test_a_provider_brings_limits_tls_and_stop_rules() -> None:
    house = House(provider=(BIG,))
    one, two = house.plan("hosted.test"), house.plan("hosted2.test")
    assert (one.provider, one.tls, one.stop) == ("big", "encrypt", (("[BUSY]", 60.0),))
    assert (
        one.limits == two.limits == Limits(key="provider:big", connections=3, messages_per_connection=100, rate=100.0)
    )
    # A connection is to a site still.
    assert one.site != two.site


@pytest.mark.parametrize(
    ("route", "provider", "default", "level"),
    [
        (None, None, "opportunistic", "opportunistic"),
        (None, None, "verify", "verify"),
        (None, "encrypt", "opportunistic", "encrypt"),
        (None, "encrypt", "none", "encrypt"),
        (None, "encrypt", "verify", "verify"),
        (None, "none", "encrypt", "none"),
        ("none", "encrypt", "verify", "none"),
        ("verify", "encrypt", "none", "verify"),
    ],
)
def test_the_level_of_tls_is_the_route_s_or_the_provider_s_or_the_default(
    route: TlsLevel | None, provider: TlsLevel | None, default: TlsLevel, level: TlsLevel
) -> None:
    house = House(
        provider=(Provider(name="big", mx=(".big.test",), tls=provider),),
        route=(Route(domain="hosted.test", tls=route),),
        delivery=Delivery(tls=default),
    )
    assert house.plan("hosted.test").tls == level


def test_the_first_route_that_matches_wins() -> None:
    relays = {
        "example.net": "10.0.0.1:25",
        ".example.net": "10.0.0.2:25",
        "a.example.net": "10.0.0.3:25",
        "*": "10.0.0.4:25",
    }
    house = House(route=tuple(Route(domain=domain, relay=relay) for domain, relay in relays.items()))
    went = {
        destination: house.plan(destination).site
        for destination in ("example.net", "a.example.net", "b.a.example.net", "notexample.net", "[192.0.2.1]")
    }
    assert went == {
        "example.net": "relay:10.0.0.1:25",
        "a.example.net": "relay:10.0.0.2:25",
        "b.a.example.net": "relay:10.0.0.2:25",
        "notexample.net": "relay:10.0.0.4:25",
        "[192.0.2.1]": "relay:10.0.0.4:25",
    }
    assert house.dns.asked.total() == 0
    route = house.router.route_of("a.example.net")
    assert route is not None
    assert route.domain == ".example.net"


def test_a_relay_by_address_may_be_private_and_has_limits_of_its_own() -> None:
    plan = House(route=(Route(domain="*", relay="[::1]:2600"),)).plan("example.net")
    assert plan.hosts == ((Endpoint("::1", "::1", 2600),),)
    assert (plan.provider, plan.site) == ("relay", "relay:[::1]:2600")
    assert plan.limits == Limits(key="relay:[::1]:2600", connections=20, messages_per_connection=1000, rate=None)


def test_a_relay_by_name_is_looked_up_by_address_and_may_be_private() -> None:
    house = House(route=(Route(domain="*", relay="relay.test:587"),))
    plan = house.plan("example.net")
    assert plan.hosts == ((Endpoint("relay.test", "2600::7", 587), Endpoint("relay.test", "10.1.2.3", 587)),)
    assert plan.expires_at == house.clock.now + 100
    assert ("relay.test", "MX") not in house.dns.asked


def test_localhost_as_a_relay_needs_no_dns() -> None:
    house = House(route=(Route(domain="*", relay="localhost:2600"),))
    assert {endpoint.address for endpoint in house.plan("example.net").hosts[0]} == {"127.0.0.1", "::1"}
    assert house.dns.asked.total() == 0


@pytest.mark.parametrize("troubled", [(), ("lost.test",)])
def test_a_relay_without_address_defers_mail_and_never_bounces_it(troubled: tuple[str, ...]) -> None:
    """A slip in the settings must not cost the mail."""
    house = House(route=(Route(domain="*", relay="lost.test:25"),), troubled=troubled)
    assert house.refusal("example.net") == (Status.DEFERRED, "4.4.3")


def test_a_route_without_relay_only_changes_limits() -> None:
    route = Route(domain="twin.test", connections=1, rate=Rate(0.5), messages_per_connection=9)
    house = House(route=(route,))
    one, two = house.plan("example.net"), house.plan("twin.test")
    assert two.limits == Limits(
        key="mx1.example.net,mx2.example.net 1/9/0.5", connections=1, messages_per_connection=9, rate=0.5
    )
    # Other figures, other budget: the two never fight over one key.
    assert one.limits.key != two.limits.key
    assert one.site == two.site


def test_routes_with_the_same_figures_share_a_budget() -> None:
    routes = tuple(Route(domain=domain, relay="10.0.0.1:25", connections=2) for domain in ("a.test", "b.test"))
    house = House(route=(*routes, Route(domain="c.test", relay="10.0.0.1:25")))
    a, b, c = (house.plan(f"{name}.test").limits for name in "abc")
    assert a == b != c
    assert c.key != a.key


def test_sources_are_named_by_routes_and_the_first_is_the_default() -> None:
    sources = (
        Source(name="one", address="192.0.2.1", ehlo="one.example.org"),
        Source(name="two", address="192.0.2.2", address6="2001:db8::2"),
    )
    house = House(source=sources, route=(Route(domain="plain.test", source="two"),))
    assert house.plan("plain.test").source == Source(
        name="two", address="192.0.2.2", address6="2001:db8::2", ehlo="out.example.org"
    )
    assert house.plan("example.net").source == sources[0]


def test_a_source_leaves_from_its_own_addresses_only() -> None:
    """A source is chosen for the reputation of its address: the other family would leave from any."""
    house = House(source=(Source(name="four", address="192.0.2.1"),))
    assert not [endpoint for group in house.plan("example.net").hosts for endpoint in group if endpoint.ipv6]
    blind = House(source=(Source(name="six", address6="2001:db8::1"),), routing=Routing(ipv6=False))
    assert blind.refusal("example.net") == (Status.DEFERRED, "4.3.5")
    literal = House(source=(Source(name="four", address="192.0.2.1"),))
    assert literal.refusal("[IPv6:2600::9]") == (Status.DEFERRED, "4.3.5")


def test_an_address_literal_goes_to_that_address() -> None:
    house = House(site=SiteDefaults(connections=2))
    plan = house.plan("[11.0.0.9]")
    assert (plan.site, plan.limits.key, plan.limits.connections) == ("[11.0.0.9]", "[11.0.0.9]", 2)
    assert plan.hosts == ((Endpoint("11.0.0.9", "11.0.0.9", 25),),)
    assert house.plan("[IPv6:2600::9]").hosts == ((Endpoint("2600::9", "2600::9", 25),),)
    assert house.dns.asked.total() == 0


def write(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_login_is_read_once_and_sessions_of_two_logins_are_two_sites(tmp_path: Path) -> None:
    routes = tuple(
        Route(
            domain=f"{user}.test",
            relay="10.0.0.1:587",
            username=user,
            password_file=write(tmp_path / user, "pässword\n"),
        )
        for user in ("ada", "bob")
    )
    house = House(route=routes)
    ada, bob = house.plan("ada.test"), house.plan("bob.test")
    assert ada.credentials == ("ada", "pässword")
    assert (ada.site, bob.site) == ("relay:ada@10.0.0.1:587", "relay:bob@10.0.0.1:587")


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        ("secret\n", 0o640, "mode 0640"),
        ("secret\n", 0o604, "mode 0604"),
        ("", 0o600, "the password and nothing else"),
        ("one\ntwo\n", 0o600, "the password and nothing else"),
        ("nul\0", 0o600, "the password and nothing else"),
        ("x" * 5000, 0o600, "too long"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_a_mistake(tmp_path: Path, text: str, mode: int, says: str) -> None:
    path = write(tmp_path / "password", text, mode)
    route = Route(domain="a.test", relay="10.0.0.1:25", username="ada", password_file=path)
    with pytest.raises(ConfigError, match=says):
        House(route=(route,))
    (problem,) = password_problems(Settings(route=(route,)))
    assert says in problem
    assert "secret" not in problem


def test_all_mistakes_of_the_routes_are_told_at_once() -> None:
    routes = (
        Route(domain="a.test", relay="10.0.0.1"),
        Route(domain="b.test", relay="10.0.0.1:25", source="absent"),
        Route(domain="c.test", username="ada", password_file="none"),
        Route(domain="d.test", relay="10.0.0.1:25", username="ada"),
        Route(domain="e.test", relay="10.0.0.1:25", username="ada", password_file="/nonexistent/file"),
    )
    with pytest.raises(ConfigError) as caught:
        House(route=routes)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "[[route]] 1 relay",
        "[[route]] 2 source",
        "[[route]] 3 username",
        "[[route]] 4 password_file",
        "[[route]] 5 password_file",
    ]


def test_a_relay_that_is_our_own_listener_is_told() -> None:
    settings = Settings(
        listener=(Listener(kind="smtp", address="127.0.0.1:2525"), Listener(kind="http", address="127.0.0.1:9125")),
        route=(Route(domain="a.test", relay="127.0.0.1:2525"), Route(domain="b.test", relay="127.0.0.1:9125")),
    )
    (problem,) = own_relays(settings)
    assert problem.startswith("[[route]] 1 relay")


def test_a_plan_is_cached_until_its_answers_expire() -> None:
    house = House()
    assert house.router.cached("plain.test") is None
    plan = house.plan("plain.test")
    assert house.router.cached("plain.test") is plan
    asked = house.dns.asked.total()
    assert house.plan("plain.test") is plan
    assert house.dns.asked.total() == asked
    house.clock.advance(60)
    assert house.router.cached("plain.test") is None
    assert house.plan("plain.test") is not plan
    house.router.forget("plain.test")
    assert house.router.cached("plain.test") is None


def test_why_there_is_no_route_is_cached_too() -> None:
    house = House()
    found = house.find("absent.test")
    assert house.router.cached("absent.test") is found
    house.clock.advance(60)
    assert house.router.cached("absent.test") is None


def test_the_cache_of_plans_is_bounded() -> None:
    house = House(resolver=Resolver(cache_entries=3))
    destinations = [f"[11.0.0.{n}]" for n in range(1, 6)]
    for destination in destinations:
        house.plan(destination)
    assert [house.router.cached(destination) is None for destination in destinations] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_reload_changes_every_plan_and_a_bad_one_changes_nothing() -> None:
    house = House()
    plan = house.plan("plain.test")
    with pytest.raises(ConfigError):
        house.router.reload(Settings(route=(Route(domain="*", relay="nonsense"),)))
    assert house.router.cached("plain.test") is plan
    house.router.reload(Settings(route=(Route(domain="*", relay="10.0.0.1:25"),)))
    assert house.plan("plain.test").site == "relay:10.0.0.1:25"


def test_a_reload_is_not_undone_by_what_was_being_resolved() -> None:
    house = House()

    async def story() -> None:
        resolving = asyncio.create_task(house.router.resolve("plain.test"))
        await asyncio.sleep(0)
        house.router.reload(Settings(route=(Route(domain="*", relay="10.0.0.1:25"),)))
        await resolving

    asyncio.run(story())
    assert house.plan("plain.test").site == "relay:10.0.0.1:25"
