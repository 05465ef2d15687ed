"""Checklist, client: no injection by arguments; hostile replies end in an outcome, never in an exception."""

import pytest

from engine.base.settings import Delivery
from engine.base.units import Duration
from engine.delivery.trouble import SessionFailed, StaleConnection
from engine.message.envelope import Recipient
from engine.message.outcome import Status
from engine.protocol import smtp_commands as commands
from engine.protocol.smtp_commands import InvalidArgument
from tests.support.smtp_script import GREETING, Peer, envelope, fates, open_session, run, scripted, send

INJECTED = (
    "a@b.test\r\nRCPT TO:<c@d.test>", "a@b.test\n", "a\rb@b.test", "a\0b@b.test", "\r\n", "a@b.test> SIZE=1",
    "<a@b.test>", "a<b@c.test", "a@b.test SIZE=1", '"a\r\nb"@c.test', '"a\0"@c.test', '"a"b"@c.test', '"a@c.test',
    '"a\\"@c.test', "a\u0085b@c.test", "a\u2028b@c.test", "a\x7fb@c.test", "a\tb@c.test", "a\\>b@c.test",
    "a\ud800@c.test", '""\r\n@c.test', '"a">@c.test', "@a.test,@b.test:c@d.test",
)  # fmt: skip


@pytest.mark.parametrize("text", INJECTED)
def test_no_address_gets_a_line_end_or_a_bracket_into_a_command(text: str) -> None:
    for build in (commands.mail, commands.rcpt):
        with pytest.raises(InvalidArgument):
            build(text)


@pytest.mark.parametrize("text", ["a\r\nb", "a\nb", "a\0b", "a<b", "a>b", "a b", "a=b", "\xe4"])
def test_no_other_argument_does_either(text: str) -> None:
    """ENVID and ORCPT are encoded whatever they hold; everything else is refused."""
    for kwargs in ({"body": text}, {"ret": text}):
        with pytest.raises(InvalidArgument):
            commands.mail("a@b.test", **kwargs)
    for line in (
        commands.mail("a@b.test", envid=text),
        commands.rcpt("a@b.test", orcpt=f"rfc822;{text}"),
        commands.rcpt("a@b.test", orcpt=f"utf-8;{text}"),
        commands.rcpt("a@b.test", orcpt=f"{text};x"),
        commands.auth_plain(text.replace("\0", ""), text.replace("\0", "")),
        commands.auth_answer(text),
    ):
        arguments = line.removesuffix(b"\r\n").replace(b"<a@b.test>", b"")
        assert not set(arguments) & set(b"\r\n\0<>")
        assert line.endswith(b"\r\n")
    if text != "a=b":
        with pytest.raises(InvalidArgument):
            commands.hello("EHLO", text)


