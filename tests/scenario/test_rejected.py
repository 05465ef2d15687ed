"""Mail that a client may submit and that is not taken is an event; of strangers it is none, nor what comes again."""

import smtplib
from pathlib import Path

from tests.support.client import letter, submit
from tests.support.engine import Daemon, wait_until
from tests.support.ports import free_port
from tests.support.relay import relayed


def rejected(engine: Daemon, count: int) -> list[dict[str, object]]:
    return wait_until(lambda: found if len(found := engine.events("rejected")) >= count else None, f"{count} events")


def test_what_a_client_is_refused_is_an_event_each_with_its_reply(tmp_path: Path) -> None:
    """At RCPT and at the end of data; it is no outcome of anything that was received."""
    with relayed(tmp_path, more='[intake]\nmax_message_bytes = "64KiB"\nmax_recipients = 3\n') as (engine, _):
        with smtplib.SMTP("127.0.0.1", engine.port, timeout=60) as client:
            client.ehlo("app.test")
            client.mail("ada@home.test")
            assert client.docmd("RCPT TO:<bob@bad_domain..test>")[0] == 553
            assert client.docmd("RCPT TO:<bob@one.test> NOTIFY=SOMETIMES")[0] == 501
            assert client.docmd("RCPT <bob@one.test>")[0] == 501, "an error of syntax, of nobody"
            for name in "abc":
                assert client.rcpt(f"{name}@one.test")[0] == 250
            assert client.rcpt("d@one.test")[0] == 452, "it comes again, in a transaction of its own"
            client.putcmd("data")
            assert client.getreply()[0] == 354
            client.send(b"Subject: x\r\n\r\nbare\nline\r\n.\r\n")
            assert client.getreply()[0] == 550
            client.mail("ada@home.test")
            client.rcpt("bob@one.test")
            assert client.data(b"Subject: long\r\n\r\n" + b"x" * 70_000 + b"\r\n")[0] == 552
            client.mail("ada@home.test")
            client.rcpt("bob@one.test")
            assert client.data(b"From: a@b.test\r\nX-Postrider-Class: nonsense\r\n\r\nx\r\n")[0] == 550
        submit(engine.port, "ada@home.test", "bob@one.test", letter())
        assert engine.books() == {"received": 1, "delivered": 1, "rejected": 5}
        found = rejected(engine, 5)
        assert [(event["recipient"], str(event["reply"])[:9]) for event in found] == [
            ("bob@bad_domain..test", "553 5.1.3"), ("bob@one.test> NOTIFY=SOMETIMES", "501 5.5.4"),
            ("a@one.test", "550 5.6.1"), ("bob@one.test", "552 5.3.4"), ("bob@one.test", found[4]["reply"][:9]),
        ]  # fmt: skip
        assert {event["sender"] for event in found} == {"ada@home.test"}
        assert [event.get("text", "") for event in found] == ["", "", "one of 3 recipients", "", ""]
        assert all(event["status"] in str(event["reply"]) and "127.0.0.1" in str(event["remote"]) for event in found)


def test_of_a_flood_some_and_of_strangers_none(tmp_path: Path) -> None:
    port = free_port()
    elsewhere = f'[[listener]]\nkind = "smtp"\naddress = "127.0.0.1:{port}"\nnetworks = ["192.0.2.0/24"]\n'
    with relayed(tmp_path, more=f"{elsewhere}[intake]\nmax_bad_commands = 1000\n") as (engine, _):
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            client.ehlo("stranger.test")
            client.mail("eve@else.test")
            for line in ("RCPT TO:<bob@one.test>", "RCPT TO:<bob@bad_domain..test>", "DATA"):
                assert client.docmd(line)[0] in (503, 554)
        with smtplib.SMTP("127.0.0.1", engine.port, timeout=60) as client:
            client.ehlo("app.test")
            client.mail("ada@home.test")
            for n in range(200):
                assert client.docmd(f"RCPT TO:<bob{n}@bad_domain..test>")[0] == 553
        assert len(found := rejected(engine, 60)) == 60
        assert {event["sender"] for event in found} == {"ada@home.test"}
        assert engine.metrics()["intake_rejected"] >= 200
