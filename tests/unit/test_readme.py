"""README.md tells the truth: files, commands and make targets it names are there, and its settings load."""

import argparse
import re
from pathlib import Path

import pytest

from engine.base.settings_file import read_settings
from engine.cli.main import build_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(?:engine|config|tests|bench|systemd)/[\w./]*\w", README))))
def test_files_it_names_are_there(path: str) -> None:
    assert (ROOT / path).exists()


def commands() -> set[str]:
    actions = build_parser()._subparsers._group_actions  # type: ignore[union-attr]  # argparse has no other way
    return {name for action in actions if isinstance(action, argparse._SubParsersAction) for name in action.choices}


def test_its_list_of_commands_is_complete() -> None:
    block = README.partition("## Commands")[2].partition("\n\n    ")[2].partition("\n\n")[0]
    listed = [word for line in block.splitlines() for word in re.split(r" {3,}", line.strip())[0].split()]
    assert sorted(listed) == sorted(commands())


def test_commands_it_shows_exist() -> None:
    assert set(re.findall(r"(?:`|^    )postrider ([a-z]+)", README, re.MULTILINE)) <= commands()


def test_make_targets_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z-]+)", README, re.MULTILINE)) <= targets


def test_its_settings_load(tmp_path: Path) -> None:
    blocks = re.findall(r"(?:^    .*\n|\n(?=    ))+", README, re.MULTILINE)
    toml = [
        re.sub(r"^    ", "", block, flags=re.MULTILINE)
        for block in blocks
        if re.search(r"^    \[", block, re.MULTILINE)
    ]
    of = "the quick start, a route to a sink, SMS, what comes back, links, their listener, a webhook, pulled events"
    assert len(toml) == 8, of
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "s1.pem").touch()
    (tmp_path / "shop.secret").touch(mode=0o600)
    (tmp_path / "postrider.toml").write_text("\n".join(toml))
    settings, problems = read_settings(tmp_path / "postrider.toml")
    assert problems == []
    assert (settings.node.name, len(settings.listener), len(settings.dkim)) == ("mx.example.org", 5, 1)
    assert (len(settings.account), len(settings.carrier), len(settings.webhook)) == (1, 1, 1)
    assert len(settings.inbound) == 2
