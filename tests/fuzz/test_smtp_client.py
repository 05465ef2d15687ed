"""P1 and P2 of the outgoing protocol: any bytes, cut anywhere."""

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from engine.base.errors import ProtocolError
from engine.protocol import smtp_commands as commands
from engine.protocol import smtp_content
from engine.protocol.smtp_client import SmtpClient
from engine.protocol.smtp_commands import InvalidArgument
from engine.protocol.smtp_content import Content, reframed
from engine.protocol.smtp_reply import ReplyParser
from engine.protocol.smtp_steps import Patience

_PIECES = [
    b"250 ok\r\n", b"250 2.1.5 ok\n", b"250-first\r\n", b"250 last\r\n", b"550 5.1.1 no\r\n", b"550-no\r\n",
    b"354 go\r\n", b"421 4.3.2 bye\r\n", b"450 4.2.0 later\r\n", b"220 tls\r\n", b"334 \r\n", b"250", b"-",
    b" ", b"\r", b"\n", b"\0", b"000 no\r\n", b"999 no\r\n", b"\xff", b"x" * 5000,
]  # fmt: skip
said = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=12), max_size=12).map(b"".join)
keywords = st.sets(st.sampled_from(["PIPELINING", "CHUNKING", "SIZE 100", "STARTTLS", "AUTH LOGIN", "DSN"]))
LINES = (b"MAIL FROM:<a@b.test>\r\n", [b"RCPT TO:<c@d.test>\r\n", b"RCPT TO:<e@f.test>\r\n"])


@st.composite
def cuts(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Some bytes, and the same in pieces."""
    data = draw(said)
    points = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return data, [data[a:b] for a, b in zip([0, *points], [*points, len(data)], strict=True)]


def parsed(chunks: list[bytes]) -> tuple[list[tuple[int, tuple[bytes, ...]]], bool]:
    """The replies, and whether it ended in a fault."""
    parser, found = ReplyParser(), []
    try:
        for chunk in chunks:
            parser.feed(chunk)
            while (reply := parser.next_reply()) is not None:
                found.append((reply.code, reply.lines))
                assert str(reply).isprintable()
                assert reply.enhanced.isascii()
    except ProtocolError:
        return found, True
    return found, False


@given(cuts())
def test_replies_do_not_depend_on_the_cuts(cut: tuple[bytes, list[bytes]]) -> None:
    data, chunks = cut
    assert parsed([data]) == parsed(chunks) == parsed([data[i : i + 1] for i in range(len(data))])


def client_with(offered: set[str]) -> SmtpClient:
    client = SmtpClient(Patience())
    client.receive(b"220 mx\r\n")
    client.hello("me.test")
    client.next_piece()
    client.receive("".join(f"250-{line}\r\n" for line in ["mx", *sorted(offered)]).encode() + b"250 HELP\r\n")
    return client


def pipelined(chunks: list[bytes]) -> tuple[object, ...]:
    """All that a whole message in one write leads to."""
    client = client_with({"PIPELINING", "CHUNKING"})
    transaction = client.begin(*LINES, Content(b"", b"x\r\n"))
    client.next_piece()
    fault = False
    for chunk in chunks:
        try:
            client.receive(chunk)
        except ProtocolError:
            fault = True
            break
    return (
        fault, client.usable, client.broken, client.closing, transaction.mail, tuple(transaction.rcpts),
        transaction.end, transaction.closing, transaction.accepted,
    )  # fmt: skip


@given(cuts())
def test_a_pipelined_transaction_does_not_depend_on_the_cuts(cut: tuple[bytes, list[bytes]]) -> None:
    data, chunks = cut
    assert pipelined([data]) == pipelined(chunks) == pipelined([data[i : i + 1] for i in range(len(data))])


@given(
    keywords,
    st.lists(said, max_size=6),
    st.sampled_from(["greeting", "hello", "starttls", "auth", "begin", "careful", "large", "quit"]),
)
def test_any_bytes_at_any_time_give_progress_or_a_protocol_error(
    offered: set[str], chunks: list[bytes], exchange: str
) -> None:
    client = SmtpClient(Patience()) if exchange == "greeting" else client_with(offered)
    match exchange:
        case "hello":
            client.hello("me.test")
        case "starttls":
            client.starttls()
        case "auth":
            client.authenticate("user", "password")
        case "begin":
            client.begin(*LINES, Content(b"", b".x\r\n"))
        case "careful":
            client.begin(*LINES, Content(b"", b".x\r\n"), careful=True)
        case "large":
            client.begin(*LINES, Content(b"", b"x" * 300_000))
        case "quit":
            client.quit()
        case _:
            pass
    for chunk in chunks:
        client.next_piece()
        try:
            over = client.receive(chunk)
        except ProtocolError:
            assert client.broken
            assert not client.usable
            assert client.next_piece() is None
            return
        assert over == client.done
        assert client.patience_s > 0


@given(st.text(max_size=40) | st.text(alphabet='ab@."\\<> \r\n\0', max_size=20))
def test_an_address_is_safe_or_refused(text: str) -> None:
    try:
        wire = commands.address(text)
    except InvalidArgument:
        return
    assert not set(wire) & set(b"\r\n\0")
    outside = wire.replace(b"\\\\", b"").replace(b"\\<", b"").replace(b"\\>", b"")
    assert not set(outside) & set(b"<>")


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"x", b"\r\n.\r\n", b"yy"]), max_size=30).map(b"".join),
    st.sampled_from([b"", b"A: b\r\n", b".A: b", b"\n"]),
    st.integers(1, 7),
)
def test_any_content_in_slices_is_one_message(content: bytes, prefix: bytes, slice_bytes: int) -> None:
    with (
        mock.patch.object(smtp_content, "WHOLE_BYTES", 0),
        mock.patch.object(smtp_content, "SLICE_BYTES", slice_bytes),
    ):
        parts, pieces, last = Content(prefix, content), [], False
        if parts.small:
            return
        while not last:
            piece, last = parts.take(stuffed=True)
            pieces.append(bytes(piece))
    wire = b"".join(pieces)
    if not content:
        return
    lines = (wire + b".\r\n").split(b"\r\n")
    assert lines.index(b".") == len(lines) - 2
    unstuffed = b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2])
    head = reframed(prefix)
    expected = (head if head.endswith(b"\r\n") or not head else head + b"\r\n") + reframed(content)
    assert unstuffed == (expected if expected.endswith(b"\r\n") else expected + b"\r\n")
