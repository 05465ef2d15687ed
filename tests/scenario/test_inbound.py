"""What comes back by mail, through the whole daemon: reports to signed return paths, complaints, vacations, replies."""

import mailbox
import re
import smtplib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import daemon, sink, wait_until
from tests.support.inbound import (
    ANSWERS,
    BOUNCES,
    COMPLAINTS,
    FEEDBACK,
    REPLIES,
    RETURN_PATH,
    Stage,
    complaint,
    listens,
    report,
)
from tests.support.ports import free_port
from tests.support.relay import route


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    path = tmp_path_factory.mktemp("inbound")
    port = free_port()
    with sink(path / "receiver") as receiver:
        settings = listens(port, RETURN_PATH, COMPLAINTS, ANSWERS) + route(receiver.address)
        with daemon(path / "engine", settings) as engine:
            yield Stage(engine, receiver, port)


def test_a_report_to_a_signed_return_path_names_its_recipient_whatever_it_says(stage: Stage) -> None:
    message, sender, content = stage.sent("ada@far.test")
    assert re.fullmatch(rf"[a-z2-7]{{32}}=ada=far\.test@{re.escape(BOUNCES)}", sender)
    assert f"X-Postrider-Return: {sender}\r\n".encode() in content
    event = stage.returns(sender, report("someone-else@far.test", "5.1.1", "550 5.1.1 no such user here"))
    assert (event["type"], event["kind"], event["proof"]) == ("bounced", "hard", "token")
    assert (event["message"], event["recipient"]) == (message, "ada@far.test")
    assert (event["status"], event["reply"]) == ("5.1.1", "550 5.1.1 no such user here")
    assert stage.is_suppressed("ada@far.test") and not stage.is_suppressed("someone-else@far.test")


def test_a_recipient_that_fits_into_no_return_path_is_found_among_those_of_the_message(stage: Stage) -> None:
    long = "a.very.long.mailbox.name.indeed@far.away.example.test"
    message, sender, _ = stage.sent(long)
    assert re.fullmatch(rf"[a-z2-7]{{40}}@{re.escape(BOUNCES)}", sender)
    event = stage.returns(sender.upper(), report("x@far.test", "5.2.2", "552 5.2.2 mailbox full"))
    assert (event["message"], event["recipient"], event["proof"]) == (message, long, "token")
    assert event["kind"] != "hard" and not stage.is_suppressed(long)


def test_a_forged_token_proves_nothing(stage: Stage) -> None:
    _, sender, _ = stage.sent("bob@far.test")
    forged = sender.replace("=bob=", "=eve=")
    event = stage.returns(forged, report("eve@far.test", "5.1.1", "550 5.1.1 no such user"))
    assert (event["type"], event["recipient"], event.get("proof", "")) == ("bounced", "eve@far.test", "")
    assert not event["message"] and not stage.is_suppressed("eve@far.test")


def test_a_plain_return_path_is_read_too(stage: Stage) -> None:
    event = stage.returns(f"list-owner@{BOUNCES}", report("carl@far.test", "5.1.1", "550 5.1.1 no such user"))
    assert (event["type"], event["kind"], event["recipient"]) == ("bounced", "hard", "carl@far.test")
    assert not event.get("proof") and not stage.is_suppressed("carl@far.test")


def test_a_delay_is_no_bounce(stage: Stage) -> None:
    _, sender, _ = stage.sent("dora@far.test")
    event = stage.returns(sender, report("dora@far.test", "4.4.1", "421 try later", action="delayed"))
    assert (event["type"], event["kind"]) == ("reported", "soft")


def test_a_complaint_is_about_whom_the_returned_header_was_signed_for(stage: Stage) -> None:
    message, _, content = stage.sent("frida@far.test")
    event = stage.returns(f"fbl@{FEEDBACK}", complaint(content), sender="fbl@provider.test")
    assert (event["type"], event["kind"], event["proof"]) == ("complained", "complaint", "token")
    assert (event["message"], event["recipient"]) == (message, "frida@far.test")
    assert stage.is_suppressed("frida@far.test")


def _plain(content: bytes) -> str:
    """A person's mail with the copy attached."""
    return (
        'From: eve@else.test\nSubject: Abuse report\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n'
        "--b\nContent-Type: text/plain\n\nThis is spam, an abuse report: unsolicited.\n--b\n"
        f"Content-Type: message/rfc822\n\n{content.decode().replace(chr(13), '')}\n--b--\n"
    )


