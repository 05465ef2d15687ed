"""`postrider load`: a load generator over SMTP."""

import argparse
from pathlib import Path

from engine.cli.common import Commands


def register(commands: Commands) -> None:
    """Add the command to the program."""
    parser = commands.add_parser("load", help="a load generator over SMTP")
    add = parser.add_argument
    add("--to", default="127.0.0.1:2525", metavar="HOST:PORT", help="server [%(default)s]")
    add("-n", "--messages", type=int, default=1000, metavar="N", help="[%(default)s]")
    add("--sessions", type=int, default=20, metavar="N", help="at the same time [%(default)s]")
    add("--size", default="4KiB", metavar="SIZE", help="of each message [%(default)s]")
    add("--messages-per-connection", type=int, default=10, metavar="N", help="[%(default)s]")
    add("--recipients", type=int, default=1, metavar="N", help="of each message [%(default)s]")
    add("--domains", type=int, default=1, metavar="N", help="above 1: d0.DOMAIN, d1.DOMAIN, ... in turn [%(default)s]")
    add("--domain", default="load.example", help="of the recipients [%(default)s]")
    add("--from", dest="sender", default="sender@load.example", metavar="ADDRESS", help="[%(default)s]")
    add("--rate", metavar="N/s", help="no faster than this, all sessions together")
    add("--tls", action="store_true", help="STARTTLS; any certificate will do")
    add("--no-pipelining", action="store_true", help="one command at a time")
    add("--patience", type=float, default=60.0, metavar="SECONDS", help="give up after so long without a reply [60]")
    add("--accepted", type=Path, metavar="FILE", help="append the id of each accepted message at once")
    add("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 if every message was accepted, else 1."""
    from engine.tools.load_service import run_load

    return run_load(args)
