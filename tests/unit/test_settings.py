"""The settings file: what loads, what is refused and in which words."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.base.errors import ConfigError
from engine.base.settings import Settings
from engine.base.settings_checks import warnings_of
from engine.base.settings_file import load_settings, read_settings
from engine.base.units import Duration, Rate, Size
from engine.tools.certificate import self_signed

DOCUMENTED = Path(__file__).parents[2] / "config" / "postrider.toml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an empty provider table, a DKIM key and a TLS pair."""
    (tmp_path / "providers.toml").write_text("")
    (tmp_path / "x.pem").write_text("key")
    (tmp_path / "x.pem").chmod(0o600)
    return tmp_path


def load(folder: Path, text: str) -> Settings:
    (folder / "postrider.toml").write_text(text)
    return load_settings(folder / "postrider.toml")


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong with this text, without the name of the file."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    assert all(line.startswith("postrider.toml: ") for line in caught.value.problems)
    return [line.removeprefix("postrider.toml: ") for line in caught.value.problems]


def test_an_empty_file_is_all_defaults(folder: Path) -> None:
    settings = load(folder, "")
    expected = Settings()
    node = msgspec.structs.replace(expected.node, data_dir=str(folder / "data"))
    routing = msgspec.structs.replace(expected.routing, providers_file=str(folder / "providers.toml"))
    bounces = msgspec.structs.replace(expected.bounces, rules_file=str(DOCUMENTED.with_name("bounces.toml")))
    tracking = msgspec.structs.replace(expected.tracking, scanners_file=str(DOCUMENTED.with_name("scanners.toml")))
    assert settings == msgspec.structs.replace(expected, node=node, routing=routing, bounces=bounces, tracking=tracking)


def test_the_fixed_names_load(folder: Path) -> None:
    """The names that scripts outside rely on."""
    settings = load(
        folder,
        """
        node = { name = "MX1.example.org", data_dir = "spool", workers = 1 }
        resolver = { nameservers = ["127.0.0.1:5353", "::1"] }
        routing = { allow_private = true }
        retry = { schedule = "1m, 5m, 15m, 30m, 1h, 2h, 4h*", expire_after = "72h" }
        [[listener]]
        kind = "smtp"
        address = "127.0.0.1:2525"
        networks = ["127.0.0.0/8"]
        [[listener]]
        kind = "http"
        address = "[::1]:9125"
        [[route]]
        domain = "Example.NET"
        relay = "127.0.0.1:2600"
        [[route]]
        domain = "*"
        relay = "[::1]:2600"
        [[dkim]]
        domain = "example.org"
        selector = "s1"
        key = "x.pem"
        """,
    )
    assert settings.node.name == "mx1.example.org"
    assert settings.node.data_dir == str(folder / "spool")
    assert settings.resolver.nameservers == ("127.0.0.1:5353", "[::1]:53")
    assert settings.routing.allow_private
    assert (settings.retry.expire_after, type(settings.retry.expire_after)) == (259200, Duration)
    assert [(each.kind, each.address) for each in settings.listener] == [
        ("smtp", "127.0.0.1:2525"),
        ("http", "[::1]:9125"),
    ]
    assert [(each.domain, each.relay) for each in settings.route] == [
        ("example.net", "127.0.0.1:2600"),
        ("*", "[::1]:2600"),
    ]
    assert settings.dkim[0].key == str(folder / "x.pem")


def test_units_arrive_as_numbers(folder: Path) -> None:
    text = 'site = { rate = "600/m" }\nintake = { max_message_bytes = 1000000, max_header_bytes = "64KiB" }'
    settings = load(folder, text)
    assert (settings.site.rate, type(settings.site.rate)) == (10, Rate)
    assert (settings.intake.max_message_bytes, type(settings.intake.max_message_bytes)) == (1_000_000, Size)
    assert settings.intake.max_header_bytes == 65536


