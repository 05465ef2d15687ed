"""`postrider serve`: the daemon itself."""

import argparse

from engine.cli.common import Commands, add_config


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("serve", help="run the daemon", description="Run the daemon in the foreground.")
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from engine.daemon.serve import serve

    return serve(args.config)
