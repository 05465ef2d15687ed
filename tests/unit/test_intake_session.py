"""The dialogue with the SMTP listener: what is offered, what is understood, what is said to mistakes and faults."""

import pytest

from engine.base.errors import StorageError
from engine.base.settings import Intake
from engine.message.envelope import Notify
from tests.support.intake import (
    DATA,
    HELLO,
    MESSAGE,
    MemoryStore,
    both_loops,
    run,
    running,
    submit,
)


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