def test_every_mistake_is_reported_in_one_run(folder: Path) -> None:
    text = """
        [node]
        dta_dir = "x"
        workers = 65
        [nodes]
        [site]
        rate = "fast"
        [[route]]
        domain = "example.org"
        relay = "127.0.0.1:2600"
        [[route]]
        domain = "a b"
        relay = "mx.example.org"
        source = "one"
        [retry.transactional]
        schedule = "1m*, 2m"
        """
    assert problems(folder, text) == [
        "[nodes]: unknown table (did you mean [node]?)",
        "[node] dta_dir: unknown key (did you mean data_dir?)",
        "[node] workers: 65 is not a number of workers, 1 to 64",
        '[[route]] 2 domain: "a b" is not a domain in ASCII form, such as "example.org"',
        '[[route]] 2 relay: "mx.example.org" is not an address with a port, such as "127.0.0.1:2525" or "[::1]:2525"',
        '[site] rate: "fast" is not a rate, such as "20/s"',
        '[retry.transactional] schedule: "1m*, 2m": only the last step can repeat, not "1m*"',
        '[[route]] 2 source: "one" is not the name of a [[source]]',
    ]


LISTENER = '[[listener]]\nkind = "smtp"\naddress = "127.0.0.1:2525"\n'
ROUTE = '[[route]]\ndomain = "example.org"\n'
DKIM = '[[dkim]]\ndomain = "example.org"\nselector = "s1"\nkey = "x.pem"\n'

