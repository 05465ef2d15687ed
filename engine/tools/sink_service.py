"""The test MX as a program: its options from the command line, its life, its reports."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop

from engine.base.errors import ConfigError, UsageError
from engine.base.hostport import format_host_port, parse_host_port
from engine.base.units import parse_size
from engine.tools.certificate import server_context
from engine.tools.sink import Sink
from engine.tools.sink_options import SinkOptions
from engine.tools.sink_rules import Pace, Script, parse_delay, parse_drop_rule, parse_reply_rule, parse_sink_rate
from engine.tools.sink_tally import Shelf, Tally

_STATUS_INTERVAL_S = 0.2


def run_sink(args: argparse.Namespace) -> int:
    """The whole command; `args` as `engine.cli.sink` declares them. Raises UsageError."""
    options = _options(args)
    with ExitStack() as stack:
        ids = stack.enter_context(open(args.ids, "a", encoding="utf-8")) if args.ids else None
        sink = Sink(options, Tally(ids), Shelf(args.save) if args.save else None)
        return uvloop.run(_serve(sink, args))


def _options(args: argparse.Namespace) -> SinkOptions:
    """All mistakes at once, as UsageError."""
    problems: list[str] = []

    def parsed(parse: Callable[[str], Any], texts: list[str]) -> list[Any]:
        out = []
        for text in texts:
            try:
                out.append(parse(text))
            except ConfigError as error:
                problems.extend(error.problems)
            except ValueError as error:
                problems.append(str(error))
        return out

    rules = parsed(parse_reply_rule, args.reply) + parsed(parse_drop_rule, args.drop)
    delays = parsed(parse_delay, args.delay)
    rates = parsed(parse_sink_rate, [args.rate] if args.rate else [])
    rate_reply = parsed(parse_reply_rule, [f"mail:*={args.rate_reply}"])
    sizes = parsed(parse_size, [args.max_size])
    args.listen = parsed(parse_host_port, args.listen or ["127.0.0.1:2600"])
    if problems:
        raise UsageError(problems)
    return SinkOptions(
        name=args.name,
        script=Script(rules, delays),
        max_connections=args.max_connections,
        max_size=sizes[0],
        pace=Pace(rates[0]) if rates else None,
        pace_reply=rate_reply[0].reply,
        pipelining="pipelining" not in args.without,
        eightbit="8bitmime" not in args.without,
        smtputf8="smtputf8" not in args.without,
        dsn="dsn" not in args.without,
        chunking=args.chunking,
        tls=server_context(args.name) if args.tls != "none" else None,
        implicit=args.tls == "implicit",
        login=args.login,
    )


async def _serve(sink: Sink, args: argparse.Namespace) -> int:
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
    if args.json:
        print(_counts(sink))
    else:
        tally = sink.tally
        print(f"{tally.messages} messages for {tally.recipients} recipients over {tally.connections} connections; "
              f"{tally.unique} unique, {tally.duplicates} duplicates, refused: {dict(tally.refused)}")  # fmt: skip
    return 0


async def _report(sink: Sink, status: Path | None, until: int, ended: asyncio.Event) -> None:
    """Keeps the status file and the file of ids up to date, and sees when `--until` is reached."""
    before = ""
    while True:
        sink.tally.flush()
        now = _counts(sink)
        if now != before:
            _write_status(sink, status)
            before = now
        if until and sink.tally.unique >= until:
            ended.set()
        await asyncio.sleep(_STATUS_INTERVAL_S)


def _counts(sink: Sink) -> str:
    listening = [format_host_port(host, port) for host, port in sink.addresses]
    return json.dumps({"listening": listening, **sink.tally.as_dict()})


def _write_status(sink: Sink, path: Path | None) -> None:
    if path is not None:
        draft = path.with_name(path.name + ".tmp")
        draft.write_text(_counts(sink) + "\n")
        os.replace(draft, path)
