"""`postrider send`: submit a message file over SMTP."""

import argparse
from pathlib import Path

from engine.base.errors import ConfigError
from engine.cli.common import Commands, add_config, settings_of


def register(commands: Commands) -> None:
    """Add the command to the program."""
    parser = commands.add_parser("send", help="submit a message file")
    add = parser.add_argument
    add("file", metavar="FILE", help="RFC 5322 message, lines ended by LF or CRLF; - is standard input")
    add("--from", dest="sender", required=True, metavar="ADDRESS", help="envelope sender; <> is the null sender")
    add("--to", nargs="+", required=True, metavar="ADDRESS", help="envelope recipients")
    add_config(parser)
    add("--server", metavar="HOST:PORT", help="submit here, not to the first smtp listener of the settings")
    add("--tls", choices=("none", "starttls", "implicit"), help="[implicit if the listener is, else none]")
    add("--login", metavar="USER", help="authenticate")
    add("--password-file", type=Path, metavar="FILE", help="first line: the password of --login")
    add("--notify", metavar="LIST", help="reports asked for: never, or some of success,failure,delay")
    add("--envid", metavar="TEXT", help="envelope id that reports repeat")
    add("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 if every recipient was accepted, 1 if one was refused or the server cannot be had."""
    from engine.tools.submit import run_send

    tls = args.tls
    if args.server is None:
        listener = next((entry for entry in settings_of(args).listener if entry.kind == "smtp"), None)
        if listener is None:
            raise ConfigError([f'{args.config}: no [[listener]] of kind "smtp"; name a server with --server'])
        args.server = listener.address
        tls = tls or ("implicit" if listener.tls is not None and listener.tls.implicit else "none")
    args.tls = tls or "none"
    return run_send(args)
