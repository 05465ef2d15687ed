"""`postrider load`: a load generator over SMTP, or with `--smpp` over SMPP."""

import argparse
from pathlib import Path

from engine.cli.common import Commands
from engine.cli.protocols import OptionsOf


def register(commands: Commands) -> None:
    """Add the command to the program."""
    parser = commands.add_parser("load", help="a load generator over SMTP or SMPP")
    add = parser.add_argument
    add("--smpp", metavar="HOST:PORT", help="speak SMPP, to this server")
    add("-n", "--messages", "--count", type=int, default=1000, metavar="N", help="[%(default)s]")
    add("--sessions", type=int, metavar="N", help="at the same time [20; over SMPP 1]")
    add("--size", metavar="SIZE", help="of each message, in bytes [4KiB]; over SMPP of the text, in characters [100]")
    add("--from", dest="sender", metavar="ADDRESS", help="[sender@load.example; over SMPP Load]")
    add("--rate", metavar="N/s", help="no faster than this, all sessions together")
    add("--tls", action="store_true", help="STARTTLS, over SMPP from the start; any certificate will do")
    add("--patience", type=float, default=60.0, metavar="SECONDS", help="give up after so long without a reply [60]")
    add("--accepted", type=Path, metavar="FILE",
        help="append the id of each accepted message at once; over SMPP `ID DESTINATION`")  # fmt: skip
    add("--json", action="store_true", help="print the report as JSON")
    smtp, smpp = _smtp_options(parser), _smpp_options(parser)
    parser.set_defaults(run=lambda args: run(args, smtp, smpp))


def _smtp_options(parser: argparse.ArgumentParser) -> OptionsOf:
    options = OptionsOf(parser, "SMTP")
    add = options.add
    add("--to", default="127.0.0.1:2525", metavar="HOST:PORT", help="server [%(default)s]")
    add("--messages-per-connection", type=int, default=10, metavar="N", help="[%(default)s]")
    add("--recipients", type=int, default=1, metavar="N", help="of each message [%(default)s]")
    add("--domains", type=int, default=1, metavar="N", help="above 1: d0.DOMAIN, d1.DOMAIN, ... in turn [%(default)s]")
    add("--domain", default="load.example", help="of the recipients [%(default)s]")
    add("--no-pipelining", action="store_true", default=False, help="one command at a time")
    return options


def _smpp_options(parser: argparse.ArgumentParser) -> OptionsOf:
    options = OptionsOf(parser, "SMPP")
    add = options.add
    add("--system-id", default="load", metavar="ID", help="to bind with, as a transceiver [%(default)s]")
    add("--password", default="", help="[none]")
    add("--window", type=int, default=10, metavar="N", help="submits without a response, of each session [%(default)s]")
    add("--text", help="instead of --size; a long one has several submits")
    add("--destination", default="44770#######", metavar="PATTERN",
        help="# are the digits of the message's number [%(default)s]")  # fmt: skip
    add("--registered-delivery", type=int, metavar="N", help="as in submit_sm [0; with --receipts 1]")
    add("--receipts", metavar="TIME", help="wait for receipts, so long after the last response; as 30s")
    return options


def run(args: argparse.Namespace, smtp: OptionsOf, smpp: OptionsOf) -> int:
    """Exit status 0 if every message was accepted, and every receipt that was waited for came; else 1."""
    if args.smpp is not None:
        from engine.tools.smpp_load_service import run_smpp_load

        smtp.refuse(args)
        smpp.settle(args)
        return run_smpp_load(args)
    from engine.tools.load_service import run_load

    smpp.refuse(args)
    smtp.settle(args)
    args.sessions = 20 if args.sessions is None else args.sessions
    args.size = args.size or "4KiB"
    args.sender = args.sender or "sender@load.example"
    return run_load(args)
