"""An engine with an inbound listener: what is sent, what comes back, and what follows from it."""

import smtplib
from typing import Any

from tests.support.client import letter, submit
from tests.support.engine import FATES, Daemon, Sink, wait_until

BOUNCES, FEEDBACK, REPLIES = "bounces.mx.test", "feedback.mx.test", "reply.mx.test"


def listens(port: int, *rows: str) -> str:
    """Settings of an inbound listener, and of these [[inbound]]."""
    listener = f'[[listener]]\nkind = "inbound"\naddress = "127.0.0.1:{port}"\n'
    return listener + "".join(f"[[inbound]]\n{row}\n" for row in rows)


#: Rows for the three domains, and who has what people write.
RETURN_PATH = f'domain = "{BOUNCES}"\nkind = "return-path"\nsenders = ["news.test"]'
COMPLAINTS = f'domain = "{FEEDBACK}"\nkind = "feedback"'
ANSWERS = f'domain = "{REPLIES}"\nkind = "reply"\nreplies = "support@home.test"'


class Stage:
    """An engine with an inbound listener, a receiver of mail, and who forwards of replies go to."""

    def __init__(self, engine: Daemon, receiver: Sink, port: int) -> None:
        self.engine, self.receiver, self.port = engine, receiver, port

    def sent(self, recipient: str, *fields: str, sender: str = "shop@news.test") -> tuple[str, str, bytes]:
        """A message with these fields, delivered: its id, the sender that the receiver was told, what it got."""
        message = submit(self.engine.port, sender, recipient, letter("hello", sender, *fields))
        self.engine.books()
        for envelope, content in self.receiver.messages():
            if message.encode() in content:
                return message, envelope["sender"], content
        raise AssertionError(f"{message} did not arrive")

    def returns(self, to: str, content: str, sender: str = "") -> dict[str, Any]:
        """Bring this to the inbound listener; the event that it becomes."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as client:
            client.ehlo("remote.test")
            client.mail(sender)
            assert client.rcpt(to)[0] == 250
            code, reply = client.data(content.replace("\n", "\r\n").encode())
            assert code == 250, reply
        return self.event(reply.split()[-1].decode())

    def brings_much(self, to: str, content: bytes, events: int) -> list[dict[str, Any]]:
        """The same, of a long report: so many events."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=120) as client:
            client.ehlo("remote.test")
            client.mail("")
            assert client.rcpt(to)[0] == 250
            code, reply = client.data(content)
            assert code == 250, reply
        answer = reply.split()[-1].decode()
        return wait_until(
            lambda: found if len(found := self._events_of(answer)) >= events else None, f"{events} events"
        )

    def _events_of(self, answer: str) -> list[dict[str, Any]]:
        return [event for event in self.engine.events() if event.get("answer") == answer]

    def is_suppressed(self, address: str, *fields: str) -> bool:
        """Whether mail to it, with these fields, is not sent; what is sent arrives."""
        message = submit(self.engine.port, "shop@news.test", address, letter("hello", "shop@news.test", *fields))
        self.engine.books()
        fates = [event["type"] for event in self.engine.events() if event["message"] == message]
        return [fate for fate in fates if fate in FATES][-1] == "suppressed"

    def event(self, answer: str) -> dict[str, Any]:
        """The one event that what came with this id became. It is there: 250 was said."""
        (found,) = wait_until(lambda: [e for e in self.engine.events() if e.get("answer") == answer], answer)
        return found


def report(recipient: str, status: str, reply: str, action: str = "failed", returned: bytes = b"") -> str:
    return f"""From: Mail Delivery System <MAILER-DAEMON@remote.test>
To: whoever
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

Sorry.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; remote.test

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {reply}

--b
Content-Type: message/rfc822

{returned.decode().replace(chr(13), "")}
--b--
"""


def complaint(content: bytes, recipient: str = "redacted@provider.test") -> str:
    """A feedback report about this message, which gives its header back."""
    head = content.split(b"\r\n\r\n")[0].decode().replace("\r\n", "\n")
    return f"""From: <fbl@provider.test>
To: <fbl@{FEEDBACK}>
Subject: complaint
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain

An email abuse report.

--b
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Rcpt-To: {recipient}

--b
Content-Type: text/rfc822-headers

{head}

--b--
"""