@pytest.mark.parametrize("where", ["text", "body", "top", "plain", "mixed", "reply"])
def test_a_token_counts_only_where_a_feedback_report_gives_back_our_header(stage: Stage, where: str) -> None:
    """Whoever got a forwarded copy has the token, too, and may quote it where he likes."""
    whom = f"{where}@far.test"
    _, sender, content = stage.sent(whom)
    clean = b"\r\n".join(line for line in content.split(b"\r\n") if b"X-Postrider-Return" not in line)
    words = complaint(clean)
    if where == "text":
        words = words.replace("An email abuse report.", f"X-Postrider-Return: {sender}")
    elif where == "body":
        words = words.replace("text/rfc822-headers\n\n", f"message/rfc822\n\nFrom: a@b.test\n\n<{sender}>\n")
    elif where == "top":
        words = f"X-Postrider-Return: {sender}\n{words}"
    elif where == "plain":
        words = _plain(content)
    elif where == "mixed":
        words = complaint(content).replace("multipart/report; report-type=feedback-report", "multipart/mixed")
    else:
        words = complaint(content)
    to = f"x@{REPLIES}" if where == "reply" else f"fbl@{FEEDBACK}"
    event = stage.returns(to, words, sender="eve@else.test")
    assert not event.get("proof") and not stage.is_suppressed(whom)


@pytest.mark.parametrize("field", ["Original-Mail-From: <{}>", "Return-Path"])
def test_a_feedback_report_may_give_back_our_envelope(stage: Stage, field: str) -> None:
    whom = f"{field[:6].lower()}@far.test"
    message, sender, content = stage.sent(whom)
    clean = b"\r\n".join(line for line in content.split(b"\r\n") if b"X-Postrider-Return" not in line)
    if field == "Return-Path":
        words = complaint(f"Return-Path: <{sender}>\r\n".encode() + clean)
    else:
        words = complaint(clean).replace("Version: 1\n", f"Version: 1\n{field.format(sender)}\n")
    event = stage.returns(f"x@{BOUNCES}", words, sender="fbl@provider.test")
    assert (event["message"], event["recipient"], event["proof"]) == (message, whom, "token")
    assert stage.is_suppressed(whom)


def test_a_bounce_that_names_us_is_not_about_its_recipient(stage: Stage) -> None:
    for number, reply in enumerate(("<shop@news.test>: user unknown", "host mx.test not found")):
        _, sender, _ = stage.sent(f"ours{number}@far.test")
        event = stage.returns(sender, report(f"ours{number}@far.test", "5.1.1", f"550 5.1.1 {reply}"))
        assert (event["kind"], event["proof"]) == ("config", "token")
        assert not stage.is_suppressed(f"ours{number}@far.test")


def test_a_reply_that_cannot_be_forwarded_lies_in_the_folder(tmp_path: Path) -> None:
    port = free_port()
    with sink(tmp_path / "receiver", "--reply", "rcpt:support*=550 5.1.1 no such user") as receiver:
        settings = listens(port, ANSWERS) + route(receiver.address)
        with daemon(tmp_path / "engine", settings) as engine:
            event = Stage(engine, receiver, port).returns(
                f"shop@{REPLIES}", "Subject: Re: hello\n\nWhere?\n", "a@far.test"
            )
            engine.books()
            [kept] = mailbox.Maildir(engine.data / "inbound", create=False)
            assert (kept["Subject"], kept.get_payload()) == ("Re: hello", "Where?\n")
            told = [each for each in engine.events() if each["message"] == event["answer"]]
            assert [(each["type"], each["destination"]) for each in told][1:] == [
                ("deferred", f"box:{REPLIES}"), ("delivered", f"box:{REPLIES}"),
            ]  # fmt: skip
            assert told[1]["reply"] == "550 5.1.1 no such user; not forwarded, it goes into the folder"
            assert engine.run("suppress", "find", "support@home.test", check=False)


def test_a_vacation_is_no_bounce_and_no_reply(stage: Stage) -> None:
    message, sender, _ = stage.sent("gina@far.test")
    vacation = "From: gina@far.test\nAuto-Submitted: auto-replied\nSubject: Out of office\n\nI am away until Monday.\n"
    event = stage.returns(sender, vacation)
    assert (event["type"], event["kind"], event["message"]) == ("auto-replied", "auto-reply", message)
    stage.engine.books()
    assert not [content for _, content in stage.receiver.messages() if b"until Monday" in content]


