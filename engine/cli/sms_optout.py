"""`postrider sms optout`: the suppressions of a number by sender id, as carriers ask for them; see `suppress`."""

import argparse
import time
from dataclasses import replace

from engine.base.errors import EngineError, UsageError
from engine.cli.common import Commands, add_config, add_json, print_rows
from engine.cli.suppress import open_table, operator

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
    from engine.storage.tables.suppression import SMS
    from engine.storage.tables.suppression_records import written_time

    with open_table(args) as table:
        rows = [
            {
                "sender": row.stream,
                "recipient": row.address,
                "since": written_time(row.since),
                "cause": str(row.cause),
                "message": row.message,
                "evidence": row.evidence,
            }
            for row in table.all_held(time.time(), channel=SMS)
            if row.stream
        ]
    print_rows(rows, args.json, _COLUMNS)
    return 0


def run_change(args: argparse.Namespace) -> int:
    from engine.storage.tables.suppression import SMS
    from engine.storage.tables.suppression_records import from_record

    now, who = time.time(), operator()
    record = {"address": args.number, "channel": SMS, "stream": args.sender, "evidence": args.note}
    if not args.sender:
        raise UsageError(["a sender has 1 to 21 characters"])
    with open_table(args) as table:
        try:
            row = from_record(record, table.hasher, now, who)
        except ValueError as exc:
            raise UsageError([str(exc)]) from exc
        what = f"opt-out from {args.sender}, by {who}: {args.note}".rstrip(": ")
        if args.suppressed:
            done = "suppressed" if table.add([row], (now, row.address, what)) else "suppressed already"
        else:
            held = table.held(table.hasher.person(SMS, row.address), now)
            found = [one for one in held if one.stream == row.stream]
            if not found:
                raise EngineError(f"{args.number} is not suppressed for {args.sender}")
            lifts = [replace(one, since=now, until=0.0, evidence=args.note, who=who) for one in found]
            table.lift(lifts, (now, row.address, f"removed: {what}"))
            done = "not suppressed any more"
    print(f"{args.sender} to {args.number}: {done}")
    return 0
