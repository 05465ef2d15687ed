"""`postrider sink`: a test MX, or with `--smpp` a test SMSC, that misbehaves as it is told and counts what came."""

import argparse
from pathlib import Path

from engine.cli.common import Commands
from engine.cli.protocols import OptionsOf

_EPILOG = """\
rules over SMTP:
  --reply 'rcpt:bad*@*=550 5.1.1 no such user'         every recipient that begins with "bad"
  --reply 'rcpt:defer*@*=451 4.2.1 try later x2'       twice for each address, then accepted
  --reply 'connect:*=421 4.3.2 closed for today'       421 also closes the connection
  --drop  'end-of-data:lost*@* x1'                     closed without a reply, once for each address
stages: connect ehlo starttls mail rcpt data end-of-data taken (kept and counted, whatever the reply)
rules over SMPP, by the beginning of the destination, or * for all:
  --reply '4499=ESME_RINVDSTADR'                       refused; as a number, too: 4499=0x0B
  --reply '4498=ESME_RMSGQFUL x2'                      twice for each number, then accepted
  --state '4488=UNDELIV'                               the receipt says that
  --answer '4477=STOP'                                 that number sends back a message, one for each submit
  --silent '4466 x1'                                   taken and counted, its receipt sent, but not answered, once
receipts: early (before the response), delay=500ms, lost, lost=10% (of them all), none, spread (by the binds in turn)
message ids: decimal, hex, HEX; HEX:16 fills up with zeros; decimal/hex: in responses/in receipts; mixed; in turn
signals: USR1 prints the counts to standard error; TERM and INT end it.
"""


def register(commands: Commands) -> None:
    """Add the command to the program."""
    parser = commands.add_parser(
        "sink", help="a test MX or SMSC", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--smpp", action="store_true", help="be an SMSC")
    add("--listen", action="append", metavar="HOST:PORT", help="repeatable; port 0 takes a free one [127.0.0.1:2600]")
    add("--name", default="sink.example", help="host name in the greeting, system_id in bind_resp [%(default)s]")
    add("--reply", action="append", default=[], metavar="RULE", help="what to answer, see below; repeatable")
    add(
        "--rate", metavar="N/s", help="MAIL above this rate is refused with --rate-reply, a submit with ESME_RTHROTTLED"
    )
    add("--tls", choices=("none", "starttls", "implicit"), default="none", help="with a certificate made on the fly")
    add("--login", default="", metavar="USER:PASSWORD", help="offer AUTH PLAIN; let no other system_id bind")
    add("--ids", type=Path, metavar="FILE", help="append a line `ID RECIPIENT` for each unique one")
    add("--status", type=Path, metavar="FILE", help="counts as JSON, kept up to date")
    add("--until", type=int, default=0, metavar="N", help="end after N unique messages, and the receipts of them")
    add("--json", action="store_true", help="print the final counts as JSON")
    smtp, smpp = _smtp_options(parser), _smpp_options(parser)
    parser.set_defaults(run=lambda args: run(args, smtp, smpp))


def _smtp_options(parser: argparse.ArgumentParser) -> OptionsOf:
    options = OptionsOf(parser, "SMTP")
    add = options.add
    add("--drop", action="append", default=[], metavar="STAGE[:PATTERN] [xN]", help="close without a reply; repeatable")
    add("--delay", action="append", default=[], metavar="STAGE=SECONDS", help="answer late; repeatable")
    add("--rate-reply", default="451 4.7.1 too many messages a second, try later", metavar="REPLY",
        help="[%(default)s]")  # fmt: skip
    add("--max-connections", type=int, default=10_000, metavar="N", help="above, 421 [%(default)s]")
    add("--max-size", default="100MiB", metavar="SIZE", help="larger messages get 552 [%(default)s]")
    add("--chunking", action="store_true", default=False, help="offer CHUNKING (BDAT)")
    add("--without", action="append", default=[], choices=("pipelining", "8bitmime", "smtputf8", "dsn"), metavar="EXT",
        help="do not offer pipelining, 8bitmime, smtputf8 or dsn; repeatable")  # fmt: skip
    add("--save", type=Path, metavar="DIR", help="keep every message: NUMBER.eml and its envelope, NUMBER.json")
    return options


def _smpp_options(parser: argparse.ArgumentParser) -> OptionsOf:
    options = OptionsOf(parser, "SMPP")
    add = options.add
    add("--receipts", action="append", default=[], metavar="HOW", help="how receipts are sent, see below; repeatable")
    add("--message-ids", action="append", default=[], metavar="FORM", help="see below; repeatable [decimal]")
    add("--state", action="append", default=[], metavar="PREFIX=STATE [xN]", help="instead of DELIVRD; repeatable")
    add("--answer", action="append", default=[], metavar="PREFIX=TEXT [xN]", help="a message back; repeatable")
    add("--silent", action="append", default=[], metavar="PREFIX [xN]", help="no response; repeatable")
    add("--throttle", metavar="SHARE", help="so many of all submits, as 10%%, get ESME_RTHROTTLED")
    add("--dead-after", type=int, metavar="N", help="after N submits a connection stays open, but silent")
    add("--close-after", type=int, metavar="N", help="after N submits a connection is closed")
    add("--split", metavar="N[,N...]", help="send everything in pieces of so many octets, in turn")
    add(
        "--window",
        type=int,
        default=500,
        metavar="N",
        help="unacknowledged receipts and answers of a bind [%(default)s]",
    )
    return options


def run(args: argparse.Namespace, smtp: OptionsOf, smpp: OptionsOf) -> int:
    """Listen until a signal or `--until`; exit status 1 if an address cannot be had."""
    if args.smpp:
        from engine.tools.smpp_sink_service import run_smpp_sink

        smtp.refuse(args)
        smpp.settle(args)
        return run_smpp_sink(args)
    from engine.tools.sink_service import run_sink

    smpp.refuse(args)
    smtp.settle(args)
    return run_sink(args)
