"""Submitting as a user's program does: the standard library's SMTP client, one connection for many messages."""

import re
import smtplib
from collections.abc import Sequence
from types import TracebackType
from typing import Self

_QUEUED_AS = re.compile(rb"queued as ([\w.-]+)")


class Refused(Exception):
    """The server said no. code, text: its reply."""

    def __init__(self, code: int, text: bytes) -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


class Client:
    """`with Client(engine.port) as client: message_id = client.submit(...)`. `smtp` is the connection."""

    def __init__(self, port: int, *, implicit_tls: bool = False) -> None:
        kind = smtplib.SMTP_SSL if implicit_tls else smtplib.SMTP
        self.smtp = kind("127.0.0.1", port, local_hostname="client.test", timeout=60)
        self.smtp.ehlo()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.smtp.close()

    def submit(
        self, sender: str, recipients: str | Sequence[str], content: bytes, mail: str = "", rcpt: str = ""
    ) -> str:
        """One message; its queue id. mail, rcpt: parameters of MAIL and of every RCPT. Raises Refused.

        content: CRLF line ends; sent as it is, but for the dots of RFC 5321 4.5.2.
        """
        self.smtp.command_encoding = "utf-8"
        self._say("MAIL", f"FROM:<{sender}> {mail}".rstrip(), 250)
        for recipient in [recipients] if isinstance(recipients, str) else recipients:
            self._say("RCPT", f"TO:<{recipient}> {rcpt}".rstrip(), 250)
        code, text = self.smtp.data(content)
        if code != 250:
            raise Refused(code, text)
        found = _QUEUED_AS.search(text)
        assert found, text
        return found[1].decode()

    def _say(self, verb: str, arguments: str, wanted: int) -> None:
        code, text = self.smtp.docmd(verb, arguments)
        if code != wanted:
            self.smtp.rset()
            raise Refused(code, text)


def submit(
    port: int, sender: str, recipients: str | Sequence[str], content: bytes, mail: str = "", rcpt: str = ""
) -> str:
    """One message over a connection of its own; its queue id. Raises Refused."""
    with Client(port) as client:
        return client.submit(sender, recipients, content, mail, rcpt)


def letter(subject: str = "hello", sender: str = "ada@home.test", *fields: str, body: bytes = b"Text.\r\n") -> bytes:
    """A message as a program would write it, without Date and Message-ID."""
    head = [f"From: Ada <{sender}>", "To: somebody@example.test", f"Subject: {subject}", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
