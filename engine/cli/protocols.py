"""Options of a command that speaks SMTP or SMPP: those of one protocol are an error beside the other."""

import argparse
from typing import Any

from engine.base.errors import UsageError


class OptionsOf:
    """The options that make sense for one protocol only.

    argparse knows no defaults of theirs, so that one that was given can be told from one that was not.
    """

    def __init__(self, parser: argparse.ArgumentParser, protocol: str) -> None:
        self._protocol = protocol
        self._group = parser.add_argument_group(f"over {protocol} only")
        self._defaults: dict[argparse.Action, Any] = {}

    def add(self, *names: str, default: Any = None, help: str = "", **more: Any) -> None:
        """As `add_argument`."""
        shown = help.replace("%(default)s", str(default))
        self._defaults[self._group.add_argument(*names, default=None, help=shown, **more)] = default

    def settle(self, args: argparse.Namespace) -> None:
        """This protocol is spoken: what was not given gets its default."""
        for action, default in self._defaults.items():
            if getattr(args, action.dest) is None:
                setattr(args, action.dest, default)

    def refuse(self, args: argparse.Namespace) -> None:
        """The other one is spoken. Raises UsageError, all of them in one run."""
        given = [action.option_strings[-1] for action in self._defaults if getattr(args, action.dest) is not None]
        if given:
            raise UsageError([f"{name} is for {self._protocol} only" for name in given])
