"""From a destination to a plan: MX hosts, site, provider, TLS level, cache, reload. Static routes: test_routes.py."""

import asyncio

import pytest

from engine.base.errors import ConfigError
from engine.base.settings import (
    Delivery,
    Provider,
    Resolver,
    Route,
    Routing,
    Settings,
    SiteDefaults,
    Source,
    TlsLevel,
)
from engine.base.units import Duration
from engine.message.outcome import Status
from engine.routing.plan import Endpoint, Limits, Plan
from tests.support.routing import House

BIG = Provider(
    name="big", mx=(".big.test",), scope="provider", connections=3, tls="encrypt", stop=(("[BUSY]", Duration(60)),)
)


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


def test_an_address_literal_goes_to_that_address() -> None:
    house = House(site=SiteDefaults(connections=2))
    plan = house.plan("[11.0.0.9]")
    assert (plan.site, plan.limits.key, plan.limits.connections) == ("[11.0.0.9]", "[11.0.0.9]", 2)
    assert plan.hosts == ((Endpoint("11.0.0.9", "11.0.0.9", 25),),)
    assert house.plan("[IPv6:2600::9]").hosts == ((Endpoint("2600::9", "2600::9", 25),),)
    assert house.dns.asked.total() == 0


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


def test_the_provider_of_a_destination_is_known_from_its_last_look_up() -> None:
    """For metrics, so a name that has just lapsed is as good as a fresh one; nothing is asked for it."""
    house = House(provider=(BIG,))
    assert house.router.provider_of("hosted.test") == "unresolved"
    house.plan("hosted.test")
    house.clock.advance(1e6)
    assert house.router.provider_of("hosted.test") == "big"
    house.router.reload(house.settings)
    assert house.router.provider_of("hosted.test") == "unresolved"


def test_where_there_is_no_route_the_provider_is_none_in_particular() -> None:
    """As the deferrals and failures of such a destination are counted."""
    house = House()
    house.refusal("null.test")
    assert house.router.provider_of("null.test") == "other"
