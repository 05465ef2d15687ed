"""DNS: what a stranger's zone may try on us. A real name server, our resolver and router, nothing faked but the clock.

Whoever publishes an MX record chooses where we connect and how much work we do for it.
"""

import asyncio
import ipaddress
from collections.abc import Iterable
from typing import Any

import pytest

from engine.base import settings
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Node, Routing, Settings
from engine.base.units import Duration
from engine.message.outcome import Status
from engine.net.addresses import refusal
from engine.net.resolver import MAX_ALIASES, Resolver
from engine.routing.plan import NoRoute, Plan
from engine.routing.router import Router
from tests.support import dns
from tests.support.clock import FakeClock


class House:
    """The router of a node called out.example.org, asking `server`."""

    def __init__(self, server: dns.Server, **tables: Any) -> None:
        self.clock = FakeClock()
        config = settings.Resolver(nameservers=(server.address,), timeout=Duration(10))
        self.resolver = Resolver(config, Metrics(), self.clock)
        self.router = Router(Settings(**{"node": Node(name="out.example.org")} | tables), self.resolver, self.clock)

    def find(self, destination: str) -> Plan | NoRoute:
        async def story() -> Plan | NoRoute:
            try:
                return await self.router.resolve(destination)
            finally:
                await self.resolver.close()

        return asyncio.run(story())


def find(zone: dns.Zone, destination: str = "evil.test", **tables: Any) -> Plan | NoRoute:
    with dns.start(zone) as server:
        return House(server, **tables).find(destination)


def refused(found: Plan | NoRoute) -> tuple[Status, str]:
    assert isinstance(found, NoRoute), found
    return found.status, found.status_code


def names(found: Plan | NoRoute) -> list[str]:
    assert isinstance(found, Plan), found
    return [endpoint.name for group in found.hosts for endpoint in group]


def mx(*hosts: tuple[int, str]) -> list[str]:
    return [f"MX {preference} {host}" for preference, host in hosts]


def test_of_a_hundred_mx_the_best_twenty_are_asked_for() -> None:
    zone: dict[str, list[str]] = {"evil.test": mx(*((n, f"mx{n:03}.evil.test") for n in range(100, 0, -1)))}
    zone |= {f"mx{n:03}.evil.test": [f"A 11.0.0.{n}"] for n in range(1, 101)}
    with dns.start(zone) as server:
        found = House(server).find("evil.test")
        assert names(found) == [f"mx{n:03}.evil.test" for n in range(1, 21)]
        assert server.queries.total() == 2 + 20 * 2  # the MX over UDP and TCP, then A and AAAA
        assert server.over_tcp["evil.test"] == 1


def test_a_hundred_mx_of_one_preference_keep_one_site() -> None:
    """Whatever order the server gives them in, the same ones are taken."""
    hosts = [(10, f"mx{n:03}.evil.test") for n in range(100)]
    sites = set()
    for order in (hosts, hosts[::-1]):
        zone: dict[str, list[str]] = {"evil.test": mx(*order)} | {host: ["A 11.0.0.1"] for _, host in hosts}
        found = find(zone)
        assert isinstance(found, Plan)
        sites.add(found.site)
    assert len(sites) == 1


def test_a_host_with_a_thousand_addresses_is_no_more_than_its_answer() -> None:
    addresses = [str(ipaddress.IPv4Address("11.0.0.0") + n) for n in range(1000)]
    found = find({"evil.test": mx((10, "mx.evil.test")), "mx.evil.test": [f"A {address}" for address in addresses]})
    assert isinstance(found, Plan)
    assert len(found.hosts[0]) == 1000


@pytest.mark.parametrize(
    "zone",
    [
        "evil.test CNAME evil.test",
        "evil.test CNAME a.evil.test\na.evil.test CNAME evil.test",
        "evil.test MX 10 a.evil.test\na.evil.test CNAME b.evil.test\nb.evil.test CNAME a.evil.test",
        "\n".join(f"h{n}.test CNAME h{n + 1}.test" for n in range(100)) + "\nevil.test CNAME h0.test",
    ],
)
def test_aliases_without_end_are_given_up(zone: str) -> None:
    """Deferred, not failed: the owner of the zone may mend it."""
    with dns.start(zone) as server:
        assert refused(House(server).find("evil.test")) == (Status.DEFERRED, "4.4.3")
        assert server.queries.total() <= 8


