"""A message goes in over SMTP and comes out at the receivers it is for: once, whole, and in the right order."""

import email
import email.policy
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client, letter, submit
from tests.support.engine import Daemon, Sink, daemon, sink
from tests.support.relay import relayed, route
from tests.support.report import Report


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Sink]]:
    """An engine and the sink that takes everything from it; each test looks at its own messages."""
    path = tmp_path_factory.mktemp("plain")
    with relayed(path) as (engine, everybody):
        yield engine, everybody
        engine.books()
        assert everybody.status()["protocol_errors"] == 0


#: A connection that has to wait for the next message stays open however slow this machine is.
PATIENT = '[delivery]\nidle_timeout = "1m"\n'


def arrived(sink: Sink, recipient: str) -> tuple[dict[str, object], bytes]:
    """The one message for this recipient."""
    (found,) = [(envelope, content) for envelope, content in sink.messages() if recipient in envelope["recipients"]]
    return found


def body_of(content: bytes) -> bytes:
    return content.partition(b"\r\n\r\n")[2]


def test_every_recipient_gets_it_once_from_the_host_of_its_domain(tmp_path: Path) -> None:
    """One content, a delivery for each destination, a transaction for each delivery."""
    with sink(tmp_path / "one") as one, sink(tmp_path / "rest") as rest:
        routes = route(one.address, "one.test") + route(rest.address)
        with daemon(tmp_path / "engine", routes) as engine:
            recipients = ["a@one.test", "b@two.test", "c@ONE.test", "d@three.test", "a@one.test", "e@two.test"]
            message_id = submit(engine.port, "ada@home.test", recipients, letter())
            assert engine.books() == {"received": 5, "delivered": 5}
            assert all(fate == ["received", "delivered"] for fate in engine.fates(message_id).values())
            transactions = [envelope["recipients"] for envelope, _ in one.messages() + rest.messages()]
            assert sorted(transactions) == [
                ["a@one.test", "c@ONE.test"],
                ["b@two.test", "e@two.test"],
                ["d@three.test"],
            ]
            contents = {content for _, content in one.messages() + rest.messages()}
            assert len(contents) == 1
            assert {envelope["sender"] for envelope, _ in rest.messages()} == {"ada@home.test"}


def test_more_recipients_than_a_transaction_takes(tmp_path: Path) -> None:
    """All of one domain are one delivery, sent in as many transactions as [delivery] max_recipients asks for."""
    with relayed(tmp_path, more="[delivery]\nmax_recipients = 20\n", connections=1) as (engine, everybody):
        submit(engine.port, "ada@home.test", [f"r{n}@one.test" for n in range(50)], letter())
        assert engine.books() == {"received": 50, "delivered": 50}
        counts = everybody.has(messages=3)
        assert [len(envelope["recipients"]) for envelope, _ in everybody.messages()] == [20, 20, 10]
        assert (counts["unique"], counts["duplicates"], everybody.connections()) == (50, 0, 1)


def test_what_is_added_to_a_header_and_what_is_removed(plain: tuple[Daemon, Sink]) -> None:
    engine, everybody = plain
    fields = ("Bcc: secret@one.test,", "\tanother@one.test", "Return-Path: <x@y.test>", "X-Postrider-Class: bulk")
    message_id = submit(engine.port, "ada@home.test", "header@one.test", letter("h", "ada@home.test", *fields))
    engine.books()
    _, content = arrived(everybody, "header@one.test")
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert message.keys() == ["Received", "From", "To", "Subject", "Date", "Message-ID"]
    assert message["Message-ID"] == f"<{message_id}@mx.test>"
    assert message["Date"].datetime.tzinfo is not None
    received = " ".join(message["Received"].split())
    assert received.startswith("from client.test (unknown [127.0.0.1]) by mx.test with ESMTP id " + message_id)
    assert "for <header@one.test>;" in received
    assert body_of(content) == b"Text.\r\n"


