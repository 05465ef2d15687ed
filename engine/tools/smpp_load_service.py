"""The load generator over SMPP as a program: its options from the command line, its report."""

import argparse
import json
from contextlib import ExitStack

import uvloop

from engine.base.hostport import parse_host_port
from engine.base.units import Duration, Rate, Size, parse_duration, parse_rate, parse_size
from engine.tools.certificate import trusting_context
from engine.tools.options import Reading
from engine.tools.smpp_load import SmppLoad
from engine.tools.smpp_load_options import SmppLoadOptions

_PROSE = "The quick brown fox jumps over the lazy dog. "


def run_smpp_load(args: argparse.Namespace) -> int:
    """The whole command; `args` as `engine.cli.load` declares them. Raises UsageError, BindRefused."""
    options = _options(args)
    with ExitStack() as stack:
        accepted = stack.enter_context(open(args.accepted, "a", encoding="latin-1")) if args.accepted else None
        report = uvloop.run(SmppLoad(options, accepted).run())
    print(json.dumps(report.as_dict()) if args.json else report.as_text())
    return 0 if report.complete else 1


def _options(args: argparse.Namespace) -> SmppLoadOptions:
    args.sessions = 1 if args.sessions is None else args.sessions
    reading = Reading()
    reading.above_zero({"-n": args.messages, "--sessions": args.sessions, "--window": args.window})
    host, port = reading.one(parse_host_port, args.smpp, ("", 0))
    size = reading.one(parse_size, args.size, Size(0))
    rate = reading.one(parse_rate, args.rate, Rate(0))
    receipts_s = reading.one(parse_duration, args.receipts, Duration(0))
    registered = args.registered_delivery
    if registered is None:
        registered = 1 if receipts_s else 0
    if args.size and args.text:
        reading.problems.append("--size, --text: one or the other")
    if not 0 <= registered <= 255:
        reading.problems.append(f"--registered-delivery: {registered} is not 0 to 255")
    if receipts_s and not registered:
        reading.problems.append("--receipts: with --registered-delivery 0 there will be none")
    for name, most in (("system_id", 15), ("password", 16)):
        text = getattr(args, name)
        if not text.isascii() or len(text) > most or "\0" in text:
            reading.problems.append(f"--{name.replace('_', '-')}: more than {most} characters, or not ASCII")
    reading.check()
    return SmppLoadOptions(
        host=host,
        port=port,
        messages=args.messages,
        sessions=args.sessions,
        window=args.window,
        system_id=args.system_id,
        password=args.password,
        text=args.text or (_PROSE * (size // len(_PROSE) + 1))[: size or 100],
        source=args.sender or "Load",
        destination=args.destination,
        registered_delivery=registered,
        receipts_s=receipts_s,
        rate=rate,
        tls=trusting_context() if args.tls else None,
        patience_s=args.patience,
    )
