"""What links begin with: a scheme, a host, perhaps a path, and nothing that means something where they stand."""

from pathlib import Path

import pytest

from engine.base.settings_checks import warnings_of
from engine.base.settings_file import load_settings
from engine.base.settings_links import base_url


@pytest.mark.parametrize(
    ("value", "used"),
    [
        ("https://click.example.org", "https://click.example.org"),
        ("https://click.example.org/", "https://click.example.org"),
        ("http://click.example.org:8080/x/y-z_1.~/", "http://click.example.org:8080/x/y-z_1.~"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_good_ones_lose_their_last_slash(value: str, used: str) -> None:
    assert base_url(value, Path()) == used


@pytest.mark.parametrize(
    "value",
    ['https://a.test/"', "https://a.test/'", "https://a.test/<b>", "https://a.test/a&b", "https://a.test/a=b", "a.test",
     "https://a.test/%41", "https://a.test/?x", "https://a.test/#x", "https://u@a.test/", "ftp://a.test", "https://",
     "https://a.test/é", "https://a.test/a b", "https://a.test/x\r\n"],
)  # fmt: skip
def test_what_could_break_out_of_a_link_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"beginning of a URL|more than a host|other characters"):
        base_url(value, Path())


LISTENS = '[[listener]]\nkind = "tracking"\naddress = "127.0.0.1:80"\n'
TRACKING = '[tracking]\nbase_url = "https://click.test"\n'
MAILTO = TRACKING + 'unsubscribe_mailto = "Leave.test"\n'
INBOUND = '[[listener]]\nkind = "inbound"\naddress = "127.0.0.1:25"\n[[inbound]]\ndomain = "leave.test"\nkind = "{}"\n'
ONE_CLICK = "mail programs offer one click to leave for https alone (RFC 8058)"
OF_LEAVING = '[tracking] unsubscribe_mailto: no [[inbound]] "leave.test" of kind "unsubscribe": another node takes it'


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (LISTENS, ['a [[listener]] of kind "tracking" and no [tracking] base_url: no link leads there']),
        (TRACKING, ['[tracking] base_url or sms_url, no [[listener]] of kind "tracking": another node answers']),
        (LISTENS + TRACKING, []),
        (LISTENS + TRACKING.replace("https", "http"), [f"[tracking] base_url: {ONE_CLICK}"]),
        (LISTENS + TRACKING.replace("https", "http") + "unsubscribe = false\n", []),
        (LISTENS + TRACKING.replace("https://click.test", "http://127.0.0.1:8080"), []),
        (LISTENS + TRACKING.replace("https://click.test", "http://[::1]:8080"), []),
        (
            LISTENS + TRACKING + '[[click_domain]]\ntenant = "acme"\nbase_url = "http://go.test"\n',
            [f"[[click_domain]] acme base_url: {ONE_CLICK}"],
        ),
        (LISTENS + MAILTO, [OF_LEAVING]),
        (LISTENS + MAILTO + INBOUND.format("feedback"), [OF_LEAVING]),
        (LISTENS + MAILTO + INBOUND.format("unsubscribe").replace("leave", "other"), [OF_LEAVING]),
        (LISTENS + MAILTO + INBOUND.format("unsubscribe"), []),
    ],
)
def test_links_that_nobody_here_answers_are_warned_about(tmp_path: Path, text: str, warnings: list[str]) -> None:
    (tmp_path / "postrider.toml").write_text(text)
    found = warnings_of(load_settings(tmp_path / "postrider.toml"))
    assert [line for line in found if "tracking" in line or "click" in line] == warnings
