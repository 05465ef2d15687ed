"""Tracked links: what a recipient costs, after the first, beside its bar.

    .venv/bin/python -m bench.tracking

A newsletter of 30 KiB with 20 links is rendered for one recipient after the other: tokens, links, List-Unsubscribe.
`several`: recipients of one message. `alone`: each in a message of his own, with the same text, header and ledger
included. One core; medians of seven runs, in CPU time.
"""

import asyncio
import base64
import quopri
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.bars import Bar, print_bars, print_machine
from engine.base.clock import SystemClock
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.base.settings_tracking import LedgerSettings, Tracking
from engine.delivery.tracker import Tracked, Tracker
from engine.message.content import head_of
from engine.message.envelope import Envelope, Recipient
from engine.message.ids import IdSource
from engine.message.link_compile import Marks, compile_body
from engine.message.link_token import LinkTokens
from engine.storage.ledger.writer import Ledger

LINKS, BYTES, RUNS = 20, 30 << 10, 7
BAR_PER_S = 20_000
BASE = "https://click.example.org"
_PARAGRAPH = (
    '<tr><td style="padding:12px 24px; font-family:Arial,sans-serif; font-size:15px; color:#333333">The quick brown '
    "fox jumps over the lazy dog and looks back at it once more.</td></tr>\r\n"
)
_BUTTON = (
    '<tr><td align="center"><a href="https://shop.example.org/offers/{0}?utm_source=news&amp;utm_medium=mail&amp;'
    'n={0}" style="color:#ffffff; background:#0a66c2; padding:10px 18px">Offer {0}</a></td></tr>\r\n'
)


def newsletter() -> bytes:
    """Ordinary HTML of BYTES with LINKS links, spread over it."""
    rows = ""
    paragraphs = (BYTES - 200 - LINKS * len(_BUTTON)) // LINKS // len(_PARAGRAPH)
    for number in range(LINKS):
        rows += _PARAGRAPH * paragraphs + _BUTTON.format(number)
    head, tail = "<!doctype html>\r\n<html><body><table>\r\n", "</table></body></html>\r\n"
    filling = "<!-- " + "x" * 60 + " -->\r\n"
    lacking = BYTES - len(head + rows + tail)
    return (head + rows + filling * (lacking // len(filling)) + tail).encode()


def written(text: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        return base64.encodebytes(text).replace(b"\n", b"\r\n")
    if encoding == "quoted-printable":
        return quopri.encodestring(text.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    return text


def content(encoding: str, message: str) -> bytes:
    return (
        f"Received: from app.example.org by mx.example.org with ESMTP id {message};\r\n\tThu, 01 Jan 2026 "
        "00:00:00 +0000\r\n"
        f"From: Ada <ada@example.org>\r\nTo: bob@example.net\r\nSubject: Offers\r\nMessage-ID: <{message}@app>\r\n"
        f"MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    ).encode() + written(newsletter(), encoding)  # fmt: skip


def envelope(message: str, size: int, recipients: int) -> Envelope:
    to = tuple(Recipient(f"user{number}@example.net") for number in range(recipients))
    now = time.time()
    return Envelope(message, "ada@example.org", to, now, now + 3600, size, batch="may", track="full")


def per_second(work: Callable[[], object], times: int) -> float:
    """Calls a second of CPU, the median of the runs."""
    rates = []
    for _ in range(RUNS):
        started = time.process_time()
        work()
        rates.append(times / (time.process_time() - started))
    return statistics.median(rates)


async def several(tracker: Tracker, ids: IdSource, encoding: str) -> float:
    """Recipients of one message, a second."""
    message = ids.next()
    text = content(encoding, message)
    tracked = await tracker.tracked(envelope(message, len(text), 1000), text)
    assert isinstance(tracked, Tracked)
    first = head_of(tracked.content(1))
    assert first.count(b"List-Unsubscribe:") == 1 and len(first) != len(text)

    def render() -> None:
        for index in range(1000):
            tracked.content(index)

    return per_second(render, 1000)


async def alone(tracker: Tracker, ids: IdSource, encoding: str) -> float:
    """Messages with one recipient and the same text, a second: header looked at, noted, and on disk in groups."""

    async def render(mails: list[tuple[Envelope, bytes]]) -> None:
        for each, text in mails:
            tracked = await tracker.tracked(each, text)
            assert tracked is not None
            tracked.content(0)

    rates = []
    for _ in range(RUNS):
        messages = [ids.next() for _ in range(1000)]
        mails = [(envelope(message, BYTES, 1), content(encoding, message)) for message in messages]
        started = time.process_time()
        await asyncio.gather(*(render(mails[begin::20]) for begin in range(20)))
        rates.append(len(mails) / (time.process_time() - started))
    return statistics.median(rates)


def compile_ms(encoding: str) -> float:
    """The first recipient's share: the text compiled, milliseconds."""
    header, _, body = content(encoding, "x" * 14).partition(b"\r\n\r\n")
    return 1000 / per_second(lambda: [compile_body(header + b"\r\n", body, Marks(BASE)) for _ in range(20)], 20)


async def run(folder: Path) -> list[Bar]:
    clock, bars = SystemClock(), []
    ids = IdSource("bench", 0, clock)
    settings = Settings(tracking=Tracking(base_url=BASE, level="full"))
    ledger = Ledger(folder, 0, LedgerSettings(), 86400.0, clock)
    tracker = Tracker(settings, {1: b"k" * 32}, ledger, ids.next, Metrics(), clock)
    tokens, numbers, message = LinkTokens({1: b"k" * 32}), range(3, 3 + LINKS), ids.next()
    made = per_second(lambda: [tokens.made(message, None, numbers) for _ in range(1000)], 1000)
    print(f"tokens of {LINKS} links: {1e6 / made:.1f} us")
    for encoding in ("7bit", "quoted-printable", "base64"):
        first = compile_ms(encoding)
        many, one = await several(tracker, ids, encoding), await alone(tracker, ids, encoding)
        print(f"{encoding}: compiled in {first:.1f} ms; messages of their own {one:,.0f}/s, ledger included")
        bars.append(Bar(f"{encoding}: rewrites a second, one core", many, BAR_PER_S))
    await ledger.close()
    return bars


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print_machine(folder)
        print(f"a newsletter of {len(newsletter()):,} bytes with {LINKS} links")
        return 0 if print_bars(asyncio.run(run(folder))) else 1


if __name__ == "__main__":
    sys.exit(main())
