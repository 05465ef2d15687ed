"""A session is made or not: connect, greeting, login, source address, TLS."""

import pytest

from engine.base.errors import NetworkError
from engine.base.settings import Delivery
from engine.delivery.smtp_session import SmtpSession
from engine.delivery.trouble import SessionFailed, session_failed
from engine.message.outcome import Scope
from engine.net.stream import Machine
from engine.routing.plan import Endpoint
from engine.tools.certificate import server_context
from tests.support.ports import free_port
from tests.support.smtp_script import CONTEXTS, DELIVERED, Peer, fates, open_session, run, scripted, send, take


def test_nobody_listens() -> None:
    async def test() -> None:
        endpoint = Endpoint("mx.example.test", "127.0.0.1", free_port())
        with pytest.raises(SessionFailed) as failed:
            await open_session(endpoint)
        assert failed.value.phase == "connect"
        [outcome] = session_failed(failed.value, (0,))
        assert (outcome.scope, outcome.status_code) == (Scope.SITE, "4.4.1")
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
