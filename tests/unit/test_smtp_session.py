"""Transactions of a session, against scripted servers on loopback."""

from engine.message.envelope import Notify, Recipient
from tests.support.smtp_script import CONTENT, DELIVERED, Peer, envelope, fates, open_session, run, scripted, send, take


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
