"""Who may submit, and who a client is: networks, AUTH, PROXY, XCLIENT."""

import asyncio
import base64

import pytest

from engine.base.errors import StorageError
from engine.base.settings import Intake
from engine.base.units import Duration
from tests.support.intake import (
    ENVELOPE,
    HELLO,
    LOOPBACK,
    Passwords,
    both_loops,
    run,
    running,
    submit,
)


def encoded(text: str) -> bytes:
    return base64.b64encode(text.encode())


def test_nobody_relays_without_network_or_login() -> None:
    """Never an open relay."""

    async def scenario() -> None:
        async with running(networks=("192.0.2.0/24",)) as intake, intake.session() as client:
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("250")
            for address in (b"<c@d.example>", b"<postmaster>", b"<x@mx.example>", b"<@mx.example:c@d.example>"):
                assert (await client.ask(b"RCPT TO:" + address + b"\r\n")).startswith("554 5.7.1")
            assert (await client.ask(b"DATA\r\n")).startswith("554 5.5.1")
            assert (await client.ask(b"BDAT 2 LAST\r\n\r\n")).startswith("503")
        async with running(networks=(), credentials=Passwords()) as intake, intake.session() as client:
            assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("530 5.7.0")
            assert (await client.ask(b"RCPT TO:<c@d.example>\r\n")).startswith("503")
        async with running(networks=()) as intake, intake.session() as client:
            await client.send(ENVELOPE)
            assert await client.replies(2) == [250, 554]

    run(scenario)


@both_loops
def test_auth_plain_and_login(loop: str) -> None:
    async def scenario() -> None:
        credentials = Passwords(ada="pässword")
        async with running(networks=(), credentials=credentials) as intake:
            plain = encoded("\0ada\0pässword")
            for lines in (
                [b"AUTH PLAIN " + plain],
                [b"AUTH PLAIN " + encoded("ada\0ada\0pässword")],
                [b"auth plain", plain],
                [b"AUTH LOGIN", encoded("ada"), encoded("pässword")],
                [b"AUTH LOGIN " + encoded("ada"), encoded("pässword")],
            ):
                async with intake.session() as client:
                    for line in lines[:-1]:
                        assert (await client.ask(line + b"\r\n")).startswith("334")
                    assert (await client.ask(lines[-1] + b"\r\n")) == "235 2.7.0 Authentication successful"
                    assert (await submit(client)).startswith("250")
                    assert (await client.ask(b"AUTH PLAIN " + plain + b"\r\n")).startswith("503 5.5.1")
            assert {m.envelope.user for m in intake.store.messages} == {"ada"}
            assert all(b"with ESMTPA id" in m.header for m in intake.store.messages)

    run(scenario, loop)


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([b"AUTH"], "501 5.5.4"),
        ([b"AUTH CRAM-MD5"], "504 5.5.4"),
        ([b"AUTH PLAIN !!!"], "501 5.5.2"),
        ([b"AUTH PLAIN " + encoded("ada")], "501 5.5.2"),
        ([b"AUTH PLAIN", b"*"], "501 5.7.0"),
        ([b"AUTH PLAIN", b"!!!"], "501 5.5.2"),
        ([b"AUTH LOGIN", encoded("ada"), b"*"], "501 5.7.0"),
        ([b"AUTH PLAIN ="], "501 5.5.2"),
        ([b"AUTH PLAIN " + encoded("\0ada\0wrong")], "535 5.7.8"),
        ([b"AUTH PLAIN " + encoded("\0\0")], "535 5.7.8"),
        ([b"AUTH PLAIN " + encoded("bob\0ada\0secret")], "535 5.7.8"),
        ([b"AUTH PLAIN", encoded("Ada\0ada\0secret")], "535 5.7.8"),
        ([b"AUTH PLAIN " + base64.b64encode(b"\0\xff\0\xff")], "535 5.7.8"),
        ([b"AUTH PLAIN a b"], "501 5.5.4"),
    ],
)
def test_failed_auth_leaves_the_client_a_stranger(lines: list[bytes], reply: str) -> None:
    async def scenario() -> None:
        async with running(networks=(), credentials=Passwords(ada="secret")) as intake, intake.session() as client:
            for line in lines[:-1]:
                assert (await client.ask(line + b"\r\n")).startswith("334")
            assert (await client.ask(lines[-1] + b"\r\n")).startswith(reply)
            assert (await client.ask(b"MAIL FROM:<>\r\n")).startswith("530")

    run(scenario)