def test_a_reply_goes_whole_to_whom_the_settings_say_and_is_tied_to_what_it_answers(stage: Stage) -> None:
    message, _, _ = stage.sent("hugo@far.test")
    reply = (
        f"From: Hugo <hugo@far.test>\nTo: shop@{REPLIES}\nSubject: Re: hello\nIn-Reply-To: <{message}@mx.test>\n\n"
        "Where is my parcel?\n"
    )
    event = stage.returns(f"shop@{REPLIES}", reply, sender="hugo@far.test")
    assert (event["type"], event["sender"], event["message"]) == ("replied", "hugo@far.test", message)
    assert event["text"].strip() == "Where is my parcel?"
    stage.engine.books()
    (got,) = [(e, c) for e, c in stage.receiver.messages() if b"Where is my parcel?" in c]
    assert (got[0]["sender"], got[0]["recipients"]) == ("", ["support@home.test"])
    assert got[1].startswith(b"Received: from remote.test") and b"Subject: Re: hello\r\n" in got[1]


def test_a_person_who_quotes_a_bounce_is_not_one(stage: Stage) -> None:
    _, sender, _ = stage.sent("nora@far.test")
    words = "From: nora@far.test\nSubject: Undelivered mail\n\nI got this back: 550 5.1.1 <foo@x.test> user unknown\n"
    event = stage.returns(sender, words, sender="nora@far.test")
    assert not event.get("proof") and not stage.is_suppressed("nora@far.test")
    stage.engine.books()
    kept = mailbox.Maildir(stage.engine.data / "inbound", create=False)
    assert [each["Subject"] for each in kept].count("Undelivered mail") == 1


def test_a_token_in_what_a_bounce_gives_back_proves_nothing(stage: Stage) -> None:
    _, _, content = stage.sent("olga@far.test")
    event = stage.returns(f"list-owner@{BOUNCES}", report("zoe@far.test", "5.1.1", "550 5.1.1 no", returned=content))
    assert event["recipient"] == "zoe@far.test" and not event.get("proof")
    assert not stage.is_suppressed("olga@far.test") and not stage.is_suppressed("zoe@far.test")


def test_what_a_person_writes_to_a_return_path_lies_in_a_folder(stage: Stage) -> None:
    message, sender, _ = stage.sent("ida@far.test")
    event = stage.returns(sender, "From: ida@far.test\nSubject: stop it\n\nPlease stop.\n", sender="ida@far.test")
    assert (event["type"], event["message"]) == ("replied", message)
    stage.engine.books()
    kept = {each["Subject"]: each for each in mailbox.Maildir(stage.engine.data / "inbound", create=False)}
    assert kept["stop it"].get_payload() == "Please stop.\n"


