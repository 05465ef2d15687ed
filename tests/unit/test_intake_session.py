"""A session with the SMTP listener: what is offered, who may submit, DSN, PROXY, XCLIENT, reload, drain."""

import asyncio
import base64
from pathlib import Path

import pytest

from engine.base.errors import NetworkError, StorageError
from engine.base.settings import Intake, Listener, Node, Settings
from engine.base.units import Duration
from engine.intake.hooks import MAX_ADDRESS_FAILURES
from engine.message.envelope import Notify
from tests.support.intake import (
    ENVELOPE,
    HELLO,
    LOOPBACK,
    LOOPS,
    MESSAGE,
    MemoryStore,
    Passwords,
    RawClient,
    run,
    running,
    tls_files,
)

DATA = ENVELOPE + b"DATA\r\n"
both_loops = pytest.mark.parametrize("loop", sorted(LOOPS))


def encoded(text: str) -> bytes:
    return base64.b64encode(text.encode())


async def submit(client: RawClient, content: bytes = MESSAGE) -> str:
    await client.send(DATA)
    assert await client.replies(3) == [250, 250, 354]
    return await client.ask(content + b".\r\n")


@both_loops
def test_message_is_taken_and_its_id_told(loop: str) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            reply = await submit(client)
            stored = intake.store.messages[0]
            assert reply == f"250 2.0.0 Ok: queued as {stored.envelope.id}"
            assert stored.splits == [("example.net", (0,))]
            assert stored.envelope.client == "unknown[127.0.0.1]"
            assert stored.header.startswith(
                b"Received: from client.example (unknown [127.0.0.1])\r\n\tby mx.example with ESMTP id "
            )
            assert intake.log[0].startswith(
                f"{stored.envelope.id}: client=unknown[127.0.0.1], from=<ada@example.org>, "
            )
            assert (await client.ask(b"QUIT\r\n")) == "221 2.0.0 Bye"
            assert await client.rest() == b""

    run(scenario, loop)


def test_ehlo_offers_the_extensions() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.client() as client:
            assert await client.hello() == [
                "mx.example",
                "PIPELINING",
                "SIZE 26214400",
                "ENHANCEDSTATUSCODES",
                "8BITMIME",
                "DSN",
                "SMTPUTF8",
                "CHUNKING",
            ]

    run(scenario)


def test_helo_is_plain_smtp() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.client() as client:
            assert (await client.reply()) == (220, ["mx.example ESMTP Postrider"])
            assert await client.ask(b"HELO old.example\r\n") == "250 mx.example"
            assert (await submit(client)).startswith("250")
            assert (
                b"from old.example (unknown [127.0.0.1])\r\n\tby mx.example with SMTP id"
                in intake.store.messages[0].header
            )

    run(scenario)


@pytest.mark.parametrize("name", [b"", b" ", b"a b", b"<x>", b"x\0y", b"\xff", b"x" * 256, b"a;b", b"(x"])
def test_unusable_helo_names_are_refused(name: bytes) -> None:
    """They would go into Received."""

    async def scenario() -> None:
        async with running() as intake, intake.client() as client:
            await client.reply()
            for verb in (b"EHLO ", b"HELO "):
                assert (await client.ask(verb + name + b"\r\n")).startswith("501 5.5.")
            assert (await client.ask(b"MAIL FROM:<>\r\n")).startswith("503 5.5.1 Send EHLO")

    run(scenario)


def test_commands_in_the_wrong_order_are_503_and_change_nothing() -> None:
    async def scenario() -> None:
        async with running(intake=Intake(max_bad_commands=100)) as intake, intake.client() as client:
            await client.reply()
            for line in (b"MAIL FROM:<>", b"RCPT TO:<a@b.example>", b"DATA", b"AUTH PLAIN x"):
                assert (await client.ask(line + b"\r\n"))[:3] in ("503", "502")
            assert (await client.ask(HELLO)).startswith("250")
            for line in (b"RCPT TO:<a@b.example>", b"DATA"):
                assert (await client.ask(line + b"\r\n")).startswith("503 5.5.1")
            assert (await client.ask(b"MAIL FROM:<one@x.example>\r\n")).startswith("250")
            assert (await client.ask(b"MAIL FROM:<two@x.example>\r\n")).startswith("503 5.5.1 Nested")
            assert (await client.ask(b"DATA\r\n")).startswith("554 5.5.1 No valid recipients")
            assert (await client.ask(b"RCPT TO:<a@b.example>\r\n")).startswith("250")
            assert (await client.ask(b"DATA now\r\n")).startswith("501 5.5.4")
            await client.send(b"DATA\r\n")
            assert (await client.reply())[0] == 354
            assert (await client.ask(MESSAGE + b".\r\n")).startswith("250")
            assert intake.store.messages[0].envelope.sender == "one@x.example"
            assert (await client.ask(b"DATA\r\n")).startswith("503")

    run(scenario)


