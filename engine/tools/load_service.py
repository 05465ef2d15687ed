"""The load generator as a program: its options from the command line, its report."""

import argparse
import json
from contextlib import ExitStack

import uvloop

from engine.base.errors import UsageError
from engine.base.hostport import parse_host_port
from engine.base.units import parse_rate, parse_size
from engine.tools.certificate import trusting_context
from engine.tools.load import Load, LoadReport
from engine.tools.load_options import LoadOptions


def run_load(args: argparse.Namespace) -> int:
    """The whole command; `args` as `engine.cli.load` declares them. Raises UsageError."""
    options = _options(args)
    with ExitStack() as stack:
        accepted = stack.enter_context(open(args.accepted, "a", encoding="ascii")) if args.accepted else None
        load = Load(options, accepted)
        report = uvloop.run(load.run())
    print(json.dumps({"run": load.run_id, **report.as_dict()}) if args.json else _text(report, options))
    return 0 if report.accepted == options.messages else 1


def _options(args: argparse.Namespace) -> LoadOptions:
    counts = {
        "-n": args.messages,
        "--sessions": args.sessions,
        "--recipients": args.recipients,
        "--domains": args.domains,
        "--messages-per-connection": args.messages_per_connection,
    }
    problems = [f"{name}: {number} is not above 0" for name, number in counts.items() if number < 1]
    try:
        host, port = parse_host_port(args.to)
        size = parse_size(args.size)
        rate = parse_rate(args.rate) if args.rate else 0.0
    except ValueError as error:
        raise UsageError([*problems, str(error)]) from error
    if problems:
        raise UsageError(problems)
    return LoadOptions(
        host=host,
        port=port,
        messages=args.messages,
        sessions=args.sessions,
        size=size,
        messages_per_connection=args.messages_per_connection,
        recipients=args.recipients,
        domains=args.domains,
        domain=args.domain,
        sender=args.sender,
        tls=trusting_context() if args.tls else None,
        pipelining=not args.no_pipelining,
        rate=rate,
        patience_s=args.patience,
    )


def _text(report: LoadReport, options: LoadOptions) -> str:
    lines = [
        f"{report.accepted} of {options.messages} messages of {options.size} bytes accepted in {report.seconds:.2f} s: "
        f"{report.accepted / report.seconds if report.seconds else 0:,.0f}/s over {report.connections} connections",
        f"time to 250: p50 {report.p50_ms:.1f} ms, p99 {report.p99_ms:.1f} ms, longest {report.max_ms:.1f} ms",
    ]
    if report.refused or report.refused_recipients:
        lines.append(f"refused: {report.refused} messages, {report.refused_recipients} recipients; {report.replies}")
    if report.lost_connections:
        lines.append(f"connections lost: {report.lost_connections}, messages sent again: {report.sent_again}")
    if report.unanswered:
        lines.append(f"given up without an answer: {report.unanswered}")
    if report.last_error:
        lines.append(f"last error: {report.last_error}")
    return "\n".join(lines)
