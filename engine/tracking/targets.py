"""The last look at a target before somebody is sent there (T1), and which links of a message have the same.

The table of a message holds what message/link_target.py made of its links: ASCII, http or https. What is not so here
comes from a disk that is damaged, or from another program, and leads nowhere.
"""

import re
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from engine.message.link_target import MAX_TARGET_BYTES

#: A host between two slashes and the path; nothing that a browser or a header would read in another way.
_SOUND = re.compile(r"https?://[!-~]*", re.IGNORECASE).fullmatch
_HOST = re.compile(r"[^/:]+://(?:[^/?#@]*@)?[^/?#@]+").match
_NEVER = re.compile(r'["<>\\^`{|}]').search


class Targets(NamedTuple):
    """Which links of a table lead to the same. firsts: by position, that of the first. number: of different ones."""

    firsts: Sequence[int]
    number: int


def targets_of(links: Sequence[str]) -> Targets:
    """Of a table: a scanner that reads one part of a message fetches each target once."""
    first: dict[str, int] = {}
    return Targets(array("H", [first.setdefault(url, at) for at, url in enumerate(links)]), len(first))


@lru_cache(4096)
def location(target: str) -> bytes | None:
    """The value of Location for a target; None: nobody may be sent there."""
    if len(target) > MAX_TARGET_BYTES or not _SOUND(target) or not _HOST(target) or _NEVER(target):
        return None
    return target.encode("ascii")
