"""P1 of bounces and of rules: any bytes give a report, any text a verdict, and both can be written down."""

import json
import typing

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.base.settings_bounces import PHASES, Kind
from engine.protocol.bounce_report import Nature
from engine.protocol.bounces import read_report
from engine.protocol.mime_parts import MAX_DEPTH, MAX_PARTS, read_message
from engine.protocol.mime_text import decode_charset, decode_words, text_of_html
from tests.support.bounces import samples
from tests.support.judging import judged, shipped

KINDS = set(typing.get_args(Kind))
SAMPLES = [sample.content for sample in samples()]
_PIECES = [
    b"\r\n", b"\n\n", b"\r", b"\0", b"\xff", b"\x1b$B", "é".encode(), b"--b\n", b"--b--\n",
    b"<bob@example.net>", b":", b" ",
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\n",
    b"Content-Type: message/delivery-status\n",
    b"Content-Type: message/feedback-report\n", b"Content-Type: message/rfc822\n",
    b"Content-Type: text/html; charset=utf-7\n",
    b"Content-Type: text/plain; charset=iso-2022-jp\n", b"Content-Transfer-Encoding: base64\n", b"=?utf-8?b?/w==?=",
    b"Content-Transfer-Encoding: quoted-printable\n", b"Final-Recipient: rfc822; bob@example.net\n",
    b"Action: failed\n",
    b"Final-Recipient: utf-8; \\x{D800}\\x{110000}@x.y\n", b"Status: 5.1.1\n", b"Diagnostic-Code: smtp; 550-",
    b"550 5.1.1 ",
    b"From: MAILER-DAEMON@x.y\n", b"Subject: Undeliverable\n", b"X-Failed-Recipients: a@b.c, d@e.f\n",
    b"Auto-Submitted: x\n",
    b"could not be delivered to", b"--- Below this line is a copy of the message.\n", b"Message-ID: <m@x.y>\n",
    b"+ADw-", b"<", b"&#x110000;",
]  # fmt: skip
pieces = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=6), max_size=40).map(b"".join)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A sample with some bytes replaced, taken out, put in or moved."""
    content = draw(st.sampled_from(SAMPLES))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        piece = draw(st.binary(max_size=4) | st.sampled_from(_PIECES))
        content = content[:at] + piece + content[at + draw(st.sampled_from((0, 1, 5, 80))) :]
    return content


@given(pieces | st.binary(max_size=400) | mutations())
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_report_that_can_be_judged(content: bytes) -> None:
    report = read_report(content)
    assert report.nature in Nature
    assert report.recipients
    rows = judged(content)
    assert len(rows) == len(report.recipients)
    for row in rows:
        assert row.kind in KINDS
        assert row.recipient is None or ("@" in row.recipient and row.recipient.isprintable())
        for text in (row.status, row.reply, row.reason, row.rule):
            assert "\n" not in text and "\0" not in text and len(text) <= 2100
        json.dumps(row._asdict()).encode("ascii")
    assert len({row.recipient for row in rows}) == len(rows)


@given(pieces | st.binary(max_size=400) | mutations())
@settings(deadline=None)
def test_any_bytes_are_a_message_of_bounded_depth(content: bytes) -> None:
    parts = list(read_message(content).walk())
    assert len(parts) <= MAX_PARTS
    assert all(part.depth <= MAX_DEPTH and isinstance(part.text, str) for part in parts)


@given(
    st.binary(max_size=60), st.text(max_size=12) | st.sampled_from(("utf-7", "utf-16", "hz", "big5", "euc-kr", "rot13"))
)
@settings(deadline=None)
def test_any_charset_gives_a_text(data: bytes, charset: str) -> None:
    assert "\0" not in decode_charset(data, charset)


@given(st.text(st.sampled_from("=?utf-8QbB_<>!/ &#;styleé\ud800 \n-"), max_size=60))
@settings(deadline=None)
def test_any_words_and_any_html_give_a_text(text: str) -> None:
    decode_words(text)
    text_of_html(text)


_WORDS = [
    "550",
    "450",
    "5.1.1",
    "4.7.0",
    "#5.7.1",
    "user",
    "unknown",
    "spam",
    "@",
    "a@b.c",
    " ",
    "-",
    "\n",
    "\0",
    "\ud800",
    "é",
]


@given(
    st.text(max_size=60) | st.lists(st.sampled_from(_WORDS), max_size=20).map(" ".join),
    st.sampled_from(("", "5.1.1", "4.2.2", "x", "5.1", "5.1.1.1")),
    st.sampled_from(("", "nowhere", *PHASES)),
)
@settings(deadline=None)
def test_any_text_gives_a_verdict(reply: str, status: str, phase: str) -> None:
    verdict = shipped().judge(reply, status=status, phase=phase)
    assert verdict.kind in KINDS
    assert verdict.rule or verdict.kind == "unknown"
    if phase in ("connect", "banner", "ehlo", "starttls", "auth", "mail"):
        assert verdict.kind != "hard"
