"""What a request for events says: its query, and who asks (RFC 7617). Pure.

after=25.0,1:17.2    the cursor of the last answer; "" or "oldest": all that is kept; "now": what is to come
types=failed,...     only these; none: all
limit=1000           events, at most (1 to 10000)
wait=30              seconds, if there is nothing yet (0 to 60)
"""

import binascii
import re
import urllib.parse
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass

from engine.storage.events.event import TYPES, Id
from engine.storage.events.place import parse_ids

MAX_LIMIT, LONGEST_WAIT_S = 10_000, 60.0
#: Of a cursor: as many journals as nobody has.
_MAX_AFTER = 4096
_MAX_NUMBER = (1 << 63) - 1
_IS_LIMIT = re.compile(r"[0-9]{1,5}").fullmatch
_IS_WAIT = re.compile(r"[0-9]{1,2}(?:\.[0-9]{1,3})?").fullmatch
_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """after: by worker; end: behind what is written now. types: none: all."""

    after: Mapping[int, Id]
    end: bool = False
    types: frozenset[str] = frozenset()
    limit: int = 1000
    wait_s: float = 0.0


def parse_query(query: bytes) -> Asked:
    """Raises ValueError: what is wrong, in a line of printable ASCII."""
    try:
        text = query.decode("ascii")
        pairs = urllib.parse.parse_qsl(text, keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError as exc:
        raise ValueError("the query cannot be read") from exc
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name not in ("after", "types", "limit", "wait"):
            raise ValueError(f"{_shown(name)}: there are after, types, limit and wait")
        if name in fields:
            raise ValueError(f"{name}: given twice")
        fields[name] = value
    after = fields.get("after", "")
    return Asked(
        after=_cursor(after) if after not in ("", "oldest", "now") else {},
        end=after == "now",
        types=_types(fields["types"]) if "types" in fields else frozenset(),
        limit=_limit(fields.get("limit", "1000")),
        wait_s=_wait(fields.get("wait", "0")),
    )


def parse_basic(value: bytes) -> tuple[str, str] | None:
    """Login and password of an Authorization field; None: it has none.

    What is no UTF-8 is no login of ours, and so is wrong.
    """
    scheme, _, blob = value.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        login, colon, password = b64decode(blob.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (login.decode("utf-8", "replace"), password.decode("utf-8", "replace")) if colon else None


def _cursor(text: str) -> dict[int, Id]:
    try:
        if len(text) > _MAX_AFTER:
            raise ValueError
        ids = parse_ids(text)
        if any(number > _MAX_NUMBER for event in ids.values() for number in event):
            raise ValueError
        return ids
    except ValueError as exc:
        raise ValueError(f"after: {_shown(text)} is not a cursor, such as 25.0,1:17.2") from exc


def _types(text: str) -> frozenset[str]:
    names = text.split(",")
    for name in names:
        if name not in TYPES:
            raise ValueError(f"types: no event is {_shown(name)}")
    return frozenset(names)


def _limit(text: str) -> int:
    if not _IS_LIMIT(text) or not 1 <= int(text) <= MAX_LIMIT:
        raise ValueError(f"limit: {_shown(text)} is not 1 to {MAX_LIMIT}")
    return int(text)


def _wait(text: str) -> float:
    if not _IS_WAIT(text) or float(text) > LONGEST_WAIT_S:
        raise ValueError(f"wait: {_shown(text)} is not 0 to {LONGEST_WAIT_S:.0f} seconds")
    return float(text)


def _shown(text: str) -> str:
    """Somebody's words, in an answer to him."""
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return ascii(short)
