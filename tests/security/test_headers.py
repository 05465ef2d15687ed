"""Checklist, headers: what must not reach the receiver goes, what deceives is refused, and it takes linear time."""

import pytest

from engine.base.settings import Intake
from engine.base.units import Size
from engine.message.headers import admit_header
from tests.support.intake import ENVELOPE, Running, run, running

BODY = b"\r\nBcc: in the body stays\r\n"


async def submitted(intake: Running, content: bytes) -> str:
    async with intake.session() as client:
        await client.send(ENVELOPE + b"BDAT %d LAST\r\n" % len(content) + content)
        assert await client.replies(2) == [250, 250]
        code, lines = await client.reply()
        return f"{code} {lines[0]}"


@pytest.mark.parametrize(
    "field",
    [
        b"Bcc: secret@x.example\r\n",
        b"BCC: secret@x.example,\r\n secret2@x.example,\r\n\tsecret3@x.example\r\n",
        b"Bcc : secret@x.example\r\n",
        b"bcc\t:\r\n secret@x.example\r\n",
        b"Resent-Bcc: secret@x.example\r\n",
        b"Return-Path: <secret@x.example>\r\n",
        b"Bcc: secret@x.example\r\nBcc: secret2@x.example\r\n",
        b"X-Postrider-Class: bulk\r\n (secret)\r\n",
        b"X-Postrider-Batch: secret\r\n",
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_private_fields_are_removed_with_their_continuations(field: bytes, place: int) -> None:
    async def scenario() -> None:
        fields = [b"From: a@b.example\r\n", b"Subject: x\r\n folded\r\n"]
        fields.insert(place, field)
        async with running() as intake:
            assert (await submitted(intake, b"".join(fields) + BODY)).startswith("250")
            stored = intake.store.messages[0]
            assert b"secret" not in stored.content
            assert b"From: a@b.example\r\nSubject: x\r\n folded\r\n" in stored.header
            assert stored.body == b"Bcc: in the body stays\r\n"

    run(scenario)


def test_second_from_is_refused() -> None:
    """Receivers disagree which one they show and which one DMARC is about."""

    async def scenario() -> None:
        async with running() as intake:
            reply = await submitted(intake, b"From: a@b.example\r\nFROM : c@d.example\r\n\r\n")
            assert reply.startswith("550 5.6.0")
            assert intake.store.messages == []

    run(scenario)


def test_of_date_and_message_id_the_first_stays() -> None:
    async def scenario() -> None:
        async with running() as intake:
            twice = b"Date: one\r\nMessage-ID: <one@x>\r\nDate: two\r\n folded\r\nMessage-Id: <two@x>\r\n"
            assert (await submitted(intake, twice + b"\r\n")).startswith("250")
            header = intake.store.messages[0].header
            assert header.endswith(b"Date: one\r\nMessage-ID: <one@x>\r\n")
            assert b"two" not in header

    run(scenario)


def test_nul_in_the_header_is_refused_and_in_the_body_kept() -> None:
    async def scenario() -> None:
        async with running() as intake:
            assert (await submitted(intake, b"Subject: a\0b\r\n\r\n")).startswith("550 5.6.0")
            assert (await submitted(intake, b"Subject: a\r\n\r\na\0b\r\n")).startswith("250")
            assert intake.store.messages[0].body == b"a\0b\r\n"

    run(scenario)


def test_loop_is_cut() -> None:
    async def scenario() -> None:
        async with running(intake=Intake(max_received=5)) as intake:
            assert (await submitted(intake, b"Received: x\r\n" * 5 + b"\r\n")).startswith("250")
            assert (await submitted(intake, b"Received: x\r\n" * 6 + b"\r\n")).startswith("554 5.4.6")
            assert intake.rejected("loop") == 1

    run(scenario)


def test_million_fields_are_refused_by_size() -> None:
    async def scenario() -> None:
        async with running() as intake:
            assert (await submitted(intake, b"A: b\r\n" * 1_000_000 + b"\r\n")).startswith("552 5.3.4")

    run(scenario)


@pytest.mark.parametrize("line", [b"A: b\r\n", b"Bcc: x\r\n", b"Date: x\r\n", b"X\r\n", b"A:\r\n b\r\n", b":\r\n"])
def test_million_lines_take_one_pass(line: bytes) -> None:
    """No limit here; a quadratic step would take hours."""
    content = b"Subject: x\r\n" + line * 1_000_000 + b"\r\nbody\r\n"
    admitted = admit_header(content, b"Received: r\r\n", b"Date: d\r\n", b"Message-ID: m\r\n", 1 << 30, 50)
    assert admitted.content.endswith(b"\r\nbody\r\n")


def test_header_limit_is_a_setting_and_a_body_without_header_is_no_header() -> None:
    async def scenario() -> None:
        async with running(intake=Intake(max_header_bytes=Size(100))) as intake:
            assert (await submitted(intake, b"A: " + b"b" * 96 + b"\r\n\r\n")).startswith("552")
            assert (await submitted(intake, b"A: " + b"b" * 95 + b"\r\n\r\n")).startswith("250")
            assert (await submitted(intake, b"no header here\r\n" * 100)).startswith("250")
            assert intake.store.messages[1].body == b"no header here\r\n" * 100

    run(scenario)


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (b'"a@victim.example" <x@real.example>', "real.example"),
        (b"a@victim.example <x@real.example>", "real.example"),
        (b"(<a@victim.example>) x@real.example", "real.example"),
        (b'"<a@victim.example>, \\" <" <x@real.example>', "real.example"),
        (b"=?utf-8?q?=3Ca=40victim.example=3E?= <x@real.example>", "real.example"),
        (b"<@victim.example:x@real.example>", "real.example"),
    ],
)
def test_from_domain_is_that_of_the_address_and_not_of_what_stands_around_it(value: bytes, domain: str) -> None:
    """It chooses the DKIM key."""

    async def scenario() -> None:
        async with running() as intake:
            assert (await submitted(intake, b"From: %b\r\n\r\n" % value)).startswith("250")
            assert intake.store.messages[0].envelope.header_from == domain

    run(scenario)


@pytest.mark.parametrize("length", [77, 78, 79, 500, 997])
def test_long_field_name_does_not_end_the_header(length: int) -> None:
    """What it pushes into the body would stay: Bcc."""
    content = b"X" * length + b": y\r\nBcc: secret@x.example\r\nFrom: a@b.example\r\n" + BODY
    admitted = admit_header(content, b"", b"Date: now\r\n", b"Message-ID: <1>\r\n", 100_000, 50)
    assert b"secret" not in admitted.content
    assert admitted.header_from == "b.example"


@pytest.mark.parametrize("empty", [b"Date:", b"Date: \t", b"DATE :\r\n ", b"Date:\r\n \t\r\n  "])
@pytest.mark.parametrize("empty_id", [b"Message-ID:", b"message-id: \r\n "])
def test_empty_date_and_message_id_are_replaced(empty: bytes, empty_id: bytes) -> None:
    content = b"From: a@b.example\r\n" + empty + b"\r\n" + empty_id + b"\r\nSubject: x\r\n\r\nbody\r\n"
    admitted = admit_header(content, b"", b"Date: now\r\n", b"Message-ID: <1>\r\n", 100_000, 50)
    expected = b"From: a@b.example\r\nSubject: x\r\nDate: now\r\nMessage-ID: <1>\r\n\r\nbody\r\n"
    assert admitted.content == expected
