"""A place in the journals of a node, as an operator writes it.

oldest | now                    the beginning of what is kept; behind what is written now
25.0 | 25.0,1:17.2              behind these events, one for each journal that is named
2026-11-27T10:00:00Z | 2h       before the first event of this time (UTC if it says no zone), or of so long ago
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from engine.base.units import parse_duration
from engine.storage.events.event import Id, parse_id


@dataclass(frozen=True, slots=True)
class Place:
    """ids: by worker; at: unix seconds; end: behind everything. None of them: before everything."""

    ids: Mapping[int, Id] | None = None
    at: float | None = None
    end: bool = False


def parse_ids(text: str) -> dict[int, Id]:
    """Of each journal that is named, the event. Raises ValueError."""
    found = {}
    for part in text.split(","):
        worker, colon, own_id = part.strip().rpartition(":")
        if colon and not (worker.isascii() and worker.isdigit()):
            raise ValueError(f'"{part}" is not an event id, such as "1042.0" or "1:1042.0"')
        found[int(worker or 0)] = parse_id(own_id)
    return found


def parse_place(text: str, now: float) -> Place:
    """now: unix seconds. Raises ValueError."""
    if text in ("oldest", "now"):
        return Place(end=text == "now")
    for read in (_ids, _ago, _time):
        try:
            return read(text, now)
        except ValueError:
            continue
    raise ValueError(
        f'"{text}" is not a place among events: oldest, now, an event id (1042.0, 1:17.2), a time'
        " (2026-11-27T10:00:00Z), or how long ago (2h)"
    )


def _ids(text: str, _: float) -> Place:
    return Place(ids=parse_ids(text))


def _ago(text: str, now: float) -> Place:
    return Place(at=now - parse_duration(text))


def _time(text: str, _: float) -> Place:
    time = datetime.datetime.fromisoformat(text)
    return Place(at=(time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp())
