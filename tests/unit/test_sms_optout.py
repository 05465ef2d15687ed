"""`postrider sms optout`: a view of the suppressions, by sender id."""

import json
from pathlib import Path

import pytest

from engine.cli.main import main

PHONE = "+447700900123"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "providers.toml").write_text("")
    path = tmp_path / "postrider.toml"
    path.write_text("[node]\ndata_dir = 'data'\n")
    return path


def postrider(config: Path, *argv: str) -> int:
    return main(["sms", "optout", *argv, "-c", str(config)])


def test_the_way_of_an_opt_out(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert postrider(config, "add", "+60999", PHONE, "--note", "wrote a letter") == 0
    assert postrider(config, "add", "60999", PHONE) == 0
    assert "already" in capsys.readouterr().out
    assert main(["suppress", "add", PHONE, "-c", str(config)]) == 0  # of all senders: no opt-out from one
    capsys.readouterr()
    assert postrider(config, "list", "--json") == 0
    [listed] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (listed["sender"], listed["recipient"]) == ("60999", PHONE[1:])
    assert (listed["cause"], listed["evidence"]) == ("manual", "wrote a letter")
    assert postrider(config, "remove", "60999", PHONE) == 0
    assert postrider(config, "remove", "60999", PHONE) == 1
    assert "not suppressed" in capsys.readouterr().err
    assert postrider(config, "list") == 0


@pytest.mark.parametrize("argv", [("60999", "nobody"), ("", PHONE), ("x" * 22, PHONE), ("60999", "+" + "1" * 16)])
def test_what_is_no_number_is_refused(config: Path, argv: tuple[str, str]) -> None:
    assert postrider(config, "add", *argv) == 2


def test_an_address_of_mail_is_no_number(config: Path) -> None:
    assert postrider(config, "add", "60999", "ada@example.org") == 2


def test_without_a_data_dir(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert postrider(config, "list", "--json") == 0
    assert capsys.readouterr().out == ""
    assert (config.parent / "data" / "suppression.db").stat().st_mode & 0o777 == 0o600
