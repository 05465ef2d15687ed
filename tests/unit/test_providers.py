"""The provider table: matching, limits, what `problems` finds, and the table that is shipped, row by row."""

from pathlib import Path

import pytest

from engine.base.settings import Provider, SiteDefaults
from engine.base.settings_file import load_providers
from engine.base.units import Duration, Rate
from engine.routing.plan import Limits
from engine.routing.providers import ProviderTable, limits_of, problems

SHIPPED = Path(__file__).parents[2] / "config" / "providers.toml"


def shipped() -> tuple[Provider, ...]:
    found: list[str] = []
    rows = load_providers(SHIPPED, found)
    assert found == []
    return rows


def name_of(table: ProviderTable, *hosts: str) -> str | None:
    provider = table.match(hosts)
    return None if provider is None else provider.name


#: provider -> MX names as seen in the wild, and neighbours that look alike and are not.
SAMPLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "google": (
        ("gmail-smtp-in.l.google.com", "alt4.aspmx.l.google.com", "smtp.google.com", "aspmx2.googlemail.com"),
        ("mx.notgoogle.com", "google.com.evil.test", "mx.google.com.br", "l-google.com"),
    ),
    "yahoo": (
        ("mta5.am0.yahoodns.net", "mx-aol.mail.gm0.yahoodns.net", "mx-eu.mail.am0.yahoodns.net"),
        ("mx.yahoo.com.test", "yahoodns.net.evil.test", "notyahoodns.net"),
    ),
    "outlook": (
        ("outlook-com.olc.protection.outlook.com", "hotmail-com.olc.protection.outlook.com"),
        ("example-com.olc.protection.outlook.com.evil.test", "protection.outlook.com"),
    ),
    "office365": (
        ("example-com.mail.protection.outlook.com", "example-org.q-v1.mx.microsoft"),
        ("mail-protection.outlook.com", "microsoft", "mx.microsoft.com"),
    ),
    "apple": (("mx01.mail.icloud.com", "mx02.mail.icloud.com"), ("icloud.com.evil.test", "myicloud.com")),
    "comcast": (("mx1a1.comcast.net", "mx2h1.comcast.net", "comcast.net"), ("mx.xcomcast.net", "comcast.net.test")),
    "gmx": (
        ("mx00.gmx.net", "mx01.gmx.net", "mx-ha02.web.de", "mx00.kundenserver.de"),
        ("mx.mygmx.net", "mx.cobweb.de", "kundenserver.de.test"),
    ),
    "orange": (("smtp-in.orange.fr",), ("mx.lorange.fr", "mx.orange.com")),
    "mimecast": (
        ("eu-smtp-inbound-1.mimecast.com", "us-smtp-inbound-2.mimecast.com"),
        ("mimecast.com.evil.test", "notmimecast.com"),
    ),
    "mail.ru": (("mxs.mail.ru", "emx.mail.ru"), ("mx.hotmail.ru", "mail.ru.test")),
    "yandex": (("mx.yandex.ru", "mx.yandex.net"), ("mx.yandex.com", "mx.myyandex.net")),
    "qq": (("mx3.qq.com", "mxbiz1.qq.com"), ("mx.qqq.com", "qq.com.test")),
    "netease": (("163mx01.mxmail.netease.com", "qiye163mx02.mxmail.netease.com"), ("mx.netease.com.test", "163.com")),
}