def test_guessing_ends_the_session_and_then_blocks_the_address() -> None:
    async def scenario() -> None:
        credentials = Passwords(ada="secret")
        async with running(networks=(), credentials=credentials) as intake:
            wrong = b"AUTH PLAIN " + encoded("\0ada\0wrong") + b"\r\n"
            async with intake.session() as client:
                await client.send(wrong * 4)
                answer = (await client.rest()).splitlines()
                assert [line[:3] for line in answer] == [b"535"] * 3 + [b"421"]
            while credentials.asked < Intake().max_failed_logins_per_address:
                async with intake.session() as client:
                    await client.ask(wrong)
            async with intake.session() as client:
                right = b"AUTH PLAIN " + encoded("\0ada\0secret") + b"\r\n"
                assert (await client.ask(right)).startswith("454 4.7.0")
            assert credentials.asked == Intake().max_failed_logins_per_address
            async with intake.session(source="127.0.0.2") as client:
                assert (await client.ask(right)).startswith("235")

    run(scenario)


def test_how_many_guesses_are_too_many_is_a_setting() -> None:
    async def scenario() -> None:
        limits = Intake(max_failed_logins=2, max_failed_logins_per_address=3, failed_login_window=Duration(1e6))
        async with running(networks=(), credentials=Passwords(ada="secret"), intake=limits) as intake:
            wrong = b"AUTH PLAIN " + encoded("\0ada\0wrong") + b"\r\n"
            async with intake.session() as client:
                await client.send(wrong * 3)
                assert [line[:3] for line in (await client.rest()).splitlines()] == [b"535", b"535", b"421"]
            async with intake.session() as client:
                await client.send(wrong * 2)
                assert await client.replies(2) == [535, 454]

    run(scenario)


def test_unreadable_credentials_are_a_temporary_failure() -> None:
    class Broken(Passwords):
        async def verify(self, login: str, password: str) -> bool:
            raise StorageError("the disk is gone")

    async def scenario() -> None:
        async with running(networks=(), credentials=Broken()) as intake, intake.session() as client:
            reply = await client.ask(b"AUTH PLAIN " + encoded("\0ada\0x") + b"\r\n")
            assert reply.startswith("454 4.7.0")
            assert "disk" not in reply

    run(scenario)


def test_auth_is_not_for_the_middle_of_a_transaction() -> None:
    async def scenario() -> None:
        async with running(credentials=Passwords(ada="x")) as intake, intake.session() as client:
            await client.send(ENVELOPE)
            await client.replies(2)
            assert (await client.ask(b"AUTH PLAIN " + encoded("\0ada\0x") + b"\r\n")).startswith("503 5.5.1")

    run(scenario)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 192.0.2.9 192.0.2.1 40000 25\r\n", "192.0.2.9"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 40000 25\r\n", "2001:db8::9"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 9, 192, 0, 2, 1, 0x9C, 0x40, 0, 25]),
            "192.0.2.9",
        ),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_proxy_names_the_client(header: bytes, client: str, whole: bool) -> None:
    async def scenario() -> None:
        networks = (*LOOPBACK, "192.0.2.0/24", "2001:db8::/32")
        async with running(networks=networks, proxy_from=("127.0.0.1/32",)) as intake, intake.client() as raw:
            if whole:
                await raw.send(header + HELLO)
            else:
                for byte in header + HELLO:
                    await raw.send(bytes([byte]))
                    await asyncio.sleep(0)
            assert await raw.replies(2) == [220, 250]
            assert (await submit(raw)).startswith("250")
            assert intake.store.messages[0].envelope.client == f"unknown[{client}]"

    run(scenario)


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO x\r\n",
        b"PROXY TCP4 x\r\n",
        b"PROXY TCP4 192.0.2.9 192.0.2.1 1 25\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
        b"PROXY " + b"x" * 5000 + b"\r\n",
    ],
)
def test_listed_proxy_must_speak_proxy(header: bytes) -> None:
    async def scenario() -> None:
        async with running(proxy_from=("127.0.0.1/32",)) as intake:
            async with intake.client() as client:
                await client.send(header + HELLO)
                assert b"250" not in await client.rest()
            await intake.sessions_end()

    run(scenario)


