"""`postrider sms route`: the carriers of a number in their order, on a terminal and as JSON."""

import json
from pathlib import Path

import pytest

from engine.cli import main, sms_route

SETTINGS = """
[[carrier]]
name = "beta"
host = "127.0.0.1"
system_id = "us"
countries = ["GB"]
price = "0.1"

[[carrier]]
name = "alphabet"
host = "127.0.0.1"
system_id = "us"
prefixes = ["447"]
senders = ["Shop"]
price = "0.035"

[[carrier]]
name = "quick"
host = "127.0.0.1"
system_id = "us"
classes = ["transactional"]
networks = ["US:none"]

[sms]
country = "GB"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "providers.toml").write_text("")
    (tmp_path / "postrider.toml").write_text(SETTINGS)
    return tmp_path / "postrider.toml"


def test_the_order_and_why(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["sms", "route", "-c", str(config), "07700 900123", "60999", "--sender", "shop"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "+447700900123: GB:O2",
        "  1  alphabet  0.035 a part  prefix 447",
        "  2  beta      0.1   a part  country GB",
        "60999: a short code",
        "  1  beta  0.1 a part  country GB",
    ]


def test_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["sms", "route", "-c", str(config), "--json", "+447775123456", "x\x1b[2Jy", "+12025550123"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        {
            "number": "+447775123456",
            "country": "GB",
            "network": "GB:Vodafone",
            "carriers": [{"carrier": "beta", "price": "0.1", "why": "country GB", "health": None}],
        },
        {
            "number": "x\x1b[2Jy",
            "error": "not digits, after a + where they are international",
        },
        {"number": "+12025550123", "country": "US", "network": None, "carriers": []},
    ]


def test_nobody_may_have_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["sms", "route", "-c", str(config), "+33612345678", "12"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "+33612345678: FR:SFR",
        "  no [[carrier]] may have it",
        "12: no number behind +44 has this form",
    ]


def test_no_sender(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["sms", "route", "-c", str(config), "+33612345678", "--sender", "a name that is too long"]) == 2
    assert "has 11 characters at most" in capsys.readouterr().err


def test_check_tells_what_is_wrong_with_routes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["check", "-c", str(config)]) == 0
    assert 'networks: "US:none": no range of numbers was given to a network of that name' in capsys.readouterr().out
    config.write_text(SETTINGS.replace('["GB"]', '["UK"]'))
    assert main.main(["check", "-c", str(config)]) == 2
    assert '[[carrier]] 1 countries: "UK": no country has numbers by that code' in capsys.readouterr().out


def test_what_a_running_daemon_says_of_each(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is not bound comes last, as in the daemon; of a pair only the transmitter counts."""

    def bind(name: str, kind: str, state: str, **more: object) -> dict[str, object]:
        row = {"side": "carrier", "name": name, "bind": kind, "state": state, "reason": ""}
        return row | {"takes": state == "bound"} | more

    answers = [
        bind("beta", "transmitter", "bound", rate="12.5/s", reason="told to slow down: a pause of 2s more"),
        bind("beta", "receiver", "down", reason="not connected yet"), bind("beta", "transmitter", "down"),
        bind("alphabet", "transceiver", "down", reason="bind refused: ESME_RINVPASWD"),
        {"side": "account", "name": "beta", "bind": "transmitter", "state": "bound", "reason": ""},
    ]  # fmt: skip
    monkeypatch.setattr(sms_route, "ask", lambda data_dir, command: iter(answers))
    assert main.main(["sms", "route", "-c", str(config), "07700 900123", "--sender", "shop"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "+447700900123: GB:O2",
        "  1  beta      0.1   a part  country GB  bound 1 of 2, 12.5/s; told to slow down: a pause of 2s more",
        "  2  alphabet  0.035 a part  prefix 447  down: bind refused: ESME_RINVPASWD",
    ]
