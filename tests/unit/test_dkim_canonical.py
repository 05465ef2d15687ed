"""Canonical forms: RFC 6376 3.4, RFC 8463 appendix A, a plain reference written here, and dkimpy."""

import base64
import hashlib
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import strategies as st

from engine.message.dkim import body_hash, prepare, relaxed_body, relaxed_field, split_content

EMPTY_HASH = b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # RFC 6376 3.4.4

#: Pieces that make every rule meet every other; no bare CR or LF, which intake does not let in.
PIECES = st.sampled_from(
    [b"\r\n", b" ", b"  ", b"\t", b" \t ", b"        ", b"a", b"b:c", b".", b"\x0b", b"\xa0", b"\xff"]
)
BODIES = st.lists(PIECES, max_size=60).map(b"".join)


def reference_body(body: bytes) -> bytes:
    """RFC 6376 3.4.4, line by line, as a person would read it."""
    lines = body.split(b"\r\n")
    if lines[-1] == b"":
        lines.pop()
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while lines and lines[-1] == b"":
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def test_rfc_6376_example():
    """3.4.5, example 1."""
    content = b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n"
    header, body = split_content(content)
    assert relaxed_field(b"A: X\r\n") == b"a:X\r\n"
    assert relaxed_field(b"B : Y\t\r\n\tZ  \r\n") == b"b:Y Z\r\n"
    assert header == b"A: X\r\nB : Y\t\r\n\tZ  \r\n"
    assert relaxed_body(body) == b" C\r\nD E\r\n"


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b" \r\n\t\r\n", b"   ", b"\t"])
def test_a_body_of_blanks_is_empty(body):
    assert relaxed_body(body) == b""
    assert body_hash(body) == EMPTY_HASH
    assert body_hash(body, piece_bytes=1) == EMPTY_HASH


@pytest.mark.parametrize(
    ("content", "header", "body"),
    [
        (b"A: b\r\n\r\nc", b"A: b\r\n", b"c"),
        (b"A: b\r\n\r\n", b"A: b\r\n", b""),
        (b"A: b\r\n", b"A: b\r\n", b""),
        (b"A: b", b"A: b\r\n", b""),
        (b"\r\nA: b\r\n\r\nc", b"", b"A: b\r\n\r\nc"),
        (b"A: b\r\n\r\n\r\n\r\nc", b"A: b\r\n", b"\r\n\r\nc"),
    ],
)
def test_the_first_blank_line_ends_the_header(content, header, body):
    assert split_content(content) == (header, body)


@given(BODIES)
def test_body_as_the_reference_says(body):
    assert relaxed_body(body) == reference_body(body)


@given(BODIES)
def test_body_as_dkimpy_says(body):
    """dkimpy wants the last CRLF to be there, as it is after any transport."""
    ended = body if body.endswith(b"\r\n") else body + b"\r\n"
    assert relaxed_body(body) == Relaxed.canonicalize_body(ended)


@given(BODIES, st.integers(1, 40))
def test_hash_in_pieces_is_the_hash_of_the_whole(body, piece_bytes):
    whole = base64.b64encode(hashlib.sha256(reference_body(body)).digest())
    assert body_hash(body, piece_bytes) == whole == body_hash(body)


VALUES = st.lists(
    st.sampled_from([b" ", b"\t", b"  ", b"\r\n ", b"\r\n\t", b"x", b"y:z", b"\xc3\xa4"]), max_size=30
).map(b"".join)


@given(VALUES)
def test_field_as_dkimpy_says(value):
    [(name, canonical)] = Relaxed.canonicalize_headers([(b"Subject", value + b"\r\n")])
    assert relaxed_field(b"Subject:" + value + b"\r\n") == name + b":" + canonical
    assert prepare(b"Subject:" + value + b"\r\n\r\n").fields == name + b":" + canonical


RFC_8463_HEADER = (
    b"From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\n"
    b"Subject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
)
RFC_8463_BODY = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
RFC_8463_FIELD = (
    b"DKIM-Signature: v=1; a=%b; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=%b; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
)


def test_rfc_8463_signature_is_ours_bit_by_bit():
    """Appendix A: Ed25519 has one signature for a key and a text, so any slip in the canonical form shows."""
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
    field = relaxed_field(RFC_8463_FIELD % (b"ed25519-sha256", b"brisbane") + b"\r\n").removesuffix(b"\r\n")
    # The order of h= is that of the header here, and the second From, Subject and Date do not exist.
    data = b"".join(relaxed_field(line + b"\r\n") for line in RFC_8463_HEADER.split(b"\r\n")[:-1]) + field
    assert body_hash(RFC_8463_BODY) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    assert base64.b64encode(key.sign(hashlib.sha256(data).digest())) == (
        b"/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
    )


@given(st.binary(max_size=300))
def test_any_bytes_can_be_prepared(content):
    """A content that breaks every rule is signed as it is; nothing here may raise."""
    prepared = prepare(content)
    assert prepared.fields.count(b"\r\n") >= sum(prepared.counts)
    assert len(prepared.body_hash) == 44
