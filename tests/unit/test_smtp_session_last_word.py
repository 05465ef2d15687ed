"""A server that says its last word and hangs up in the same breath: the word counts, not that it hung up."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.delivery.trouble import SessionFailed, session_failed
from engine.message.outcome import Outcome
from engine.routing.plan import Endpoint
from tests.support.smtp_script import DELIVERED, envelope, fates, open_session, run, send

_GREETING, _EHLO = b"220 mx ESMTP\r\n", b"250-mx\r\n250 PIPELINING\r\n"
_GO = b"250 ok\r\n250 ok\r\n354 go\r\n"


@contextmanager
def hanging_up(*replies: tuple[int, bytes]) -> Iterator[Endpoint]:
    """A server in a thread, so that it hangs up when it likes: after so many more lines each reply; then it closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as lines:
                    for count, reply in replies:
                        for _ in range(count):
                            lines.readline()
                        connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Endpoint("mx.example.test", "127.0.0.1", server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


async def attempt(endpoint: Endpoint, content: bytes = b"Subject: x\r\n\r\nHello\r\n") -> list[Outcome]:
    """One message for one recipient, whatever comes of it."""
    try:
        session = await open_session(endpoint)
    except SessionFailed as failure:
        return session_failed(failure, (0,))
    return await send(session, envelope("a@x.test"), content)


@pytest.mark.parametrize(
    ("replies", "fate", "words"),
    [
        ([(0, b"554 5.7.1 Blocked\r\n")], ("DEFERRED", "SITE", "4.7.1", "banner"), "554 5.7.1 Blocked"),
        ([(0, b"421 4.3.2 Busy\r\n")], ("DEFERRED", "SESSION", "4.3.2", "banner"), "421 4.3.2 Busy"),
        ([(0, b"421 4.7.0 Not you\r\n")], ("DEFERRED", "SITE", "4.7.0", "banner"), "421 4.7.0 Not you"),
        ([(0, _GREETING + b"421 4.3.2 Busy\r\n")], ("DEFERRED", "SESSION", "4.3.2", "banner"), "421 4.3.2 Busy"),
        ([(0, _GREETING)], ("DEFERRED", "SESSION", "4.4.2", "ehlo"), "lost|closed|reset"),
        ([(0, b"hello?\r\n")], ("DEFERRED", "SESSION", "4.5.0", "banner"), "while waiting for the greeting"),
        ([(0, _GREETING), (1, b"554 5.7.1 No\r\n")], ("DEFERRED", "SITE", "4.7.1", "ehlo"), "554 5.7.1 No"),
        ([(0, _GREETING), (1, b"450 4.7.1 No\r\n")], ("DEFERRED", "SITE", "4.7.1", "ehlo"), "450 4.7.1 No"),
        ([(0, _GREETING), (1, b"421 4.3.2 Bye\r\n")], ("DEFERRED", "SESSION", "4.3.2", "ehlo"), "421 4.3.2 Bye"),
        (
            [(0, _GREETING), (1, _EHLO), (3, b"554 5.7.1 No\r\n")],
            ("FAILED", "MESSAGE", "5.7.1", "mail"),
            "554 5.7.1 No",
        ),
        (
            [(0, _GREETING), (1, _EHLO), (3, b"250 ok\r\n550 5.1.1 No\r\n")],
            ("FAILED", "RECIPIENT", "5.1.1", "rcpt"),
            "550 5.1.1 No",
        ),
        (
            [(0, _GREETING), (1, _EHLO), (3, b"250 ok\r\n250 ok\r\n451 4.3.0 No\r\n")],
            ("DEFERRED", "MESSAGE", "4.3.0", "data"),
            "451 4.3.0 No",
        ),
        # Lines of the content and its dot: four.
        ([(0, _GREETING), (1, _EHLO), (3, _GO), (4, b"250 2.0.0 Got it\r\n")], DELIVERED, "250"),
        (
            [(0, _GREETING), (1, _EHLO), (3, _GO), (4, b"554 5.6.0 Spam\r\n")],
            ("FAILED", "MESSAGE", "5.6.0", "end-of-data"),
            "554 5.6.0 Spam",
        ),
        (
            [(0, _GREETING), (1, _EHLO), (3, _GO), (4, b"421 4.3.2 Full\r\n")],
            ("DEFERRED", "SESSION", "4.3.2", "end-of-data"),
            "421 4.3.2 Full",
        ),
    ],
)
def test_what_was_said_last_is_the_reply(
    replies: list[tuple[int, bytes]], fate: tuple[str, str, str, str], words: str
) -> None:
    async def test() -> None:
        with hanging_up(*replies) as endpoint:
            for _ in range(20):
                outcomes = await asyncio.wait_for(attempt(endpoint), 10)
                assert fates(outcomes) == [fate], outcomes[0].reply
                assert any(word in outcomes[0].reply for word in words.split("|"))

    run(test)


def test_a_hundred_of_a_hundred_refusals_in_the_greeting_are_heard() -> None:
    async def test() -> None:
        with hanging_up((0, b"554 5.7.1 Blocked\r\n")) as endpoint:
            heard = [(await asyncio.wait_for(attempt(endpoint), 10))[0].reply for _ in range(100)]
        assert heard == ["554 5.7.1 Blocked"] * 100

    run(test)
