"""The sans-IO client: transcripts of sessions, line by line."""

import pytest

from engine.base.errors import ProtocolError
from engine.protocol import smtp_commands as commands
from engine.protocol.smtp_client import SmtpClient, Transaction
from engine.protocol.smtp_commands import InvalidArgument
from engine.protocol.smtp_content import Content
from engine.protocol.smtp_steps import Patience, Step

MAIL = b"MAIL FROM:<ada@a.test>\r\n"
RCPT = b"RCPT TO:<bob@b.test>\r\n"
RCPT2 = b"RCPT TO:<cy@b.test>\r\n"
BODY = b"Subject: x\r\n\r\n.dot\r\n"


def sent(client: SmtpClient) -> bytes:
    """All that the client wants to send now."""
    pieces = []
    while (piece := client.next_piece()) is not None:
        pieces.append(bytes(piece))
    return b"".join(pieces)


def ready(*keywords: bytes) -> SmtpClient:
    """A client after EHLO."""
    client = SmtpClient(Patience())
    assert client.receive(b"220 mx\r\n")
    client.hello("me.test")
    assert sent(client) == b"EHLO me.test\r\n"
    lines = [b"mx", *keywords]
    assert client.receive(
        b"".join(b"250%s%s\r\n" % (b"-" if n < len(lines) - 1 else b" ", line) for n, line in enumerate(lines))
    )
    return client


def begin(client: SmtpClient, *rcpts: bytes, body: bytes = BODY, careful: bool = False) -> Transaction:
    return client.begin(MAIL, rcpts or (RCPT,), Content(b"", body), careful=careful)


def codes(transaction: Transaction) -> tuple[object, ...]:
    """What was heard: MAIL, RCPTs, DATA (a refusal), end."""

    def code(reply: object) -> int | None:
        return getattr(reply, "code", None)

    return code(transaction.mail), *map(code, transaction.rcpts), code(transaction.data), code(transaction.end)


def test_pipelined_envelope_in_one_write_then_the_content_stuffed() -> None:
    client = ready(b"PIPELINING")
    transaction = begin(client, RCPT, RCPT2)
    assert sent(client) == MAIL + RCPT + RCPT2 + b"DATA\r\n"
    assert not client.receive(b"250 ok\r\n250 ok\r\n550 no\r\n")
    assert sent(client) == b""
    assert not client.receive(b"354 go\r\n")
    assert not transaction.end_sent
    assert sent(client) == b"Subject: x\r\n\r\n..dot\r\n.\r\n"
    assert transaction.end_sent
    assert client.receive(b"250 queued\r\n")
    assert codes(transaction) == (250, 250, 550, None, 250)
    assert client.usable


def test_with_chunking_the_whole_message_is_one_write() -> None:
    client = ready(b"PIPELINING", b"CHUNKING")
    transaction = begin(client)
    assert sent(client) == MAIL + RCPT + b"BDAT %d LAST\r\n" % len(BODY) + BODY
    assert transaction.end_sent
    assert client.receive(b"250 ok\r\n250 ok\r\n250 queued\r\n")
    assert codes(transaction) == (250, 250, None, 250)
    assert client.usable


def test_with_chunking_but_careful_the_content_waits_for_the_recipients() -> None:
    client = ready(b"PIPELINING", b"CHUNKING")
    begin(client, careful=True)
    assert sent(client) == MAIL + RCPT
    assert not client.receive(b"250 ok\r\n250 ok\r\n")
    assert sent(client) == b"BDAT %d LAST\r\n" % len(BODY) + BODY


def test_without_pipelining_each_command_waits() -> None:
    client = ready()
    transaction = begin(client, RCPT, RCPT2)
    for line, reply in ((MAIL, b"250"), (RCPT, b"450"), (RCPT2, b"251"), (b"DATA\r\n", b"354")):
        assert sent(client) == line
        assert not client.receive(reply + b" x\r\n")
    assert sent(client).endswith(b"\r\n.\r\n")
    assert client.receive(b"250 queued\r\n")
    assert codes(transaction) == (250, 450, 251, None, 250)