@pytest.mark.parametrize(
    "line",
    [b"mail from:<ada@example.org>", b"MAIL FROM: <ada@example.org>", b"Mail From:<ada@example.org> size=10 body=7bit"],
)
def test_unusual_spelling_is_understood(line: bytes) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(line + b"\r\nrcpt to: <bob@example.net> \r\n")
            assert await client.replies(2) == [250, 250]
            await client.send(b"data\r\n")
            assert await client.replies(1) == [354]
            assert (await client.ask(MESSAGE + b".\r\n")).startswith("250")

    run(scenario)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"FOO", "500 5.5.1"),
        (b"", "500 5.5.2"),
        (b"\xff", "500 5.5.2"),
        (b"MAIL", "501 5.5.4"),
        (b"MAIL TO:<a@b.example>", "501 5.5.4"),
        (b"MAILFROM:<a@b.example>", "500 5.5.1"),
        (b"MAIL FROM:", "553 5.1.3"),
        (b"MAIL FROM:<> FOO=1", "555 5.5.4"),
        (b"MAIL FROM:<> SIZE=x", "501 5.5.4"),
        (b"MAIL FROM:<> SIZE", "501 5.5.4"),
        (b"MAIL FROM:<> SIZE=1 SIZE=1", "501 5.5.4"),
        (b"MAIL FROM:<> SIZE=999999999999999999999", "501 5.5.4"),
        (b"MAIL FROM:<> BODY=BINARYMIME", "501 5.5.4"),
        (b"MAIL FROM:<> SMTPUTF8=1", "501 5.5.4"),
        (b"MAIL FROM:<> RET=SOME", "501 5.5.4"),
        (b"MAIL FROM:<> ENVID=a=b", "501 5.5.4"),
        (b"MAIL FROM:<> ENVID=a+0Ab", "501 5.5.4"),
        (b"MAIL FROM:<> ENVID=" + b"x" * 101, "501 5.5.4"),
        (b"MAIL FROM:<> =x", "501 5.5.4"),
        (b"MAIL FROM:<> AUTH=", "501 5.5.4"),
        (b"EXPN list", "502 5.5.1"),
        (b"VRFY ada", "252 2.0.0"),
        (b"HELP", "214 2.0.0"),
        (b"XCLIENT ADDR=192.0.2.1", "550 5.7.0"),
        (b"STARTTLS", "502 5.5.1"),
        (b"AUTH PLAIN", "502 5.5.1"),
        (b"BURL imap://x", "500 5.5.1"),
    ],
)
def test_bad_commands_say_what_is_wrong_and_change_nothing(line: bytes, reply: str) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            assert (await client.ask(line + b"\r\n")).startswith(reply)
            assert (await submit(client)).startswith("250")
            assert intake.store.messages[0].envelope.sender == "ada@example.org"

    run(scenario)


