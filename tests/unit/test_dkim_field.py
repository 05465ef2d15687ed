"""The DKIM-Signature field: what it promises (mail.md, DKIM) and how it is laid out."""

import re

import dkim
import pytest

from engine.message.dkim import SIGNED, FieldWriter, prepare
from tests.support.dkim import MESSAGES, both_keys, sign


def tags_of(content, **times):
    key = both_keys()[0]
    field = key.complete(key.request(prepare(content), times.get("time", 1_767_225_600), times.get("expire")))
    return {name.decode(): value.decode() for name, value in dkim.parse_tag_value(field.partition(b":")[2]).items()}


def names_of(content):
    return re.sub(r"\s", "", tags_of(content)["h"]).split(":")


def test_tags():
    """relaxed/relaxed, SHA-256, a time, and never l=, which would let anybody add to the body."""
    tags = tags_of(MESSAGES["plain"])
    assert list(tags) == ["v", "a", "c", "d", "s", "h", "t", "bh", "b"]
    assert (tags["v"], tags["a"], tags["c"]) == ("1", "rsa-sha256", "relaxed/relaxed")
    assert (tags["d"], tags["s"], tags["t"]) == ("example.org", "r", "1767225600")


def test_expiry_is_written_when_asked_for():
    assert tags_of(MESSAGES["plain"], time=100, expire=700)["x"] == "700"


def test_every_name_once_more_than_the_message_has_it():
    assert names_of(b"\r\nText\r\n") == list(SIGNED)
    assert names_of(MESSAGES["everything signed"]) == [name for name in SIGNED for _ in range(2)]
    repeated = names_of(MESSAGES["repeated header"])
    assert [repeated.count(name) for name in ("from", "to", "subject", "cc")] == [2, 3, 3, 1]


def test_repeated_fields_are_taken_bottom_up():
    """RFC 6376 5.4.2: a relay adds fields on top, so a verifier counts from below."""
    fields = prepare(b"Subject: first\r\nFrom: a@b\r\nSubject: second\r\n\r\n").fields
    assert fields == b"from:a@b\r\nsubject:second\r\nsubject:first\r\n"


def test_what_is_no_field_is_passed_over():
    """A line without a colon, a continuation of nothing, names that only begin or end as a signed one."""
    prepared = prepare(b" From: no\r\nfromx\r\nfrom\r\nX-From: no\r\nFromm: no\r\n: no\r\nFROM \t: yes\r\n\r\n")
    assert prepared.fields == b"from:yes\r\n"


@pytest.mark.parametrize("name", MESSAGES)
def test_lines_are_under_78(name):
    for field in (sign(MESSAGES[name], [key]) for key in both_keys()):
        assert field.endswith(b"\r\n")
        lines = field.removesuffix(b"\r\n").split(b"\r\n")
        assert max(map(len, lines)) < 78
        assert lines[0].startswith(b"DKIM-Signature: v=1;")
        assert all(re.fullmatch(rb" [\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", line) for line in lines[1:])


def test_a_long_domain_stands_on_its_own_line():
    domain = ".".join(["a" * 60] * 4)
    request = FieldWriter(domain, "b" * 60, "rsa-sha256").request(prepare(b"\r\n"), 1)
    assert b"\r\n d=%b;\r\n" % domain.encode() in request.field


def test_the_cache_of_shapes_is_bounded():
    """Who sends the message chooses how often each field is in it."""
    writer = FieldWriter("example.org", "s", "rsa-sha256")
    for count in range(300):
        writer.request(prepare(b"To: a\r\n" * count + b"\r\n"), 1)
    assert len(writer._shapes) <= FieldWriter._SHAPES
    assert all(sum(counts) <= 4 * len(SIGNED) for counts in writer._shapes)
