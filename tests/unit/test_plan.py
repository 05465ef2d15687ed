"""The order in which a plan's endpoints are tried, and what else a plan answers."""

import random

from engine.base.settings import Source
from engine.routing.plan import Endpoint, Limits, Plan


def plan_of(*groups: tuple[Endpoint, ...], stop: tuple[tuple[str, float], ...] = ()) -> Plan:
    return Plan(
        destination="example.net",
        site="mx1.example.net",
        provider="other",
        hosts=groups,
        tls="opportunistic",
        source=Source(name="one", address="192.0.2.1", address6="2001:db8::1", ehlo="out.example.org"),
        limits=Limits(key="mx1.example.net", connections=10, messages_per_connection=100, rate=None),
        credentials=None,
        stop=stop,
        expires_at=0.0,
    )


def hosts(prefix: str, count: int) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(f"mx{n}.example.net", f"{prefix}{n}", 25) for n in range(1, count + 1))


def test_preference_groups_keep_their_order() -> None:
    plan = plan_of(hosts("192.0.2.", 3), hosts("198.51.100.", 3), hosts("203.0.113.", 1))
    for seed in range(20):
        order = [endpoint.address.rpartition(".")[0] for endpoint in plan.endpoints(random.Random(seed))]
        assert order == ["192.0.2"] * 3 + ["198.51.100"] * 3 + ["203.0.113"]


def test_hosts_of_one_preference_share_the_load() -> None:
    """RFC 5321 5.1: hosts of one preference MUST be tried in random order."""
    plan = plan_of(hosts("192.0.2.", 4))
    rng = random.Random(1)
    first = [plan.endpoints(rng)[0].address for _ in range(400)]
    assert all(70 < first.count(f"192.0.2.{n}") < 130 for n in range(1, 5))


def test_the_same_seed_gives_the_same_order() -> None:
    plan = plan_of(hosts("192.0.2.", 8))
    assert plan.endpoints(random.Random(7)) == plan.endpoints(random.Random(7))
    assert len({tuple(plan.endpoints(random.Random(seed))) for seed in range(20)}) > 10


def test_families_take_turns_ipv6_first() -> None:
    plan = plan_of(hosts("192.0.2.", 4) + hosts("2001:db8::", 2))
    for seed in range(20):
        order = plan.endpoints(random.Random(seed))
        assert [endpoint.ipv6 for endpoint in order] == [True, False, True, False, False, False]
        assert sorted(map(str, order)) == sorted(map(str, plan.hosts[0]))


def test_one_family_alone_is_complete() -> None:
    for group in (hosts("192.0.2.", 3), hosts("2001:db8::", 3)):
        assert set(plan_of(group).endpoints(random.Random(3))) == set(group)


def test_the_source_address_fits_the_family() -> None:
    plan = plan_of(hosts("192.0.2.", 1))
    assert plan.source_address(Endpoint("mx", "2001:db8::9", 25)) == "2001:db8::1"
    assert plan.source_address(Endpoint("mx", "192.0.2.9", 25)) == "192.0.2.1"


def test_a_stop_rule_is_found_in_a_reply_and_the_longest_wins() -> None:
    plan = plan_of(hosts("192.0.2.", 1), stop=(("[TS04]", 7200.0), ("try later", 60.0)))
    assert plan.stop_for("421 4.7.0 [TS04] Messages deferred, try later") == 7200.0
    assert plan.stop_for("450 4.2.0 try later") == 60.0
    assert plan.stop_for("250 ok") is None


def test_an_endpoint_is_written_as_in_log_lines() -> None:
    assert str(Endpoint("mx1.example.org", "192.0.2.7", 25)) == "mx1.example.org[192.0.2.7]:25"