def test_a_header_that_is_complete_only_gets_its_received(plain: tuple[Daemon, Sink]) -> None:
    engine, everybody = plain
    date = "Mon, 02 Feb 2026 10:00:00 +0100"
    sent = letter(
        "kept", "ada@home.test", f"Date: {date}", "Message-Id: <mine@home.test>", "Received: from a by b; " + date
    )
    submit(engine.port, "ada@home.test", ["one@kept.test", "two@kept.test"], sent)
    engine.books()
    _, content = arrived(everybody, "one@kept.test")
    assert content.endswith(sent)
    added = content.removesuffix(sent)
    assert added.startswith(b"Received: ")
    # Nobody learns from the header who else got it.
    assert b"kept.test" not in added


#: The body, and what it is that others have broken in it.
BODIES = {
    "dots": b".\r\n..\r\n...\r\n.a\r\n\r\n.\r\nQUIT\r\n.\r\n",
    "8-bit": bytes(byte for byte in range(1, 256) if byte not in b"\r\n") + b"\r\n",
    "long lines": b"x" * 100_000 + b"\r\n" + b"\xc3\xbc" * 4000 + b"\r\n.",
    "blank lines at the end": b"\r\n\r\nText\r\n\r\n\r\n",
    "spaces at ends of lines": b"a \r\n\t\r\n  b\t \r\n",
    "a header in the body": b"From: x\r\nBcc: y\r\nReturn-Path: <z>\r\nReceived: w\r\n\r\nText\r\n",
    "empty": b"",
    "two megabytes": b"".join(b"line %d of many\r\n.\r\n" % n for n in range(100_000)),
}


@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_bodies_arrive_byte_for_byte(chunking: bool, tmp_path: Path) -> None:
    """Whatever is in them; only a missing last line end is put there, as SMTP wants it."""
    with relayed(tmp_path, *["--chunking"] * chunking) as (engine, everybody), Client(engine.port) as client:
        for number, body in enumerate(BODIES.values()):
            client.submit("ada@home.test", f"r{number}@one.test", letter(body=body), mail="BODY=8BITMIME")
        assert engine.books() == {"received": len(BODIES), "delivered": len(BODIES)}
        for number, (name, body) in enumerate(BODIES.items()):
            envelope, content = arrived(everybody, f"r{number}@one.test")
            assert body_of(content) == (body if body.endswith(b"\r\n") or not body else body + b"\r\n"), name
            declared = "BODY=8BITMIME" in str(envelope["sender_parameters"])
            assert declared != body.isascii(), name
        assert everybody.status()["protocol_errors"] == 0


def test_addresses_and_headers_in_utf_8(plain: tuple[Daemon, Sink]) -> None:
    engine, everybody = plain
    sent = letter("Grüße aus Köln", "пётр@почта.test")
    submit(engine.port, "пётр@почта.test", "jürgen@bücher.test", sent, mail="SMTPUTF8 BODY=8BITMIME")
    engine.books()
    envelope, content = arrived(everybody, "jürgen@bücher.test")
    assert envelope["sender"] == "пётр@почта.test"
    assert "SMTPUTF8" in str(envelope["sender_parameters"])
    assert "Subject: Grüße aus Köln".encode() in content
    (event,) = [e for e in engine.events("delivered") if e["recipient"] == "jürgen@bücher.test"]
    assert event["destination"] == "xn--bcher-kva.test"


def test_utf_8_for_a_receiver_that_cannot_take_it(tmp_path: Path) -> None:
    """RFC 6531 3.2: there is no way down; an ASCII message of the same client needs none."""
    with relayed(tmp_path, "--without", "smtputf8") as (engine, old):
        submit(engine.port, "ada@home.test", "jürgen@one.test", letter(), mail="SMTPUTF8")
        submit(engine.port, "ada@home.test", "bob@one.test", letter(), mail="SMTPUTF8")
        assert engine.books() == {"received": 3, "delivered": 2, "failed": 1}
        (event,) = engine.events("failed")
        assert (event["recipient"], event["status"]) == ("jürgen@one.test", "5.6.7")
        assert sorted(envelope["recipients"] for envelope, _ in old.messages()) == [["ada@home.test"], ["bob@one.test"]]