def test_a_recipient_that_cannot_be_said_fails_and_the_others_go() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.answer(b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
        await peer.content()
        await peer.send(b"250 queued\r\n")
        assert peer.heard[1:] == [b"MAIL FROM:<ada@sender.test>", b"RCPT TO:<good@example.test>", b"DATA"]

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            bad = Recipient("x@y.test>\r\nRCPT TO:<z@y.test")
            outcomes = await send(session, envelope(bad, "good@example.test"))
            assert fates(outcomes) == [
                ("FAILED", "RECIPIENT", "5.1.3", "rcpt"),
                ("DELIVERED", "RECIPIENT", "2.0.0", "end-of-data"),
            ]
            assert "\r" not in outcomes[0].reply

    run(test)


def test_a_sender_that_cannot_be_said_fails_the_message_and_nothing_is_sent() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        assert await peer.rest() == b""

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            outcomes = await send(session, envelope(sender="a@b.test\r\nDATA"))
            assert fates(outcomes) == [("FAILED", "MESSAGE", "5.1.7", "mail")]
            assert session.usable
            session.abort()

    run(test)


HOSTILE = {
    "10 MB without CRLF": b"250 " + b"x" * (10 << 20),
    "10 MB of lines": (b"250-" + b"x" * 1000 + b"\r\n") * 10_000,
    "NUL": b"\0\0\0\0\r\n",
    "code 000": b"000 ok\r\n",
    "code 999": b"999 ok\r\n",
    "no code": b"hello there\r\n",
    "differing codes": b"250-ok\r\n550 no\r\n",
    "354 to MAIL": b"354 go\r\n",
}


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_reply_to_mail_defers_and_ends_the_connection(said: bytes) -> None:
    """P1, D2."""

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.line()
        try:
            await peer.send(said)
            await peer.rest()
        except ConnectionError:
            pass

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            outcomes = await send(session)
            assert fates(outcomes) == [("DEFERRED", "SESSION", "4.5.0", "mail")]
            assert not session.usable
            assert len(outcomes[0].reply) < 1001

    run(test)


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_greeting_is_no_session(said: bytes) -> None:
    async def server(peer: Peer) -> None:
        try:
            await peer.send(said)
            await peer.rest()
        except ConnectionError:
            pass

    async def test() -> None:
        async with scripted(server) as endpoint:
            with pytest.raises(SessionFailed) as failed:
                await open_session(endpoint)
            assert failed.value.phase == "banner"

    run(test)


def test_nul_and_8_bit_in_the_text_of_a_reply_are_quoted_safely() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.answer(b"550 5.1.0 \0\xff\x1b[31m\n", b"503 no\r\n", b"503 no\r\n")
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            outcomes = await send(session)
            assert outcomes[0].reply == "550 5.1.0 \\x00\\xff\\x1b[31m"
            assert session.usable
            session.abort()

    run(test)


@pytest.mark.parametrize("early", [GREETING + b"250 mx\r\n", GREETING + b"25"])
def test_replies_before_the_command_are_no_session(early: bytes) -> None:
    async def server(peer: Peer) -> None:
        await peer.send(early)
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            with pytest.raises(SessionFailed):
                await open_session(endpoint)

    run(test)


def test_a_final_reply_before_the_content_is_not_believed() -> None:
    """The message was not sent, so it was not delivered, whatever the server says."""

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.answer(b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n250 2.0.0 queued\r\n")
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            assert fates(await send(session)) == [("DEFERRED", "SESSION", "4.5.0", "data")]
            assert not session.usable

    run(test)


def test_421_in_the_middle_of_a_pipeline() -> None:
    """Who was refused before it is refused; everyone else is deferred; the connection is over."""

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.answer(b"250 ok\r\n", b"550 5.1.1 no\r\n", b"250 ok\r\n", b"421 4.3.2 shutting down\r\n")
        await peer.rest()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            mail = envelope("a@x.test", "b@x.test", "c@x.test", "d@x.test")
            assert fates(await send(session, mail)) == [
                ("FAILED", "RECIPIENT", "5.1.1", "rcpt"),
                ("DEFERRED", "SESSION", "4.3.2", "data"),
                ("DEFERRED", "SESSION", "4.3.2", "rcpt"),
                ("DEFERRED", "SESSION", "4.3.2", "rcpt"),
            ]
            assert not session.usable

    run(test)


def test_a_server_that_drips_bytes_is_timed_out() -> None:
    """A byte now and then is no progress: the deadline is that of the whole reply."""

    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.line()
        try:
            while True:
                await peer.send(b"250-slow\r\n")
        except ConnectionError:
            pass

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint, limits=Delivery(command_timeout=Duration(0.2)))
            [outcome] = await send(session)
            assert outcome.status is Status.DEFERRED

    run(test)


def test_a_silent_server_is_timed_out_at_every_step() -> None:
    short = Delivery(
        banner_timeout=Duration(0.05),
        command_timeout=Duration(0.05),
        rcpt_timeout=Duration(0.05),
        data_timeout=Duration(0.05),
        end_of_data_timeout=Duration(0.05),
    )
    replies = (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")

    async def silent_from_the_start(peer: Peer) -> None:
        await peer.rest()

    def silent_after(count: int):  # type: ignore[no-untyped-def]
        async def server(peer: Peer) -> None:
            await peer.greet("PIPELINING")
            for _ in range(3):
                await peer.line()
            await peer.send(b"".join(replies[:count]))
            await peer.rest()

        return server

    async def test() -> None:
        async with scripted(silent_from_the_start, *(silent_after(count) for count in range(4))) as endpoint:
            with pytest.raises(SessionFailed) as failed:
                await open_session(endpoint, limits=short)
            assert (failed.value.phase, str(failed.value.fault)) == ("banner", "timed out")
            for count, phase in enumerate(("mail", "rcpt", "data", "end-of-data")):
                session = await open_session(endpoint, limits=short)
                [outcome] = await send(session)
                assert outcome.status is (Status.UNKNOWN if count == 3 else Status.DEFERRED)
                assert outcome.phase == phase
                assert "timed out" in outcome.reply

    run(test)


def test_a_closed_idle_connection_is_not_a_failure() -> None:
    async def server(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.answer(b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
        await peer.content()
        await peer.send(b"250 queued\r\n")
        await peer.line()  # the next MAIL crosses with our goodbye
        peer.reset()

    async def test() -> None:
        async with scripted(server) as endpoint:
            session = await open_session(endpoint)
            assert (await send(session))[0].status is Status.DELIVERED
            with pytest.raises(StaleConnection):
                await send(session)
            with pytest.raises(StaleConnection):
                await send(session)

    run(test)
