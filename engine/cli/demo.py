"""`postrider demo`: engine and test MX on loopback; mail submitted, signed, delivered, deferred, bounced,
clicked, unsubscribed; SMS."""

import argparse
from pathlib import Path

from engine.cli.common import Commands


def register(commands: Commands) -> None:
    """Add the command to the program."""
    parser = commands.add_parser("demo", help="the tour: the engine and two test MX on this machine")
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="a new or empty folder, or that of an earlier demo, which starts anew [a new one, its path is printed]",
    )
    parser.add_argument("--stay", action="store_true", help="keep everything running until Ctrl-C")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 only if everything expected happened and the tally balances."""
    from engine.tools.demo import run_demo

    return run_demo(args)