def test_client_behind_a_proxy_has_its_own_rights_and_not_the_proxys() -> None:
    async def scenario() -> None:
        async with running(proxy_from=("127.0.0.1/32",)) as intake, intake.client() as client:
            await client.send(b"PROXY TCP4 192.0.2.9 192.0.2.1 1 25\r\n" + HELLO + ENVELOPE)
            assert await client.replies(4) == [220, 250, 250, 554]

    run(scenario)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x00\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8" + b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0"),
    ],
)
def test_client_that_the_proxy_does_not_name_has_no_rights(header: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with running(proxy_from=("127.0.0.1/32",), credentials=Passwords(ada="x")) as intake:
            async with intake.client() as client:
                await client.send(header + HELLO + ENVELOPE)
                assert (await client.replies(4))[:3] == [220, 250, 530]
            async with intake.client() as client:
                # It may be anywhere, and nothing is said in the clear over a network.
                await client.send(header + HELLO + b"AUTH PLAIN " + encoded("\0ada\0x") + b"\r\n")
                assert await client.replies(3) == [220, 250, 538]

    run(scenario)
    assert "PROXY header from 127.0.0.1 names no client address" in caplog.text


def test_broken_proxy_header_is_logged_with_its_peer(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with running(proxy_from=("127.0.0.1/32",)) as intake, intake.client() as client:
            await client.send(b"EHLO x\r\n")
            assert await client.rest() == b""

    run(scenario)
    assert "127.0.0.1: no valid PROXY header" in caplog.text


def test_proxy_header_from_anybody_else_is_a_bad_command() -> None:
    async def scenario() -> None:
        async with running(proxy_from=("192.0.2.1/32",)) as intake, intake.session() as client:
            assert (await client.ask(b"PROXY TCP4 10.0.0.1 10.0.0.2 1 25\r\n")).startswith("500 5.5.1")

    run(scenario)


def test_xclient_makes_a_new_session_of_the_named_client() -> None:
    async def scenario() -> None:
        async with (
            running(networks=("192.0.2.0/24",), xclient_from=("127.0.0.1/32",)) as intake,
            intake.client() as client,
        ):
            assert "XCLIENT NAME ADDR PORT PROTO HELO LOGIN" in await client.hello()
            named = b"XCLIENT NAME=spike.example ADDR=192.0.2.9 HELO=h.example\r\n"
            assert (await client.ask(named)).startswith("220")
            assert (await submit(client)).startswith("250")
            assert intake.store.messages[0].envelope.client == "spike.example[192.0.2.9]"
            assert b"from h.example (spike.example [192.0.2.9])" in intake.store.messages[0].header
            assert (await client.ask(b"XCLIENT ADDR=IPv6:2001:db8::9 NAME=[UNAVAILABLE]\r\n")).startswith("220")
            await client.send(HELLO + ENVELOPE)
            assert await client.replies(3) == [250, 250, 554]
            assert (await client.ask(b"XCLIENT ADDR=192.0.2.9\r\n")).startswith("503 5.5.1")
            assert (await client.ask(b"RSET\r\n")).startswith("250")
            assert (await client.ask(b"XCLIENT LOGIN=ada PROTO=ESMTP\r\n")).startswith("220")
            await client.send(HELLO)
            await client.reply()
            assert (await submit(client)).startswith("250")
            assert intake.store.messages[1].envelope.user == "ada"

    run(scenario)


_BEHIND_PROXY = b"PROXY TCP4 %b 192.0.2.1 40000 25\r\n"
_RUDE = b"XCLIENT ADDR=127.0.0.1 LOGIN=ada\r\n"


@pytest.mark.parametrize("header", [_BEHIND_PROXY % b"192.0.2.9", b"PROXY UNKNOWN\r\n"])
@pytest.mark.parametrize("xclient_from", ["127.0.0.1/32", "127.0.0.0/8"])
def test_xclient_is_not_for_who_comes_through_a_proxy_that_may_say_it(header: bytes, xclient_from: str) -> None:
    """The right would be anybody's: to submit as any address and any login."""

    async def scenario() -> None:
        rights = {"proxy_from": ("127.0.0.1/32",), "xclient_from": (xclient_from,), "credentials": Passwords(ada="x")}
        async with running(**rights) as intake, intake.client() as client:
            await client.send(header + b"EHLO x\r\n")
            assert (await client.reply())[0] == 220
            assert not any("XCLIENT" in line for line in (await client.reply())[1])
            assert (await client.ask(_RUDE)).startswith("550 5.7.0")
            await client.send(ENVELOPE)
            assert (await client.replies(2))[0] == 530

    run(scenario)


def test_xclient_is_for_the_listed_client_behind_a_proxy_and_stays_its_own() -> None:
    async def scenario() -> None:
        rights = {"proxy_from": ("127.0.0.1/32",), "xclient_from": ("192.0.2.9/32",), "networks": ("198.51.100.0/24",)}
        async with running(**rights) as intake:
            async with intake.client() as client:
                await client.send(_BEHIND_PROXY % b"192.0.2.9" + HELLO)
                assert await client.replies(2) == [220, 250]
                for address, fate in (b"198.51.100.1", 250), (b"203.0.113.1", 554), (b"198.51.100.2", 250):
                    assert (await client.ask(b"XCLIENT ADDR=" + address + b"\r\n")).startswith("220")
                    await client.send(HELLO + ENVELOPE + b"RSET\r\n")
                    assert await client.replies(4) == [250, 250, fate, 250]
            async with intake.client() as client:
                await client.send(_BEHIND_PROXY % b"192.0.2.10" + HELLO + b"XCLIENT ADDR=198.51.100.1\r\n")
                assert await client.replies(3) == [220, 250, 550]
        # Who was named by XCLIENT has not the right of its own address to say it.
        async with running(xclient_from=("192.0.2.9/32",), proxy_from=()) as intake, intake.session() as client:
            assert (await client.ask(b"XCLIENT ADDR=192.0.2.9\r\n")).startswith("550")

    run(scenario)


@pytest.mark.parametrize(
    ("before", "offered"),
    [
        (_BEHIND_PROXY % b"127.0.0.1", True),
        (_BEHIND_PROXY % b"192.0.2.9", False),
        (b"PROXY UNKNOWN\r\n", False),
    ],
)
def test_auth_in_the_clear_is_for_a_client_on_this_machine_behind_a_proxy_on_it(before: bytes, offered: bool) -> None:
    async def scenario() -> None:
        rights = {"proxy_from": ("127.0.0.1/32",), "credentials": Passwords(ada="x")}
        async with running(**rights) as intake, intake.client() as client:
            await client.send(before + b"EHLO x\r\n")
            assert (await client.reply())[0] == 220
            assert ("AUTH PLAIN LOGIN" in (await client.reply())[1]) is offered

    run(scenario)


@pytest.mark.parametrize(
    "argument", [b"", b" X=Y", b" ADDR", b" ADDR=300.1.1.1", b" NAME=a+0Ab", b" HELO=a+0D+0Ab", b" LOGIN=a+00"]
)
def test_malformed_xclient_changes_nothing(argument: bytes) -> None:
    async def scenario() -> None:
        async with running(xclient_from=("127.0.0.1/32",)) as intake, intake.session() as client:
            assert (await client.ask(b"XCLIENT" + argument + b"\r\n")).startswith("501 5.5.4")
            assert (await submit(client)).startswith("250")

    run(scenario)
