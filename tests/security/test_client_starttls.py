"""Checklist, STARTTLS on the client's side: injected replies, forgotten extensions, levels that hold."""

from pathlib import Path

import pytest

from engine.base.settings import TlsLevel
from engine.delivery.trouble import SessionFailed, session_failed
from engine.message.outcome import Scope, Status
from engine.net.stream import TlsContexts
from engine.tools.certificate import self_signed, server_context
from tests.support.smtp_script import Peer, open_session, run, scripted, send

NAME = "mx.example.test"


async def take_one(peer: Peer) -> None:
    await peer.answer(b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
    await peer.content()
    await peer.send(b"250 queued\r\n")
    await peer.rest()


@pytest.mark.parametrize("injected", [b"250 mx\r\n", b"2", b"\x16\x03\x01"])
@pytest.mark.parametrize("level", ["opportunistic", "encrypt", "verify"])
def test_bytes_after_the_reply_in_the_same_segment_end_the_session(injected: bytes, level: TlsLevel) -> None:
    """RFC 3207 5: they came before TLS and must not be taken for what came through it."""

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING", "STARTTLS")
        await peer.answer(b"220 go\r\n" + injected)
        assert await peer.rest() == b""

    async def test() -> None:
        async with scripted(server) as endpoint:
            with pytest.raises(SessionFailed) as failed:
                await open_session(endpoint, tls=level)
            assert failed.value.phase == "starttls"

    run(test)


def test_what_was_offered_before_tls_is_forgotten() -> None:
    context = server_context(NAME)

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING", "STARTTLS", "AUTH PLAIN", "SMTPUTF8")
        await peer.answer(b"220 go\r\n")
        await peer.start_tls(context)
        await peer.hello("SIZE 1")
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint, tls="encrypt")
            assert session.tls_level == "encrypt"
            [outcome] = await send(session)
            assert outcome.status_code == "5.3.4"  # SIZE counts, as said after TLS
            with pytest.raises(SessionFailed) as failed:
                await open_session(endpoint, tls="encrypt", credentials=("u", "p"))
            assert failed.value.phase == "auth"
            session.abort()

    run(test)


@pytest.mark.parametrize("level", ["encrypt", "verify"])
@pytest.mark.parametrize("offer", [(), ("STARTTLS",)])
def test_a_level_that_needs_tls_sends_nothing_without(level: TlsLevel, offer: tuple[str, ...]) -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING", *offer)
        if offer:
            await peer.answer(b"454 4.7.0 TLS not available\r\n")
        assert await peer.rest() == b""

    async def test() -> None:
        async with scripted(server) as endpoint:
            with pytest.raises(SessionFailed) as failed:
                await open_session(endpoint, tls=level)
            assert failed.value.phase == "starttls"
            scope = session_failed(failed.value, (0,))[0].scope
            assert scope is (Scope.SITE if offer else Scope.SESSION), "what is not offered is one domain's trouble only"

    run(test)


def test_opportunistic_goes_on_in_the_clear_where_starttls_is_refused() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING", "STARTTLS")
        await peer.answer(b"454 4.7.0 TLS not available\r\n")
        await take_one(peer)

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint, tls="opportunistic")
            assert session.tls_level == "none"
            assert "454" in session.tls_note
            assert (await send(session))[0].status is Status.DELIVERED
            session.abort()

    run(test)


def test_opportunistic_reconnects_in_the_clear_where_the_handshake_fails() -> None:
    async def broken(peer: Peer) -> None:
        await peer.greet("PIPELINING", "STARTTLS")
        await peer.answer(b"220 go\r\n")
        await peer.exactly(1)  # of the client's hello
        await peer.send(b"500 this is not TLS\r\n" * 10)
        await peer.rest()

    async def plain(peer: Peer) -> None:
        await peer.greet("PIPELINING", "STARTTLS")
        await take_one(peer)

    async def test() -> None:
        async with scripted(broken, plain) as endpoint:
            session = await open_session(endpoint, tls="opportunistic")
            assert session.tls_level == "none"
            assert "in the clear" in session.tls_note
            assert (await send(session))[0].status is Status.DELIVERED
            session.abort()

    run(test)


def test_opportunistic_reconnects_where_the_server_hangs_up_after_the_handshake() -> None:
    context = server_context(NAME)

    async def broken(peer: Peer) -> None:
        await peer.greet("PIPELINING", "STARTTLS")
        await peer.answer(b"220 go\r\n")
        await peer.start_tls(context)

    async def plain(peer: Peer) -> None:
        await peer.greet("PIPELINING", "STARTTLS")
        await take_one(peer)

    async def test() -> None:
        async with scripted(broken, plain) as endpoint:
            session = await open_session(endpoint, tls="opportunistic")
            assert "in the clear" in session.tls_note
            assert (await send(session))[0].status is Status.DELIVERED
            session.abort()

    run(test)


@pytest.mark.parametrize("name", [NAME, "elsewhere.test"])
@pytest.mark.parametrize("trusted", [True, False])
def test_verify_wants_a_trusted_certificate_for_the_host(name: str, trusted: bool, tmp_path: Path) -> None:
    certificate, key = self_signed(name)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(key + certificate)
    context = server_context(name)
    context.load_cert_chain(chain)
    contexts = TlsContexts(str(chain) if trusted else None)

    async def server(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.answer(b"220 go\r\n")
        try:
            await peer.start_tls(context)
            await peer.hello("PIPELINING")
            await peer.rest()
        except (OSError, AssertionError):
            assert not (trusted and name == NAME)

    async def test() -> None:
        async with scripted(server) as endpoint:
            if trusted and name == NAME:
                session = await open_session(endpoint, tls="verify", contexts=contexts)
                assert session.tls_level == "verify"
                session.abort()
                return
            with pytest.raises(SessionFailed) as failed:
                await open_session(endpoint, tls="verify", contexts=contexts)
            assert failed.value.phase == "starttls"
            assert "certificate not trusted" in str(failed.value.fault)
            session = await open_session(endpoint, tls="encrypt", contexts=contexts)
            assert session.tls_level == "encrypt", "and no more, whatever the certificate"
            session.abort()

    run(test)


def test_credentials_go_to_loopback_or_through_tls_only() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("AUTH PLAIN")
        await peer.answer(b"235 welcome\r\n")
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint, credentials=("u", "p"))
            assert session.usable
            session.abort()

    run(test)
