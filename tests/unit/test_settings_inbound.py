"""Settings of what comes back: what is refused, what is asked about, and how it is said."""

from pathlib import Path

import pytest

from engine.base.settings_checks import warnings_of
from engine.base.settings_file import load_settings, read_settings

LISTENER = '[[listener]]\nkind = "inbound"\naddress = "127.0.0.1:0"\n'
ROW = '[[inbound]]\ndomain = "bounces.example.org"\nkind = "return-path"\n'


def write(path: Path, text: str) -> Path:
    (path / "providers.toml").write_text("")
    (path / "postrider.toml").write_text(text)
    return path / "postrider.toml"


def test_all_of_it(tmp_path: Path) -> None:
    text = f"""{LISTENER}{ROW}
senders = ["News.Example.org"]
users = ["shop"]
signed = false
replies = "support@example.org"
[[inbound]]
domain = "Reply.example.org"
kind = "reply"
replies = "mail/replies"
"""
    first, second = load_settings(write(tmp_path, text)).inbound
    assert (first.senders, first.replies) == (("news.example.org",), "support@example.org")
    assert (second.domain, second.replies) == ("reply.example.org", str(tmp_path / "mail" / "replies"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{ROW}{ROW}", '[[inbound]] 2 domain: "bounces.example.org" is there already'),
        (f'{ROW}replies = "a b@example.org"', '"a b@example.org" is not an address'),
        (f'{ROW}senders = ["a b"]', '[[inbound]] 1 senders: "a b" is not a domain'),
        (f'{ROW}replies = "http://"', "is not a URL"),
        (f'{ROW}replies = "me@bounces.example.org"', "it would come back"),
        ('[[inbound]]\ndomain = "x.example.org"', "[[inbound]] 1 kind: missing"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = read_settings(write(tmp_path, LISTENER + text))[1]
    assert problem in found


@pytest.mark.parametrize(
    ("text", "warning"),
    [(LISTENER, "it takes nothing"), (ROW, "what comes back is for another node"), (LISTENER + ROW, "")],
)
def test_one_without_the_other_is_asked_about(tmp_path: Path, text: str, warning: str) -> None:
    found = [each for each in warnings_of(load_settings(write(tmp_path, text))) if "inbound" in each]
    assert len(found) == bool(warning) and all(warning in each for each in found)
