"""Our signatures before a stranger: dkimpy accepts every shape of message, and nothing that was tampered with."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.message.dkim import prepare
from engine.message.dkim_keys import SigningKey
from engine.protocol.smtp_content import Content
from tests.support.dkim import MESSAGES, accepted_by_dkimpy, both_keys, received, sign
from tests.support.large import Readable

KEYS = both_keys()


@pytest.mark.parametrize("name", MESSAGES)
def test_accepted(name):
    content = MESSAGES[name]
    fields = sign(content, KEYS)
    assert fields.count(b"DKIM-Signature:") == 2
    assert accepted_by_dkimpy(received(fields, content), KEYS) == [True, True]


@pytest.mark.parametrize("name", [name for name in MESSAGES if b"\r\n\r\n" in MESSAGES[name]])
def test_a_large_content_is_signed_as_a_small_one(name):
    content = MESSAGES[name]
    large = Readable(content)
    assert prepare(large.content) == prepare(content)
    assert accepted_by_dkimpy(received(sign(large.content, KEYS), content), KEYS) == [True, True]


BODIES = st.lists(st.sampled_from([b"\r\n", b" ", b"\t", b"a", b"b  c", b".", b"\xe9"]), max_size=40).map(b"".join)
VALUES = st.lists(st.sampled_from([b" ", b"\t", b"\r\n\t", b"x", b"y: z", b"\xc3\xa4"]), max_size=10).map(b"".join)
NAMES = st.sampled_from([b"From", b"To", b"SUBJECT", b"date", b"Cc", b"X-Other", b"List-Id", b"Received"])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), BODIES)
def test_accepted_whatever_the_message(fields, body):
    header = b"".join(name + b": v" + value + b"\r\n" for name, value in fields)
    content = b"From: ada@example.org\r\n" + header + b"\r\n" + body
    ours = sign(content, [KEYS[1]])
    assert accepted_by_dkimpy(received(ours, content), [KEYS[1]]) == [True]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\r\n\r\n", b"\r\nFrom: mallory@example.org\r\n\r\n"),
        (b"From: Ada", b"Subject: a second one\r\nFrom: Ada"),
        (b"\r\n\r\n", b"\r\nReply-To: mallory@example.net\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nContent-Type: text/html\r\n\r\n"),
        (b"Hello", b"Hello!"),
        (b"One line.\r\n", b"One line.\r\nAnd another.\r\n"),
        (b"One line", b"Oneline"),
        (b"To: bob@example.net\r\n", b""),
    ],
)
def test_refused_after_tampering(old, new):
    """Over-signing: what the message did not have cannot be added either."""
    content = MESSAGES["plain"]
    fields = sign(content, KEYS)
    tampered = content.replace(old, new, 1)
    assert tampered != content
    assert accepted_by_dkimpy(fields + tampered, KEYS) == [False, False]


def test_accepted_after_what_relays_do():
    """Received on top, refolded header fields, blanks at line ends gone, blank lines at the end."""
    content = MESSAGES["blanks before CRLF"]
    message = sign(content, KEYS) + content
    relayed = b"Received: from a by b;\r\n\tnow\r\n" + message.replace(b"Subject: Hello", b"Subject:\r\n\tHello")
    relayed = relayed.replace(b" \t \r\n", b"\r\n") + b"\r\n\r\n"
    assert accepted_by_dkimpy(relayed, KEYS) == [True, True]


def test_a_key_of_another_selector_is_no_help():
    content = MESSAGES["plain"]
    fields = sign(content, [KEYS[1]])
    other = SigningKey("example.org", "e", Ed25519PrivateKey.generate())
    assert accepted_by_dkimpy(fields + content, [other]) == [False]


@pytest.mark.parametrize("stuffed", [True, False], ids=["DATA", "BDAT"])
@pytest.mark.parametrize("name", MESSAGES)
def test_survives_our_own_transport(name, stuffed):
    """Framing and dot-stuffing on the way out, RFC 5321 4.5.2 undone on the way in."""
    content = MESSAGES[name]
    outgoing = Content(sign(content, [KEYS[1]]), content)
    sent, last = b"", False
    while not last:
        piece, last = outgoing.take(stuffed)
        sent += piece
    if stuffed:
        sent = b"\r\n".join(line.removeprefix(b".") for line in sent.split(b"\r\n"))
    assert sent.endswith(b"\r\n")
    assert accepted_by_dkimpy(sent, [KEYS[1]]) == [True]
