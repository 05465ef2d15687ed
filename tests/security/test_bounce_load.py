"""Bounces made to be slow: each would take minutes, or all memory, if anything were not linear and bounded."""

import tracemalloc

import pytest

from engine.message.bounce_verdict import judge_report
from engine.protocol.bounce_report import Nature
from engine.protocol.bounces import read_report
from tests.support.judging import judged, shipped

MIB = 1 << 20
DAEMON = b"From: MAILER-DAEMON@mx.example.net\r\nSubject: Undelivered Mail Returned to Sender\r\n"
REPORT = DAEMON + (
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nfailed\r\n"
    b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.net\r\n\r\n"
)
BOB = b"Final-Recipient: rfc822; bob@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n"
NEST = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"


def test_a_bounce_of_50_mib_is_read_with_a_few_copies_of_it() -> None:
    returned = b"--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <m1@shop.example.org>\r\n\r\n"
    content = REPORT + BOB + returned + (b"y" * 76 + b"\r\n") * (50 * MIB // 78) + b"--b--\r\n"
    tracemalloc.start()
    try:
        report = read_report(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [each.recipient for each in report.recipients] == ["bob@example.net"]
    assert report.original_message_id == "<m1@shop.example.org>"
    assert peak < 6 * len(content)


@pytest.mark.parametrize(
    "piece",
    [
        b"a", b"@", b"a@b.c ", b"bob@example.net\n\n\n", b"550-x\r\n", b"550 5.1.", b'"', b" ", b"\n", b"\0",
        b"message-id: <",
        b"=?utf-8?q?", b"--a\n", b"Final-Recipient: ", b"a:", b"<",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [b"text/plain", b"text/html", b"multipart/mixed", b"message/rfc822"])
def test_repetition_without_end(kind: bytes, piece: bytes) -> None:
    body = piece * (MIB // len(piece)) + b"@b.c"
    report = read_report(DAEMON + b"Content-Type: " + kind + b"\r\n\r\n" + body)
    assert len(report.recipients) <= 2


@pytest.mark.parametrize("piece", [b"<", b"<style>", b"<!-- ", b"<p><!-- -->", b"&#", b"<a b='"])
def test_html_without_end(piece: bytes) -> None:
    content = DAEMON + b"Content-Type: text/html\r\n\r\n" + piece * (MIB // len(piece)) + b"bob@example.net"
    assert len(read_report(content).recipients) == 1


def test_encodings_without_end() -> None:
    for encoding, piece in ((b"base64", b"QUJD"), (b"quoted-printable", b"=41"), (b"base64", b"="), (b"7bit", b"=\n")):
        content = DAEMON + b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + piece * (2 * MIB // len(piece))
        assert len(read_report(content).recipients) == 1


def test_a_million_header_fields() -> None:
    assert read_report(b"A: b\r\n" * 1_000_000 + DAEMON + b"\r\nx").nature is Nature.OTHER
    assert read_report(DAEMON + b"Content-Type: text/plain" + b"; a=b" * 100_000 + b"\r\n\r\nx").nature is Nature.BOUNCE


def test_ten_thousand_recipients_are_all_told_of() -> None:
    groups = b"".join(
        b"Final-Recipient: rfc822; u%d@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        b"Diagnostic-Code: smtp; 550 5.1.1 no user %d here\r\n\r\n" % (n, n)
        for n in range(10_000)
    )
    rows = judged(REPORT + groups + b"--b--\r\n")
    assert len(rows) == 10_000
    assert {row.kind for row in rows} == {"hard"}
    assert rows[-1].reply == "550 5.1.1 no user 9999 here"


def test_ten_thousand_recipients_in_prose() -> None:
    words = b"".join(
        b"<u%d@example.net>:\r\nSorry, no mailbox here by that name. (#5.1.1)\r\n\r\n" % n for n in range(10_000)
    )
    rows = judged(DAEMON + b"\r\nHi. This is the qmail-send program at mx.example.net.\r\n\r\n" + words)
    assert (len(rows), rows[9_999].recipient, rows[9_999].kind) == (10_000, "u9999@example.net", "hard")


def test_more_recipients_than_anyone_has() -> None:
    report = read_report(REPORT + b"".join(BOB.replace(b"bob", b"u%d" % n) + b"\r\n" for n in range(30_000)))
    assert len(report.recipients) == 20_000


@pytest.mark.parametrize(
    "body",
    [
        b"".join(NEST % (n, n) for n in range(10_000)),
        b"Content-Type: message/rfc822\r\n\r\n" * 10_000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * 50_000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 1_000_000,
        (REPORT.replace(b"\r\n\r\n--b", b"\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n", 1)) * 2_000,
    ],
    ids=["multiparts", "messages", "one boundary", "parts", "reports"],
)
def test_mime_of_any_depth(body: bytes) -> None:
    assert judge_report(read_report(DAEMON + body), shipped())


def test_a_reply_of_ten_megabytes_is_judged() -> None:
    for text in ("550 " + "a" * 10 * MIB, "user " * MIB, "a@" * MIB, "5." * MIB):
        shipped().judge(text)


GROUP = (
    b"Final-Recipient: rfc822; recipient-%05d@department-of-something.example.net\r\nAction: failed\r\n"
    b"Status: 5.1.1\r\nRemote-MTA: dns; mx1.department-of-something.example.net\r\n"
    b"Diagnostic-Code: smtp; 550 5.1.1 <recipient-%05d@department-of-something.example.net>: Recipient address\r\n"
    b"    rejected: User unknown in virtual mailbox table (in reply to RCPT TO command)\r\n\r\n"
)


def test_what_is_not_read_is_said() -> None:
    groups = b"".join(GROUP % (n, n) for n in range(20_001))
    report = read_report(REPORT + groups + b"--b--\r\n")
    assert (len(report.recipients), report.truncated) == (20_000, True)
    report = read_report(REPORT + b"".join(GROUP % (n, n) for n in range(15_000)) + b"--b--\r\n")
    assert (len(report.recipients), report.truncated) == (15_000, False)
    assert read_report(REPORT + BOB + b"x" * (9 * MIB) + b"\r\n--b--\r\n").truncated
    assert read_report(REPORT + BOB + b"--b--\r\n", whole=False).truncated
    words = b"<bob@example.net>:\r\nSorry, no mailbox here by that name. (#5.1.1)\r\n\r\n"
    notice = DAEMON + b"\r\nHi. This is the qmail-send program at mx.example.net.\r\n\r\n" + words
    returned = b"--- Below this line is a copy of the message.\r\n\r\n" + b"y" * 76 * MIB
    assert read_report(notice + b"more words\r\n" * MIB).truncated
    assert not read_report(notice + returned[: 9 * MIB]).truncated, "only what came back of ours"
