"""The test MX: what it answers, how it misbehaves on request, what it counts."""

import asyncio
import json
import random
from pathlib import Path

import pytest
import uvloop

from engine.base.errors import ConfigError
from engine.tools.certificate import server_context
from engine.tools.sink import Sink
from engine.tools.sink_dialogue import Dialogue
from engine.tools.sink_options import SinkOptions
from engine.tools.sink_rules import Pace, Script, parse_delay, parse_drop_rule, parse_reply_rule
from engine.tools.sink_tally import Shelf, Tally, message_id_of

MESSAGE = b"X-Load-Id: one\r\nFrom: a@load.example\r\n\r\n..dots\r\nbody\r\n"
ENVELOPE = b"MAIL FROM:<a@load.example>\r\nRCPT TO:<b@x.example>\r\n"


def dialogue(*rules: str, shelf: Shelf | None = None, tally: Tally | None = None, **options: object) -> Dialogue:
    script = Script([parse_drop_rule(r) if "=" not in r else parse_reply_rule(r) for r in rules])
    made = Dialogue(SinkOptions(script=script, **options), tally or Tally(), shelf, "192.0.2.1")  # type: ignore[arg-type]
    made.greet()
    return made


def said(talk: Dialogue, data: bytes = b"") -> list[str]:
    """The replies to `data`, without EHLO's list."""
    if data:
        talk.receive(data)
    lines = b"".join(talk.out).decode().split("\r\n")[:-1]
    talk.out.clear()
    return [line for line in lines if line[3:4] != "-"]


def codes(talk: Dialogue, data: bytes = b"") -> list[str]:
    return [line[:3] for line in said(talk, data)]


def test_takes_a_pipelined_message() -> None:
    tally = Tally()
    talk = dialogue(tally=tally)
    assert codes(talk, b"EHLO me\r\n" + ENVELOPE + b"DATA\r\n") == ["220", "250", "250", "250", "354"]
    assert codes(talk, MESSAGE + b".\r\nQUIT\r\n") == ["250", "221"]
    assert talk.closing
    assert (tally.messages, tally.unique, tally.duplicates) == (1, 1, 0)


def test_same_replies_however_the_bytes_are_cut() -> None:
    """P2."""
    stream = b"EHLO me\r\n" + ENVELOPE + b"DATA\r\n" + MESSAGE + b".\r\n" + ENVELOPE + b"DATA\r\n.\r\n"
    stream += ENVELOPE + b"BDAT 5\r\nab\r\n.BDAT 2 LAST\r\nxyNOOP\r\nQUIT\r\n"
    whole = said(dialogue(chunking=True), stream)
    chance = random.Random(7)
    for _ in range(200):
        talk, at = dialogue(chunking=True), 0
        while at < len(stream):
            step = chance.choice((1, 2, 3, 5, 50))
            talk.receive(stream[at : at + step])
            at += step
        assert said(talk) == whole


def test_only_crlf_dot_crlf_ends_a_message() -> None:
    talk = dialogue()
    said(talk, b"EHLO me\r\n" + ENVELOPE + b"DATA\r\n")
    assert codes(talk, b"a\n.\nb\r\n.\nc\n.\r\nd\r.\r") == []
    assert codes(talk, b"e\r\n.\r\n") == ["250"]


def test_any_bytes_give_replies_or_the_end() -> None:
    """P1."""
    chance = random.Random(11)
    words = [
        b"MAIL FROM:<",
        b">",
        b"RCPT TO:<a>",
        b"\r\n",
        b"\n",
        b"DATA\r\n",
        b".\r\n",
        b"BDAT ",
        b"99",
        b" LAST",
        b"AUTH PLAIN ",
    ]
    for _ in range(300):
        talk = dialogue(chunking=True, login="a:b")
        for _ in range(30):
            talk.receive(chance.choice(words) if chance.random() < 0.8 else chance.randbytes(20))
            if talk.closing:
                break
        assert all(reply[:1] in b"2345" for reply in talk.out if reply)


def test_defers_twice_for_each_recipient_then_accepts() -> None:
    talk = dialogue("rcpt:defer*@*=451 4.2.1 try later x2")
    said(talk, b"EHLO me\r\nMAIL FROM:<>\r\n")
    for user in (b"defer1", b"Defer2"):
        line = b"RCPT TO:<" + user + b"@x.example>\r\n"
        assert codes(talk, line * 3) == ["451", "451", "250"]
    assert codes(talk, b"RCPT TO:<other@x.example>\r\n") == ["250"]


def test_rules_by_stage() -> None:
    assert said(dialogue("connect:192.0.2.*=421 4.3.2 closed")) == ["421 4.3.2 closed"]
    talk = dialogue(
        "ehlo:bad*=550 5.7.1 no", "mail:spam@*=550 5.7.1 no", "data:full*=452 4.2.2 full", "end-of-data:c*=554 5.6.0 no"
    )
    assert codes(talk, b"EHLO bad.example\r\nEHLO me\r\nMAIL FROM:<spam@x>\r\n") == ["220", "550", "250", "550"]
    assert codes(talk, b"MAIL FROM:<a@x>\r\nRCPT TO:<full@x>\r\nDATA\r\nRSET\r\n") == ["250", "250", "452", "250"]
    assert codes(talk, b"MAIL FROM:<a@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n" + MESSAGE + b".\r\n") == [
        "250",
        "250",
        "354",
        "554",
    ]


