"""`postrider sms optout`: who wants no messages from whom. Works on the table itself, the daemon may run or not."""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.base.clock import SystemClock
from engine.base.errors import EngineError, UsageError
from engine.cli.common import Commands, add_config, add_json, print_rows, settings_of

if TYPE_CHECKING:
    from engine.storage.tables.optouts import OptOuts

_COLUMNS = ("sender", "recipient", "since", "cause", "message", "evidence")


def add(subcommands: Commands) -> None:
    """Add the command to `postrider sms`."""
    parser = subcommands.add_parser("optout", help="who wants no messages from whom")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = actions.add_parser("list", help="all of them, with what they said and when")
    add_config(show)
    add_json(show)
    show.set_defaults(run=run_list)
    for name, text, suppressed in (
        ("add", "send nothing more to a number from a sender", True),
        ("remove", "send again; that it was not wanted stays in the table", False),
    ):
        change = actions.add_parser(name, help=text)
        change.add_argument("sender", metavar="SENDER", help="a number or a name, as messages have it")
        change.add_argument("number", metavar="NUMBER", help="of the phone, with its country code")
        change.add_argument("--note", default="", help="why, for the list")
        add_config(change)
        change.set_defaults(run=run_change, suppressed=suppressed)


def run_list(args: argparse.Namespace) -> int:
    with _table(args) as table:
        entries = table.entries()
    rows = [
        {
            "sender": entry.sender,
            "recipient": entry.recipient,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.at)),
            "cause": entry.cause,
            "message": entry.message,
            "evidence": entry.evidence,
        }
        for entry in entries
    ]
    print_rows(rows, args.json, _COLUMNS)
    return 0


def run_change(args: argparse.Namespace) -> int:
    from engine.storage.tables.optouts import OptOut

    digits = args.number.removeprefix("+")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 15:
        raise UsageError([f"{args.number} is not a number, such as +447700900123"])
    if not args.sender or len(args.sender) > 21 or not args.sender.isprintable():
        raise UsageError([f"{args.sender} is not a sender: 1 to 21 characters"])
    row = OptOut(
        sender=args.sender, recipient=args.number, at=time.time(), cause="operator", evidence=args.note
    )  # fmt: skip
    with _table(args) as table:
        changed = table.set_now(row, args.suppressed)
    if not changed and not args.suppressed:
        raise EngineError(f"{args.number} is not suppressed for {args.sender}")
    done = ("suppressed" if args.suppressed else "not suppressed any more") if changed else "suppressed already"
    print(f"{args.sender} to {args.number}: {done}")
    return 0


@contextmanager
def _table(args: argparse.Namespace) -> "Iterator[OptOuts]":
    from engine.storage.tables.grouped import Grouped
    from engine.storage.tables.optouts import OptOuts

    data_dir = Path(settings_of(args).node.data_dir)
    if not data_dir.is_dir():
        data_dir.mkdir(mode=0o700, parents=True)
    db = Grouped(data_dir / "sms.db")
    try:
        table = OptOuts(db, SystemClock())
        try:
            yield table
        finally:
            table.close()
    finally:
        db.close_now()