def test_aliases_given_one_by_one_are_given_up_too() -> None:
    zone = "\n".join(f"h{n}.test CNAME h{n + 1}.test" for n in range(100)) + "\nevil.test CNAME h0.test"
    with dns.start(zone) as server:
        server.misbehave("*", "half_alias")
        assert refused(House(server).find("evil.test")) == (Status.DEFERRED, "4.4.3")
        assert server.queries.total() == 1 + MAX_ALIASES


#: Where no MX may lead, with what an IPv6 form of the same does.
_INSIDE = (
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "0.1.2.3", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:11.0.0.1", "fe80::1", "fec0::1", "fc00::1",
    "fd12::1", "ff02::1", "2001:db8::1", "2001::1", "2002:7f00:1::1", "2002:a00:1::1", "2002:c0a8:101::",
    "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "100::1", "4000::1",
)  # fmt: skip


def _records(host: str, addresses: Iterable[str]) -> dict[str, list[str]]:
    return {host: [f"{'AAAA' if ':' in address else 'A'} {address}" for address in addresses]}


@pytest.mark.parametrize("address", _INSIDE)
def test_an_mx_never_leads_inside(address: str) -> None:
    found = find({"evil.test": mx((10, "mx.evil.test"))} | _records("mx.evil.test", [address]))
    assert refused(found) == (Status.FAILED, "5.4.4")
    # Nor does the implicit MX.
    assert refused(find(_records("evil.test", [address]))) == (Status.FAILED, "5.4.4")


def test_the_addresses_outside_are_still_used() -> None:
    zone = {"evil.test": mx((10, "mx.evil.test"))} | _records("mx.evil.test", [*_INSIDE, "11.0.0.1", "2600::1"])
    found = find(zone)
    assert isinstance(found, Plan)
    assert {endpoint.address for endpoint in found.hosts[0]} == {"11.0.0.1", "2600::1"}


@pytest.mark.parametrize("address", ["11.0.0.1", "2600::1", "64:ff9b::11.0.0.1", "2002:b00:1::1"])
def test_public_addresses_are_no_targets_to_refuse(address: str) -> None:
    assert refusal(address, allow_private=False) == ""


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.1.1", "::1", "fe80::1", "fd12::1", "2002:a00:1::1"]
)
def test_private_targets_are_used_where_a_setting_allows_them(address: str) -> None:
    found = find(_records("evil.test", [address]), routing=Routing(allow_private=True))
    assert isinstance(found, Plan)


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "::ffff:10.0.0.1"])
def test_what_is_no_target_at_all_is_refused_even_then(address: str) -> None:
    found = find(_records("evil.test", [address]), routing=Routing(allow_private=True))
    assert refused(found) == (Status.FAILED, "5.4.4")


@pytest.mark.parametrize("literal", ["[127.0.0.1]", "[10.1.2.3]", "[IPv6:::1]", "[IPv6:::ffff:10.0.0.1]"])
def test_an_address_literal_never_leads_inside(literal: str) -> None:
    assert refused(find("", literal)) == (Status.FAILED, "5.4.4")


def test_an_mx_that_is_an_address_is_ignored() -> None:
    """RFC 5321 5.1 wants a name; an address in its place would go round the checks of names."""
    zone = {"evil.test": mx((10, "127.0.0.1."), (20, "mx.evil.test")), "mx.evil.test": ["A 11.0.0.1"]}
    assert names(find(zone)) == ["mx.evil.test"]
    assert refused(find({"evil.test": mx((10, "11.0.0.1."))})) == (Status.FAILED, "5.4.4")


@pytest.mark.parametrize(
    "garbage", [".", r"a\000b.test.", r"a\032b.test.", r"\255\255.test.", r"x\.y.test.", "*.evil.test."]
)
def test_an_mx_that_no_host_can_have_is_ignored(garbage: str) -> None:
    zone = {"evil.test": mx((10, garbage), (20, "mx.evil.test")), "mx.evil.test": ["A 11.0.0.1"]}
    assert names(find(zone)) == ["mx.evil.test"]


OWN_PORT = (Listener(kind="smtp", address="11.0.0.9:25"), Listener(kind="smtp", address="[2600::9]:25"))