def test_a_reply_of_several_lines() -> None:
    talk = dialogue("rcpt:*=550 5.1.1 no such user\nask the postmaster")
    said(talk, b"EHLO me\r\nMAIL FROM:<>\r\n")
    talk.receive(b"RCPT TO:<a@x>\r\n")
    assert b"".join(talk.out) == b"550-5.1.1 no such user\r\n550 ask the postmaster\r\n"


def test_drops_the_connection_after_the_end_of_data_once() -> None:
    """The case of D3: all sent, no reply."""
    rule = parse_drop_rule("end-of-data x1")
    for expected in ([], ["250"]):
        talk = Dialogue(SinkOptions(script=Script([rule])), Tally(), None, "")
        said(talk, b"EHLO me\r\n" + ENVELOPE + b"DATA\r\n")
        assert codes(talk, MESSAGE + b".\r\n") == expected
        assert talk.closing is not bool(expected)


def test_a_delay_holds_what_follows() -> None:
    talk = Dialogue(SinkOptions(script=Script((), [parse_delay("mail=200ms")])), Tally(), None, "")
    assert codes(talk, b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<a@x>\r\n") == ["250"]
    assert talk.wait_s == pytest.approx(0.2)
    assert codes(talk, b"DATA\r\n") == []
    talk.resume()
    assert codes(talk) == ["250", "250", "354"]


def test_a_rate_above_which_mail_is_refused() -> None:
    pace = Pace(2.0)
    assert [pace.take(at) for at in (0.0, 0.0, 0.0, 0.4, 0.6, 0.6, 9.0, 9.0, 9.0)] == [
        True, True, False, False, True, False, True, True, False,
    ]  # fmt: skip


def test_duplicates_are_counted_for_each_recipient() -> None:
    tally = Tally()
    tally.received(b"one", ["a@x", "b@y"], 10)
    tally.received(b"one", ["c@z"], 10)
    tally.received(b"one", ["b@y"], 10)
    tally.received(b"", ["b@y"], 10)
    assert (tally.messages, tally.recipients, tally.unique, tally.duplicates, tally.without_id) == (4, 5, 3, 1, 1)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"X-Load-Id: 5\r\nMessage-ID: <m@x>\r\n", b"5"),
        (b"Subject: x\r\nmessage-id:<m@x>\r\n", b"<m@x>"),
        (b"Subject: X-Load-Id: 5\r\n", b""),
    ],
)
def test_finds_the_id_of_a_message(head: bytes, expected: bytes) -> None:
    assert message_id_of(head + b"\r\nX-Load-Id: in the body\r\n") == expected


def test_too_large_is_552_and_not_kept() -> None:
    tally = Tally()
    talk = dialogue(tally=tally, max_size=1000)
    said(talk, b"EHLO me\r\n" + ENVELOPE + b"DATA\r\n")
    for _ in range(50):
        talk.receive(b"x" * 100 + b"\r\n")
    assert said(talk, b".\r\n") == ["552 5.3.4 message too large"]
    assert tally.messages == 0


def test_saves_messages_with_their_envelope(tmp_path: Path) -> None:
    talk = dialogue(shelf=Shelf(tmp_path / "mail"))
    said(talk, b"EHLO me\r\nMAIL FROM:<a@x> RET=HDRS\r\nRCPT TO:<b@x> NOTIFY=NEVER\r\nDATA\r\n")
    said(talk, MESSAGE + b".\r\n")
    assert (tmp_path / "mail/00000001.eml").read_bytes() == MESSAGE.replace(b"\r\n.", b"\r\n")
    envelope = json.loads((tmp_path / "mail/00000001.json").read_text())
    assert (envelope["sender"], envelope["recipients"]) == ("a@x", ["b@x"])
    assert (envelope["sender_parameters"], envelope["recipient_parameters"]) == ("RET=HDRS", ["NOTIFY=NEVER"])


@pytest.mark.parametrize("text", ["rcpt:a@b", "rcpt=550 no", "nowhere:*=550 no", "rcpt:*=999 no", "rcpt:*=55 no"])
def test_a_wrong_rule_says_what_is_wrong(text: str) -> None:
    with pytest.raises(ConfigError, match="no"):
        parse_reply_rule(text)


def test_offers_what_it_should() -> None:
    talk = dialogue(chunking=True, dsn=False)
    talk.out.clear()
    talk.receive(b"EHLO me\r\n")
    offered = {line[4:] for line in b"".join(talk.out).decode().split("\r\n")}
    assert {"PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"} < offered
    assert not {"DSN", "STARTTLS"} & offered


def test_starttls_forgets_what_came_before() -> None:
    """RFC 3207 4.2: bytes after STARTTLS in the same segment are dropped, and EHLO is asked for again."""

    async def run() -> tuple[list[bytes], Tally]:
        sink = Sink(SinkOptions(tls=server_context("sink.example")))
        host, port = await sink.listen("127.0.0.1", 0)
        from engine.tools.certificate import trusting_context

        reader, writer = await asyncio.open_connection(host, port)
        got = [await reader.readline()]
        writer.write(b"HELO me\r\nSTARTTLS\r\nMAIL FROM:<injected@x>\r\n")
        got += [await reader.readline(), await reader.readline()]
        await writer.start_tls(trusting_context())
        writer.write(b"MAIL FROM:<a@x>\r\nHELO me\r\nMAIL FROM:<a@x>\r\n")
        got += [await reader.readline() for _ in range(3)]
        writer.close()
        await sink.close()
        return got, sink.tally

    got, tally = uvloop.run(run())
    assert [line[:3] for line in got] == [b"220", b"250", b"220", b"503", b"250", b"250"]
    assert (tally.connections, tally.tls) == (1, 1)
