"""`postrider credential`: who may submit mail with AUTH. Works on the table itself, the daemon may run or not."""

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
    """Add the command to the program."""
    parser = commands.add_parser("credential", help="logins for SMTP AUTH")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="make a login, or set its password; the password is asked for")
    add.add_argument("login", metavar="LOGIN")
    add.add_argument("--password-stdin", action="store_true", help="read the password from the first line of stdin")
    add.add_argument("--note", default="", help="whose it is, for the list")
    add_config(add)
    add.set_defaults(run=run_add)
    show = actions.add_parser("list", help="the logins")
    add_config(show)
    add_json(show)
    show.set_defaults(run=run_list)
    remove = actions.add_parser("remove", help="remove a login; sessions that used it go on to their end")
    remove.add_argument("login", metavar="LOGIN")
    add_config(remove)
    remove.set_defaults(run=run_remove)


def run_add(args: argparse.Namespace) -> int:
    password = _first_line() if args.password_stdin else _asked_twice()
    table = _open(args)
    try:
        existed = table.add(args.login, password, args.note)
    finally:
        table.close()
    print(f"{args.login}: {'password changed' if existed else 'added'}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    table = _open(args)
    try:
        entries = table.entries()
    finally:
        table.close()
    rows = [
        {
            "login": entry.login,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.created)),
            "note": entry.note,
        }
        for entry in entries
    ]
    print_rows(rows, args.json, ("login", "created", "note"))
    return 0


def run_remove(args: argparse.Namespace) -> int:
    table = _open(args)
    try:
        removed = table.remove(args.login)
    finally:
        table.close()
    if not removed:
        raise EngineError(f"{args.login}: no such login")
    print(f"{args.login}: removed")
    return 0


def _open(args: argparse.Namespace) -> "Credentials":
    from engine.storage.tables.credentials import Credentials  # argon2 is heavy, and other commands import this module

    data_dir = Path(settings_of(args).node.data_dir)
    if not data_dir.is_dir():
        data_dir.mkdir(mode=0o700, parents=True)
    return Credentials(data_dir / "tables.db")


def _asked_twice() -> str:
    """The password, typed unseen and twice. Raises EngineError."""
    if not sys.stdin.isatty():
        raise EngineError("no terminal to ask for the password at; --password-stdin reads it from standard input")
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Again: ")
    except EOFError:
        print(file=sys.stderr)
        raise EngineError("no password given") from None
    if again != password:
        raise EngineError("the two passwords differ")
    if not password:
        raise EngineError("no password given")
    return password


def _first_line() -> str:
    """The password from stdin. Raises EngineError."""
    try:
        password = sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise EngineError("the password on stdin is not UTF-8") from None
    if not password:
        raise EngineError("no password on stdin")
    return password
