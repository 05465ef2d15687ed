"""The corpus of bounces, sample by sample; and what holds for all of them."""

import json

import pytest

from engine.protocol.bounce_addresses import address_of, addresses_in
from engine.protocol.bounce_replies import reply_in, status_in
from engine.protocol.bounce_report import Nature, Reported
from engine.protocol.bounce_transcript import with_whole_replies
from engine.protocol.bounces import read_report
from engine.protocol.dsn import Dsn, DsnRecipient, build_dsn
from engine.protocol.mime_parts import MAX_DEPTH, read_message
from engine.protocol.mime_text import decode_charset, decode_words, text_of_html
from tests.support.bounces import ORIGINAL_ID, Sample, samples
from tests.support.judging import faults, judged


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: f"{sample.family}: {sample.name}")
def test_a_sample_is_read_and_judged_right(sample: Sample) -> None:
    assert faults(sample, judged(sample.content)) == []


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: f"{sample.family}: {sample.name}")
def test_line_ends_and_an_mbox_line_change_nothing(sample: Sample) -> None:
    expected = judged(sample.content)
    assert judged(sample.content.replace(b"\r\n", b"\n")) == expected
    assert judged(b"From MAILER-DAEMON Mon Nov  2 09:00:00 2026\r\n" + sample.content) == expected


def test_the_corpus_is_wide() -> None:
    families = {sample.family for sample in samples()}
    assert {"standard", "unix", "exchange", "providers", "russia", "asia", "appliances", "complaints"} <= families
    assert {want.kind for sample in samples() for want in sample.want} == {
        "hard", "soft", "block", "content", "auth", "quota", "config", "expired", "auto-reply", "complaint",
        "challenge", "unknown",
    }  # fmt: skip


def test_no_sender_and_no_stranger_is_taken_for_a_recipient() -> None:
    """Addresses of the sender, the postmaster and the returned message are in nearly every sample."""
    named = {row.recipient for sample in samples() for row in judged(sample.content)}
    assert not {"return@shop.example.org", "news@shop.example.org", "support@shop.example.org"} & named
    assert not [name for name in named if name and name.lower().startswith(("postmaster@", "mailer-daemon@"))]


def test_what_the_engine_writes_itself_is_read_back() -> None:
    content = f"From: a@home.test\r\nMessage-ID: {ORIGINAL_ID}\r\n\r\nHello\r\n".encode()
    recipients = [
        DsnRecipient(
            address="bob@one.test", status="5.1.1", original="rfc822;bob+x@one.test", diagnostic="550 5.1.1 no"
        ),
        DsnRecipient(address="é@two.test", status="5.2.2", diagnostic="552 5.2.2 mailbox full"),
    ]
    message = build_dsn(
        Dsn(
            action="failed", message_id="<d@mx.test>", date=0.0, sender=("System", "MAILER-DAEMON@mx.test"),
            to="a@home.test", reporting_mta="mx.test", arrived_at=0.0, recipients=recipients,
        ),
        content,
    )  # fmt: skip
    rows = judged(message.content)
    assert [(row.recipient, row.kind, row.status, row.reply) for row in rows] == [
        ("bob+x@one.test", "hard", "5.1.1", "550 5.1.1 no"),
        ("é@two.test", "quota", "5.2.2", "552 5.2.2 mailbox full"),
    ]
    assert {row.original_message_id for row in rows} == {ORIGINAL_ID}


def test_rows_can_be_written_as_json() -> None:
    for sample in samples():
        json.dumps([row._asdict() for row in judged(sample.content)]).encode("ascii")


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("rfc822; bob@example.net", "bob@example.net"),
        ("RFC822;<Bob@Example.NET>", "Bob@Example.NET"),
        ("rfc822;@relay.example,@other.example:bob@example.net", None),
        ("rfc822;@relay.example:bob@example.net", "bob@example.net"),
        ("bob@example.net", "bob@example.net"),
        ('Bob <bob@example.net> "x"', "bob@example.net"),
        ('rfc822; "bob smith"@example.net', '"bob smith"@example.net'),
        ("rfc822;bob+2Bnews+3Dx@example.net", "bob+news=x@example.net"),
        ("rfc822;bob+20@example.net", "bob+20@example.net"),
        ("utf-8;\\x{431}\\x{43E}@example.net", "бо@example.net"),
        ("utf-8;\\x{D800}@example.net", "\ufffd@example.net"),
        ("bob@[192.0.2.1]", "bob@[192.0.2.1]"),
        ("x400;/C=GB/S=Bob", None),
        ("rfc822;", None),
        ("bob@", None),
        ("", None),
    ],
)
def test_addresses_in_fields(value: str, address: str | None) -> None:
    assert address_of(value) == address


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("to <bob@example.net>, eve@example.com.", ["bob@example.net", "eve@example.com"]),
        ("收件人：bob@example.net。", ["bob@example.net"]),
        ("(SMTP=bob@example.net;mailto:eve@example.net)", ["bob@example.net", "eve@example.net"]),
        ("no at sign", []),
        ("bob@localhost bob@nodot", ["bob@localhost"]),
    ],
)
def test_addresses_in_prose(line: str, found: list[str]) -> None:
    assert addresses_in(line) == found


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("host mx[192.0.2.1] said: 550 5.1.1 unknown (in reply to RCPT TO command)", "550 5.1.1 unknown"),
        ("Remote Server returned '554 5.2.2 mailbox full'", "554 5.2.2 mailbox full"),
        ("#550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##", "550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##"),
        ("<<< 452 4.2.2 full", "452 4.2.2 full"),
        ("550-5.1.1 one 550-5.1.1 two 550 5.1.1 three", "550 5.1.1 one two three"),
        ("550-one 550 two", "550 one two"),
        ("I have 450 messages in 500 folders", ""),
        ("at 192.0.2.550 port 450", ""),
        ("nothing", ""),
    ],
)
def test_replies_in_prose(text: str, reply: str) -> None:
    assert reply_in(text).removesuffix(" ##") == reply.removesuffix(" ##")


