"""Small parts of the redirector: targets, clients behind proxies, known scanners, languages, masked addresses."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.errors import ConfigError
from engine.base.settings_scanners import Scanner
from engine.message.link_target import target_of
from engine.tracking import pages
from engine.tracking.clients import Peers, neighbourhood
from engine.tracking.scanners import load_scanners, problems
from engine.tracking.selftest import proof
from engine.tracking.targets import location

SHIPPED = Path(__file__).parents[2] / "config" / "scanners.toml"


@pytest.mark.parametrize(
    "target",
    [
        "https://shop.example/a?b=1&c=%20#d", "HTTP://shop.example", "https://xn--bcher-kva.example:8443/x?",
        "https://[2001:db8::1]/x", "https://user@shop.example/~x/;y,z!'()*[]",
    ],
)  # fmt: skip
def test_what_a_table_holds_is_a_location_as_it_is(target: str) -> None:
    assert location(target) == target.encode()


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "//evil.example/", "/path", "", "https://",
        "https:///evil.example", "http:/evil.example", "https:evil.example", "ftp://a.example/", "vbscript:x",
        "https://a.example/\r\nSet-Cookie: a=b", "https://a.example/\n", "https://a.example/\tb", "\nhttps://a.example",
        " https://a.example", "https://a.example/\x00", "https://\\evil.example", "https://a.example/" + "a" * 9000,
        "https://xn--\udcff.example/", "https://größe.example/", "https://a.example/größe", "https://a.example/a b",
        'https://a.example/"><script>', "https://a.example\\@evil.example/", "https://?x", "https://#x", "https://@/",
    ],
)  # fmt: skip
def test_nobody_is_sent_anywhere_else(target: str) -> None:
    assert location(target) is None


@given(st.text(max_size=60).map(lambda text: "https://a.example/" + text))
def test_what_the_rewriter_lets_through_is_a_location(value: str) -> None:
    made = target_of(value)
    assert made.url == "" or location(made.url) == made.url.encode()


@given(st.text(max_size=60) | st.text(max_size=60).map(lambda text: "https://a.example/" + text))
def test_whatever_a_target_is_a_location_is_one_line_of_ascii(target: str) -> None:
    value = location(target)
    if value is not None:
        assert value.lower().startswith((b"http://", b"https://"))
        assert not set(value) & {*range(33), 127, *range(128, 256)}


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.1", "", "203.0.113.1"),
        ("203.0.113.1", "198.51.100.7", "203.0.113.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.7, 10.0.0.9", "198.51.100.7"),
        ("10.0.0.1", "1.2.3.4,198.51.100.7:1234", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8::7]:443", "2001:db8::7"),
        ("10.0.0.1", "2001:DB8::7", "2001:db8::7"),
        ("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "999.1.1.1", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4," * 1000 + "198.51.100.7", "198.51.100.7"),
    ],
)
def test_forwarded_for_counts_from_listed_proxies_only(peer: str, forwarded: str, client: str) -> None:
    assert Peers(["10.0.0.0/8"]).client(peer, forwarded) == client


def test_nobody_is_a_proxy_where_none_is_listed() -> None:
    assert Peers([]).client("127.0.0.1", "198.51.100.7") == "127.0.0.1"


def test_a_network_of_ipv6_is_one_neighbourhood() -> None:
    assert neighbourhood("2001:db8:0:1::7") == neighbourhood("2001:db8:0:1:ffff::9") == "2001:db8:0:1::/64"
    assert neighbourhood("192.0.2.7") == "192.0.2.7"


def test_the_shipped_scanners_do_what_their_samples_say() -> None:
    known = load_scanners(SHIPPED)
    assert known.name("192.0.2.1", "curl/8.5.0") == "program"
    assert known.name("192.0.2.1", "") == ""


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 OPR/115.0",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.1 Safari/605.1.15",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 GSA/339.0 Mobile",
        "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 Chrome/130.0 Mobile YaBrowser/24.10",
        "Mozilla/5.0 (Linux; Android 13) AppleWebKit/537.36 Chrome/129.0 Mobile Safari/537.36 Instagram 355.0 Android",
        "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; Microsoft Outlook 16.0.17928; ms-office) like Gecko",
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:132.0) Gecko/20100101 Thunderbird/128.4.0",
    ],
)  # fmt: skip
def test_people_are_no_scanners(agent: str) -> None:
    assert load_scanners(SHIPPED).name("192.0.2.1", agent) == ""


def test_scanners_are_known_by_their_network_too(tmp_path: Path) -> None:
    (tmp_path / "scanners.toml").write_text('[[scanner]]\nname = "mine"\nnetworks = ["198.51.100.0/24"]\n')
    known = load_scanners(tmp_path / "scanners.toml")
    assert (known.name("198.51.100.9", "Firefox"), known.name("192.0.2.1", "Firefox")) == ("mine", "")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (Scanner(name="a", agent=("(",)), "[[scanner]] a agent: '(' is not a pattern"),
        (Scanner(name="a", networks=("10.0.0.1/8",)), '[[scanner]] a networks: "10.0.0.1/8" is not a network'),
        (Scanner(name="a"), "[[scanner]] a: neither agent nor networks"),
        (Scanner(name="a", agent=("x",), matches=("y",)), '[[scanner]] a matches: "y" is known by no row'),
        (Scanner(name="a", agent=("x",), misses=("xy",)), '[[scanner]] a misses: "xy" is known by a'),
    ],
)
def test_what_is_wrong_with_a_row_is_said(row: Scanner, problem: str) -> None:
    assert any(problem in text for text in problems([row]))


def test_a_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "scanners.toml").write_text('[[rule]]\nname = "a"\n[[scanner]]\nagents = ["x"]\n')
    with pytest.raises(ConfigError) as caught:
        load_scanners(tmp_path / "scanners.toml")
    assert "scanners.toml: [rule]: unknown table; this file holds [[scanner]] only" in caught.value.problems


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"), ("ru", "ru"), ("ru-RU,ru;q=0.9,en;q=0.8", "ru"), ("en-US,en;q=0.9,ru;q=0.8", "en"),
        ("de,ru;q=0.5", "ru"), ("de;q=0.9", "en"), ("ru;q=x", "en"), ("ru;q=9", "en"), ("*", "en"),
        (",,;;", "en"), ("ru;q=0", "en"),
    ],
)  # fmt: skip
def test_language_is_what_the_reader_knows_best(accept: str, language: str) -> None:
    assert pages.language(accept) == language


@pytest.mark.parametrize(
    ("address", "shown"),
    [("bob@example.org", "b•••@e•••.org"), ("a@b.co.uk", "a•••@b•••.uk"), ("x@localhost", "x•••@l•••")],
)
def test_addresses_are_masked(address: str, shown: str) -> None:
    assert pages.masked(address) == shown


def test_pages_escape_what_others_wrote() -> None:
    page = pages.unsubscribe("en", '"<b>"@evil.test', "<script>alert(1)</script>{address}").decode()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{address}" in page


def test_every_language_says_everything() -> None:
    assert pages._EN.keys() == pages._RU.keys()


def test_proof_is_of_hexadecimal_nonces_only_and_by_the_newest_key() -> None:
    keys = {2: b"b" * 16, 1: b"a" * 16}
    made = proof(keys, "0" * 32)
    assert made is not None
    assert made.startswith("2:")
    assert made != proof({2: b"c" * 16}, "0" * 32)
    assert [proof(keys, nonce) for nonce in ("", "0" * 31, "0" * 33, "g" * 32, "A" * 32)] == [None] * 5