#: What stands in the file: what is said about it.
MISTAKES = {
    # shapes
    'name = "x"': "name: a key outside any table; put it under one, such as [node]",
    "node = 5": "node: must be a table, [node]",
    "[[node]]": "[[node]]: write [node]: there is only one",
    "[listener]": "[listener]: write [[listener]]: there may be several",
    "listener = [1]": "[listener]: write [[listener]]: there may be several",
    "[[nodule]]": "[[nodule]]: unknown table (did you mean [[node]]?)",
    "[[route]]": "[[route]] 1 domain: missing",
    f"{LISTENER}tls = 5": "[[listener]] 1 tls: 5 is not a table, such as { key = value }",
    # types
    "[node]\nname = 5": "[node] name: 5 is not a text in quotes",
    '[node]\nworkers = "1"': '[node] workers: "1" is not a whole number',
    "[node]\nworkers = true": "[node] workers: true is not a whole number",
    "[routing]\nipv6 = 1": "[routing] ipv6: 1 is not true or false",
    "[spool]\nmin_free = []": "[spool] min_free: [] is not a number",
    "[retry]\nexpire_after = 72": '[retry] expire_after: 72 is not a duration, such as "90s"',
    "[retry]\nexpire_after = []": '[retry] expire_after: [] is not a duration, such as "90s"',
    "[site]\nrate = 20": '[site] rate: 20 is not a rate, such as "20/s"',
    '[spool]\nhot_bytes = "1MB"': '[spool] hot_bytes: "1MB" is not a size in bytes, KiB, MiB or GiB, such as "25MiB"',
    "[spool]\nhot_bytes = -1": '[spool] hot_bytes: -1 is not a size in bytes, KiB, MiB or GiB, such as "25MiB"',
    '[log]\nlevel = "loud"': '[log] level: "loud" is not one of "debug", "info", "warning", "error"',
    f'{ROUTE}tls = "on"': '[[route]] 1 tls: "on" is not one of "none", "opportunistic", "encrypt", "verify"',
    f'{ROUTE}rate = "0/s"': '[[route]] 1 rate: "0/s" is not a rate, such as "20/s"',
    f'{ROUTE}connections = "x"': '[[route]] 1 connections: "x" is not a whole number',
    f'{LISTENER}networks = "::1"': '[[listener]] 1 networks: "::1" is not a list of texts, such as ["one", "two"]',
    '[[provider]]\nname = "a"\nmx = [".a"]\nstop = ["TS04"]': (
        '[[provider]] 1 stop: ["TS04"] is not a list of pairs, such as [["text in a reply", "2h"]]'
    ),
    '[[provider]]\nname = "a"\nmx = [".a"]\nstop = [["TS04", "x"]]': (
        '[[provider]] 1 stop: "x" is not a duration, such as "90s", "5m" or "1h30m"'
    ),
    # ranges
    "[intake]\nmax_recipients = 0": "[intake] max_recipients: 0 is too small; 1 or more",
    '[intake]\ncommand_timeout = "0s"': "[intake] command_timeout: must be more than zero",
    "[intake]\nmax_command_bytes = 100": "[intake] max_command_bytes: 100 is too small; 512 or more",
    "[spool]\nmin_free = 1.5": "[spool] min_free: 1.5 is not a fraction from 0 to 1",
    "[spool]\nmin_free = nan": "[spool] min_free: nan is not a fraction from 0 to 1",
    "[retry]\njitter = -1": "[retry] jitter: -1 is not a fraction from 0 to 1",
    "[routing]\nport = 65536": "[routing] port: 65536 is not a port, 1 to 65535",
    f"{ROUTE}connections = 0": "[[route]] 1 connections: 0 is too small; 1 or more",
    '[resolver]\nmin_ttl = "2h"': "[resolver] min_ttl: is longer than max_ttl",
    # addresses and names
    '[node]\nname = "a_b c"': '[node] name: "a_b c" is not a host name in ASCII form',
    '[resolver]\nnameservers = ["ns1:53", "::1:x"]': (
        '[resolver] nameservers: "ns1:53", "::1:x": not an IP address with a port, such as "127.0.0.1:53"'
    ),
    f'{ROUTE}relay = "a:0"': '[[route]] 1 relay: "a:0": port 0 cannot be connected to',
    '[[route]]\ndomain = "bücher.example"': (
        '[[route]] 1 domain: "bücher.example" is not a domain in ASCII form, such as "example.org"'
    ),
    f'{LISTENER}networks = ["10.0.0.1/8", "x"]': (
        '[[listener]] 1 networks: "10.0.0.1/8" (bits are set behind the prefix), "x": '
        'not a network, such as "192.0.2.0/24" or "::1"'
    ),
    f'{LISTENER}proxy_from = ["lb1"]': (
        '[[listener]] 1 proxy_from: "lb1": not a network, such as "192.0.2.0/24" or "::1"'
    ),
    f'{LISTENER}networks = ["::/0"]': '[[listener]] 1 networks: "::/0" would make this an open relay',
    '[[source]]\nname = "a"\naddress = "::1"': '[[source]] 1 address: "::1" is not an IPv4 address',
    '[[source]]\nname = "a"\naddress6 = "x"': '[[source]] 1 address6: "x" is not an IPv6 address',
    '[[source]]\nname = "a b"': (
        '[[source]] 1 name: "a b" is not a name: 1 to 63 printable ASCII characters without spaces'
    ),
    '[[provider]]\nname = "a"\nmx = []': (
        '[[provider]] 1 mx: at least one ending of an MX name, such as ".example.net"'
    ),
    '[dsn]\nsender_name = "a\\nBcc: x"': "[dsn] sender_name: control characters are not allowed",
    '[dsn]\npostmaster = "post"': '[dsn] postmaster: "post" is not an address, such as "postmaster@example.org"',
    # tables among themselves
    LISTENER + LISTENER: '[[listener]] 2 address: "127.0.0.1:2525" is taken by another listener',
    LISTENER + LISTENER.replace("127.0.0.1", "0.0.0.0"): (
        '[[listener]] 2 address: "0.0.0.0:2525" is taken by another listener'
    ),
    '[[source]]\nname = "a"\n[[source]]\nname = "a"': '[[source]] 2 name: "a" is there already',
    '[[provider]]\nname = "a"\nmx = [".a"]\n[[provider]]\nname = "a"\nmx = [".b"]': (
        '[[provider]] 2 name: "a" is there already'
    ),
    DKIM + DKIM: "[[dkim]] 2 selector: s1._domainkey.example.org is there already",
    DKIM.replace("example.org", "*"): '[[dkim]] 1 identity: missing: with domain "*" it names the domain that signs',
    f'{ROUTE}source = "b"': '[[route]] 1 source: "b" is not the name of a [[source]]',
    f'{ROUTE}relay = "a:25"\nusername = "u"': "[[route]] 1 password_file: missing, username is given",
    f'{ROUTE}relay = "a:25"\npassword_file = "x.pem"': "[[route]] 1 password_file: given without username",
    f'{ROUTE}username = "u"\npassword_file = "x.pem"': (
        "[[route]] 1 relay: missing: a login is never offered to whatever host an MX names"
    ),
    f'{ROUTE}relay = "a:25"\nusername = "u"\npassword_file = "x.pem"\ntls = "none"': (
        '[[route]] 1 tls: "none": a login is never sent without TLS but to this machine, so nothing would be delivered'
    ),
    # syntax
    "[node": "not TOML: Expected ']' at the end of a table declaration (at end of document)",
    "[node]\nname = x": "not TOML: Invalid value (at line 2, column 8)",
    "[node]\n[node]": "not TOML: Cannot declare ('node',) twice (at line 2, column 6)",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named(folder: Path, text: str) -> None:
    assert problems(folder, text) == [MISTAKES[text]]


def test_missing_files_are_named_with_their_path(folder: Path) -> None:
    text = DKIM.replace("x.pem", "none.pem") + ROUTE + 'relay = "a:25"\nusername = "u"\npassword_file = "none"\n'
    text += LISTENER + 'tls = { cert = "none.crt", key = "/none.key" }\n[routing]\nproviders_file = "none.toml"'
    assert problems(folder, text) == [
        f"[[listener]] 1 tls.cert: {folder}/none.crt cannot be read: No such file or directory",
        "[[listener]] 1 tls.key: /none.key cannot be read: No such file or directory",
        f"[[route]] 1 password_file: {folder}/none cannot be read: No such file or directory",
        f"[[dkim]] 1 key: {folder}/none.pem cannot be read: No such file or directory",
        f"[routing] providers_file: {folder}/none.toml does not exist",
    ]


def test_a_password_that_others_can_read_is_refused(folder: Path) -> None:
    (folder / "x.pem").chmod(0o640)
    text = f'{ROUTE}relay = "a:25"\nusername = "u"\npassword_file = "x.pem"'
    assert problems(folder, text) == [
        f"[[route]] 1 password_file: {folder}/x.pem has mode 0640, others can read it; make it 0600"
    ]


def test_a_login_without_tls_is_for_this_machine(folder: Path) -> None:
    login = 'username = "u"\npassword_file = "x.pem"\n'
    (folder / "x.pem").chmod(0o600)
    for relay in ("127.0.0.1:25", "[::1]:25", "localhost:25"):
        load(folder, f'{ROUTE}relay = "{relay}"\n{login}tls = "none"')
    everywhere = f'[delivery]\ntls = "none"\n{ROUTE}relay = "relay.test:25"\n{login}'
    said = '[[route]] 1 tls: missing, and [delivery] tls = "none": no login is sent without TLS'
    assert said in warnings_of(load(folder, everywhere))
    for text in (everywhere + 'tls = "encrypt"', everywhere.replace("relay.test", "127.0.0.1")):
        assert not [line for line in warnings_of(load(folder, text)) if "login" in line]


def test_a_certificate_is_read_with_its_key(folder: Path) -> None:
    text = LISTENER + 'tls = { cert = "x.pem", key = "x.pem" }'
    assert problems(folder, text) == [
        f"[[listener]] 1 tls.key: cert {folder}/x.pem and key {folder}/x.pem are not a PEM chain and its key"
    ]
    for name in ("one", "two"):
        cert, key = self_signed("mx.example.org")
        (folder / f"{name}.crt").write_bytes(cert)
        (folder / f"{name}.key").write_bytes(key)
        (folder / f"{name}.key").chmod(0o600)
    load(folder, LISTENER + 'tls = { cert = "one.crt", key = "one.key" }')
    text = LISTENER + 'tls = { cert = "one.crt", key = "two.key" }'
    assert problems(folder, text) == [
        f"[[listener]] 1 tls.key: key {folder}/two.key does not belong to cert {folder}/one.crt"
    ]


def test_a_numbered_row_keeps_its_number_when_the_one_before_is_bad(folder: Path) -> None:
    text = '[[source]]\n[[source]]\nname = "a"\n[[source]]\nname = "a"'
    assert problems(folder, text) == ["[[source]] 1 name: missing", '[[source]] 3 name: "a" is there already']


def test_a_bad_field_does_not_hide_the_ones_around_it(folder: Path) -> None:
    text = LISTENER.replace("127.0.0.1:2525", "nowhere") + 'networks = ["0.0.0.0/0"]'
    assert [line.split(":")[0] for line in problems(folder, text)] == [
        "[[listener]] 1 address",
        "[[listener]] 1 networks",
    ]
    text = LISTENER + LISTENER.replace("smtp", "mail") + DKIM + DKIM.replace("x.pem", "none.pem")
    assert [line.split(":")[0] for line in problems(folder, text)] == [
        "[[listener]] 2 kind",
        "[[dkim]] 2 key",
        "[[listener]] 2 address",
        "[[dkim]] 2 selector",
    ]


def test_no_file_and_no_permission(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "no such file"), (tmp_path, "cannot be read: Is a directory")):
        with pytest.raises(ConfigError, match=re.escape(f"{path}: {reason}")):
            load_settings(path)
    (tmp_path / "latin.toml").write_bytes(b'[node]\nname = "\xe9"')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_settings(tmp_path / "latin.toml")


