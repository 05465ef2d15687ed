"""A session that breaks off: before the message, in the middle, after its end (D3), between two messages."""

import asyncio

import pytest

from engine.base.settings import Delivery
from engine.base.units import Duration
from engine.delivery.trouble import StaleConnection
from engine.message.outcome import Status
from tests.support.smtp_script import (
    DELIVERED,
    Peer,
    envelope,
    fates,
    open_session,
    run,
    scripted,
    send,
    take,
    take_chunk,
)


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_d3_lost_after_the_end_of_data_is_unknown(size: int) -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.answer(b"250 ok\r\n", b"550 5.1.1 no\r\n", b"250 ok\r\n", b"354 go\r\n")
        await peer.content()
        peer.reset()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            mail = envelope("a@x.test", "b@x.test")
            outcomes = await send(session, mail, b"x" * size)
            assert fates(outcomes) == [
                ("FAILED", "RECIPIENT", "5.1.1", "rcpt"),
                ("UNKNOWN", "SESSION", "4.4.2", "end-of-data"),
            ]

    run(test)


def test_lost_in_the_middle_of_a_large_content_is_deferred() -> None:
    """The end of data was never handed out, so nobody can have taken the message."""

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.answer(b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
        await peer.exactly(100_000)
        peer.reset()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            outcomes = await send(session, content=b"x" * (200 << 20))
            assert fates(outcomes) == [("DEFERRED", "SESSION", "4.4.2", "end-of-data")]

    run(test)


def test_a_whole_message_in_one_write_and_no_word_is_unknown() -> None:
    """D3: everything was sent, the server may have taken it before it died. The first message is not sent so."""

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING", "CHUNKING")
        await take_chunk(peer)
        await peer.line()
        peer.reset()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            assert fates(await send(session)) == [DELIVERED]
            assert fates(await send(session)) == [("UNKNOWN", "SESSION", "4.4.2", "end-of-data")]

    run(test)


def test_a_new_server_that_hangs_up_on_the_envelope_is_deferred() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING", "CHUNKING")
        await peer.line()
        peer.reset()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            assert fates(await send(session)) == [("DEFERRED", "SESSION", "4.4.2", "mail")]

    run(test)


@pytest.mark.parametrize("goodbye", [b"", b"421 4.4.2 timeout\r\n"])
def test_an_idle_connection_the_server_closes_is_known_at_once(goodbye: bytes) -> None:
    closed: list[bool] = []

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await peer.line()
        await peer.send(goodbye)

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            await send(session)
            gone = asyncio.Event()
            session.watch(lambda: (closed.append(True), gone.set())[1])
            session._stream._transport.write(b"NOOP\r\n")  # type: ignore[attr-defined]  # to make the script go on
            await gone.wait()
            assert not session.usable
            with pytest.raises(StaleConnection):
                await send(session)

    run(test)
    assert closed == [True]


def test_421_to_the_next_mail_is_a_stale_connection_but_not_when_it_is_news() -> None:
    def server(goodbye: bytes):  # type: ignore[no-untyped-def]
        async def script(peer: Peer) -> None:
            await peer.greet("PIPELINING")
            await take(peer)
            await peer.line()
            await peer.send(goodbye)
            await peer.rest()

        return script

    async def test() -> None:
        async with scripted(server(b"421 4.4.2 enough\r\n"), server(b"421 4.7.0 [TSS04] too much\r\n")) as endpoint:
            session = await open_session(endpoint)
            await send(session)
            with pytest.raises(StaleConnection):
                await send(session)
            session = await open_session(endpoint)
            await send(session)
            assert fates(await send(session)) == [("DEFERRED", "SITE", "4.7.0", "mail")]

    run(test)


def test_a_new_connection_that_is_lost_is_a_failed_attempt() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.line()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            assert fates(await send(session)) == [("DEFERRED", "SESSION", "4.4.2", "mail")]

    run(test)


def test_after_a_long_idle_time_the_content_waits_for_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise an idle connection closed by the server would make the outcome unknown instead of stale."""
    monkeypatch.setattr("engine.delivery.smtp_session.CAREFUL_AFTER_S", -1.0)

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING", "CHUNKING")
        await take_chunk(peer)
        await peer.line()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            assert fates(await send(session)) == [DELIVERED]
            with pytest.raises(StaleConnection):
                await send(session)

    run(test)


def test_abort_lets_the_transaction_return_and_cancelling_drops_the_connection() -> None:
    async def test() -> None:
        read = asyncio.Event()

        async def server(peer: Peer) -> None:
            await peer.greet("PIPELINING")
            await peer.answer(b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
            await peer.content()
            read.set()
            await peer.rest()

        async with scripted(server) as endpoint:
            for cancel in (False, True):
                read.clear()
                session = await open_session(endpoint)
                sending = asyncio.ensure_future(send(session))
                await read.wait()
                if cancel:
                    sending.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await sending
                else:
                    session.abort("shutting down")
                    assert fates(await sending) == [("UNKNOWN", "SESSION", "4.4.2", "end-of-data")]
                assert not session.usable

    run(test)


def test_a_transaction_has_a_deadline_as_a_whole() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet()
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint, limits=Delivery(transaction_timeout=Duration(0.05)))
            [outcome] = await send(session)
            assert outcome.status is Status.DEFERRED
            assert "timed out" in outcome.reply

    run(test)
