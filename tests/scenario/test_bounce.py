"""Who is told what became of a message: reports as they reach the sender's mail server, read by the email package."""

import email
import email.policy
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client, letter, submit
from tests.support.dkim import accepted_by_dkimpy, both_keys, ed_key, rsa_key, write_key
from tests.support.engine import Daemon, Sink, daemon, sink, wait_until
from tests.support.relay import route
from tests.support.report import Report

RULES = (
    "rcpt:nobody*@*=550 5.1.1 no such user here",
    "rcpt:long@*=550 5.7.1 first line\nsecond line",
    "rcpt:gone@sender.test=550 5.1.1 the sender is gone as well",
    "end-of-data:spam@*=554 5.7.1 not this",
    "end-of-data:bare@*=550 no code in here",
    "rcpt:slow@*=451 4.2.2 busy x4",
    "rcpt:held@*=451 4.2.2 busy",
)
KEYS = both_keys("mx.test")


class Stage:
    """An engine, the receiver of everything, and the sender's mail server."""

    def __init__(self, engine: Daemon, receiver: Sink, home: Sink) -> None:
        self.engine, self.receiver, self.home = engine, receiver, home

    def send(
        self,
        recipients: str | list[str],
        content: bytes = b"",
        mail: str = "",
        rcpt: str = "",
        sender: str = "ada@home.test",
    ) -> str:
        """Submit, and wait until everything that follows has happened; the message's id."""
        message_id = submit(self.engine.port, sender, recipients, content or letter(), mail, rcpt)
        self.engine.books()
        return message_id

    def reports(self, message_id: str) -> list[tuple[dict[str, object], bytes]]:
        """Envelopes and contents at the sender's server that speak of this message."""
        about = f"In-Reply-To: <{message_id}@mx.test>\r\n".encode()
        return [(envelope, content) for envelope, content in self.home.messages() if about in content]

    def report(self, message_id: str) -> Report:
        ((_, content),) = self.reports(message_id)
        return Report(content)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    path = tmp_path_factory.mktemp("bounce")
    keys = "".join(
        f'[[dkim]]\ndomain = "mx.test"\nselector = "{selector}"\nkey = "{write_key(path, selector, key)}"\n'
        for selector, key in (("r", rsa_key()), ("e", ed_key()))
    )
    rules = [word for rule in RULES for word in ("--reply", rule)]
    with sink(path / "receiver", "--without", "dsn", *rules) as receiver, sink(path / "home") as home:
        settings = f"""
            [suppression]
            automatic = false
            [retry]
            schedule = "200ms*"
            jitter = 0.0
            [dsn]
            delay_notice = "300ms"
            max_return_bytes = "10KiB"
            {keys}
            {route(home.address, "home.test")}
            {route(receiver.address)}"""
        with daemon(path / "engine", settings) as engine:
            yield Stage(engine, receiver, home)
            assert [each.status()["duplicates"] for each in (receiver, home)] == [0, 0]


def test_an_address_that_does_not_exist(stage: Stage) -> None:
    """Everything a program at the sender needs (RFC 3464, RFC 3461 6)."""
    mail, rcpt = "RET=HDRS ENVID=order+2B17", "NOTIFY=FAILURE ORCPT=rfc822;Nobody+2BX@Old.test"
    message_id = stage.send("nobody@one.test", b"", mail, rcpt)
    assert stage.engine.fates(message_id) == {"nobody@one.test": ["received", "failed"]}
    ((envelope, content),) = stage.reports(message_id)
    assert (envelope["sender"], envelope["recipients"]) == ("", ["ada@home.test"])
    assert envelope["recipient_parameters"] == ["NOTIFY=NEVER"]
    report = Report(content)
    assert report.message["From"] == "Mail Delivery System <MAILER-DAEMON@mx.test>"
    assert report.message["To"] == "ada@home.test"
    assert report.message["Auto-Submitted"] == "auto-replied"
    assert report.about["Reporting-MTA"] == "dns; mx.test"
    assert report.about["Original-Envelope-Id"] == "order+17"
    (about,) = report.recipients
    assert about["Original-Recipient"] == "rfc822; Nobody+X@Old.test"
    assert about["Final-Recipient"] == "rfc822; nobody@one.test"
    assert (about["Action"], about["Status"]) == ("failed", "5.1.1")
    assert about["Remote-MTA"] == "dns; 127.0.0.1"
    assert report.field("Diagnostic-Code") == ["smtp; 550 5.1.1 no such user here"]
    assert about["Last-Attempt-Date"] is not None
    assert "550 5.1.1 no such user here" in report.text
    assert report.returned.get_content_type() == "text/rfc822-headers"
    assert b"Subject: hello" in report.returned_bytes and b"Text." not in report.returned_bytes


