"""`postrider sms`: what the parsers make of a text.

$ postrider sms receipt <receipts.txt
$ echo 69643a372073746174... | postrider sms receipt --hex
"""

import argparse
import sys
from datetime import UTC, datetime
from typing import Any

from engine.cli.common import Commands, print_json


def register(commands: Commands) -> None:
    """Add the commands to the program."""
    group = commands.add_parser("sms", help="what delivery receipts say")
    subcommands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_receipt(subcommands)


def _add_receipt(subcommands: Commands) -> None:
    parser = subcommands.add_parser("receipt", help="read delivery receipts, one a line; print them as JSON lines")
    parser.add_argument("--hex", action="store_true", help="each line is the short_message in hexadecimal")
    parser.set_defaults(run=run_receipt)


def run_receipt(args: argparse.Namespace) -> int:
    """Exit status 0, whatever the lines hold: to say that one is no receipt is an answer."""
    for line in sys.stdin.buffer:
        print_json([_receipt_row(line.rstrip(b"\r\n"), args.hex)])
    return 0


def _receipt_row(line: bytes, in_hex: bool) -> dict[str, Any]:
    from engine.protocol.receipt import parse_receipt

    if in_hex:
        try:
            line = bytes.fromhex(line.decode("ascii"))
        except ValueError:
            return {"receipt": False}
    receipt = parse_receipt(line)
    if receipt is None:
        return {"receipt": False}
    return {
        "id": receipt.id,
        "state": receipt.state.word,
        "stat": receipt.stat,
        "final": receipt.final,
        "error": receipt.error,
        "submitted_at": _stamp(receipt.submitted_at),
        "done_at": _stamp(receipt.done_at),
    }


def _stamp(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
