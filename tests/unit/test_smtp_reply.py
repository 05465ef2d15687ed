"""Replies of servers: what is understood, what is refused."""

import pytest

from engine.base.errors import ProtocolError
from engine.protocol.smtp_extensions import Extensions
from engine.protocol.smtp_reply import MAX_LINE_BYTES, MAX_REPLY_BYTES, Reply, ReplyParser


def replies(*chunks: bytes) -> list[Reply]:
    """All replies in these chunks; the fault, if there is one, is raised."""
    parser, found = ReplyParser(), []
    for chunk in chunks:
        parser.feed(chunk)
        while (reply := parser.next_reply()) is not None:
            found.append(reply)
    return found


@pytest.mark.parametrize(
    ("data", "text", "enhanced"),
    [
        (b"250 2.1.0 Ok\r\n", "250 2.1.0 Ok", "2.1.0"),
        (b"250\r\n", "250", ""),
        (b"250 \r\n", "250", ""),
        (b"250 ok\n", "250 ok", ""),
        (b"354 go ahead\r\n", "354 go ahead", ""),
        (b"550-5.1.1 no such\r\n550-5.1.1 user\r\n550 5.1.1 here\r\n", "550 5.1.1 no such user here", "5.1.1"),
        (b"550-5.1.1 no such\r\n550 user\r\n", "550 5.1.1 no such user", "5.1.1"),
        (b"550-see our policy\r\n550 5.7.1 refused\r\n", "550 see our policy 5.7.1 refused", "5.7.1"),
        (b"550-\r\n550 \r\n", "550", ""),
        (b"450 5.1.1 contradicts its code\r\n", "450 5.1.1 contradicts its code", ""),
        (b"550 5.1.1234 none\r\n", "550 5.1.1234 none", ""),
        (b"550 5.7.606\r\n", "550 5.7.606", "5.7.606"),
        ("550 5.1.1 Empfänger unbekannt\r\n".encode(), "550 5.1.1 Empfänger unbekannt", "5.1.1"),
        (b"550 5.1.1 Empf\xe4nger\r\n", "550 5.1.1 Empf\\xe4nger", "5.1.1"),
        (b"550 a\x00b\x1b[2Jc\rd\te\r\n", "550 a\\x00b\\x1b[2Jc\\rd e", ""),
        (b"599 last\r\n", "599 last", ""),
    ],
)
def test_a_reply_is_one_printable_line(data: bytes, text: str, enhanced: str) -> None:
    [reply] = replies(data)
    assert (str(reply), reply.enhanced) == (text, enhanced)
    assert reply.text.isprintable()


@pytest.mark.parametrize(
    "data",
    [
        b"000 no\r\n", b"199 no\r\n", b"600 no\r\n", b"999 no\r\n", b"25 no\r\n", b"2500 no\r\n", b"250no\r\n",
        b"\r\n", b"\n", b"250\t no\r\n", b"\x00250 no\r\n", b"250\r no\r\n", b" 250 no\r\n", b"HTTP/1.1 400 no\r\n",
        b"250-a\r\n251 b\r\n", b"250-a\r\n-\r\n", b"\xb2\xb5\xb0 no\r\n", b"+25 no\r\n",
    ],
)  # fmt: skip
def test_what_is_no_reply_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        replies(data)


def test_the_replies_before_a_fault_are_given_out_and_the_fault_stays() -> None:
    parser = ReplyParser()
    parser.feed(b"250 a\r\n250 b\r\ngarbage\r\n250 c\r\n")
    assert [str(parser.next_reply()), str(parser.next_reply())] == ["250 a", "250 b"]
    for more in (b"", b"250 d\r\n"):
        parser.feed(more)
        with pytest.raises(ProtocolError, match="not a reply"):
            parser.next_reply()


def test_a_reply_has_limits_by_line_and_in_all() -> None:
    longest = b"250 " + b"x" * (MAX_LINE_BYTES - 5)
    assert len(replies(longest + b"\r\n")) == 1
    for too_long in (longest + b"xx\r\n", b"2" * (MAX_LINE_BYTES + 1), b"250 " + b"x" * (10 << 20)):
        with pytest.raises(ProtocolError, match="line of more"):
            replies(too_long)
    line = b"250-" + b"x" * 1000 + b"\r\n"
    with pytest.raises(ProtocolError, match="reply of more"):
        replies(line * (MAX_REPLY_BYTES // 1000 + 1))


def test_ehlo_keywords_are_read_leniently() -> None:
    [reply] = replies(
        b"250-mx PIPELINING\r\n250-size 35882577 bytes\r\n250-Chunking\r\n250-AUTH=LOGIN\r\n250-AUTH PLAIN\r\n250-\r\n"
        b"250-8bitmime\r\n250-\xff\xfe\r\n250 STARTTLS\r\n"
    )
    offered = Extensions.of(reply)
    assert not offered.pipelining  # said in the greeting line only
    assert (offered.size, offered.size_limit) == (True, 35882577)
    assert offered.chunking
    assert offered.eightbit
    assert offered.starttls
    assert offered.auth == {"LOGIN", "PLAIN"}


@pytest.mark.parametrize("size", ["", "lots", "-1", "1e9", "9" * 40, "\u0663"])
def test_a_silly_size_is_no_limit(size: str) -> None:
    offered = Extensions({"SIZE": size})
    assert (offered.size, offered.size_limit) == (True, 0)
