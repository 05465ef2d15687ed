"""What the commands share: the settings file, rows on the terminal or as JSON lines, questions to the daemon."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from engine.base.log import escape
from engine.base.settings import Settings
from engine.base.settings_file import load_settings

#: What argparse hands to each module's `register`.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DEFAULT_CONFIG = "/etc/postrider/postrider.toml"


def add_config(parser: argparse.ArgumentParser) -> None:
    """`-c FILE`; without it $POSTRIDER_CONFIG, then /etc/postrider/postrider.toml."""
    default = os.environ.get("POSTRIDER_CONFIG", DEFAULT_CONFIG)
    parser.add_argument("-c", "--config", type=Path, default=Path(default), metavar="FILE", help="settings file")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`: one JSON object a line instead of a table."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def how_many(text: str) -> int:
    """A number of rows, for argparse."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text} is not a number of rows")
    return int(text)


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings `-c` names. Raises ConfigError, which main prints; exit status 2."""
    return load_settings(args.config)


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line. Plain ASCII, so that no terminal or pipe can refuse it."""
    for row in rows:
        print(json.dumps(row))


def print_rows(rows: Iterable[Mapping[str, Any]], as_json: bool, columns: tuple[str, ...]) -> None:
    """Rows as JSON lines (every key) or as an aligned table of `columns`."""
    if as_json:
        print_json(rows)
        return
    table = [columns, *(tuple(_cell(row.get(column)) for column in columns) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")


def _cell(value: object) -> str:
    """A value on a terminal: floats short, lists with commas, nothing for None."""
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value)) or "-"
    return escape(f"{value:.1f}" if isinstance(value, float) else str(value))
