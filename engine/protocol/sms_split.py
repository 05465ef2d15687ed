"""Cutting a text into parts.

T1  parts joined are the text; no part costs more than its room.
T2  a grapheme cluster (UAX 29) is never cut if a part has room for it; a longer one is cut between code points.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import regex  # type: ignore[import-untyped]  # regex has no annotations

# In a row of flags, pair by pair: \X looks back over all those before it, which takes time by the square of them.
_CLUSTER = regex.compile(r"\p{Regional_Indicator}{2}(?=\p{Regional_Indicator})|\X")
#: Between two of these there is always a border, whatever is around them (UAX 29, GB999).
_TWO_ALONE = regex.compile(r"\p{GCB=Other}{2}")


def clusters(text: str) -> list[str]:
    """What a reader takes for the characters of a text."""
    return _CLUSTER.findall(text)  # type: ignore[no-any-return]  # regex says Any


def split(text: str, costs: Sequence[int], room: int) -> list[str]:
    """The parts of a text; one empty part of an empty text.

    costs: of each code point, 1 or more, and at most `room` (ValueError).
    """
    spent = [0, *accumulate(costs)]
    parts: list[str] = []
    start = 0
    while spent[-1] - spent[start] > room:
        most = bisect_right(spent, spent[start] + room) - 1
        if most == start:
            raise ValueError(f"a character that costs {costs[start]} does not fit into {room}")
        end = _border(text, start, most)
        if end < most:
            cluster_end = _CLUSTER.match(text, end, end + room + 1).end()  # enough to see that it is too long
            if spent[cluster_end] - spent[end] > room:
                end = most
        parts.append(text[start:end])
        start = end
    parts.append(text[start:])
    return parts


def _border(text: str, start: int, most: int) -> int:
    """The last border of clusters after `start` and up to `most`, before the end; if there is none, `start`."""
    sure = most
    while sure > start and not _TWO_ALONE.match(text, sure - 1):
        sure -= 1
    # Whether there is a border at `most` depends on nothing behind the character there.
    for cluster in _CLUSTER.finditer(text, sure, most + 1):
        if cluster.end() > most:
            return int(cluster.start())
    return most