def test_the_whole_message_comes_back(stage: Stage) -> None:
    """RET=FULL, and without a word about it as well, as it arrived here."""
    for mail in ("RET=FULL", ""):
        report = stage.report(stage.send("nobody@one.test", letter("mine", body=b"One.\r\n.Two.\r\n"), mail))
        assert report.returned.get_content_type() == "message/rfc822"
        returned = email.message_from_bytes(report.returned_bytes, policy=email.policy.default)
        assert (returned["Subject"], returned.get_content()) == ("mine", "One.\n.Two.\n")
        assert returned["Received"] is not None


def test_of_a_large_message_only_the_header_comes_back(stage: Stage) -> None:
    report = stage.report(stage.send("nobody@one.test", letter(body=b"x" * 70 * 1000), "RET=FULL"))
    assert report.returned.get_content_type() == "text/rfc822-headers"
    assert len(report.returned_bytes) < 2000


def test_refused_after_the_content(stage: Stage) -> None:
    report = stage.report(stage.send("spam@one.test"))
    assert (report.field("Action"), report.field("Status")) == (["failed"], ["5.7.1"])
    assert report.field("Diagnostic-Code") == ["smtp; 554 5.7.1 not this"]


def test_replies_without_a_code_or_of_several_lines(stage: Stage) -> None:
    report = stage.report(stage.send("bare@one.test"))
    assert (report.field("Status"), report.field("Diagnostic-Code")) == (["5.0.0"], ["smtp; 550 no code in here"])
    report = stage.report(stage.send("long@one.test"))
    assert report.field("Diagnostic-Code") == ["smtp; 550 5.7.1 first line second line"]


def test_one_report_for_all_that_failed(stage: Stage) -> None:
    """At any domain, as they come close together; those who got it are not in it."""
    recipients = ["nobody1@one.test", "bob@one.test", "nobody2@one.test", "nobody3@two.test"]
    message_id = stage.send(recipients)
    assert [fate[-1] for fate in stage.engine.fates(message_id).values()].count("delivered") == 1
    report = stage.report(message_id)
    failed = [f"rfc822; nobody{which}" for which in ("1@one.test", "2@one.test", "3@two.test")]
    assert sorted(report.field("Final-Recipient")) == failed


def test_reports_that_are_gathered_outlive_a_crash_and_a_stop(tmp_path: Path) -> None:
    """kill -9 while failures wait for each other: nothing is lost, nothing told twice. A stop tells of them."""
    recipients = [f"nobody@{domain}.test" for domain in ("one", "two", "three")]
    with (
        sink(tmp_path / "receiver", "--reply", RULES[0]) as receiver,
        sink(tmp_path / "home") as home,
        daemon(
            tmp_path / "engine", f'[dsn]\ngather = "1h"\n{route(home.address, "home.test")}{route(receiver.address)}'
        ) as engine,
    ):
        message_id = submit(engine.port, "ada@home.test", recipients, letter())
        for count in (3, 6):
            wait_until(lambda n=count: sum(receiver.status().get("refused", {}).values()) >= n, "refusals")
            assert engine.tally()["failed"] == 0
            if count == 3:
                engine.kill()
                engine.start()
        assert engine.stop() == 0
        assert engine.tally() == {"received": 4, "failed": 3}
        engine.start()
        engine.until(delivered=1)
        ((_, content),) = home.messages()
        assert sorted(Report(content).field("Final-Recipient")) == sorted(f"rfc822; {one}" for one in recipients)
        assert engine.fates(message_id) == {one: ["received", "failed"] for one in recipients}


@pytest.mark.parametrize(
    ("recipient", "rcpt", "actions"),
    [
        ("nobody@one.test", "NOTIFY=NEVER", []),
        ("nobody@one.test", "NOTIFY=SUCCESS,DELAY", []),
        ("nobody@one.test", "NOTIFY=SUCCESS,FAILURE", ["failed"]),
        ("bob@one.test", "", []),
        ("bob@one.test", "NOTIFY=FAILURE,DELAY", []),
        ("bob@one.test", "NOTIFY=SUCCESS", ["relayed"]),
        ("eve@home.test", "NOTIFY=SUCCESS", []),
    ],
)
def test_the_sender_hears_what_was_asked_for(stage: Stage, recipient: str, rcpt: str, actions: list[str]) -> None:
    """The sender's own server offers DSN: what was asked for is its to answer. The other one does not."""
    message_id = stage.send(recipient, rcpt=rcpt)
    assert [Report(content).field("Action") for _, content in stage.reports(message_id)] == [[a] for a in actions]


