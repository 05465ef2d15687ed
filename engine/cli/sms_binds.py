"""`postrider sms binds`: who is bound, to carriers and from applications, and what keeps those that are not."""

import argparse
from pathlib import Path

from engine.admin.client import ask
from engine.cli.common import Commands, add_config, add_json, print_rows, settings_of

_COLUMNS = ("side", "name", "bind", "state", "peer", "unanswered", "window", "rate", "reason")


def add(commands: Commands) -> None:
    text = "the binds to carriers and of applications"
    parser = commands.add_parser("binds", help=text, description=text)
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    data_dir = Path(settings_of(args).node.data_dir)
    print_rows(ask(data_dir, "binds"), args.json, _COLUMNS)
    return 0