@pytest.mark.parametrize(("mail", "rcpt"), [(b"550", b""), (b"250", b"550")])
def test_without_pipelining_nothing_more_is_sent_after_a_refusal_and_rset_comes_first(mail: bytes, rcpt: bytes) -> None:
    client = ready()
    begin(client)
    for reply in filter(None, (mail, rcpt)):
        assert sent(client) != b""
        over = client.receive(reply + b" x\r\n")
    assert over
    assert sent(client) == b""
    begin(client)
    assert sent(client) == b"RSET\r\n"
    assert not client.receive(b"250 ok\r\n")
    assert sent(client) == MAIL


def test_all_recipients_refused_but_354_gets_a_lone_dot() -> None:
    """RFC 2920 3.1; its reply is nobody's outcome, and the connection stays good."""
    client = ready(b"PIPELINING")
    transaction = begin(client)
    sent(client)
    assert not client.receive(b"250 ok\r\n550 no\r\n354 go\r\n")
    assert sent(client) == b".\r\n"
    assert not transaction.end_sent
    assert client.receive(b"554 no valid recipients\r\n")
    assert client.usable
    begin(client)
    assert sent(client).startswith(b"RSET\r\n" + MAIL)


def test_all_refused_and_data_refused_resets_before_the_next() -> None:
    client = ready(b"PIPELINING")
    begin(client)
    sent(client)
    assert client.receive(b"550 no\r\n503 no\r\n503 no\r\n")
    assert client.usable
    begin(client)
    assert sent(client) == b"RSET\r\n" + MAIL + RCPT + b"DATA\r\n"


def test_a_refused_bdat_resets_before_the_next() -> None:
    """RFC 3030 4.1: after a failed BDAT the server's state is unknown until RSET."""
    client = ready(b"PIPELINING", b"CHUNKING")
    begin(client)
    sent(client)
    assert client.receive(b"250 ok\r\n250 ok\r\n554 no\r\n")
    begin(client)
    assert sent(client).startswith(b"RSET\r\n" + MAIL)


def test_a_refused_final_dot_resets_before_the_next() -> None:
    """RFC 5321 3.3 clears the buffers, Postfix does not always."""
    client = ready(b"PIPELINING")
    begin(client)
    sent(client)
    client.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    sent(client)
    assert client.receive(b"451 later\r\n")
    begin(client)
    assert sent(client).startswith(b"RSET\r\n" + MAIL)


def test_large_content_goes_in_chunks_and_stops_at_a_refusal() -> None:
    body = b"x" * 998 + b"\r\n"
    client = ready(b"PIPELINING", b"CHUNKING")
    transaction = begin(client, body=body * 1000)
    assert sent(client) == MAIL + RCPT
    client.receive(b"250 ok\r\n250 ok\r\n")
    first = bytes(client.next_piece() or b"")
    header, chunk = first.split(b"\r\n", 1)
    assert header == b"BDAT %d" % len(chunk)
    assert not client.receive(b"250 got it\r\n")
    assert client.next_piece() is not None
    assert client.receive(b"552 enough\r\n")
    assert client.next_piece() is None
    assert not transaction.end_sent
    assert codes(transaction) == (250, 250, 552, None)
    assert client.usable


def test_chunks_add_up_to_the_content() -> None:
    body = (b"x" * 998 + b"\r\n") * 1000
    client = ready(b"PIPELINING", b"CHUNKING")
    transaction = begin(client, body=body)
    sent(client)
    client.receive(b"250 ok\r\n250 ok\r\n")
    data, chunks = sent(client), []
    while data:
        header, data = data.split(b"\r\n", 1)
        size = int(header.split()[1])
        chunks.append(data[:size])
        data = data[size:]
        assert header.endswith(b" LAST") == (not data)
    assert b"".join(chunks) == body
    assert transaction.end_sent
    assert client.receive(b"250 ok\r\n" * len(chunks))
    assert codes(transaction)[-1] == 250


