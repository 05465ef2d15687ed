"""The client against smtp-sink, which rejects, defers and hangs up on command."""

import tracemalloc

import pytest

from engine.delivery.trouble import SessionFailed, session_failed
from engine.routing.plan import Endpoint
from tests.support.postfix import SmtpSink
from tests.support.smtp_script import envelope, fates, open_session, run, send


def at(sink: SmtpSink) -> Endpoint:
    return Endpoint("sink.example.test", "127.0.0.1", sink.port)


def test_a_hundred_messages_over_one_connection() -> None:
    async def test() -> None:
        session = await open_session(at(sink))
        for _ in range(100):
            assert fates(await send(session)) == [("DELIVERED", "RECIPIENT", "2.0.0", "end-of-data")]
        assert session.transactions == 100
        await session.quit()

    with SmtpSink() as sink:
        run(test)


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("-r", "MAIL"), ("DEFERRED", "MESSAGE", "4.3.0", "mail")),
        (("-f", "MAIL"), ("FAILED", "MESSAGE", "5.3.0", "mail")),
        (("-r", "RCPT"), ("DEFERRED", "RECIPIENT", "4.3.0", "rcpt")),
        (("-f", "RCPT"), ("FAILED", "RECIPIENT", "5.3.0", "rcpt")),
        (("-r", "DATA"), ("DEFERRED", "MESSAGE", "4.3.0", "data")),
        (("-f", "DATA"), ("FAILED", "MESSAGE", "5.3.0", "data")),
        (("-r", "."), ("DEFERRED", "MESSAGE", "4.3.0", "end-of-data")),
        (("-f", "."), ("FAILED", "MESSAGE", "5.3.0", "end-of-data")),
        (("-q", "MAIL"), ("DEFERRED", "SESSION", "4.4.2", "mail")),
        (("-q", "RCPT"), ("DEFERRED", "SESSION", "4.4.2", "rcpt")),
        (("-q", "DATA"), ("DEFERRED", "SESSION", "4.4.2", "data")),
        (("-q", "."), ("UNKNOWN", "SESSION", "4.4.2", "end-of-data")),
    ],
    ids=" ".join,
)
def test_a_sink_that_says_no(options: tuple[str, ...], wanted: tuple[str, ...], pipelining: bool) -> None:
    """Three recipients; the same fate for each, with and without PIPELINING."""

    async def test() -> None:
        session = await open_session(at(sink))
        outcomes = await send(session, envelope("a@x.test", "b@x.test", "c@x.test"))
        assert fates(outcomes) == [wanted] * 3
        assert session.usable == (options[0] != "-q")
        await session.quit()

    with SmtpSink(*options, *(() if pipelining else ("-p",))) as sink:
        run(test)


def test_a_sink_without_esmtp() -> None:
    async def test() -> None:
        session = await open_session(at(sink))
        assert fates(await send(session))[0][0] == "DELIVERED"
        await session.quit()

    with SmtpSink("-e") as sink:
        run(test)


@pytest.mark.parametrize(
    ("options", "phase"), [(("-q", "CONNECT"), "banner"), (("-q", "EHLO"), "ehlo"), (("-f", "CONNECT"), "banner")]
)
def test_a_sink_that_gives_no_session(options: tuple[str, ...], phase: str) -> None:
    async def test() -> None:
        with pytest.raises(SessionFailed) as failed:
            await open_session(at(sink))
        assert failed.value.phase == phase
        assert session_failed(failed.value, (0,))[0].status.name == "DEFERRED"

    with SmtpSink(*options) as sink:
        run(test)


def test_a_large_message_takes_no_second_copy_in_memory() -> None:
    """25 MiB go out in slices that the transport asks for; nothing is stuffed, so nothing is copied."""
    content = b"Subject: x\r\n\r\n" + (b"x" * 998 + b"\r\n") * (25 << 10)

    async def test() -> None:
        session = await open_session(at(sink))
        tracemalloc.start()
        try:
            outcomes = await send(session, content=content)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert fates(outcomes)[0][0] == "DELIVERED"
        assert peak < 2 << 20
        await session.quit()

    with SmtpSink() as sink:
        run(test)
