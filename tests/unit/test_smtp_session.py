"""A session from connect to quit, against scripted servers on loopback."""

import asyncio

import pytest

from engine.base.errors import NetworkError
from engine.base.settings import Delivery
from engine.base.units import Duration
from engine.delivery.smtp_session import SmtpSession
from engine.delivery.trouble import SessionFailed, StaleConnection, session_failed
from engine.message.envelope import Notify, Recipient
from engine.message.outcome import Scope, Status
from engine.net.stream import Machine
from engine.routing.plan import Endpoint
from engine.tools.certificate import server_context
from tests.support.postfix import free_port
from tests.support.smtp_script import CONTENT, CONTEXTS, Peer, envelope, fates, open_session, run, scripted, send

DELIVERED = ("DELIVERED", "RECIPIENT", "2.0.0", "end-of-data")


async def take(peer: Peer, last: bytes = b"250 2.0.0 queued\r\n", rcpts: int = 1) -> bytes:
    """One pipelined transaction with DATA."""
    await peer.answer(*[b"250 ok\r\n"] * (rcpts + 1), b"354 go\r\n")
    content = await peer.content()
    await peer.send(last)
    return content


async def take_chunk(peer: Peer) -> None:
    """One transaction with BDAT whose content waits for the envelope's replies."""
    await peer.answer(b"250 ok\r\n", b"250 ok\r\n")
    assert (await peer.line()).startswith(b"BDAT")
    await peer.exactly(len(CONTENT))
    await peer.send(b"250 2.0.0 queued\r\n")


def test_many_messages_over_one_connection_then_quit() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        for _ in range(3):
            assert await take(peer) == CONTENT + b".\r\n"
        assert await peer.line() == b"QUIT"
        await peer.send(b"221 bye\r\n")

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            for _ in range(3):
                assert fates(await send(session)) == [DELIVERED]
            assert session.transactions == 3
            assert session.remote == f"mx.example.test[127.0.0.1]:{endpoint.port}"
            await session.quit()
            assert not session.usable

    run(test)


def test_what_the_envelope_asks_for_is_said_where_it_is_offered() -> None:
    asked = envelope(
        Recipient("bob@example.test", Notify.SUCCESS | Notify.DELAY, "rfc822;bob@old.test"),
        body="8BITMIME",
        ret="HDRS",
        envid="id 1",
    )
    heard: list[list[bytes]] = []

    async def rich(peer: Peer) -> None:
        await peer.greet("PIPELINING", "SIZE 100000", "8BITMIME", "DSN", "SMTPUTF8")
        await take(peer)
        heard.append(peer.heard[1:3])
        await peer.rest()

    async def poor(peer: Peer) -> None:
        await peer.greet()
        for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await peer.answer(reply)
        await peer.content()
        await peer.send(b"250 ok\r\n")
        heard.append(peer.heard[1:3])
        await peer.rest()

    async def test() -> None:
        async with scripted(rich, poor) as endpoint:
            for dsn in (True, False):
                session = await open_session(endpoint)
                assert session.dsn is dsn
                assert fates(await send(session, asked)) == [DELIVERED]
                session.abort()
        size = b" SIZE=%d" % len(CONTENT)
        assert heard == [
            [
                b"MAIL FROM:<ada@sender.test>" + size + b" BODY=8BITMIME RET=HDRS ENVID=id+201",
                b"RCPT TO:<bob@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob@old.test",
            ],
            [b"MAIL FROM:<ada@sender.test>", b"RCPT TO:<bob@example.test>"],
        ]

    run(test)