@pytest.mark.parametrize(
    ("recipient", "reason", "reply"),
    [
        ("Bob@example.net", "550-Mail to you", "550 Mail to you is not welcome"),
        ("eve@example.net", "550-Mail to you", "550 Mail to you"),
        ("kim@example.com", "550-Mail to you", "550 Mail to you waits no longer"),
        ("bob@example.net", "550-Your mail", "550 Your mail is junk"),
        ("eve@example.net", "550-Your mail", "550 Your mail is junk"),
        ("bob@example.net", "550-Mail to", "550 Mail to"),
        ("bob@example.net", "550 Mail to you", "550 Mail to you"),
        (None, "550-Mail to you", "550 Mail to you"),
    ],
)
def test_a_reply_that_broke_off_is_completed_by_the_session_it_is_from(
    recipient: str | None, reason: str, reply: str
) -> None:
    """What was said to another recipient completes nothing; what was said of the message is about all of them."""
    session = """
        ... while talking to mx.example.net.:
        >>> RCPT To:<bob@example.net> NOTIFY=FAILURE
        <<< 550-Mail to you
        <<< 550-is not
        <<< 550 welcome
        550 5.1.1 <bob@example.net>... User unknown
        >>> DATA
        <<< 550-Your mail
        <<< 550 is junk
        ... while talking to mx.example.com.:
        >>> RCPT To:<kim@example.com>
        <<< 550-Mail to you
        <<< 550 waits no longer
        >>> RCPT To:<eve@example.net>
        <<< 550-Mail to you"""
    reported = Reported(recipient=recipient, reason=reason, reply=reply_in(reason, bare=True))
    (found,) = with_whole_replies([reported], session)
    assert found.reply == reply


def test_statuses_are_no_parts_of_versions_or_addresses() -> None:
    assert status_in("(#5.1.1)") == status_in("<mail.example #5.1.1>") == status_in("Status: 5.01.1") == "5.1.1"
    assert status_in("version 15.1.1.3 of 192.5.1.1") == status_in("5.1") == ""


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("Grüße".encode(), "us-ascii", "Grüße"),
        ("Grüße".encode("latin-1"), "us-ascii", "Grüße"),
        ("Grüße".encode("latin-1"), "no-such-charset", "Grüße"),
        ("退信".encode("gb18030"), "GB2312", "退信"),
        ("退信".encode(), "gb2312", "退信"),
        ("存在しません".encode("iso-2022-jp"), "iso-2022-jp", "存在しません"),
        ("не найден".encode("koi8-r"), "koi8-r", "не найден"),
        (b"a\0b", "utf-8", "ab"),
        (b"x" * 9, "idna", "xxxxxxxxx"),
    ],
)
def test_charsets(data: bytes, charset: str, text: str) -> None:
    assert decode_charset(data, charset) == text


def test_encoded_words() -> None:
    assert decode_words("=?utf-8?Q?Gr=C3=BC?= =?utf-8?B?w59l?= x") == "Grüße x"
    assert decode_words("=?x?z?broken?= =?utf-8?B?%%%?=") == "=?x?z?broken?="


def test_html_is_read_as_it_is_seen() -> None:
    source = (
        "<style>p{}</style><p>To <a href='x'>bob</a>&nbsp;&lt;b@c.test&gt;<br>one</p><!-- no --><td>a</td><td>b</td>"
    )
    assert text_of_html(source).split() == ["To", "bob", "<b@c.test>", "one", "a", "b"]


def test_depth_is_bounded() -> None:
    nest = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(10_000))
    assert max(part.depth for part in read_message(nest).walk()) == MAX_DEPTH


def test_a_persons_words_are_no_report() -> None:
    report = read_report(b"From: bob@example.net\nSubject: hello\nIn-Reply-To: <m1@x.test>\n\nsee you\n")
    assert (report.nature, report.original_message_id) == (Nature.OTHER, "<m1@x.test>")
