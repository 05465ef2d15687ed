"""Message-IDs in a header."""

import pytest

from engine.message.header_ids import answered_by, message_id_of


@pytest.mark.parametrize(
    ("header", "own"),
    [
        (b"Message-ID: <a@b.test>\r\n", "a@b.test"),
        (b"Subject: x\r\nMESSAGE-id:\r\n <a@b.test> \r\nTo: y\r\n", "a@b.test"),
        (b"Message-Id:<a b@c.test>\r\n", ""),
        (b"X-Message-ID: <a@b.test>\r\n", ""),
        (b"Subject: Message-ID: <a@b.test>\r\n", ""),
        (b"Message-ID: none\r\nReferences: <a@b.test>\r\n", ""),
        ("Message-ID: <ä@b.test>\r\n".encode(), "ä@b.test"),
        (b"", ""),
    ],
)
def test_the_message_id_of_a_message(header: bytes, own: str) -> None:
    assert message_id_of(header + b"\r\nMessage-ID: <body@b.test>\r\n") == own


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_what_a_message_answers_the_likeliest_first(end: bytes) -> None:
    lines = [
        b"Subject: Re: x", b"References: <first@t>", b"\t<second@t> junk <third@t>", b"in-reply-to : <third@t>", b"",
        b"In-Reply-To: <body@t>",
    ]  # fmt: skip
    assert answered_by(end.join(lines)) == ["third@t", "second@t", "first@t"]
    assert answered_by(b"Subject: x" + end + end) == []


def test_any_number_of_them_costs_one_pass() -> None:
    assert len(answered_by(b"References: " + b"<a@b> " * 100_000)) == 1
    assert len(answered_by(b"".join(b"References: <%d@b>\r\n" % n for n in range(20_000)))) == 50
    message_id_of(b"Message-ID:" + b" \r\n" * 100_000)
    answered_by(b"In-Reply-To:" + b"<" * 1_000_000)
