"""Our signatures before OpenDKIM, the verifier most receivers on Unix run."""

import pytest

from tests.support.dkim import MESSAGES, both_keys, received, sign
from tests.support.opendkim import name_spaces_allowed, run_testmsg, verdicts

KEYS = both_keys()


@pytest.mark.parametrize("name", MESSAGES)
def test_accepted(name, tmp_path):
    """RSA and Ed25519, several signatures on one message."""
    content = MESSAGES[name]
    found = verdicts(received(sign(content, KEYS), content), KEYS, tmp_path)
    assert {selector: found[selector] for selector in ("r", "e")} == {"r": "pass", "e": "pass"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\r\n\r\n", b"\r\nFrom: mallory@example.org\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nReply-To: mallory@example.net\r\n\r\n"),
        (b"From: Ada", b"Subject: a second one\r\nFrom: Ada"),
        (b"One line.\r\n", b"One line.\r\nAnd another.\r\n"),
    ],
)
def test_refused_after_tampering(old, new, tmp_path):
    """The test above can fail: OpenDKIM does look."""
    content = MESSAGES["plain"]
    tampered = content.replace(old, new, 1)
    assert verdicts(sign(content, KEYS) + tampered, KEYS, tmp_path) == {"r": "fail", "e": "fail"}


@pytest.mark.parametrize(
    "name", ["plain", "folded header", "tabs", "no body", "no last CRLF, blanks", "everything signed"]
)
@pytest.mark.parametrize("key", KEYS, ids=["rsa", "ed25519"])
def test_accepted_with_the_key_in_dns(key, name, tmp_path):
    """opendkim-testmsg, which asks DNS: the record as `postrider dkim dns` prints it is one receivers can read.

    Where the machine allows no name spaces there is no port 53 to answer on; then the record comes from a file.
    """
    content = MESSAGES[name]
    message = received(sign(content, [key]), content)
    if not name_spaces_allowed():
        assert verdicts(message, [key], tmp_path) == {key.selector: "pass"}
        return
    done = run_testmsg(message, [key], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_refused_with_the_key_in_dns(tmp_path):
    content = MESSAGES["plain"]
    message = sign(content, KEYS[:1]) + content + b"And another line.\r\n"
    if not name_spaces_allowed():
        assert verdicts(message, KEYS, tmp_path) == {"r": "fail"}
        return
    done = run_testmsg(message, KEYS, tmp_path)
    assert done.returncode != 0
    assert b"Bad signature" in done.stderr
