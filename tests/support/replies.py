"""Replies of the world's mail servers, in tests/support/replies.txt, and what each means.

A line is "kind reply", below a line "== who says so"; "#" begins a comment.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from engine.base.settings_bounces import Kind

_FILE = Path(__file__).with_suffix(".txt")


class Known(NamedTuple):
    """One reply, who says it, and its kind."""

    family: str
    kind: Kind
    reply: str


@cache
def replies() -> tuple[Known, ...]:
    """All of them, in the order of the file."""
    found: list[Known] = []
    family = ""
    for line in _FILE.read_text().splitlines():
        if line.startswith("== "):
            family = line[3:]
        elif line and not line.startswith("#"):
            kind, _, reply = line.partition(" ")
            found.append(Known(family, kind, reply.strip()))  # type: ignore[arg-type]  # a test compares it
    return tuple(found)
