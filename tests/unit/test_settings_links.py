"""What links begin with: a scheme, a host, perhaps a path, and nothing that means something where they stand."""

from pathlib import Path

import pytest

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
