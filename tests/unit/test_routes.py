"""Static routes and sources: what matches, where it goes, with which limits, login and address."""

from pathlib import Path

import pytest

from engine.base.errors import ConfigError
from engine.base.settings import (
    Listener,
    Node,
    Route,
    Routing,
    Settings,
    Source,
)
from engine.base.units import Rate
from engine.message.outcome import Status
from engine.routing.plan import Endpoint, Limits
from engine.routing.routes import own_relays, password_problems
from tests.support.routing import House


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
    def told(address: str, *relays: str) -> list[str]:
        settings = Settings(
            node=Node(name="mx.test"),
            listener=(Listener(kind="smtp", address=address), Listener(kind="http", address="127.0.0.1:9125")),
            route=tuple(Route(domain=f"r{number}.test", relay=relay) for number, relay in enumerate(relays)),
        )
        found = [problem.split('"') for problem in own_relays(settings)]
        assert all(start.startswith("[[route]] ") for start, *_ in found)
        return [relay for _, relay, _ in found]

    ours, others = (
        ["127.0.0.1:25", "LOCALHOST:25"],
        ["127.0.0.2:25", "mx.test:25", "127.0.0.1:26", "127.0.0.1:9125", ""],
    )
    assert told("127.0.0.1:25", *ours, *others) == ours
    ours, others = ["127.0.0.2:25", "localhost:25", "mx.test:25"], ["192.0.2.1:25", "mx.test:26", "other.test:25"]
    assert told("0.0.0.0:25", *ours, *others) == ours
