"""Checklist, addresses: what is not an address is refused with a reason, and changes nothing."""

import pytest

from tests.support.intake import run, running

REFUSED = [
    (b"<a@b", "553 5.1.3"),
    (b"a@b.example", "553 5.1.3"),
    (b"<a@@b.example>", "553 5.1.3"),
    (b"<@b.example>", "553 5.1.3"),
    (b"<a>", "553 5.1.3"),
    (b"<a b@c.example>", "553 5.1.3"),
    (b"<a\0@b.example>", "553 5.1.3"),
    (b"<a\x01@b.example>", "553 5.1.3"),
    (b"<a\x7f@b.example>", "553 5.1.3"),
    (b"<<a@b.example>>", "553 5.1.3"),
    (b"<a<x@b.example>", "553 5.1.3"),
    (b'<"a>b@c.example>', "553 5.1.3"),
    (b'<"a\\"@c.example>', "553 5.1.3"),
    (b'<"a\rb"@c.example>', "521 5.5.2"),
    (b"<.a@b.example>", "553 5.1.3"),
    (b"<a..b@c.example>", "553 5.1.3"),
    (b"<a@b..example>", "553 5.1.3"),
    (b"<a@.example>", "553 5.1.3"),
    (b"<a@-b.example>", "553 5.1.3"),
    (b"<a@b_c.example>", "553 5.1.3"),
    (b"<a@192.0.2.1>", "553 5.1.3"),
    (b"<a@[192.0.2.256]>", "553 5.1.3"),
    (b"<a@[IPv6:::g]>", "553 5.1.3"),
    (b"<a@[::1]>", "553 5.1.3"),
    (b"<a@[x:y]>", "553 5.1.3"),
    (b"<" + b"a" * 65 + b"@b.example>", "553 5.1.3"),
    (b'<"' + b"a" * 64 + b'"@b.example>', "553 5.1.3"),
    (b"<a@" + b"b" * 64 + b".example>", "553 5.1.3"),
    (b"<a@" + b"b." * 128 + b"example>", "553 5.1.3"),
    ("<ä@b.example>".encode(), "553 5.6.7"),
    ("<a@bücher.example>".encode(), "553 5.6.7"),
    (b"<a@b.example>junk", "501 5.5.4"),
]
ACCEPTED = [
    (b"<a@b.example>", "a@b.example", "b.example"),
    (b"<A.b+c=d@B.Example>", "A.b+c=d@B.Example", "b.example"),
    (b'<"a b"@c.example>', '"a b"@c.example', "c.example"),
    (b'<"a>\\"@b"@c.example>', '"a>\\"@b"@c.example', "c.example"),
    (b"<@relay.example,@other.example:a@b.example>", "a@b.example", "b.example"),
    (b"<a@b.example.>", "a@b.example", "b.example"),
    (b"<a@[192.0.2.1]>", "a@[192.0.2.1]", "[192.0.2.1]"),
    (b"<a@[ipv6:2001:DB8::0:1]>", "a@[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
    (b"<" + b"a" * 64 + b"@b.example>", "a" * 64 + "@b.example", "b.example"),
    (b"<a@xn--bcher-kva.example>", "a@xn--bcher-kva.example", "xn--bcher-kva.example"),
    (b"<Postmaster>", "postmaster@mx.example", "mx.example"),
    (b"<a@" + b"b" * 63 + b".example>", "a@" + "b" * 63 + ".example", "b" * 63 + ".example"),
]
UTF8 = [
    ("<ä@bücher.example>", "ä@bücher.example", "xn--bcher-kva.example"),
    ("<ä@BÜCHER.example>", "ä@bücher.example", "xn--bcher-kva.example"),
    ("<a@bücher.example.>", "a@xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("<ä@xn--bcher-kva.example>", "ä@xn--bcher-kva.example", "xn--bcher-kva.example"),
    ('<"ä b"@b.example>', '"ä b"@b.example', "b.example"),
]


@pytest.mark.parametrize(("path", "reply"), REFUSED)
def test_malformed_address_is_refused_as_sender_and_as_recipient(path: bytes, reply: str) -> None:
    async def scenario() -> None:
        async with running() as intake:
            async with intake.session() as client:
                assert (await client.ask(b"MAIL FROM:" + path + b"\r\n")).startswith(reply)
            async with intake.session() as client:
                assert (await client.ask(b"MAIL FROM:<>\r\n")).startswith("250")
                assert (await client.ask(b"RCPT TO:" + path + b"\r\n")).startswith(reply)
                if reply.startswith("553"):
                    assert (await client.ask(b"DATA\r\n")).startswith("554 5.5.1")

    run(scenario)


@pytest.mark.parametrize(("path", "address", "destination"), ACCEPTED)
def test_address_is_kept_as_it_will_be_sent(path: bytes, address: str, destination: str) -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(b"MAIL FROM:%b\r\nRCPT TO:%b\r\nBDAT 2 LAST\r\n\r\n" % (path, path))
            assert await client.replies(3) == [250, 250, 250]
            stored = intake.store.messages[0]
            assert stored.envelope.sender == address
            assert stored.envelope.recipients[0].address == address
            assert stored.splits == [(destination, (0,))]

    run(scenario)


@pytest.mark.parametrize(("path", "address", "destination"), UTF8)
def test_8_bit_addresses_need_smtputf8(path: str, address: str, destination: str) -> None:
    """A domain alone is turned into A-labels, so any receiver can be told it."""

    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(b"MAIL FROM:<> SMTPUTF8\r\nRCPT TO:%b\r\nBDAT 2 LAST\r\n\r\n" % path.encode())
            assert await client.replies(3) == [250, 250, 250]
            stored = intake.store.messages[0]
            assert stored.envelope.recipients[0].address == address
            assert stored.splits == [(destination, (0,))]
            assert stored.envelope.smtputf8 == (not address.isascii())

    run(scenario)


def test_8_bit_that_is_not_utf8_is_refused_even_with_smtputf8() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            assert (await client.ask(b"MAIL FROM:<\xff@b.example> SMTPUTF8\r\n")).startswith("553 5.1.3")
            assert (await client.ask(b"MAIL FROM:<> SMTPUTF8\r\n")).startswith("250")
            assert (await client.ask(b"RCPT TO:<\xff@b.example>\r\n")).startswith("553 5.1.3")
            assert (await client.ask(b"RCPT TO:<a@\xff.example>\r\n")).startswith("553 5.1.3")

    run(scenario)


def test_null_sender_is_kept_and_null_recipient_refused() -> None:
    async def scenario() -> None:
        async with running() as intake, intake.session() as client:
            await client.send(b"MAIL FROM:<>\r\nRCPT TO:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 2 LAST\r\n\r\n")
            assert await client.replies(4) == [250, 553, 250, 250]
            assert intake.store.messages[0].envelope.sender == ""

    run(scenario)
