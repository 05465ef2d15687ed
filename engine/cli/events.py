"""`postrider events`: what became of every recipient, straight from the files of the journals, and who is told."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from engine.base.log import escape
from engine.cli import events_consumers, events_replay
from engine.cli.common import Commands, add_config, add_json, how_many, print_rows, settings_of
from engine.storage.events.event import TYPES
from engine.storage.events.merged import MergedReader

_FOLLOW_S = 0.25


def register(commands: Commands) -> None:
    parser = commands.add_parser("events", help="read the event journal", description=__doc__)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    tail = actions.add_parser("tail", help="the newest events, and with -f those to come")
    tail.add_argument("-n", type=how_many, default=10, metavar="N", dest="count", help="how many (10)")
    tail.add_argument("-f", "--follow", action="store_true", help="wait for more; end with Ctrl-C")
    tail.add_argument("--from", default=None, metavar="PLACE", dest="place", help="from there on")
    tail.set_defaults(run=_tail)

    listing = actions.add_parser("list", help="all events that are kept, oldest first")
    listing.add_argument(
        "--from",
        default=None,
        metavar="PLACE",
        dest="place",
        help="only those after this event id (with several workers, one id of each: 25.0,1:17.2), or time, or 2h (ago)",
    )
    listing.set_defaults(run=_list)

    for action in (tail, listing):
        action.add_argument("--message", default="", metavar="ID", help="only of this message")
        action.add_argument("--recipient", default="", metavar="ADDRESS", help="only to this address")
        action.add_argument(
            "--type", action="append", default=[], metavar="TYPE", help="only received, deferred, ...; may be repeated"
        )
        add_config(action)
        add_json(action)

    types = actions.add_parser("types", help="the types of events that there are")
    add_json(types)
    types.set_defaults(run=_types)
    events_replay.add_to(actions)
    events_consumers.add_to(actions)


def _tail(args: argparse.Namespace) -> int:
    reader = _reader(args)
    if args.place is not None:
        events_replay.stand(reader, events_replay.place(args.place))
    else:
        reader.seek_tail(args.count)
    try:
        _print(reader, args)
        while args.follow:
            time.sleep(_FOLLOW_S)
            _print(reader, args)
    except KeyboardInterrupt:
        pass
    return events_replay.end_of(reader)


def _list(args: argparse.Namespace) -> int:
    reader = _reader(args)
    if args.place is not None:
        events_replay.stand(reader, events_replay.place(args.place))
    _print(reader, args)
    return events_replay.end_of(reader)


def _types(args: argparse.Namespace) -> int:
    print_rows(({"type": name, "says": text} for name, text in TYPES.items()), args.json, ("type", "says"))
    return 0


def _reader(args: argparse.Namespace) -> MergedReader:
    return MergedReader(settings_of(args).node.data_dir)


def _print(reader: MergedReader, args: argparse.Namespace) -> None:
    for event in _wanted(reader.read(), args):
        sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n" if args.json else _row(event) + "\n")
    sys.stdout.flush()


def _wanted(events: Iterator[dict[str, Any]], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for event in events:
        if args.message and event.get("message") != args.message:
            continue
        if args.recipient and str(event.get("recipient", "")).lower() != args.recipient.lower():
            continue
        if args.type and event.get("type") not in args.type:
            continue
        yield event


def _row(event: dict[str, Any]) -> str:
    """One event for a reader: when, what, which message, to whom, and what was said."""
    at = event.get("at", 0)
    seconds = at if isinstance(at, int | float) else 0
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    text = f"{stamp} {event.get('type', ''):<9} {event.get('message', '')} to=<{event.get('recipient', '')}>"
    for key in ("remote", "status"):
        if key in event:
            text += f" {key}={event[key]}"
    if "reply" in event:
        text += f" ({event['reply']})"
    return escape(text)