def test_what_was_asked_about_reports_is_passed_on(plain: tuple[Daemon, Sink]) -> None:
    """RFC 3461 5.2.1: the receiver offers DSN, so the asking and the telling are its business now."""
    engine, everybody = plain
    mail, rcpt = "RET=HDRS ENVID=QQ+2B314", "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Btag@Example.test"
    message_id = submit(engine.port, "ada@home.test", "bob@dsn.test", letter(), mail, rcpt)
    engine.books()
    envelope, _ = arrived(everybody, "bob@dsn.test")
    assert {"RET=HDRS", "ENVID=QQ+2B314"} <= set(str(envelope["sender_parameters"]).split())
    (parameters,) = envelope["recipient_parameters"]  # type: ignore[misc]
    assert sorted(parameters.split()) == ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;Bob+2Btag@Example.test"]
    assert engine.fates(message_id) == {"bob@dsn.test": ["received", "delivered"]}
    assert {e["envid"] for e in engine.events() if e["message"] == message_id} == {"QQ+314"}


def test_without_dsn_the_sender_hears_from_us(tmp_path: Path) -> None:
    """The same to a receiver that does not offer DSN: nothing of it in the commands, and a report of ours."""
    with relayed(tmp_path, "--without", "dsn") as (engine, old):
        submit(engine.port, "ada@home.test", "bob@one.test", letter(), "RET=HDRS ENVID=1", "NOTIFY=SUCCESS")
        assert engine.books() == {"received": 2, "delivered": 2}
        (envelope, _), (answer, report) = old.messages()
        assert envelope["recipient_parameters"] == [""]
        assert not {"RET", "ENVID"} & {word.partition("=")[0] for word in envelope["sender_parameters"].split()}
        assert (answer["sender"], answer["recipients"]) == ("", ["ada@home.test"])
        assert Report(report).field("Action") == ["relayed"]


def test_many_messages_over_one_connection(tmp_path: Path) -> None:
    with relayed(tmp_path, more=PATIENT, connections=1) as (engine, everybody), Client(engine.port) as client:
        for number in range(200):
            client.submit("ada@home.test", f"r{number}@d{number % 20}.test", letter())
        assert engine.books() == {"received": 200, "delivered": 200}
        counts = everybody.has(messages=200)
        assert (counts["unique"], counts["duplicates"], everybody.connections()) == (200, 0, 1)


def test_a_connection_is_closed_after_its_share(tmp_path: Path) -> None:
    limits = {"connections": 1, "messages_per_connection": 8}
    with relayed(tmp_path, more=PATIENT, **limits) as (engine, everybody), Client(engine.port) as client:
        for number in range(40):
            client.submit("ada@home.test", f"r{number}@one.test", letter())
        assert engine.books() == {"received": 40, "delivered": 40}
        everybody.has(messages=40)
        assert everybody.connections() == 5


def test_transactional_mail_goes_before_a_backlog_of_bulk(tmp_path: Path) -> None:
    """The backlog is made with `hold`, which also keeps what arrives later, and let go with `resume`."""
    with relayed(tmp_path, connections=1) as (engine, everybody), Client(engine.port) as client:
        engine.run("hold", "one.test")
        for number in range(30):
            client.submit("ada@home.test", f"bulk{number:02}@one.test", letter())
        for number in range(3):
            urgent = letter("code", "ada@home.test", "X-Postrider-Class: transactional")
            client.submit("ada@home.test", f"urgent{number}@one.test", urgent)
        (row,) = engine.ask("queues")
        assert (row["queued"], row["held"]) == (33, 33)
        assert "held by an operator" in engine.run("why", "urgent0@one.test").stdout
        engine.run("resume", "one.test")
        assert engine.books() == {"received": 33, "delivered": 33}
        order = [envelope["recipients"][0] for envelope, _ in everybody.messages()]
        assert order == [f"urgent{n}@one.test" for n in range(3)] + [f"bulk{n:02}@one.test" for n in range(30)]
        classes = {event["class"] for event in engine.events("delivered") if "urgent" in event["recipient"]}
        assert classes == {"transactional"}
