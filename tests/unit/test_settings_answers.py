"""Settings of answers: what is refused, and how it is said."""

from pathlib import Path

import pytest

from engine.base.settings_file import read_settings

ACCOUNT = '[[account]]\nsystem_id = "shop"\npassword = "secret"\n'


def problems(path: Path, text: str) -> list[str]:
    (path / "providers.toml").write_text("")
    (path / "postrider.toml").write_text(text)
    return [problem.removeprefix("postrider.toml: ") for problem in read_settings(path / "postrider.toml")[1]]


def test_all_of_it(tmp_path: Path) -> None:
    text = f"""{ACCOUNT}
stop_words = ["basta", "no more"]
help = "Call 123"
long_answers = "parts"
[[keyword]]
word = "ПИЦЦА"
account = "shop"
[[keyword]]
word = "*"
sender = "60999"
url = "https://user:secret@example.org:8443/sms?x=y"
[sms]
default_account = "shop"
stop_text = ""
"""
    assert problems(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[keyword]]\nword = "a"', "[[keyword]] 1 url: missing, and so is account: one of the two"),
        (
            f'{ACCOUNT}[[keyword]]\nword = "a"\naccount = "shop"\nurl = "http://a"',
            "[[keyword]] 1 url: given, account is, too: one of the two",
        ),
        (
            '[[keyword]]\nword = "a"\naccount = "shop"',
            '[[keyword]] 1 account: "shop" is not the system_id of an [[account]]',
        ),
        ('[sms]\ndefault_account = "x"', '[sms] default_account: "x" is not the system_id of an [[account]]'),
        (
            '[[keyword]]\nword = "a b"\nurl = "http://a"',
            '[[keyword]] 1 word: "a b" is not one word of at most 40 characters, or "*"',
        ),
        (
            '[[keyword]]\nword = "a"\nurl = "ftp://a"',
            '[[keyword]] 1 url: "ftp://a" is not a URL, such as "https://example.org/sms"',
        ),
        (f'{ACCOUNT}stop_words = ["!"]', '[[account]] 1 stop_words: "!" is not a word of at most 40 characters'),
        (f'{ACCOUNT}help = "{"x" * 671}"', "[[account]] 1 help: 671 characters; 670 or less"),
        ("[sms]\npost_attempts = 0", "[sms] post_attempts: 0 is too small; 1 or more"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, text: str, problem: str) -> None:
    assert problems(tmp_path, text) == [problem]


@pytest.mark.parametrize(
    "url",
    [
        "a",
        "//a",
        "http://",
        "http:///a",
        "https://[::1",
        "http://a:0",
        "http://a:x",
        "http://a b",
        "http://ä/",
        "http://a/#x",
    ],
)
def test_what_is_no_url(tmp_path: Path, url: str) -> None:
    [problem] = problems(tmp_path, f'[[keyword]]\nword = "a"\nurl = "{url}"')
    assert "is not a URL" in problem
