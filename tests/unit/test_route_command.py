"""`postrider route`: what it prints for a relay, for MX hosts, for a provider, and for what has no way."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli.main import main
from tests.support import dns

ZONE = """
example.net.          300 MX 10 mx1.example.net.
example.net.          300 MX 20 mx2.example.net.
mx1.example.net.      300 A 11.0.0.1
mx2.example.net.      300 A 11.0.0.2
hosted.test.          300 MX 1 aspmx.l.google.com.
aspmx.l.google.com.   300 A 11.0.0.3
null.test.            300 MX 0 .
"""
SETTINGS = """
[node]
name = "out.example.org"
data_dir = "data"
[resolver]
nameservers = ["{address}"]
[[route]]
domain = ".inside.test"
relay = "10.0.0.1:2600"
tls = "none"
"""


@pytest.fixture
def config(tmp_path: Path) -> Iterator[str]:
    with dns.start(ZONE) as server:
        path = tmp_path / "postrider.toml"
        path.write_text(SETTINGS.format(address=server.address))
        yield str(path)


def test_it_shows_the_way_of_each_address(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "-c", config, "ada@example.net", "bob@a.inside.test"]) == 0
    ada, bob = capsys.readouterr().out.split("\n\n")
    assert [line.split() for line in ada.splitlines()][:3] == [
        ["ada@example.net"],
        ["route", "MX", "of", "example.net"],
        ["site", "mx1.example.net,mx2.example.net"],
    ]
    assert "  hosts      1. mx1.example.net[11.0.0.1]:25\n             2. mx2.example.net[11.0.0.2]:25\n" in ada
    assert 'route      [[route]] ".inside.test": relay 10.0.0.1:2600' in bob
    assert "tls        none" in bob


def test_it_names_the_provider_of_the_shipped_table(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "-c", config, "hosted.test", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["provider"], row["tls"]) == ("google", "encrypt")
    assert row["limits"] == {
        "key": "provider:google",
        "connections": 5,
        "messages_per_connection": 50,
        "rate": 100.0,
    }
    assert row["hosts"] == [["aspmx.l.google.com[11.0.0.3]:25"]]


def test_it_says_why_there_is_no_way(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    addresses = ["a@null.test", "b@absent.test", "c@[127.0.0.1]", "d@@"]
    assert main(["route", "-c", config, *addresses, "--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["address"], row["status"], row["status_code"]) for row in rows] == [
        ("a@null.test", "failed", "5.1.10"),
        ("b@absent.test", "failed", "5.1.2"),
        ("c@[127.0.0.1]", "failed", "5.4.4"),
        ("d@@", "invalid", "5.1.3"),
    ]
    assert main(["route", "-c", config, *addresses]) == 1
    assert "  failed     5.1.10 the domain null.test accepts no mail (null MX)" in capsys.readouterr().out