def test_dsn_parameters_are_kept_decoded() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(
                b"MAIL FROM:<ada@example.org> RET=hdrs ENVID=QQ+2B314159 BODY=8BITMIME AUTH=<>\r\n"
                b"RCPT TO:<a@x.example> NOTIFY=SUCCESS,DELAY,failure ORCPT=rfc822;Ada+2BLovelace@x.example\r\n"
                b"RCPT TO:<b@x.example> NOTIFY=NEVER\r\n"
                b"RCPT TO:<c@x.example>\r\n"
                b"RCPT TO:<d@x.example> ORCPT=utf-8;d\\x{FC}@x.example\r\n"
                b"BDAT 2 LAST\r\n\r\n"
            )
            assert await client.replies(6) == [250] * 6
            envelope = intake.store.messages[0].envelope
            assert (envelope.ret, envelope.envid) == ("HDRS", "QQ+314159")
            assert [(r.notify, r.orcpt) for r in envelope.recipients] == [
                (Notify.SUCCESS | Notify.DELAY | Notify.FAILURE, "rfc822;Ada+Lovelace@x.example"),
                (Notify.NEVER, ""),
                (Notify.UNSET, ""),
                (Notify.UNSET, "utf-8;dü@x.example"),
            ]

    run(scenario)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        (b"NOTIFY=NEVER,SUCCESS", 501),
        (b"NOTIFY=", 501),
        (b"NOTIFY", 501),
        (b"NOTIFY=ALWAYS", 501),
        (b"ORCPT=ada@x.example", 501),
        (b"ORCPT=rfc822;", 501),
        (b"ORCPT=rfc822;a+0D+0Ab", 501),
        (b"ORCPT=rfc822;a+b", 501),
        (b"ORCPT=utf-8;\\x{D800}", 501),
        (b"ORCPT=utf-8;\\x{0A}", 501),
        (b"ORCPT=rfc822;" + b"x" * 500, 501),
        (b"SIZE=1", 555),
        (b"NOTIFY=NEVER NOTIFY=NEVER", 501),
    ],
)
def test_wrong_dsn_parameters_refuse_the_recipient_only(parameters: bytes, code: int) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(b"MAIL FROM:<>\r\nRCPT TO:<a@x.example> %b\r\nRCPT TO:<b@x.example>\r\n" % parameters)
            assert await client.replies(3) == [250, code, 250]
            assert (await client.ask(b"BDAT 2 LAST\r\n\r\n")).startswith("250")
            assert [r.address for r in intake.store.messages[0].envelope.recipients] == ["b@x.example"]

    run(scenario)


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
            while credentials.asked < MAX_ADDRESS_FAILURES:
                async with intake.session() as client:
                    await client.ask(wrong)
            async with intake.session() as client:
                right = b"AUTH PLAIN " + encoded("\0ada\0secret") + b"\r\n"
                assert (await client.ask(right)).startswith("454 4.7.0")
            assert credentials.asked == MAX_ADDRESS_FAILURES
            async with intake.session(source="127.0.0.2") as client:
                assert (await client.ask(right)).startswith("235")

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
                await client.send(header + HELLO + b"AUTH PLAIN " + encoded("\0ada\0x") + b"\r\n" + ENVELOPE)
                assert await client.replies(5) == [220, 250, 235, 250, 250]

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


@pytest.mark.parametrize(
    "argument", [b"", b" X=Y", b" ADDR", b" ADDR=300.1.1.1", b" NAME=a+0Ab", b" HELO=a+0D+0Ab", b" LOGIN=a+00"]
)
def test_malformed_xclient_changes_nothing(argument: bytes) -> None:
    async def scenario() -> None:
        async with running(xclient_from=("127.0.0.1/32",)) as intake, intake.session() as client:
            assert (await client.ask(b"XCLIENT" + argument + b"\r\n")).startswith("501 5.5.4")
            assert (await submit(client)).startswith("250")

    run(scenario)


def test_pipelined_replies_go_out_together() -> None:
    """RFC 2920 3.2."""

    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            writes = []
            connection = next(iter(intake.listener._connections))
            transport = connection.transport

            class Watched:
                def write(self, data: bytes) -> None:
                    writes.append(data)
                    transport.write(data)

                def __getattr__(self, name: str) -> object:
                    return getattr(transport, name)

            connection.transport = Watched()
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            await client.send(MESSAGE + b".\r\n" + DATA)
            assert await client.replies(4) == [250, 250, 250, 354]
            connection.transport = transport
            assert [write.count(b"\r\n") for write in writes] == [3, 4]

    run(scenario)


def test_full_disk_is_told_at_mail() -> None:
    async def scenario() -> None:
        store = MemoryStore(refused="452 4.3.1 Insufficient system storage")
        async with running(store) as intake, intake.session() as client:
            assert (await client.ask(b"MAIL FROM:<>\r\n")).startswith("452 4.3.1")
            store.refused = None
            assert (await submit(client)).startswith("250")

    run(scenario)