def test_providers_of_the_settings_go_first_and_replace_their_namesakes(folder: Path) -> None:
    (folder / "providers.toml").write_text(
        '[[provider]]\nname = "a"\nmx = [".a.net"]\n[[provider]]\nname = "b"\nmx = [".b.net"]\nstop = [["TS04", "2h"]]'
    )
    settings = load(folder, '[[provider]]\nname = "c"\nmx = [".c"]\n[[provider]]\nname = "a"\nmx = [".a.example"]')
    assert [(each.name, *each.mx) for each in settings.provider] == [("c", ".c"), ("a", ".a.example"), ("b", ".b.net")]
    assert settings.provider[2].stop == (("TS04", 7200),)


def test_mistakes_of_the_provider_table_carry_its_name(folder: Path) -> None:
    (folder / "providers.toml").write_text('[node]\n[[provider]]\nname = "a"\nmx = ".a.net"\nconections = 4')
    with pytest.raises(ConfigError) as caught:
        load(folder, "[node]\nworkers = 0")
    assert caught.value.problems == [
        "postrider.toml: [node] workers: 0 is not a number of workers, 1 to 64",
        "providers.toml: [node]: unknown table; this file holds [[provider]] only",
        "providers.toml: [[provider]] 1 conections: unknown key (did you mean connections?)",
        'providers.toml: [[provider]] 1 mx: ".a.net" is not a list of texts, such as ["one", "two"]',
    ]


