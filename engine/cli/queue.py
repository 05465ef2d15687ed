"""What is queued and why: status, queues, list, show, why; and what to do about it: retry, hold, resume,
bounce, purge, move.

All of them ask the running daemon over the Unix socket in its data directory.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from engine.admin.client import ask
from engine.base.log import escape
from engine.base.units import counted, format_duration
from engine.cli import bounce
from engine.cli.common import Commands, add_config, add_json, how_many, print_json, print_rows, settings_of
from engine.message.ids import is_id
from engine.storage.tables.queue_state import ALL

_TARGET = "a message id, a domain, sms:CARRIER, account:SYSTEM_ID, or tenant:NAME, batch:NAME, class:NAME"
#: What goes on in the background when the answer is there.
_GOING_ON = {"bounce": "being returned", "purge": "being removed"}
_STAYS = "; what comes is held, too, until `resume`"
_HELD = {"resume": "kept by another hold", "retry": "held until `resume`"}
_QUEUE_COLUMNS = ("destination", "queued", "ready", "attempt", "waiting", "held", "oldest_s", "next_s", "limit")
_LIST_COLUMNS = ("id", "destination", "class", "state", "recipients", "attempts", "age_s", "next_s", "last")


def register(commands: Commands) -> None:
    """Add the commands to the parser."""
    _view(commands, "status", "what was accepted, what became of it, what is queued", _status)
    _view(commands, "queues", "one line a destination", _queues)
    parser = _view(commands, "list", "one line a queued delivery", _list)
    parser.add_argument("target", nargs="?", metavar="TARGET", help=_TARGET)
    parser.add_argument("-n", "--limit", type=how_many, default=100, help="at most that many (100)")
    parser = _view(commands, "show", "one message: envelope, deliveries, header", _show)
    parser.add_argument("id", metavar="ID")
    parser = _view(commands, "why", "why a message, or what is for an address or a number, is not out yet", _why)
    parser.add_argument("what", metavar="ID|ADDRESS|NUMBER")
    _action(commands, "retry", "try now what waits")
    _action(commands, "hold", "keep a message, a destination or everything until `resume`")
    _action(commands, "resume", "end a hold")
    parser = _action(commands, "bounce", "fail what is queued and tell the senders; explain, classify: read bounces")
    parser.add_argument("--reason", help="what the senders are told")
    bounce.add_words(parser)
    _action(commands, "purge", "remove what is queued; nobody is told")
    parser = _action(commands, "move", "send what is queued by another relay, or carrier, instead of its route")
    parser.add_argument("--relay", required=True, metavar="HOST:PORT|sms:CARRIER", help='"" for the route again')


def _view(commands: Commands, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run)
    return parser


def _action(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    parser = _view(commands, name, text, _act)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("target", nargs="?", metavar="TARGET", help=_TARGET)
    which.add_argument("--all", action="store_true", help="every queue")
    parser.set_defaults(command=name)
    return parser


def _rows(args: argparse.Namespace, command: str, **arguments: Any) -> Any:
    return ask(Path(settings_of(args).node.data_dir), command, **arguments)


def _status(args: argparse.Namespace) -> int:
    for row in _rows(args, "status"):
        if args.json:
            print_json([row])
            continue
        row["holds"] = [_scope(name) for name in row["holds"]]
        row["moves"] = [f"{_scope(move['scope'])} by {move['relay'] or 'its route'}" for move in row["moves"]]
        _print_fields(row)
    return 0


def _scope(name: str) -> str:
    return "everything" if name == ALL else name


def _queues(args: argparse.Namespace) -> int:
    print_rows(_rows(args, "queues"), args.json, _QUEUE_COLUMNS)
    return 0


def _list(args: argparse.Namespace) -> int:
    print_rows(_rows(args, "list", target=args.target, limit=args.limit), args.json, _LIST_COLUMNS)
    return 0


def _show(args: argparse.Namespace) -> int:
    for row in _rows(args, "show", message_id=args.id):
        if args.json:
            print_json([row])
            continue
        header, deliveries = row.pop("header"), row.pop("deliveries")
        for key in ("received_at", "expires_at"):
            row[key] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row[key]))
        _print_fields(row)
        print()
        print_rows(deliveries, False, ("destination", "state", "attempts", "next_s", "recipients", "last"))
        print("\n" + "\n".join(escape(line.replace("\t", " ")) for line in header.strip("\n").split("\n")))
    return 0


def _why(args: argparse.Namespace) -> int:
    found = 0
    for row in _rows(args, "why", what=args.what):
        found += 1
        if args.json:
            print_json([row])
            continue
        if found > 1:
            print()
        wait = row["next_attempt_s"]
        row["next_attempt_s"] = None if wait is None else f"in {format_duration(wait)}"
        _print_fields({"next_attempt" if key == "next_attempt_s" else key: value for key, value in row.items()})
    if not found and not args.json:
        print(f"nothing is queued for {args.what}")
    return 0 if found else 1


def _act(args: argparse.Namespace) -> int:
    extra = {name: value for name in ("reason", "relay") if (value := getattr(args, name, None)) is not None}
    for row in _rows(args, args.command, target=ALL if args.all else args.target, **extra):
        if args.json:
            print_json([row])
        else:
            stays = args.command == "hold" and (args.all or not is_id(args.target))
            print(f"{args.command}: {_done(args.command, row)}{_STAYS * stays}")
    return 0


def _done(command: str, row: dict[str, Any]) -> str:
    """What an action did, in words."""
    told = counted(row["deliveries"], "delivery")
    if row["deliveries"] and command in _GOING_ON:
        told += f" {_GOING_ON[command]}"
    if row["in_attempt"]:
        told += f"; {row['in_attempt']} in an attempt, to be dealt with after it"
    if row.get("held"):
        told += f"; {row['held']} {_HELD[command]}"
    return told


def _print_fields(row: dict[str, Any]) -> None:
    print_rows(({"field": key, "value": value} for key, value in row.items()), False, ("field", "value"))
