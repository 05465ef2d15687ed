"""The test SMSC as a program: its options from the command line."""

import argparse
import time
from contextlib import ExitStack

import uvloop

from engine.base.errors import ConfigError
from engine.base.hostport import parse_host_port
from engine.tools.certificate import server_context
from engine.tools.options import Reading
from engine.tools.sink_life import DEFAULT_LISTEN, live
from engine.tools.sink_rules import Pace, parse_sink_rate
from engine.tools.smpp_sink import SmppSink
from engine.tools.smpp_sink_options import SmscOptions
from engine.tools.smpp_sink_rules import (
    PLAIN,
    Prefixes,
    ReceiptHabits,
    parse_answer_rule,
    parse_ids,
    parse_receipts,
    parse_share,
    parse_silent_rule,
    parse_split,
    parse_state_rule,
    parse_status_rule,
)
from engine.tools.smpp_sink_tally import SmppTally


def run_smpp_sink(args: argparse.Namespace) -> int:
    """The whole command; `args` as `engine.cli.sink` declares them. Raises UsageError."""
    options = _options(args)
    with ExitStack() as stack:
        ids = stack.enter_context(open(args.ids, "a", encoding="ascii")) if args.ids else None
        return uvloop.run(live(SmppSink(options, SmppTally(ids)), args))


def _options(args: argparse.Namespace) -> SmscOptions:
    """All mistakes at once, as UsageError."""
    reading = Reading()
    rate = reading.one(parse_sink_rate, args.rate, 0.0)
    args.listen = reading.all(parse_host_port, args.listen or [DEFAULT_LISTEN])
    try:
        habits = parse_receipts(args.receipts)
    except ConfigError as error:
        reading.problems += error.problems
        habits = ReceiptHabits()
    reading.above_zero({
        f"--{name.replace('_', '-')}": getattr(args, name)
        for name in ("dead_after", "close_after", "window")
        if getattr(args, name) is not None
    })  # fmt: skip
    if args.dead_after is not None and args.close_after is not None:
        reading.problems.append("--dead-after, --close-after: a connection is either dead or closed")
    if args.login and ":" not in args.login:
        reading.problems.append(f'--login: "{args.login}" is not a system_id and a password, such as "acme:secret"')
    if args.tls == "starttls":
        reading.problems.append("--tls starttls: SMPP has no STARTTLS, only implicit")
    options = SmscOptions(
        name=args.name,
        login=args.login,
        replies=Prefixes(reading.all(parse_status_rule, args.reply)),
        states=Prefixes(reading.all(parse_state_rule, args.state)),
        answers=Prefixes(reading.all(parse_answer_rule, args.answer)),
        silent=Prefixes(reading.all(parse_silent_rule, args.silent)),
        receipts=habits,
        ids=tuple(forms for several in reading.all(parse_ids, args.message_ids) for forms in several) or (PLAIN,),
        # Microseconds: another sink on this machine, or this one started again, has others.
        first_id=time.time_ns() // 1000,
        pace=Pace(rate) if rate else None,
        throttle=reading.one(parse_share, args.throttle, 0.0),
        dead_after=args.dead_after or 0,
        close_after=args.close_after or 0,
        split=reading.one(parse_split, args.split, ()),
        window=args.window or 0,
        tls=server_context(args.name) if args.tls == "implicit" else None,
    )
    reading.check()
    return options
