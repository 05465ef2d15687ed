"""The tracker: what it decides for a message, what it keeps, and what is on disk before a message leaves."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.base.settings_tracking import ClickDomain, LedgerSettings, Tracking
from engine.delivery import tracker as module
from engine.delivery.tracker import Tracked, Tracker
from engine.message.content import Content, LargeContent, LargeFile
from engine.message.envelope import Envelope, MessageClass, Recipient
from engine.message.ids import IdSource
from engine.message.link_compile import compile_body
from engine.message.link_token import Kind, LinkTokens
from engine.storage.ledger.reader import LedgerReader
from engine.storage.ledger.sent import Sent
from engine.storage.ledger.writer import Ledger
from tests.support.clock import FakeClock

BASE = "https://click.example.org"
KEYS = {1: b"k" * 32}
HEADER = b"From: ada@home.test\r\nMessage-ID: <1@home.test>\r\nContent-Type: text/html\r\n\r\n"
BODY = b'<a href="http://a.test/">one</a>\r\n'


class Bench:
    """A tracker with a ledger of its own."""

    def __init__(self, path: Path, **tracking: Any) -> None:
        self.path, self.clock, self.metrics = path, FakeClock(), Metrics()
        self.ids = IdSource("mx.test", 0, self.clock)
        self.ledger = Ledger(path, 0, LedgerSettings(), 86400.0, self.clock)
        self.tracker = Tracker(self.settings(**tracking), KEYS, self.ledger, self.ids.next, self.metrics, self.clock)

    @staticmethod
    def settings(**tracking: Any) -> Settings:
        return Settings(
            tracking=Tracking(**{"base_url": BASE, "level": "full", **tracking}),
            click_domain=(ClickDomain(tenant="shop", base_url="https://go.shop.test"),),
        )

    def envelope(self, *recipients: str, **more: Any) -> Envelope:
        to = tuple(map(Recipient, recipients or ("bob@far.test",)))
        now = self.clock.time()
        return Envelope(self.ids.next(), "ada@home.test", to, now, now + 60, 0, **{"track": "full", **more})

    async def tracked(self, envelope: Envelope, content: Content = HEADER + BODY) -> Tracked:
        tracked = await self.tracker.tracked(envelope, content)
        assert tracked is not None
        return tracked

    def note(self, message: str) -> Sent | None:
        """What another process finds now, without waiting for anything."""
        reader = LedgerReader(self.path)
        while reader.refresh():
            pass
        try:
            return reader.find(message)
        finally:
            reader.close()

    def left(self) -> dict[str, float]:
        (family,) = self.metrics.links_left.collect()
        return {each.labels["reason"]: each.value for each in family.samples if each.name.endswith("_total")}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    def runs(test: Callable[[Bench], Awaitable[None]], **tracking: Any) -> None:
        async def story() -> None:
            bench = Bench(tmp_path, **tracking)
            await test(bench)
            await bench.ledger.close()

        asyncio.run(story())

    return runs


def test_it_is_on_disk_before_anything_can_be_sent(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        envelope = bench.envelope("bob@far.test", "carl@far.test", tenant="acme", stream="news", batch="may")
        await bench.tracked(envelope)
        sent = bench.note(envelope.id)
        assert sent is not None and (sent.level, sent.message_id) == ("full", "1@home.test")
        assert (sent.recipients, sent.tenant, sent.stream, sent.batch) == (
            ("bob@far.test", "carl@far.test"), "acme", "news", "may",
        )  # fmt: skip

    run(test)


def test_where_the_disk_takes_no_note_nothing_is_sent(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        (bench.path / "ledger").write_text("in the way")
        envelope = bench.envelope("bob@far.test", "carl@far.test")
        for _ in range(2):
            with pytest.raises(StorageError):
                await bench.tracker.tracked(envelope, HEADER + BODY)
        (bench.path / "ledger").unlink()
        await bench.tracked(envelope)
        assert bench.note(envelope.id) is not None

    run(test)


def test_a_body_is_compiled_once_for_all_messages_that_have_it(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def counted(header: bytes, body: bytes, marks: Any) -> Any:
        compiled.append(body)
        return compile_body(header, body, marks)

    monkeypatch.setattr(module, "compile_body", counted)

    async def test(bench: Bench) -> None:
        for number in range(5):
            await bench.tracked(bench.envelope(), b"Subject: %d\r\n" % number + HEADER + BODY)
        assert compiled == [BODY]
        await bench.tracked(bench.envelope("a@b.test", "c@b.test"))
        assert compiled == [BODY] * 2, "tokens that name one of several are longer"
        await bench.tracked(bench.envelope(), HEADER.replace(b"html", b"html; charset=koi8-r") + BODY)
        await bench.tracked(bench.envelope(tenant="shop"))
        await bench.tracked(bench.envelope(), HEADER + BODY + b"more")
        assert compiled == [BODY] * 4 + [BODY + b"more"]
        bench.tracker.reload(bench.settings(), KEYS)
        await bench.tracked(bench.envelope())
        assert len(compiled) == 6

    run(test)


def test_what_is_kept_is_bounded_by_bytes_and_by_number(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_KEPT_BYTES", 100_000)

    async def test(bench: Bench) -> None:
        most = 0
        for number in range(100):
            body = BODY + b"%d" % number * 2000
            tracked = await bench.tracked(bench.envelope("a@b.test", "c@b.test"), HEADER + body)
            assert body[40:] in tracked.content(1)  # type: ignore[operator]  # it is not large
            most = max(most, bench.tracker.kept_bytes)
        assert 50_000 < most <= 100_000

    run(test)


def test_each_width_of_a_recipients_number_has_its_own_form(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        many = [f"user{number}@far.test" for number in range(300)]
        for encoding, equals in ((b"8bit", b"="), (b"quoted-printable", b"=3D")):
            header = HEADER[:-2] + b"Content-Transfer-Encoding: %b\r\n\r\n" % encoding
            envelope = bench.envelope(*many)
            tracked = await bench.tracked(envelope, header + BODY.replace(b"=", equals))
            for index in (0, 127, 128, 299):
                content = tracked.content(index)
                assert isinstance(content, bytes)
                token = content.partition(b"/c/")[2].replace(b"=\r\n", b"").partition(b'"')[0].decode()
                read = LinkTokens(KEYS).read(Kind.CLICK, token)
                assert read is not None and (read.message, read.recipient) == (envelope.id, index)

    run(test)


def test_a_delivery_that_knows_only_its_own_recipients_notes_them(run: Callable[..., None]) -> None:
    """After a restart each destination's part of a message may be read by itself."""

    async def test(bench: Bench) -> None:
        whole = bench.envelope("bob@far.test", "carl@near.test")
        for own in (0, 1):
            known = tuple(to if at == own else Recipient("") for at, to in enumerate(whole.recipients))
            await bench.tracked(msgspec.structs.replace(whole, recipients=known))
        sent = bench.note(whole.id)
        assert sent is not None and sent.recipients == ("bob@far.test", "carl@near.test")

    run(test)