def test_smtputf8_only_where_needed_and_fails_where_not_offered() -> None:
    async def without(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await peer.rest()

    async def with_it(peer: Peer) -> None:
        await peer.greet("PIPELINING", "SMTPUTF8")
        await take(peer)
        assert peer.heard[1] == b"MAIL FROM:<ada@sender.test> SMTPUTF8"
        await peer.rest()

    async def test() -> None:
        needing = envelope("jörg@example.test", smtputf8=True)
        async with scripted(without, with_it) as endpoint:
            session = await open_session(endpoint)
            assert fates(await send(session, needing)) == [("FAILED", "MESSAGE", "5.6.7", "mail")]
            utf8_header = "Subject: Grüße\r\n\r\nx\r\n".encode()
            assert fates(await send(session, envelope(smtputf8=True), utf8_header))[0][2] == "5.6.7"
            assert fates(await send(session, envelope(smtputf8=True))) == [DELIVERED]
            session.abort()
            session = await open_session(endpoint)
            assert fates(await send(session, needing)) == [DELIVERED]
            session.abort()

    run(test)


def test_a_message_over_the_servers_size_is_not_sent() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING", "SIZE 10")
        assert await peer.rest() == b""

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            assert fates(await send(session)) == [("FAILED", "MESSAGE", "5.3.4", "mail")]
            assert session.usable
            session.abort()

    run(test)


def test_the_prefix_goes_before_the_content() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        assert await take(peer) == b"DKIM-Signature: x\r\n" + CONTENT + b".\r\n"
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            assert fates(await send(session, prefix=b"DKIM-Signature: x\r\n")) == [DELIVERED]
            session.abort()

    run(test)


def test_a_large_content_is_written_as_the_peer_reads_it() -> None:
    content = b"Subject: x\r\n\r\n" + (b"y" * 998 + b"\r\n") * 8000

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        assert await take(peer) == content + b".\r\n"
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            assert fates(await send(session, content=content)) == [DELIVERED]
            session.abort()

    run(test)


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
                assert session.in_doubt
                if cancel:
                    sending.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await sending
                else:
                    session.abort("shutting down")
                    assert fates(await sending) == [("UNKNOWN", "SESSION", "4.4.2", "end-of-data")]
                assert not session.usable

    run(test)


def test_nobody_listens() -> None:
    async def test() -> None:
        endpoint = Endpoint("mx.example.test", "127.0.0.1", free_port())
        with pytest.raises(SessionFailed) as failed:
            await open_session(endpoint)
        assert failed.value.phase == "connect"
        assert failed.value.site_wide
        [outcome] = session_failed(failed.value, (0,))
        assert outcome.status_code == "4.4.1"
        assert "refused" in outcome.reply.lower()

    run(test)


@pytest.mark.parametrize(
    ("greeting", "scope", "code"),
    [
        (b"554 5.7.1 no\r\n", Scope.SITE, "4.7.1"),
        (b"421 4.3.2 busy\r\n", Scope.SESSION, "4.3.2"),
        (b"", Scope.SESSION, "4.4.2"),
    ],
)
def test_a_greeting_that_is_none(greeting: bytes, scope: Scope, code: str) -> None:
    async def server(peer: Peer) -> None:
        await peer.send(greeting)

    async def test() -> None:
        async with scripted(server) as endpoint:
            with pytest.raises(SessionFailed) as failed:
                await open_session(endpoint)
            [outcome] = session_failed(failed.value, (0,))
            assert (outcome.scope, outcome.status_code, outcome.phase) == (scope, code, "banner")

    run(test)


def test_a_refused_login_is_no_session() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("AUTH LOGIN")
        for reply in (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n", b"535 5.7.8 wrong\r\n"):
            await peer.answer(reply)
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            with pytest.raises(SessionFailed) as failed:
                await open_session(endpoint, credentials=("ada", "wrong"))
            assert (failed.value.phase, str(failed.value.reply)) == ("auth", "535 5.7.8 wrong")
            assert "wrong" not in repr(failed.value.words)

    run(test)


def test_a_source_address_is_bound() -> None:
    async def server(peer: Peer) -> None:
        assert peer._writer.get_extra_info("peername")[0] == "127.0.0.7"
        await peer.greet()
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint, source="127.0.0.7")
            session.abort()
            with pytest.raises(SessionFailed) as failed:
                await open_session(endpoint, source="192.0.2.1")
            assert failed.value.phase == "connect"

    run(test)


def test_tls_from_the_first_byte_on_the_submissions_port() -> None:
    """RFC 8314; the port is faked at the seam."""
    asked: list[object] = []

    async def opener(address: str, port: int, machine: Machine, **kwargs: object) -> object:
        asked.append(kwargs["tls"])
        raise NetworkError("enough seen")

    async def test() -> None:
        for level in ("verify", "none"):
            with pytest.raises(SessionFailed):
                await SmtpSession.connect(
                    Endpoint("relay.test", "192.0.2.1", 465),
                    source_address="",
                    ehlo="me.test",
                    tls=level,  # type: ignore[arg-type]
                    credentials=None,
                    limits=Delivery(),
                    contexts=CONTEXTS,
                    open_stream=opener,  # type: ignore[arg-type]
                )

    run(test)
    assert asked == [(CONTEXTS.verified, "relay.test"), None]


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


def test_tls_data_goes_through() -> None:
    context = server_context("mx.example.test")
    content = b"Subject: x\r\n\r\n" + (b".y" * 499 + b"\r\n") * 3000

    async def server(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.answer(b"220 go\r\n")
        await peer.start_tls(context)
        await peer.hello("PIPELINING")
        assert len(await take(peer)) == len(content) + 3000 + 3
        assert await peer.line() == b"QUIT"
        await peer.send(b"221 bye\r\n")

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint, tls="encrypt")
            assert session.tls_level == "encrypt"
            assert fates(await send(session, content=content)) == [DELIVERED]
            await session.quit()

    run(test)