def test_every_shipped_row_has_samples() -> None:
    assert [row.name for row in shipped()] == list(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_shipped_row_takes_its_hosts_and_no_others(name: str) -> None:
    table = ProviderTable(shipped())
    members, strangers = SAMPLES[name]
    assert {host: name_of(table, host) for host in members} == dict.fromkeys(members, name)
    assert {host: name_of(table, host) for host in strangers} == dict.fromkeys(strangers)


def test_nothing_in_the_shipped_table_never_fires() -> None:
    assert problems(shipped()) == []


def test_the_shipped_figures_are_those_of_the_reference() -> None:
    """name: (messages per connection, connections, scope, tls)."""
    figures = {row.name: (row.messages_per_connection, row.connections, row.scope, row.tls) for row in shipped()}
    assert figures == {
        "google": (50, 5, "provider", "encrypt"),
        "yahoo": (20, 10, "site", None),
        "outlook": (50, 5, "provider", None),
        "office365": (50, 5, "site", None),
        "apple": (5, 10, "provider", None),
        "comcast": (1000, 25, "site", "encrypt"),
        "gmx": (20, 4, "site", "encrypt"),
        "orange": (100, 2, "site", "encrypt"),
        "mimecast": (100, 10, "site", None),
        "mail.ru": (100, 10, "site", None),
        "yandex": (100, 10, "site", None),
        "qq": (8, 4, "site", "encrypt"),
        "netease": (7, 4, "site", None),
    }


@pytest.mark.parametrize(
    ("reply", "fires"),
    [
        ("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume", True),
        ("421 4.7.0 [TS04] Messages from 2001:db8::1 temporarily deferred due to user complaints", True),
        ("421 4.7.0 [TS03] All messages from 192.0.2.1 will be permanently deferred", False),
        ("250 ok dirdel 1/0 ATS04", False),
    ],
)
def test_the_stop_rule_of_yahoo_fires_on_its_replies(reply: str, fires: bool) -> None:
    (yahoo,) = (row for row in shipped() if row.name == "yahoo")
    assert [seconds for text, seconds in yahoo.stop if text in reply] == ([7200.0] if fires else [])


def test_a_suffix_matches_with_and_without_leading_dot() -> None:
    for suffix in (".example.net", "example.net", ".EXAMPLE.net"):
        table = ProviderTable([Provider(name="one", mx=(suffix,))])
        assert name_of(table, "mx.example.net") == name_of(table, "example.net") == "one"
        assert name_of(table, "mxexample.net") is None


def test_the_first_row_wins_even_against_a_longer_suffix() -> None:
    rows = [Provider(name="wide", mx=(".example.net",)), Provider(name="narrow", mx=(".a.example.net",))]
    assert name_of(ProviderTable(rows), "mx.a.example.net") == "wide"
    assert name_of(ProviderTable(rows[::-1]), "mx.a.example.net") == "narrow"


def test_all_hosts_must_belong_to_the_provider() -> None:
    table = ProviderTable([Provider(name="one", mx=(".one.test",)), Provider(name="two", mx=(".two.test",))])
    assert name_of(table, "a.one.test", "b.one.test") == "one"
    assert name_of(table, "a.one.test", "mx.elsewhere.test") is None
    assert name_of(table, "a.one.test", "a.two.test") is None
    assert name_of(table) is None


def test_scope_says_who_shares_the_limits() -> None:
    default = SiteDefaults(connections=7, messages_per_connection=70, rate=Rate(30))
    each = Provider(name="each", mx=(".x.test",), connections=3, messages_per_connection=9, rate=Rate(2))
    assert limits_of(each, "mx.x.test", default) == Limits(
        key="mx.x.test", connections=3, messages_per_connection=9, rate=2.0
    )
    together = Provider(name="together", mx=(".x.test",), scope="provider")
    assert limits_of(together, "mx.x.test", default) == Limits(
        key="provider:together", connections=10, messages_per_connection=100, rate=30.0
    )
    assert limits_of(None, "mx.x.test", default) == Limits(
        key="mx.x.test", connections=7, messages_per_connection=70, rate=30.0
    )


_HOUR = Duration(3600)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (Provider(name="x", mx=(".example.net.",)), "ends in a dot"),
        (Provider(name="x", mx=("*.example.net",)), 'write ".example.net"'),
        (Provider(name="x", mx=()), "matches nothing"),
        (Provider(name="x", mx=("",)), "not the end of a host name"),
        (Provider(name="x", mx=("exa mple.net",)), "not the end of a host name"),
        (Provider(name="x", mx=("192.0.2.1",)), "not the end of a host name"),
        (Provider(name="x", mx=(".com",)), "whole top-level domain"),
        (Provider(name="x", mx=("mx.first.test",)), 'never reached, "first" above takes it'),
        (Provider(name="x", mx=(".FIRST.test",)), 'never reached, "first" above takes it'),
        (Provider(name="first", mx=(".x.test",)), "the name is there already"),
        (Provider(name="relay", mx=(".x.test",)), "a meaning of its own"),
        (Provider(name="Big Mail", mx=(".x.test",)), "lower case letters"),
        (Provider(name="x", mx=(".x.test",), connections=0), "fewer than 1"),
        (Provider(name="x", mx=(".x.test",), messages_per_connection=0), "fewer than 1"),
        (Provider(name="x", mx=(".x.test",), stop=(("", _HOUR),)), "in every reply"),
        (Provider(name="x", mx=(".x.test",), stop=((" ", _HOUR),)), "in every reply"),
        (Provider(name="x", mx=(".x.test",), stop=(("550", _HOUR),)), "too short"),
        (Provider(name="x", mx=(".x.test",), stop=((r"\\[TS04\\]", _HOUR),)), "backslash"),
        (Provider(name="x", mx=(".x.test",), stop=((r"4\.7\.0", _HOUR),)), "backslash"),
        (Provider(name="x", mx=(".x.test",), stop=(("blocked .* complaints", _HOUR),)), "looks like a pattern"),
        (Provider(name="x", mx=(".x.test",), stop=(("^421 4.7.0", _HOUR),)), "looks like a pattern"),
        (Provider(name="x", mx=(".x.test",), stop=(("Messages from 192.0.2.1 deferred", _HOUR),)), "IPv4"),
        (Provider(name="x", mx=(".x.test",), stop=(("[TS04]", Duration(0)),)), "no time given"),
        (Provider(name="x", mx=(".x.test",), stop=(("one\ntwo", _HOUR),)), "one line"),
    ],
)
def test_a_row_that_never_fires_is_found(row: Provider, says: str) -> None:
    first = Provider(name="first", mx=(".first.test",))
    (problem,) = problems([first, row])
    assert says in problem
    assert problem.startswith(f'[[provider]] "{row.name}": ')


def test_enhanced_codes_and_urls_in_a_stop_rule_are_fine() -> None:
    stop = (("421 4.7.0 [TS04]", _HOUR), ("see https://postmaster.example.net/4.7.1", _HOUR), ("(RP-001)", _HOUR))
    assert problems([Provider(name="x", mx=(".x.test",), stop=stop)]) == []
