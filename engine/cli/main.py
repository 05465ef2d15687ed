"""The `postrider` program: finds the command and runs it."""

import argparse
import importlib
import sys

from engine import __version__
from engine.base.errors import ConfigError, EngineError

#: Modules of engine.cli with a `register(commands)`; in the order of `postrider --help`.
MODULES = ("serve", "check", "dkim", "credential", "route", "sink", "load")


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 it could not be done, 2 wrong usage or settings."""
    parser = argparse.ArgumentParser(prog="postrider", description="A self-hosted delivery engine for mail and SMS.")
    parser.add_argument("--version", action="version", version=f"postrider {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in MODULES:
        importlib.import_module(f"engine.cli.{name}").register(commands)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    except EngineError as error:
        print(f"postrider: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
