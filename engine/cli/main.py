"""The `postrider` program: finds the command and runs it.

Every module of this package with a `register(commands)` brings one command or several. Such a module is imported
at each call of the program, so what is heavy it imports inside the function that runs.
"""

import argparse
import importlib
import os
import pkgutil
import sys

import engine.cli
from engine import __version__
from engine.base import clock
from engine.base.errors import ConfigError, EngineError, UsageError


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 it could not be done, 2 wrong usage or settings."""
    args = build_parser().parse_args(argv)
    try:
        status = int(args.run(args))
        sys.stdout.flush()
    except UsageError as error:
        print("\n".join(f"postrider: {problem}" for problem in error.problems), file=sys.stderr)
        return 2
    except ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    except EngineError as error:
        print(f"postrider: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `run`, a function of the parsed arguments that gives the exit status."""
    parser = argparse.ArgumentParser(prog="postrider", description="A self-hosted delivery engine for mail and SMS.")
    parser.add_argument("--version", action="version", version=f"postrider {__version__}{_build()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for found in pkgutil.iter_modules(engine.cli.__path__):
        if found.name != "main":
            register = getattr(importlib.import_module(f"engine.cli.{found.name}"), "register", None)
            if register is not None:
                register(commands)
    return parser


def _build() -> str:
    """Whether the modules of the way of a message are compiled (setup.py)."""
    return "" if clock.__file__.endswith(".py") else " (compiled)"


if __name__ == "__main__":
    sys.exit(main())
