"""The test MX as a program: its options from the command line."""

import argparse
from contextlib import ExitStack

import uvloop

from engine.base.hostport import parse_host_port
from engine.base.units import parse_size
from engine.tools.certificate import server_context
from engine.tools.options import Reading
from engine.tools.sink import Sink
from engine.tools.sink_life import DEFAULT_LISTEN, live
from engine.tools.sink_options import SinkOptions
from engine.tools.sink_rules import Pace, Script, parse_delay, parse_drop_rule, parse_reply_rule, parse_sink_rate
from engine.tools.sink_tally import Shelf, Tally


def run_sink(args: argparse.Namespace) -> int:
    """The whole command; `args` as `engine.cli.sink` declares them. Raises UsageError."""
    options = _options(args)
    with ExitStack() as stack:
        ids = stack.enter_context(open(args.ids, "a", encoding="utf-8")) if args.ids else None
        sink = Sink(options, Tally(ids), Shelf(args.save) if args.save else None)
        return uvloop.run(live(sink, args))


def _options(args: argparse.Namespace) -> SinkOptions:
    """All mistakes at once, as UsageError."""
    reading = Reading()
    parsed = reading.all
    rules = parsed(parse_reply_rule, args.reply) + parsed(parse_drop_rule, args.drop)
    delays = parsed(parse_delay, args.delay)
    rates = parsed(parse_sink_rate, [args.rate] if args.rate else [])
    rate_reply = parsed(parse_reply_rule, [f"mail:*={args.rate_reply}"])
    sizes = parsed(parse_size, [args.max_size])
    args.listen = parsed(parse_host_port, args.listen or [DEFAULT_LISTEN])
    reading.check()
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