def test_a_reply_waits_for_a_url_that_does_not_take_it(tmp_path: Path) -> None:
    statuses, taken = [503, 400, 204], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = statuses.pop(0)
            if status == 204:
                taken.append((self.headers["Content-Type"], self.headers["Idempotency-Key"], body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = free_port()
    settings = f"""
        [retry]
        transactional = {{ schedule = "200ms*" }}
        [[listener]]
        kind = "inbound"
        address = "127.0.0.1:{port}"
        [[inbound]]
        domain = "{REPLIES}"
        kind = "reply"
        replies = "http://127.0.0.1:{server.server_address[1]}/replies"
        allow_private = true
        """
    with daemon(tmp_path, settings) as engine, sink(tmp_path / "receiver") as receiver:
        event = Stage(engine, receiver, port).returns(f"x@{REPLIES}", "From: a@far.test\nSubject: hi\n\nHello.\n")
        wait_until(lambda: taken or (engine.run("retry", f"box:{REPLIES}", check=False) and taken), "the reply")
        engine.books()
        [(kind, key, body)] = taken
        assert (kind, key) == ("message/rfc822", event["answer"]) and body.endswith(b"\r\n\r\nHello.\r\n")
        assert [e["type"] for e in engine.events() if e["message"] == event["answer"]] == [
            "received", "deferred", "deferred", "delivered",
        ]  # fmt: skip
    server.shutdown()
    server.server_close()


def test_a_block_of_ours_or_several_recipients_suppress_nobody(stage: Stage) -> None:
    _, sender, _ = stage.sent("jan@far.test")
    event = stage.returns(sender, report("jan@far.test", "5.7.1", "554 5.7.1 your IP address is listed by a blocklist"))
    assert event["kind"] == "block" and event["proof"]
    assert not stage.is_suppressed("jan@far.test")
    _, sender, _ = stage.sent("kim@far.test")
    several = report("kim@far.test", "5.1.1", "550 5.1.1 no such user").replace(
        "Final-Recipient", "Final-Recipient: rfc822; lee@far.test\nAction: failed\nStatus: 5.1.1\n\nFinal-Recipient", 1
    )
    with smtplib.SMTP("127.0.0.1", stage.port, timeout=60) as client:
        client.sendmail("", [sender], several)
    events = [event for event in stage.engine.events("bounced") if event["recipient"] == "lee@far.test"]
    assert events and not events[0].get("proof")
    assert not stage.is_suppressed("kim@far.test") and not stage.is_suppressed("lee@far.test")


def test_everything_else_is_refused(stage: Stage) -> None:
    with smtplib.SMTP("127.0.0.1", stage.port, timeout=60) as client:
        client.ehlo("remote.test")
        assert not client.has_extn("auth")
        client.mail("x@remote.test")
        assert client.rcpt("ada@far.test")[0] == 550
        assert client.rcpt("ada@mx.test")[0] == 550
        assert client.rcpt("postmaster")[0] == 250
        assert client.rcpt(f"x@{REPLIES}")[0] == 452, "another time: this is about one"


def test_an_automatic_answer_that_quotes_a_refusal_suppresses_nobody(stage: Stage) -> None:
    _, sender, _ = stage.sent("odin@far.test")
    answer = "From: Odin <odin@far.test>\nSubject: {}\nAuto-Submitted: auto-replied\n\n{}\n"
    quoted = "<eve@far.test>: host mx.far.test said: 550 5.1.1 user unknown\nFinal-Recipient: rfc822; eve@far.test"
    for subject in ("Undelivered Mail Returned to Sender", "Automatic reply: Delivery failure", "Re: Mail failed"):
        event = stage.returns(sender, answer.format(subject, f"I am away until Monday.\n\n{quoted}"))
        assert (event["type"], event["kind"], event["recipient"]) == ("auto-replied", "auto-reply", "odin@far.test")
    assert not stage.is_suppressed("odin@far.test") and not stage.is_suppressed("eve@far.test")


def test_a_bounce_that_is_attached_to_something_else_proves_nothing(stage: Stage) -> None:
    _, sender, _ = stage.sent("paul@far.test")
    inner = report("paul@far.test", "5.1.1", "550 5.1.1 user unknown")
    outer = 'From: list@far.test\nSubject: see this\nContent-Type: multipart/mixed; boundary="o"\n\n--o\n'
    event = stage.returns(sender, f"{outer}Content-Type: message/rfc822\n\n{inner}\n--o--\n")
    assert (event["type"], event["kind"], event.get("proof", "")) == ("bounced", "hard", "")
    assert not stage.is_suppressed("paul@far.test")


def test_a_report_of_ten_thousand_recipients_is_read_to_its_end(stage: Stage) -> None:
    _, sender, _ = stage.sent("quin@far.test")
    groups = "".join(
        f"Final-Recipient: rfc822; recipient-{n:05}@department.far.test\nAction: failed\nStatus: 5.1.1\n"
        f"Diagnostic-Code: smtp; 550 5.1.1 <recipient-{n:05}@department.far.test>: Recipient address\n"
        f"    rejected: User unknown in virtual mailbox table (in reply to RCPT TO command)\n\n"
        for n in range(10_000)
    )
    head, _, tail = report("nobody@far.test", "5.1.1", "550 no").partition("Final-Recipient:")
    content = (head + groups + tail[tail.index("\n\n") :]).replace("\n", "\r\n").encode()
    assert len(content) > 2 << 20
    events = stage.brings_much(sender, content, 10_000)
    assert len({event["recipient"] for event in events}) == len(events) == 10_000
    assert {(event["type"], event["kind"], event.get("truncated", False)) for event in events} == {
        ("bounced", "hard", False)
    }


def test_a_report_too_long_to_be_read_to_its_end_says_so_and_suppresses_nobody(stage: Stage) -> None:
    _, sender, _ = stage.sent("rosa@far.test")
    returned = b"\r\n\r\n" + (b"y" * 76 + b"\r\n") * (14 << 20 >> 6)
    content = report("rosa@far.test", "5.1.1", "550 5.1.1 user unknown", returned=returned[: 16 << 20])
    (event,) = stage.brings_much(sender, content.replace("\n", "\r\n").encode(), 1)
    assert (event["type"], event["kind"], event["truncated"]) == ("bounced", "hard", True)
    assert not event.get("proof") and not stage.is_suppressed("rosa@far.test")
