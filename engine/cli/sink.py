"""`postrider sink`: a test MX with scripted replies, delays and rates, that counts unique messages."""

import argparse
from pathlib import Path

from engine.cli.common import Commands

_EPILOG = """\
rules:
  --reply 'rcpt:bad*@*=550 5.1.1 no such user'         every recipient that begins with "bad"
  --reply 'rcpt:defer*@*=451 4.2.1 try later x2'       twice for each address, then accepted
  --reply 'connect:*=421 4.3.2 closed for today'       421 also closes the connection
  --drop  'end-of-data:lost*@* x1'                     closed without a reply, once for each address
stages: connect ehlo starttls mail rcpt data end-of-data taken (kept and counted, whatever the reply)
signals: USR1 prints the counts to standard error; TERM and INT end it.
"""


def register(commands: Commands) -> None:
    """Add the command to the program."""
    parser = commands.add_parser(
        "sink", help="a test MX", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--listen", action="append", metavar="HOST:PORT", help="repeatable; port 0 takes a free one [127.0.0.1:2600]")
    add("--name", default="sink.example", help="host name in the greeting [%(default)s]")
    add("--reply", action="append", default=[], metavar="STAGE:PATTERN=REPLY [xN]", help="see below; repeatable")
    add("--drop", action="append", default=[], metavar="STAGE[:PATTERN] [xN]", help="close without a reply; repeatable")
    add("--delay", action="append", default=[], metavar="STAGE=SECONDS", help="answer late; repeatable")
    add("--rate", metavar="N/s", help="MAIL above this rate is refused with --rate-reply")
    add(
        "--rate-reply", default="451 4.7.1 too many messages a second, try later", metavar="REPLY", help="[%(default)s]"
    )
    add("--max-connections", type=int, default=10_000, metavar="N", help="above, 421 [%(default)s]")
    add("--max-size", default="100MiB", metavar="SIZE", help="larger messages get 552 [%(default)s]")
    add("--tls", choices=("none", "starttls", "implicit"), default="none", help="with a certificate made on the fly")
    add("--login", default="", metavar="USER:PASSWORD", help="offer AUTH PLAIN")
    add("--chunking", action="store_true", help="offer CHUNKING (BDAT)")
    add("--without", action="append", default=[], choices=("pipelining", "8bitmime", "smtputf8", "dsn"), metavar="EXT",
        help="do not offer pipelining, 8bitmime, smtputf8 or dsn; repeatable")  # fmt: skip
    add("--save", type=Path, metavar="DIR", help="keep every message: NUMBER.eml and its envelope, NUMBER.json")
    add("--ids", type=Path, metavar="FILE", help="append a line `ID RECIPIENT` for each unique one")
    add("--status", type=Path, metavar="FILE", help="counts as JSON, kept up to date")
    add("--until", type=int, default=0, metavar="N", help="end after N unique messages")
    add("--json", action="store_true", help="print the final counts as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Listen until a signal or `--until`; exit status 1 if an address cannot be had."""
    from engine.tools.sink_service import run_sink

    return run_sink(args)
