"""Unsubscribes by mail, through the whole daemon: the address in List-Unsubscribe does what its link does."""

import re
from pathlib import Path

from tests.support.engine import daemon, sink
from tests.support.inbound import Stage, report
from tests.support.ports import free_port
from tests.support.relay import route

LEAVE = "leave.mx.test"
NEWS, OFFERS = "X-Postrider-Stream: news", "X-Postrider-Stream: offers"


def address_in(content: bytes) -> str:
    found = re.search(rb"<mailto:([^?>]+)\?subject=unsubscribe>", content)
    assert found
    return found[1].decode()


def test_who_writes_to_the_address_of_list_unsubscribe_leaves_that_stream(tmp_path: Path) -> None:
    port = free_port()
    with sink(tmp_path / "receiver") as receiver:
        settings = f"""
            [tracking]
            base_url = "https://click.example.org"
            unsubscribe_mailto = "{LEAVE}"
            [[listener]]
            kind = "inbound"
            address = "127.0.0.1:{port}"
            [[inbound]]
            domain = "{LEAVE}"
            kind = "unsubscribe"
            replies = "support@home.test"
            {route(receiver.address)}"""
        with daemon(tmp_path / "engine", settings) as engine:
            stage = Stage(engine, receiver, port)
            message, _, content = stage.sent("ada@far.test", NEWS)
            leave = address_in(content)
            assert leave.endswith(f"@{LEAVE}") and leave.islower() and len(leave.partition("@")[0]) <= 64

            # Systems that answer want nothing, and a wrong token is a letter like any other.
            vacation = "From: ada@far.test\nAuto-Submitted: auto-replied\nSubject: Out of office\n\nI am away.\n"
            assert stage.returns(leave, vacation, sender="ada@far.test")["type"] == "auto-replied"
            assert stage.returns(leave, report("ada@far.test", "4.4.1", "421 later"))["type"] == "bounced"
            letter = "From: ada@far.test\nSubject: unsubscribe\n\n"
            assert stage.returns(f"x{leave[1:]}", letter, sender="ada@far.test")["type"] == "replied"
            assert not stage.is_suppressed("ada@far.test", NEWS)

            event = stage.returns(leave.upper(), letter, sender="ada@elsewhere.test")
            assert (event["type"], event["kind"], event["proof"]) == ("unsubscribed", "mailto", "token")
            assert (event["message"], event["recipient"], event["stream"]) == (message, "ada@far.test", "news")
            assert stage.is_suppressed("ada@far.test", NEWS) and not stage.is_suppressed("ada@far.test", OFFERS)
            assert not stage.is_suppressed("bob@far.test", NEWS)
            # Again, as somebody may who is not sure: said, and nothing more.
            assert stage.returns(leave, letter, sender="ada@far.test")["type"] == "unsubscribed"

            engine.books()
            to = [envelope["recipients"] for envelope, _ in receiver.messages()]
            assert to.count(["support@home.test"]) == 1