def test_each_recipient_has_a_wish_of_its_own(stage: Stage) -> None:
    """NOTIFY stands with RCPT: of three that fail alike, one may be spoken of."""
    with Client(stage.engine.port) as client:
        for command, arguments in (
            ("MAIL", "FROM:<ada@home.test>"),
            ("RCPT", "TO:<nobody1@one.test> NOTIFY=NEVER"),
            ("RCPT", "TO:<nobody2@one.test> NOTIFY=FAILURE"),
            ("RCPT", "TO:<nobody3@one.test> NOTIFY=SUCCESS"),
        ):
            assert client.smtp.docmd(command, arguments)[0] == 250
        code, text = client.smtp.data(letter())
    assert code == 250
    stage.engine.books()
    report = stage.report(text.decode().split()[-1])
    assert report.field("Final-Recipient") == ["rfc822; nobody2@one.test"]


def test_a_delay_is_told_once_to_who_asked(stage: Stage) -> None:
    """Four deferrals, all but the first after delay_notice."""
    message_id = stage.send("slow@one.test", rcpt="NOTIFY=DELAY,FAILURE")
    assert stage.engine.fates(message_id) == {"slow@one.test": ["received", *["deferred"] * 4, "delivered"]}
    report = stage.report(message_id)
    (about,) = report.recipients
    assert (about["Action"], about["Status"]) == ("delayed", "4.2.2")
    assert about["Will-Retry-Until"] is not None
    assert report.returned.get_content_type() == "text/rfc822-headers"
    unasked = stage.send("slow@two.test")
    assert len(stage.engine.fates(unasked)["slow@two.test"]) == 6
    assert stage.reports(unasked) == []


def test_the_null_sender_is_never_answered(stage: Stage) -> None:
    message_id = stage.send("nobody@one.test", sender="", rcpt="NOTIFY=SUCCESS,FAILURE,DELAY")
    assert stage.engine.fates(message_id) == {"nobody@one.test": ["received", "failed"]}
    assert stage.reports(message_id) == []


def test_no_report_about_a_report(stage: Stage) -> None:
    """The sender's server refuses it: there it ends."""
    before = stage.engine.tally()
    message_id = stage.send("nobody@one.test", sender="gone@sender.test")
    news = stage.engine.tally() - before
    assert news == {"received": 2, "failed": 2}
    (report,) = [event for event in stage.engine.events("failed") if event["recipient"] == "gone@sender.test"]
    assert (report["sender"], report["class"]) == ("", "transactional")
    assert report["message"] != message_id


def test_reports_are_signed_by_the_node(stage: Stage) -> None:
    """By both keys of the domain in their From; the sender's mail, of a domain without a key, is not."""
    message_id = stage.send("nobody@one.test")
    ((_, content),) = stage.reports(message_id)
    assert content.startswith(b"DKIM-Signature: ")
    assert accepted_by_dkimpy(content, KEYS) == [True, True]
    assert not any(content.startswith(b"DKIM-Signature") for _, content in stage.receiver.messages())


def test_an_operator_returns_what_waits(stage: Stage) -> None:
    """`postrider bounce`, with words of their own; the sender is told, and `purge` tells nobody."""
    held = [submit(stage.engine.port, "ada@home.test", f"held@{domain}.test", letter()) for domain in ("b", "p")]
    stage.engine.until(deferred=2)
    assert "1 delivery" in stage.engine.run("hold", held[0]).stdout
    assert "1 delivery" in stage.engine.run("bounce", held[0], "--reason", "no longer wanted").stdout
    assert "1 delivery" in stage.engine.run("purge", "p.test").stdout
    stage.engine.books()
    report = stage.report(held[0])
    (about,) = report.recipients
    assert (about["Status"], about["Remote-MTA"]) == ("5.7.1", None)
    assert report.field("Diagnostic-Code") == ["x-postrider; returned by an operator: no longer wanted"]
    assert stage.reports(held[1]) == []
    assert stage.engine.fates(held[1])["held@p.test"][-1] == "removed"