def test_failing_store_is_451_and_the_session_goes_on() -> None:
    async def scenario() -> None:
        store = MemoryStore(fault=StorageError("no"))
        async with running(store) as intake, intake.session() as client:
            assert (await submit(client)).startswith("451 4.3.0")
            store.fault = None
            assert (await submit(client)).startswith("250")
            assert intake.rejected("storage") == 1

    run(scenario)


def test_fault_of_our_own_is_451_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        store = MemoryStore(fault=ZeroDivisionError("a bug"))
        async with running(store) as intake, intake.session() as client:
            reply = await submit(client)
            assert reply.startswith("451 4.3.0")
            assert "bug" not in reply
            assert intake.metrics.internal_errors.labels("intake").value == 1
            store.fault = None
            assert (await submit(client)).startswith("250")

    run(scenario)
    assert "a bug" in caplog.text


@both_loops
def test_drain_ends_idle_sessions_at_once_and_others_after_their_message(loop: str) -> None:
    async def scenario() -> None:
        async with running() as intake:
            store = intake.store
            store.hold, store.waiting = asyncio.Event(), asyncio.Event()
            async with intake.session() as idle, intake.session() as busy, intake.session() as storing:
                await busy.send(DATA)
                assert await busy.replies(3) == [250, 250, 354]
                await storing.send(DATA)
                assert await storing.replies(3) == [250, 250, 354]
                await storing.send(MESSAGE + b".\r\n")
                await store.waiting.wait()
                await intake.listener.close()
                drained = asyncio.create_task(intake.listener.drain(asyncio.get_running_loop().time() + 10))
                assert (await idle.rest()).startswith(b"421 4.3.2 ")
                store.hold.set()
                await busy.send(MESSAGE + b".\r\n")
                for client in (busy, storing):
                    answer = (await client.rest()).splitlines()
                    assert [line[:9] for line in answer] == [b"250 2.0.0", b"421 4.3.2"]
                await drained
            assert len(store.messages) == 2
            with pytest.raises(ConnectionRefusedError):
                async with intake.client():
                    pass

    run(scenario, loop)


@both_loops
def test_drain_cuts_off_what_is_left_at_the_deadline(loop: str) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(DATA)
            assert await client.replies(3) == [250, 250, 354]
            await client.send(MESSAGE)
            await intake.listener.close()
            await intake.listener.drain(asyncio.get_running_loop().time() + 0.05)
            await client.rest()
            assert intake.listener.connections == 0
            assert intake.store.messages == []

    run(scenario, loop)


def test_reload_is_for_new_sessions() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as before:
            table = Listener(kind="smtp", address="127.0.0.1:0", networks=("192.0.2.0/24",))
            intake.listener.reload(table, Settings(node=Node(name="mx.example"), intake=Intake(max_recipients=7)))
            assert (await submit(before)).startswith("250")
            async with intake.session() as after:
                await after.send(ENVELOPE)
                assert await after.replies(2) == [250, 554]

    run(scenario)


def test_address_in_use_is_an_error_with_the_address() -> None:
    async def scenario() -> None:
        async with running() as intake:
            host, port = intake.listener.address
            with pytest.raises(NetworkError, match=f"{host}:{port}"):
                async with running(address=f"{host}:{port}"):
                    pass

    run(scenario)


def test_idle_session_times_out_and_active_one_does_not(tmp_path: Path) -> None:
    """Each command of progress moves the deadline."""

    async def scenario() -> None:
        limits = Intake(command_timeout=Duration(0.3))
        async with running(intake=limits) as intake, intake.session() as client:
            connection = next(iter(intake.listener._connections))
            seen = set()
            for _ in range(3):
                assert (await submit(client)).startswith("250")
                seen.add(connection._deadline)
                await asyncio.sleep(0.01)
            assert len(seen) == 3
            assert (await client.rest()).startswith(b"421 4.4.2")

    run(scenario)


def test_tls_and_plain_listeners_share_nothing_of_aiosmtpds_class_state(tmp_path: Path) -> None:
    """aiosmtpd's command size limits are on its class and grow with every EHLO."""

    async def scenario() -> None:
        async with running(tls=tls_files(tmp_path)) as one, running() as two:
            for intake in (one, two):
                async with intake.session() as client:
                    for _ in range(50):
                        await client.send(HELLO)
                        await client.reply()
                    assert (await client.ask(b"MAIL FROM:<> " + b"X" * 2100 + b"\r\n")).startswith("500 5.5.2 Line")

    run(scenario)
