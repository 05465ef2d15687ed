"""Bounces that Postfix, Exim, OpenSMTPD and Sendmail write today: read, and judged by what the receiver told them."""

import asyncio
import smtplib
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from engine.message.bounce_verdict import Judged
from engine.protocol.bounces import read_report
from tests.support import client
from tests.support.engine import daemon
from tests.support.judging import judged
from tests.support.mtas import REPLIES, SENDER, Mx, relay
from tests.support.ports import free_port
from tests.support.relay import route

LETTER = (
    b"From: Shop <news@home.test>\r\nTo: You <you@refused.test>\r\nSubject: Order\r\nMessage-ID: <%s>\r\n\r\nHello\r\n"
)
SERVERS = ["postfix", "exim", "opensmtpd", "sendmail"]
KINDS = {"nobody": "hard", "plain": "hard", "full": "quota", "blocked": "block", "lines": "hard"}


def submit(port: int, recipients: list[str], message_id: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        assert client.sendmail(SENDER, recipients, LETTER % message_id.encode()) == {}


def rows_of(contents: list[bytes]) -> list[Judged]:
    return [row for content in contents for row in judged(content)]


@pytest.mark.parametrize("name", SERVERS)
def test_what_a_server_writes_is_read(name: str) -> None:
    """One message for each refused recipient, then one for two of them at once."""
    alone = list(REPLIES)
    together = ["nobody@refused.test", "full@refused.test"]
    with Mx().running() as mx, relay(name, mx.port) as port:
        for number, recipient in enumerate(alone):
            submit(port, [recipient], f"m{number}@home.test")
        submit(port, together, "both@home.test")
        contents = mx.wait_for(lambda contents: len(rows_of(contents)) == len(alone) + len(together))
    seen = {(row.recipient, row.original_message_id): row for row in rows_of(contents)}
    assert set(seen) == {
        *((recipient, f"<m{number}@home.test>") for number, recipient in enumerate(alone)),
        *((recipient, "<both@home.test>") for recipient in together),
    }
    for (recipient, _), row in seen.items():
        assert recipient is not None
        reply = " ".join(REPLIES[recipient].replace("550-5.1.1 ", "550 5.1.1 ").replace("\r\n550 5.1.1", "").split())
        assert row.kind == KINDS[recipient.partition("@")[0]]
        assert row.reply.startswith(reply), (row.reply, reply)
        assert row.status == (reply.split()[1] if reply[4:5] == "5" else row.status)


@pytest.mark.parametrize("name", SERVERS)
def test_the_text_for_people_alone_says_as_much(name: str) -> None:
    """Relays on the way back take reports apart, and old servers wrote no other part."""
    with Mx().running() as mx, relay(name, mx.port) as port:
        submit(port, ["nobody@refused.test"], "m1@home.test")
        (content,) = mx.wait_for(bool)
    text = content.replace(b"message/delivery-status", b"application/octet-stream")
    text = (
        text.replace(b"Final-Recipient", b"Gone")
        .replace(b"Original-Recipient", b"Gone")
        .replace(b"Diagnostic-Code", b"Gone")
    )
    (row,) = judged(text)
    assert (row.recipient, row.kind) == ("nobody@refused.test", "hard")
    assert row.reply.startswith("550 5.1.1 <nobody@refused.test>: no such user here")
    assert read_report(text).original_message_id == "<m1@home.test>"


class Gateway(Mx):
    """Refuses as it does, and carries what is left, which are bounces, to a port of ours."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._to = port

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await asyncio.to_thread(self._carry, envelope)
        return "250 ok"

    def _carry(self, envelope: Envelope) -> None:
        assert isinstance(envelope.content, bytes)
        with smtplib.SMTP("127.0.0.1", self._to, timeout=20) as inbound:
            assert inbound.sendmail(envelope.mail_from or "", envelope.rcpt_tos, envelope.content) == {}


@pytest.mark.parametrize("name", SERVERS)
def test_what_comes_back_to_a_signed_return_path_names_its_recipient_and_suppresses_whom_it_should(
    name: str, tmp_path: Path
) -> None:
    """Our mail goes to a server that takes it, is refused by the next one, and comes back to our inbound listener."""
    inbound = free_port()
    with Gateway(inbound).running() as mx, relay(name, mx.port) as port:
        settings = f"""
            [[listener]]
            kind = "inbound"
            address = "127.0.0.1:{inbound}"
            [[inbound]]
            domain = "home.test"
            kind = "return-path"
            [suppression]
            notify = false
            {route(f"127.0.0.1:{port}")}"""
        with daemon(tmp_path, settings) as engine:
            sent = {
                recipient: client.submit(engine.port, "shop@news.test", recipient, LETTER % recipient.encode())
                for recipient in REPLIES
            }
            engine.until(bounced=len(REPLIES))
            found = {event["recipient"]: event for event in engine.events("bounced")}
            assert set(found) == set(REPLIES)
            for recipient, event in found.items():
                kind = KINDS[recipient.partition("@")[0]]
                assert (event["message"], event["proof"], event["kind"]) == (sent[recipient], "token", kind)
                client.submit(engine.port, "shop@news.test", recipient, LETTER % b"again")
            suppressed = len([kind for kind in KINDS.values() if kind == "hard"])
            engine.until(suppressed=suppressed, bounced=2 * len(REPLIES) - suppressed)
            assert {event["recipient"] for event in engine.events("suppressed")} == {
                recipient for recipient in REPLIES if KINDS[recipient.partition("@")[0]] == "hard"
            }
