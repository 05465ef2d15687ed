"""`postrider redirect`: the redirector of tracked links, as a process of its own."""

import argparse

from engine.cli.common import Commands, add_config


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "redirect",
        help="answer tracked links, without the daemon",
        description="Answer tracked links and unsubscribes in the foreground, whether the daemon runs or not.",
    )
    add_config(parser)
    parser.add_argument(
        "--address", default="", metavar="HOST:PORT",
        help="instead of the listeners of kind tracking; with the certificate of the first of them that has one",
    )  # fmt: skip
    parser.add_argument("--no-tls", action="store_true", help="plain http at --address, for a proxy that has the TLS")
    parser.add_argument("--metrics", default="", metavar="HOST:PORT", help="have /metrics and /health there")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from engine.base.errors import UsageError
    from engine.base.hostport import parse_host_port
    from engine.daemon.redirect import redirect

    for text in filter(None, (args.address, args.metrics)):
        try:
            parse_host_port(text)
        except ValueError as exc:
            raise UsageError([str(exc)]) from exc
    if args.no_tls and not args.address:
        raise UsageError(["--no-tls: of --address; listeners of the settings have their own tls, or none"])
    return redirect(args.config, args.address, args.metrics, tls=not args.no_tls)
