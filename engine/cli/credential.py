"""`postrider credential`: who may submit mail with a login. Works on the table; a running daemon sees it at once."""

import argparse
import getpass
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.base.errors import EngineError
from engine.cli.common import Commands, add_config, add_json, print_rows, settings_of

if TYPE_CHECKING:
    from engine.storage.tables.credentials import Credentials


def register(commands: Commands) -> None:
    """Add the command and its three parts to the parser."""
    parser = commands.add_parser("credential", help="who may submit mail with a login")
    parts = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = parts.add_parser("add", help="a login, or a new password for it; asks for the password")
    add.add_argument("login", metavar="LOGIN")
    add.add_argument("--password-stdin", action="store_true", help="read the password from the first line of stdin")
    add.add_argument("--note", default="", help="what it is for")
    add.set_defaults(run=_add)
    listing = parts.add_parser("list", help="every login")
    add_json(listing)
    listing.set_defaults(run=_list)
    remove = parts.add_parser("remove", help="a login; sessions that used it go on")
    remove.add_argument("login", metavar="LOGIN")
    remove.set_defaults(run=_remove)
    for part in (add, listing, remove):
        add_config(part)


def _table(args: argparse.Namespace) -> "Credentials":
    from engine.storage.tables.credentials import Credentials

    data_dir = Path(settings_of(args).node.data_dir)
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise EngineError(f"cannot use the data directory {data_dir}: {exc.strerror}") from exc
    return Credentials(data_dir / "tables.db")


def _add(args: argparse.Namespace) -> int:
    table = _table(args)
    if args.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = getpass.getpass(f"Password for {args.login}: ")
        if getpass.getpass("Again: ") != password:
            raise EngineError("the two passwords differ")
    try:
        new = table.add(args.login, password, args.note)
    except ValueError as exc:
        raise EngineError(str(exc)) from exc
    print(f"{args.login}: {'added' if new else 'has a new password'}")
    return 0


def _list(args: argparse.Namespace) -> int:
    rows = (
        {
            "login": row.login,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(row.created)),
            "note": row.note,
        }
        for row in _table(args).list()
    )
    print_rows(rows, args.json, ("login", "created", "note"))
    return 0


def _remove(args: argparse.Namespace) -> int:
    if not _table(args).remove(args.login):
        raise EngineError(f"{args.login}: no such login")
    print(f"{args.login}: removed")
    return 0
