"""Targets of tracked links: http and https alone, in a form that fits into a Location field."""

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.message.link_target import MAX_TARGET_BYTES, target_of


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("http://a.test", "http://a.test"),
        (" \t\n https://A.test/x?y=z&a=b#c \r\n", "https://A.test/x?y=z&a=b#c"),
        ("HtTp://a.test:8080/", "http://a.test:8080/"),
        ("http://a.test/a b\tc\r\nd", "http://a.test/a%20bcd"),
        ("ht\ntp://a.test/", "http://a.test/"),
        ("http://a.test/%41%z%", "http://a.test/%41%z%"),
        ("http://a.test/\"<>^`{|}", "http://a.test/%22%3C%3E%5E%60%7B%7C%7D"),
        ("http://a.test?q=\\", "http://a.test?q=%5C"),
        ("http://[2001:db8::1]:80/x", "http://[2001:db8::1]:80/x"),
        ("http://user:pass@a.test/", "http://user:pass@a.test/"),
        ("http://a.test:/", "http://a.test/"),
        ("http://bücher.test/ü", "http://xn--bcher-kva.test/%C3%BC"),
        ("http://a_b.test./", "http://a_b.test./"),
        ("http://192.0.2.1/", "http://192.0.2.1/"),
    ],
)  # fmt: skip
def test_what_a_browser_would_follow(value, url):
    assert target_of(value) == (url, "")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "empty"), ("#x", "fragment"), ("//a.test/", "no-scheme"), ("\\\\a.test/", "no-scheme"),
        ("a.html", "relative"),
        ("mailto:a@b.test", "scheme"), ("javascript:alert(1)", "scheme"), ("java\nscript:alert(1)", "scheme"),
        ("data:text/html,x", "scheme"), ("ftp://a.test/", "scheme"), ("x-http://a.test/", "scheme"),
        ("http:", "malformed"), ("http:/a.test", "malformed"), ("http:a.test", "malformed"),
        ("http:///a.test", "malformed"),
        ("http://", "malformed"), ("http://@/", "malformed"), ("http://a.test:99999/", "malformed"),
        ("http:\\\\a.test/", "malformed"), ("http://a.test\\@b.test/", "malformed"),
        ("http://a.test/x\\y", "malformed"),
        ("http://a%2etest/", "malformed"), ("http://a b/", "malformed"), ("http://-/", "malformed"),
        ("http://a@b@c/", "malformed"), ("http://[::1", "malformed"), ("http://a.test:x/", "malformed"),
        ("{{ url }}", "template"), ("http://a.test/{%x%}", "template"), ("*|UNSUB|*", "template"),
        ("http://%recipient.host%/", "template"), ("http://a.test/?x=%%y%%", "template"), ("[[x]]", "template"),
        ("http://a.test/<%= x %>", "template"), ("http://${host}/", "template"),
        ("http://a.test/" + "x" * MAX_TARGET_BYTES, "long"),
    ],
)  # fmt: skip
def test_what_is_left_alone(value, reason):
    assert target_of(value) == ("", reason)


@given(st.text() | st.text().map("http://a.test/{}".format) | st.text().map("http://{}/".format))
def test_whatever_it_is_it_fits_into_a_location_field(value):
    target = target_of(value)
    assert bool(target.url) is not bool(target.reason)
    if target.url:
        assert re.fullmatch(r"https?://[!-~]+", target.url)
        assert urlsplit(target.url).hostname
        if "%" not in value:
            assert target_of(target.url).url == target.url, "what is once made stays so"