def test_a_refusal_in_the_middle_of_data_ends_the_connection() -> None:
    """The rest of the content would be taken for commands: D2."""
    client = ready(b"PIPELINING")
    transaction = begin(client, body=(b"x" * 998 + b"\r\n") * 1000)
    sent(client)
    client.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    client.next_piece()
    assert client.receive(b"552 too much\r\n")
    assert codes(transaction)[-1] == 552
    assert not transaction.end_sent
    assert not client.usable
    assert client.next_piece() is None


def test_a_yes_in_the_middle_of_data_is_a_protocol_error() -> None:
    client = ready(b"PIPELINING")
    begin(client, body=(b"x" * 998 + b"\r\n") * 1000)
    sent(client)
    client.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    client.next_piece()
    with pytest.raises(ProtocolError):
        client.receive(b"250 queued\r\n")


@pytest.mark.parametrize(
    "said",
    [
        b"354 go\r\n",  # to MAIL
        b"250 ok\r\n354 go\r\n",  # to RCPT
        b"250 ok\r\n250 ok\r\n250 ok\r\n",  # to DATA
        b"250 ok\r\n250 ok\r\n354 go\r\n250 too soon\r\n",
        b"250 ok\r\n250 ok\r\n554 no\r\n250 one too many\r\n",
        b"220 hello again\r\n334 \r\n",
    ],
)
def test_an_unexpected_reply_breaks_the_connection(said: bytes) -> None:
    """D2."""
    client = ready(b"PIPELINING")
    begin(client)
    sent(client)
    with pytest.raises(ProtocolError):
        client.receive(said)
    assert not client.usable
    assert client.next_piece() is None


@pytest.mark.parametrize("before", range(4))
def test_421_in_the_middle_of_a_pipeline_ends_it(before: int) -> None:
    client = ready(b"PIPELINING")
    transaction = begin(client, RCPT, RCPT2)
    sent(client)
    assert client.receive(b"250 ok\r\n" * before + b"421 4.3.2 going down\r\n")
    assert transaction.closing is not None
    assert not client.usable
    assert client.next_piece() is None
    assert client.receive(b"250 after the end\r\n")  # whatever it says now


def test_421_while_idle_is_a_goodbye_and_anything_else_a_fault() -> None:
    client = ready()
    assert client.receive(b"421 idle too long\r\n")
    assert not client.usable
    with pytest.raises(ProtocolError, match="in reply to nothing"):
        ready().receive(b"250 hello?\r\n")


def test_part_of_an_unasked_reply_makes_it_unusable() -> None:
    client = ready()
    client.receive(b"4")
    assert not client.usable


def test_helo_where_ehlo_is_unknown() -> None:
    client = SmtpClient(Patience())
    client.receive(b"220 mx\r\n")
    client.hello("me.test")
    sent(client)
    assert not client.receive(b"502 what?\r\n")
    assert sent(client) == b"HELO me.test\r\n"
    assert client.receive(b"250 mx PIPELINING\r\n")
    assert client.usable
    assert not client.extensions.pipelining


@pytest.mark.parametrize("reply", [b"421 busy\r\n", b"450 later\r\n"])
def test_a_temporary_no_to_ehlo_is_the_answer(reply: bytes) -> None:
    client = SmtpClient(Patience())
    client.receive(b"220 mx\r\n")
    client.hello("me.test")
    sent(client)
    assert client.receive(reply)
    assert sent(client) == b""


def test_starttls_forgets_the_extensions() -> None:
    client = ready(b"STARTTLS", b"PIPELINING")
    client.starttls()
    assert sent(client) == b"STARTTLS\r\n"
    assert client.receive(b"220 go\r\n")
    client.secured()
    assert not client.extensions.pipelining
    client.hello("me.test")
    assert sent(client) == b"EHLO me.test\r\n"


def test_auth_plain_and_login() -> None:
    client = ready(b"AUTH LOGIN PLAIN")
    client.authenticate("ada", "secret")
    assert sent(client) == b"AUTH PLAIN AGFkYQBzZWNyZXQ=\r\n"
    assert client.receive(b"235 ok\r\n")
    client = ready(b"AUTH LOGIN")
    client.authenticate("ada", "secret")
    assert sent(client) == b"AUTH LOGIN\r\n"
    assert not client.receive(b"334 VXNlcm5hbWU6\r\n")
    assert sent(client) == b"YWRh\r\n"
    assert not client.receive(b"334 UGFzc3dvcmQ6\r\n")
    assert sent(client) == b"c2VjcmV0\r\n"
    assert client.receive(b"235 ok\r\n")