def test_the_shipped_provider_table_serves_when_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "postrider.toml").write_text("")
    settings = load_settings(tmp_path / "postrider.toml")
    assert settings.routing.providers_file == str(DOCUMENTED.with_name("providers.toml"))


def test_warnings(folder: Path) -> None:
    text = LISTENER.replace("127.0.0.1", "192.0.2.1") + ROUTE.replace("example.org", "*") + ROUTE + ROUTE
    assert [line.split(":")[0] for line in warnings_of(load(folder, text))] == [
        "[[listener]] 1",
        "[[route]] 2",
        "[[route]] 3",
        "no [[dkim]]",
        "[node] name",
    ]
    routes = "".join(
        ROUTE.replace("example.org", domain) for domain in (".a.net", "a.net", "b.a.net", ".c.a.net", "ba.net")
    )
    assert [line for line in warnings_of(load(folder, LISTENER + DKIM + routes)) if "never" in line] == [
        '[[route]] 3: never reached, [[route]] 1 takes ".a.net"',
        '[[route]] 4: never reached, [[route]] 1 takes ".a.net"',
    ]
    good = '[node]\nname = "mx.example.org"\n' + LISTENER + DKIM
    assert warnings_of(load(folder, good)) == []
    (crowd,) = warnings_of(load(folder, good.replace("[node]", "[node]\nworkers = 64")))
    assert crowd.startswith("[node] workers: 64 for ")


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("networks", "would make this an open relay"),
        ("proxy_from", "would let anybody say where it comes from"),
        ("xclient_from", "would let anybody say who it is"),
    ],
)
@pytest.mark.parametrize(
    ("nets", "named"),
    [
        (["0.0.0.0/0"], '"0.0.0.0/0"'),
        (["192.0.2.0/24", "::/0"], '"::/0"'),
        (["0.0.0.0/1", "128.0.0.0/1"], "all of them together"),
        (["::/1", "192.0.2.1", "8000::/2", "c000::/2"], "all of them together"),
    ],
)
def test_networks_of_everybody_are_refused(folder: Path, field: str, what: str, nets: list[str], named: str) -> None:
    assert problems(folder, f"{LISTENER}{field} = {json.dumps(nets)}") == [f"[[listener]] 1 {field}: {named} {what}"]
    load(folder, f'{LISTENER}{field} = ["0.0.0.0/1", "8000::/1"]')


