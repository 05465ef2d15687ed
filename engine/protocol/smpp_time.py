"""Times of SMPP: 16 characters, absolute with their distance from UTC or relative to now (SMPP 3.4 7.1.1).

YYMMDDhhmmsstnnp     t: tenths, nn: quarters of an hour, p: "+" or "-" of UTC, or "R": so long from now
"""

import calendar
import re
from datetime import UTC, datetime, timedelta

_TIME = re.compile(rb"([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9])([0-9]{2})([+\-R])")
#: 3.4 7.1.1.1: at most twelve hours from UTC. The Line Islands are fourteen.
_MOST_QUARTERS = 56


def parse_time(text: bytes, now: float) -> float:
    """The unix time that is meant; 0.0 of an empty text: none. now: what a relative one counts from.

    Raises ValueError: it is not such a time.
    """
    if not text:
        return 0.0
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("not 16 characters as YYMMDDhhmmsstnnp")
    years, months, days, hours, minutes, seconds, tenths, quarters = map(int, match.groups()[:8])
    if match[9] == b"R":
        rest = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return _months_later(now, 12 * years + months) + rest.total_seconds()
    if quarters > _MOST_QUARTERS:
        raise ValueError(f"{quarters} quarters of an hour from UTC")
    at = datetime(2000 + years, months, days, hours, minutes, seconds, tzinfo=UTC).timestamp() + tenths / 10
    return at - quarters * 900 if match[9] == b"+" else at + quarters * 900


def format_time(at: float) -> bytes:
    """An absolute time, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%y%m%d%H%M%S000+").encode()


def _months_later(now: float, months: int) -> float:
    """The same day of a later month, or its last one."""
    if not months:
        return now
    start = datetime.fromtimestamp(now, UTC)
    years, month = divmod(start.month - 1 + months, 12)
    year, month = start.year + years, month + 1
    day = min(start.day, calendar.monthrange(year, month)[1])
    return start.replace(year=year, month=month, day=day).timestamp()
