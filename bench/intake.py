"""CPU of intake per 4 KiB message: ours, and stock aiosmtpd in the same loop; the store answers at once.

    python -m bench.intake [--messages 20000] [--sessions 20] [--per-connection 100] [--rounds 3] [--profile]

The client is another process; it groups MAIL, RCPT and DATA (PIPELINING), waits for the replies, sends the message
with the next group behind it. Figures are user and system time of the server's process, so the client's cost is not
in them; TCP on loopback, the log (to /dev/null), metrics and connection set-up are. Where two cores are one core's
threads, whatever else runs makes them worse: compare with stock in the same run.
"""

import argparse
import asyncio
import contextlib
import cProfile
import functools
import json
import logging
import multiprocessing
import os
import pstats
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import uvloop
from aiosmtpd.smtp import SMTP

from bench.common import ROOT, machine
from engine.base.clock import SystemClock
from engine.base.log import LineLog, LogHandler
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.intake.admission import Admission, Splits
from engine.intake.large import LargeWriter
from engine.intake.listener import SmtpListener
from engine.message.content import Content
from engine.message.envelope import Envelope
from engine.message.ids import IdSource

_LIMIT_US = 70.0
_ENVELOPE = b"MAIL FROM:<ada@example.org> SIZE=4096\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n"
_HEADER = b"".join(
    b"%b\r\n" % line
    for line in (
        b"From: Ada Lovelace <ada@example.org>",
        b"To: Bob <bob@example.net>",
        b"Subject: What the Analytical Engine can do, and what it has no pretensions to",
        b"Date: Thu, 01 Jan 2026 12:00:00 +0000",
        b"Message-ID: <20260101120000.4711@example.org>",
        b"MIME-Version: 1.0",
        b"Content-Type: text/plain; charset=utf-8",
        b"List-Unsubscribe: <https://example.org/u/4711>",
        b"",
    )
)
MESSAGE = (_HEADER + (b"x" * 76 + b"\r\n") * 60)[:4094] + b"\r\n"


class _Store:
    """Durable at once."""

    def __init__(self) -> None:
        self.count = 0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.set_result(None)

    def accept(
        self, envelope: Envelope, content: Content, splits: Splits, *, unwanted: int = 0
    ) -> asyncio.Future[None]:
        self.count += 1
        return self._done

    def large(self) -> LargeWriter:
        raise ValueError("messages of this size go to files of their own; bench.large measures those")

    def refusal(self) -> str | None:
        return None


class _StockHandler:
    """Stock aiosmtpd's handler: takes everything, adds nothing."""

    def __init__(self) -> None:
        self.count = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.count += 1
        return "250 2.0.0 Ok: queued"


class _Client(asyncio.Protocol):
    """One session: so many messages, the next group of commands right behind each (RFC 2920 3.1).

    As light as can be, because it runs on the other half of the server's core: it counts reply lines. Whether they
    were the right ones the server's tally says.
    """

    def __init__(self, messages: int, done: asyncio.Future[None]) -> None:
        self.messages = messages
        self.done = done
        turns = [MESSAGE + b".\r\n" + _ENVELOPE] * (messages - 1)
        #: (what to send, lines of its reply that end the turn)
        self._turns = iter(
            [
                (b"EHLO bench.example\r\n", 0),
                (_ENVELOPE, 3),
                *((turn, 4) for turn in turns),
                (MESSAGE + b".\r\nQUIT\r\n", 99),
            ]
        )
        self._lines = 0
        self._awaited = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._lines += data.count(b"\n")
        # The reply to EHLO has as many lines as it has; it comes in one piece.
        if self._lines >= self._awaited:
            text, self._awaited = next(self._turns)
            self._lines = 0
            self._transport.write(text)

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set_result(None)


def _same(client: _Client) -> _Client:
    return client


async def _send(port: int, messages: int, sessions: int, per_connection: int) -> None:
    loop = asyncio.get_running_loop()

    async def work(left: int) -> None:
        while left:
            client = _Client(min(left, per_connection), loop.create_future())
            await loop.create_connection(functools.partial(_same, client), "127.0.0.1", port)
            await client.done
            left -= client.messages

    await asyncio.gather(*(work(messages // sessions) for _ in range(sessions)))


def _client_process(port: int, messages: int, sessions: int, per_connection: int) -> None:
    uvloop.run(_send(port, messages, sessions, per_connection))


@contextlib.contextmanager
def _line_log() -> Iterator[LineLog]:
    with open(os.devnull, "w") as stream:
        log = LineLog(LogHandler(stream))
        try:
            yield log
        finally:
            log.close()


async def _measure(kind: str, args: argparse.Namespace, profile: cProfile.Profile | None) -> tuple[float, float]:
    """CPU and wall microseconds per message."""
    loop = asyncio.get_running_loop()
    with _line_log() as log:
        counter: _Store | _StockHandler
        if kind == "ours":
            counter = _Store()
            clock, metrics, settings = SystemClock(), Metrics(), Settings()
            admission = Admission(
                counter, IdSource("bench", 0, clock), clock, metrics, settings, log.add, lambda _: "other"
            )
            table = Listener(kind="smtp", address="127.0.0.1:0", networks=("127.0.0.0/8",))
            listener = SmtpListener(table, settings, admission, None, metrics, clock)
            await listener.start()
            port = listener.address[1]
        else:
            handler = counter = _StockHandler()
            # The names that its own Controller would give; without one it looks the host up at each connection.
            server = await loop.create_server(
                lambda: SMTP(handler, hostname="localhost", enable_SMTPUTF8=True, loop=loop), "127.0.0.1", 0
            )
            port = server.sockets[0].getsockname()[1]

        async def run(messages: int) -> None:
            process = multiprocessing.get_context("spawn").Process(
                target=_client_process, args=(port, messages, args.sessions, args.per_connection)
            )
            process.start()
            await loop.run_in_executor(None, process.join)
            if process.exitcode:
                raise RuntimeError("the client failed")

        await run(args.sessions * 10)  # warm
        counter.count = 0
        cpu, wall = time.process_time(), time.perf_counter()
        if profile:
            profile.enable()
        await run(args.messages)
        if profile:
            profile.disable()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        assert counter.count == args.messages
        return cpu / args.messages * 1e6, wall / args.messages * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--per-connection", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("ours", "stock"))
    parser.add_argument("--profile", action="store_true", help="where our time goes; the figures are then too high")
    args = parser.parse_args()
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    print(json.dumps({"machine": machine(ROOT), "settings": vars(args), "message_bytes": len(MESSAGE)}))
    medians = {}
    for kind in ("ours", "stock"):
        if args.only and kind != args.only:
            continue
        messages = args.messages if kind == "ours" else args.messages // 4
        profile = cProfile.Profile() if args.profile and kind == "ours" else None
        figures = [
            uvloop.run(_measure(kind, argparse.Namespace(**{**vars(args), "messages": messages}), profile))
            for _ in range(args.rounds)
        ]
        medians[kind] = statistics.median(cpu for cpu, _ in figures)
        print(
            f"{kind:6} {medians[kind]:6.1f} us CPU a message "
            f"(rounds: {', '.join(f'{cpu:.1f}' for cpu, _ in figures)}); "
            f"{1e6 / statistics.median(wall for _, wall in figures):,.0f} messages/s with this client"
        )
        if profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(35)
    if "ours" in medians:
        print(f"limit {_LIMIT_US:.0f} us: {'kept' if medians['ours'] <= _LIMIT_US else 'missed'}")
    return 0 if medians.get("ours", 0.0) <= _LIMIT_US else 1


if __name__ == "__main__":
    sys.exit(main())