@pytest.mark.parametrize("ours", ["OUT.example.org", "nine.test", "six.test"])
def test_our_own_host_among_the_mx_cuts_itself_and_what_is_no_better(ours: str) -> None:
    """RFC 5321 5.1: mail must never go to a host of equal or worse preference than ourselves, or it goes round."""
    zone = {
        "evil.test": mx((5, "a.evil.test"), (10, ours), (10, "b.evil.test"), (20, "c.evil.test")),
        "out.example.org": ["A 11.0.0.77"],
        "nine.test": ["A 11.0.0.8", "A 11.0.0.9"],
        "six.test": ["AAAA 2600:0:0::9"],
    }
    zone |= {f"{letter}.evil.test": [f"A 11.0.1.{n}"] for n, letter in enumerate("abc")}
    found = find(zone, listener=OWN_PORT)
    assert names(found) == ["a.evil.test"]
    assert isinstance(found, Plan)
    assert found.site == "a.evil.test"


@pytest.mark.parametrize("ours", ["out.example.org", "nine.test"])
def test_when_we_are_the_best_mx_the_mail_fails_as_a_loop(ours: str) -> None:
    zone = {
        "evil.test": mx((10, ours), (20, "b.evil.test")),
        "b.evil.test": ["A 11.0.0.1"],
        "nine.test": ["A 11.0.0.9"],
    }
    assert refused(find(zone, listener=OWN_PORT)) == (Status.FAILED, "5.4.6")


def test_a_listener_on_all_addresses_is_found_behind_any_of_them() -> None:
    routing = Routing(allow_private=True, port=2525)
    for address in ("127.0.0.1", "127.0.0.2", "::1"):
        everywhere = (Listener(kind="smtp", address="0.0.0.0:2525"),)
        found = find(_records("evil.test", [address]), listener=everywhere, routing=routing)
        assert refused(found) == (Status.FAILED, "5.4.6")
    assert names(find(_records("evil.test", ["11.0.0.1"]), listener=everywhere, routing=routing)) == ["evil.test"]


def test_another_server_on_our_address_is_no_loop() -> None:
    """Mail for a server beside us, on another port than ours, is delivered."""
    listener = (Listener(kind="smtp", address="127.0.0.1:2525"),)
    found = find(_records("evil.test", ["127.0.0.1"]), listener=listener, routing=Routing(allow_private=True))
    assert names(found) == ["evil.test"]


def test_an_address_literal_of_ours_is_a_loop() -> None:
    assert refused(find("", "[11.0.0.9]", listener=OWN_PORT)) == (Status.FAILED, "5.4.6")


def test_a_ttl_of_zero_does_not_make_us_ask_for_every_message() -> None:
    zone = "evil.test 0 MX 10 mx.evil.test\nmx.evil.test 0 A 11.0.0.1\nmx.evil.test 0 AAAA 2600::1"
    with dns.start(zone) as server:
        house = House(server)

        async def story() -> None:
            for _ in range(1000):
                assert isinstance(await house.router.resolve("evil.test"), Plan)
            assert server.queries.total() == 3
            house.clock.advance(6)
            assert house.router.cached("evil.test") is None
            await house.router.resolve("evil.test")
            await house.resolver.close()

        asyncio.run(story())
        assert server.queries.total() == 6


def test_a_huge_ttl_does_not_pin_an_answer() -> None:
    with dns.start("evil.test 2147483647 A 11.0.0.1\nevil.test 2147483647 AAAA 2600::1") as server:
        house = House(server)
        found = house.find("evil.test")
        assert found.expires_at <= house.clock.now + 3600


def test_null_mx_is_believed_only_alone() -> None:
    """RFC 7505 3: a null MX stands alone; beside others it is garbage."""
    assert refused(find("evil.test MX 0 .")) == (Status.FAILED, "5.1.10")
    zone = {"evil.test": mx((0, "."), (10, "mx.evil.test")), "mx.evil.test": ["A 11.0.0.1"]}
    assert names(find(zone)) == ["mx.evil.test"]


@pytest.mark.parametrize("fault", ["servfail", "refused", "formerr"])
def test_a_server_in_trouble_costs_no_mail(fault: str) -> None:
    with dns.start("evil.test MX 10 mx.evil.test\nmx.evil.test A 11.0.0.1") as server:
        server.misbehave("mx.evil.test", fault)
        assert refused(House(server).find("evil.test")) == (Status.DEFERRED, "4.4.3")