def test_an_endless_auth_is_cancelled() -> None:
    client = ready(b"AUTH PLAIN")
    client.authenticate("ada", "secret")
    sent(client)
    client.receive(b"334 more\r\n")
    assert sent(client) == b"*\r\n"
    assert client.receive(b"501 cancelled\r\n")


def test_quit_is_the_end_whatever_is_said() -> None:
    client = ready()
    client.quit()
    assert sent(client) == b"QUIT\r\n"
    assert client.receive(b"221 bye\r\n")
    assert not client.usable


def test_patience_follows_the_step() -> None:
    patience = Patience(greeting=1, command=2, rcpt=3, data=4, end=5, content=6)
    client = SmtpClient(patience)
    assert client.patience_s == 1
    assert patience.by_step()[Step.END] == 5
    client.receive(b"220 mx\r\n")
    client.hello("me.test")
    client.receive(b"250-mx\r\n250 PIPELINING\r\n")
    begin(client)
    seen = [client.patience_s]
    for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        client.receive(reply)
        seen.append(client.patience_s)
    sent(client)
    assert [*seen, client.patience_s] == [2, 3, 4, 6, 5]


# ---- command lines


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (commands.mail(""), b"MAIL FROM:<>\r\n"),
        (commands.mail("ada@a.test", size=5, body="8BITMIME"), b"MAIL FROM:<ada@a.test> SIZE=5 BODY=8BITMIME\r\n"),
        (commands.mail("ä@a.test", smtputf8=True), "MAIL FROM:<ä@a.test> SMTPUTF8\r\n".encode()),
        (commands.mail("a@a.test", ret="HDRS", envid="a+b=c d"),
         b"MAIL FROM:<a@a.test> RET=HDRS ENVID=a+2Bb+3Dc+20d\r\n"),
        (commands.mail("a@a.test", envid="x" * 101), b"MAIL FROM:<a@a.test>\r\n"),
        (commands.rcpt("b@b.test", notify=6), b"RCPT TO:<b@b.test> NOTIFY=SUCCESS,FAILURE\r\n"),
        (commands.rcpt("b@b.test", notify=1, orcpt="rfc822;b+1@b.test"),
         b"RCPT TO:<b@b.test> NOTIFY=NEVER ORCPT=rfc822;b+2B1@b.test\r\n"),
        (commands.rcpt("b@b.test", orcpt="utf-8;ä+@b.test"),
         b"RCPT TO:<b@b.test> ORCPT=utf-8;\\x{E4}\\x{2B}@b.test\r\n"),
        (commands.rcpt("b@b.test", orcpt="rfc822;ä@b.test"), b"RCPT TO:<b@b.test>\r\n"),
        (commands.rcpt("b@b.test", orcpt="rfc822;" + "x" * 500), b"RCPT TO:<b@b.test>\r\n"),
        (commands.rcpt("b@b.test", orcpt="nonsense"), b"RCPT TO:<b@b.test>\r\n"),
        (commands.rcpt('"a b"@b.test'), b'RCPT TO:<"a b"@b.test>\r\n'),
        (commands.rcpt('"a>b\\>c\\\\<"@b.test'), b'RCPT TO:<"a\\>b\\>c\\\\\\<"@b.test>\r\n'),
        (commands.rcpt("b@[IPv6:2001:db8::1]"), b"RCPT TO:<b@[IPv6:2001:db8::1]>\r\n"),
        (commands.rcpt("postmaster"), b"RCPT TO:<postmaster>\r\n"),
        (commands.hello("EHLO", "[192.0.2.1]"), b"EHLO [192.0.2.1]\r\n"),
    ],
)  # fmt: skip
def test_command_lines(line: bytes, wanted: bytes) -> None:
    assert line == wanted


def test_an_empty_recipient_is_none() -> None:
    with pytest.raises(InvalidArgument):
        commands.rcpt("")