def test_a_large_content_keeps_its_links_and_says_how_to_leave(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        large = LargeContent(HEADER + BODY, LargeFile("x", 10, 0), lambda offset, length: bytes(length))
        content = (await bench.tracked(bench.envelope(), large)).content(0)
        assert isinstance(content, LargeContent) and content.file == large.file
        header, _, start = content.head.partition(b"\r\n\r\n")
        assert b"List-Unsubscribe: <https://click.example.org/u/" in header and start == BODY
        assert await bench.tracker.tracked(bench.envelope(message_class=MessageClass.TRANSACTIONAL), large) is None
        assert bench.left() == {"large": 2}

    run(test)


@pytest.mark.parametrize(
    ("more", "tracking"),
    [
        ({"track": ""}, {"unsubscribe": False}),
        ({"track": "none", "message_class": MessageClass.TRANSACTIONAL}, {}),
        ({"sender": ""}, {}),
        ({}, {"base_url": ""}),
    ],
)
def test_what_is_sent_as_it_is_leaves_no_trace(run: Callable[..., None], more: Any, tracking: Any) -> None:
    async def test(bench: Bench) -> None:
        envelope = msgspec.structs.replace(bench.envelope(), **more)
        assert await bench.tracker.tracked(envelope, HEADER + BODY) is None
        assert not (bench.path / "ledger").exists()

    run(test, **tracking)


def test_what_cannot_be_tracked_is_counted_with_the_reason(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        once = {"message_class": MessageClass.TRANSACTIONAL}
        signed = b"DKIM-Signature: v=1; d=x.test\r\n" + HEADER + BODY
        sealed = b"Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b--\r\n"
        assert await bench.tracker.tracked(bench.envelope(**once), signed) is None
        assert await bench.tracker.tracked(bench.envelope(**once), sealed) is None
        assert await bench.tracker.tracked(bench.envelope(**once), b"Subject: no links\r\n\r\nText\r\n") is None
        assert bench.left() == {"signed": 1, "multipart/encrypted": 1}

    run(test)


def test_links_that_stay_for_their_place_are_counted_though_others_are_tracked(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        long = b"<a href='http://b.test/'>" + b"x" * 970 + b"\r\n"
        assert await bench.tracker.tracked(bench.envelope(), HEADER + BODY + long) is not None
        assert bench.left() == {"line": 1}
        once = {"message_class": MessageClass.TRANSACTIONAL}
        assert await bench.tracker.tracked(bench.envelope(**once), HEADER + long) is None
        assert bench.left() == {"line": 2}
        many = b"<a href='http://b.test/'>\r\n" * 1001
        await bench.tracker.tracked(bench.envelope("bob@far.test", "carl@far.test"), HEADER + many)
        assert bench.left() == {"line": 2, "table": 1}

    run(test)


def test_anonymous_links_cost_one_content_for_all_where_nobody_can_leave(run: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        tracked = await bench.tracked(bench.envelope("bob@far.test", "carl@far.test", track="anonymous"))
        assert tracked.common and tracked.content(0) == tracked.content(1)
        full = await bench.tracked(bench.envelope("bob@far.test", "carl@far.test"))
        assert not full.common and full.content(0) != full.content(1)

    run(test, unsubscribe=False)


def test_a_letter_that_is_sent_for_ever_has_links_that_are_young(run: Callable[..., None]) -> None:
    """Links are as old as the number of their content."""

    async def test(bench: Bench) -> None:
        async def sent() -> Content:
            return (await bench.tracked(bench.envelope(track="anonymous"))).content(0)

        first = await sent()
        bench.clock.advance(86000.0)
        assert await sent() == first
        bench.clock.advance(1000.0)
        second = await sent()
        assert second != first and await sent() == second

    run(test, unsubscribe=False)
