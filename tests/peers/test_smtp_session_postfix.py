"""The client against a real Postfix: what it accepts, rejects and defers, at each of the four TLS levels."""

from collections.abc import Iterator

import pytest

from engine.base.settings import TlsLevel
from engine.delivery.trouble import SessionFailed, session_failed
from engine.message.envelope import Notify, Recipient
from engine.net.stream import TlsContexts
from engine.routing.plan import Endpoint
from tests.support import postfix as fixture
from tests.support.postfix import Postfix
from tests.support.smtp_script import CONTENT, envelope, fates, open_session, run, send

NAME = "mx.example.test"


@pytest.fixture(scope="module")
def with_tls() -> Iterator[Postfix]:
    with Postfix(tls="may", name=NAME) as server:
        yield server


@pytest.fixture(scope="module")
def without_tls() -> Iterator[Postfix]:
    """Neither TLS nor CHUNKING nor PIPELINING: the slow way, with DATA."""
    with Postfix(tls="none", extra="smtpd_discard_ehlo_keywords = chunking, pipelining") as server:
        yield server


@pytest.fixture(params=["BDAT", "DATA"])
def server(request: pytest.FixtureRequest, with_tls: Postfix, without_tls: Postfix) -> Postfix:
    return with_tls if request.param == "BDAT" else without_tls


def at(server: Postfix, name: str = NAME) -> Endpoint:
    return Endpoint(name, "127.0.0.1", server.port)


def test_each_recipient_gets_the_fate_postfix_gave_it(server: Postfix) -> None:
    async def test() -> None:
        session = await open_session(at(server))
        mail = envelope("one@example.test", fixture.REJECTED, fixture.DEFERRED, "two@example.test")
        outcomes = await send(session, mail)
        assert fates(outcomes) == [
            ("DELIVERED", "RECIPIENT", "2.0.0", "end-of-data"),
            ("FAILED", "RECIPIENT", "5.1.1", "rcpt"),
            ("DEFERRED", "RECIPIENT", "4.2.0", "rcpt"),
            ("DELIVERED", "RECIPIENT", "2.0.0", "end-of-data"),
        ]
        assert "queued as" in outcomes[0].reply
        assert "no such user here" in outcomes[1].reply
        await session.quit()

    run(test)


def test_refusals_in_every_phase_leave_the_connection_good(server: Postfix) -> None:
    async def test() -> None:
        session = await open_session(at(server))
        good = ("DELIVERED", "RECIPIENT", "2.0.0", "end-of-data")
        for mail, wanted in (
            (envelope(sender=fixture.BAD_SENDER), ("FAILED", "MESSAGE", "5.7.1", "mail")),
            (envelope(sender=fixture.SLOW_SENDER), ("DEFERRED", "MESSAGE", "4.3.5", "mail")),
            (envelope(fixture.REJECTED), ("FAILED", "RECIPIENT", "5.1.1", "rcpt")),
            (envelope(sender=fixture.REFUSED_CONTENT), ("FAILED", "MESSAGE", "5.7.1", "end-of-data")),
            (envelope(sender=fixture.DEFERRED_CONTENT), ("DEFERRED", "MESSAGE", "4.7.1", "end-of-data")),
            (envelope(), good),
        ):
            assert fates(await send(session, mail)) == [wanted]
            assert session.usable
            assert fates(await send(session)) == [good]
        await session.quit()

    run(test)


def test_large_and_odd_contents_arrive(server: Postfix) -> None:
    """Postfix counts the bytes: its log says the size it queued."""
    contents = [
        CONTENT + b".\r\n..\r\n.x\r\n" * 10,
        CONTENT + (b"." + b"x" * 900 + b"\r\n") * 2000,
        CONTENT + b"x" * 300_000,
        CONTENT + "Zwölf Boxkämpfer\r\n".encode() * 50,
    ]

    async def test() -> None:
        session = await open_session(at(server))
        for content in contents:
            outcomes = await send(session, envelope(body="8BITMIME"), content)
            assert fates(outcomes) == [("DELIVERED", "RECIPIENT", "2.0.0", "end-of-data")]
        await session.quit()

    run(test)


def test_more_than_postfix_takes_is_not_sent(server: Postfix) -> None:
    async def test() -> None:
        session = await open_session(at(server))
        outcomes = await send(session, content=b"x" * 11_000_000)
        assert fates(outcomes) == [("FAILED", "MESSAGE", "5.3.4", "mail")]
        assert fates(await send(session))[0][0] == "DELIVERED"
        await session.quit()

    run(test)


def test_dsn_and_smtputf8_are_understood(with_tls: Postfix) -> None:
    async def test() -> None:
        session = await open_session(at(with_tls))
        assert session.dsn
        mail = envelope(
            Recipient("jörg@example.test", Notify.FAILURE, "utf-8;jörg+x@old.test"),
            Recipient('"a b>c"@example.test', Notify.NEVER, "rfc822;a b@old.test"),
            smtputf8=True,
            ret="HDRS",
            envid="an id=1",
        )
        assert [fate[0] for fate in fates(await send(session, mail))] == ["DELIVERED", "DELIVERED"]
        await session.quit()

    run(test)


@pytest.mark.parametrize(
    ("level", "offered", "trusted", "name", "reached"),
    [
        ("none", True, False, NAME, "none"),
        ("none", False, False, NAME, "none"),
        ("opportunistic", True, False, NAME, "encrypt"),
        ("opportunistic", False, False, NAME, "none"),
        ("encrypt", True, False, "other.test", "encrypt"),
        ("encrypt", False, False, NAME, "4.7.4"),
        ("verify", True, True, NAME, "verify"),
        ("verify", True, True, "other.test", "4.7.5"),
        ("verify", True, False, NAME, "4.7.5"),
        ("verify", False, True, NAME, "4.7.4"),
    ],
)
def test_tls_levels(
    with_tls: Postfix, without_tls: Postfix, level: TlsLevel, offered: bool, trusted: bool, name: str, reached: str
) -> None:
    server = with_tls if offered else without_tls
    contexts = TlsContexts(str(with_tls.certificate) if trusted else None)

    async def test() -> None:
        if reached.startswith("4"):
            with pytest.raises(SessionFailed) as failed:
                await open_session(at(server, name), tls=level, contexts=contexts)
            [outcome] = session_failed(failed.value, (0,))
            assert (outcome.phase, outcome.status_code) == ("starttls", reached)
            return
        session = await open_session(at(server, name), tls=level, contexts=contexts)
        assert session.tls_level == reached
        assert fates(await send(session))[0][0] == "DELIVERED"
        await session.quit()

    run(test)
