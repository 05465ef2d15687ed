"""The life of a test MX or a test SMSC as a program: listens until a signal, and reports."""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Protocol

from engine.base.hostport import format_host_port

DEFAULT_LISTEN = "127.0.0.1:2600"
_STATUS_INTERVAL_S = 0.2


class Counts(Protocol):
    """What a sink has counted."""

    def as_dict(self) -> dict[str, object]:
        """For the status file and `--json`."""

    def as_text(self) -> str:
        """For people."""

    def flush(self) -> None:
        """Write out what goes to files line by line."""


class Server(Protocol):
    """A sink that can be started."""

    addresses: list[tuple[str, int]]

    @property
    def tally(self) -> Counts:
        """What came so far."""

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Raises OSError."""

    async def close(self) -> None:
        """Cut what is open."""

    def reached(self, unique: int) -> bool:
        """Whether so many unique messages are there."""


async def live(sink: Server, args: argparse.Namespace) -> int:
    """Until a signal or `--until`. args: `listen`, pairs of host and port; `status`, `until` and `json`."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(_counts(sink), file=sys.stderr, flush=True))
    for host, port in args.listen:
        try:
            host, port = await sink.listen(host, port)
        except OSError as error:
            print(f"postrider: {host}:{port}: {error.strerror}", file=sys.stderr)
            return 1
        print(f"listening on {format_host_port(host, port)}", file=sys.stderr, flush=True)
    reporter = loop.create_task(_report(sink, args.status, args.until, ended))
    await ended.wait()
    reporter.cancel()
    await asyncio.wait([reporter])
    await sink.close()
    sink.tally.flush()
    _write_status(sink, args.status)
    print(_counts(sink) if args.json else sink.tally.as_text())
    return 0


async def _report(sink: Server, status: Path | None, until: int, ended: asyncio.Event) -> None:
    """Keeps the status file and the file of ids up to date, and sees when `--until` is reached."""
    before = ""
    while True:
        sink.tally.flush()
        now = _counts(sink)
        if now != before:
            _write_status(sink, status)
            before = now
        if until and sink.reached(until):
            ended.set()
        await asyncio.sleep(_STATUS_INTERVAL_S)


def _counts(sink: Server) -> str:
    listening = [format_host_port(host, port) for host, port in sink.addresses]
    return json.dumps({"listening": listening, **sink.tally.as_dict()})


def _write_status(sink: Server, path: Path | None) -> None:
    if path is not None:
        draft = path.with_name(path.name + ".tmp")
        draft.write_text(_counts(sink) + "\n")
        os.replace(draft, path)