def test_fields_of_smtp_on_another_listener_are_warned_about(folder: Path) -> None:
    http = '[[listener]]\nkind = "http"\naddress = "127.0.0.1:9125"\n'
    text = '[node]\nname = "mx.example.org"\n' + LISTENER + DKIM + http
    fields = 'auth = false\nmessage_class = "transactional"\nproxy_from = ["::1"]\nxclient_from = ["::1"]\n'
    assert warnings_of(load(folder, text + fields)) == [
        '[[listener]] 2: auth, message_class, proxy_from, xclient_from: does nothing on a listener of kind "http"'
    ]
    assert warnings_of(load(folder, text)) == []
    smpp = warnings_of(load(folder, text.replace('"http"', '"smpp"') + fields))
    assert '[[listener]] 2: auth, message_class, xclient_from: does nothing on a listener of kind "smpp"' in smpp


@pytest.mark.parametrize(
    ("mode", "good"), [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o660, False)]
)
def test_tls_key_that_others_may_use_is_refused(folder: Path, mode: int, good: bool) -> None:
    certificate, key = self_signed("localhost")
    (folder / "c.pem").write_bytes(certificate)
    (folder / "k.pem").write_bytes(key)
    (folder / "k.pem").chmod(mode)
    text = LISTENER + 'tls = { cert = "c.pem", key = "k.pem" }'
    if good:
        load(folder, text)
    else:
        (problem,) = problems(folder, text)
        assert f"k.pem has mode {mode:04o}, others may use it" in problem


_SCALARS = st.one_of(st.text(max_size=8), st.integers(-2, 99999), st.booleans(), st.floats(), st.none())
_NAMES = st.sampled_from(["node", "listener", "retry", "dkim", "tls", "address", "stop", "mx", "x", "networks", "rate"])
_TREES = st.recursive(
    _SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=4))
)


def _toml(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case bool():
            return "true" if value else "false"
        case None:
            return "1979-05-27"
        case str():
            return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in value) + '"'
    return str(value)


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(Settings.__struct_fields__)), _TREES, max_size=4))
def test_any_values_give_settings_or_problems(tmp_path_factory: pytest.TempPathFactory, raw: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in raw.items()), errors="replace")
    settings, found = read_settings(path)
    assert isinstance(settings, Settings)
    assert all(line.isprintable() for line in found)
