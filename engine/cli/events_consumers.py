"""`postrider events consumers`: how far each webhook is, and an operator's word to it."""

import argparse
from pathlib import Path

from engine.admin.client import ask
from engine.base.errors import UsageError
from engine.base.units import counted
from engine.cli.common import Commands, add_config, add_json, print_rows, settings_of

_COLUMNS = (
    "name",
    "worker",
    "state",
    "lag_events",
    "lag_s",
    "cursor",
    "missed",
    "failures",
    "next_try_s",
    "last_error",
)
_WORDS = """
pause NAME        post nothing to it until it is resumed
resume NAME       post again, at once: after a pause, after 410 Gone, or in the middle of a wait
seek NAME PLACE   go on elsewhere, what lies between comes again or not at all: oldest, now, behind an event id (with
                  several workers one of each: 25.0,1:17.2), from a time on, or from so long ago (2h)
"""


def add_to(actions: Commands) -> None:
    parser = actions.add_parser(
        "consumers", help="how far each webhook is, and what it waits for; pause, resume, seek", epilog=_WORDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("word", nargs="?", choices=("pause", "resume", "seek"), help="see below; without: show all")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a [[webhook]]")
    parser.add_argument("place", nargs="?", metavar="PLACE", help="for seek")
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    data_dir = Path(settings_of(args).node.data_dir)
    if args.word is None:
        rows = list(ask(data_dir, "consumers"))
        if rows or args.json:
            print_rows(rows, args.json, _COLUMNS)
        else:
            print("no [[webhook]] in the settings")
        return 0
    if args.name is None or (args.place is None) is (args.word == "seek"):
        raise UsageError([f"{args.word} needs NAME{' and PLACE' if args.word == 'seek' else ', and nothing else'}"])
    arguments = {"name": args.name} | ({"place": args.place} if args.word == "seek" else {})
    streams = sum(row["streams"] for row in ask(data_dir, f"consumer_{args.word}", **arguments))
    print(f"{args.word}: {counted(streams, 'stream')}")
    return 0
