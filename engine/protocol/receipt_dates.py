"""Dates in receipts: digits of several lengths in a zone nobody names, or SMPP's absolute time, which names it.

Total: a date that cannot be gives None. Source: SMPP 3.4 appendix B (YYMMDDhhmm) and 7.1.1 (YYMMDDhhmmsstnnp).
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final

_DIGITS: Final = re.compile(r"([0-9]{10,17})([-+R]?)(?![0-9])")
_SHORT: Final = re.compile(r"(..)(..)(..)(..)(..)(..)?")  # YYMMDDhhmm[ss]
_LONG: Final = re.compile(r"((?:19|20)..)(..)(..)(..)(..)(..)?")  # YYYYMMDDhhmm[ss]
_CENTURIES: Final = ("19", "20")  #: no other can be meant, and the first years of all are beyond what clocks can show
_ABSOLUTE_DIGITS: Final = 15
_QUARTER: Final = timedelta(minutes=15)
#: A zone of a day or more has no meaning, and datetime refuses it.
_QUARTERS_OF_A_DAY: Final = 96


def parse_date(text: str, zone: tzinfo = UTC) -> float | None:
    """Unix seconds of the date at the start of `text`.

    10 digits are YYMMDDhhmm, 12 YYMMDDhhmmss or YYYYMMDDhhmm, 14 YYYYMMDDhhmmss; a fraction behind them is left out.
    ISO 8601 is taken, too. zone: of the carrier's clock, for dates that do not name one. None: no date, all zeros, a
    thirteenth month, a relative time.
    """
    match = _DIGITS.match(text)
    if match is None:
        return _iso(text, zone) if text.startswith(_CENTURIES) and text[4:5] == "-" else None
    digits, sign = match.groups()
    if sign and len(digits) == _ABSOLUTE_DIGITS:
        return _absolute(digits, sign) if sign != "R" else None
    # YYMMDDhhmmss comes first at 12 digits: from 2013 on no YYYYMMDDhhmm looks like one, its "month" being the year.
    layouts = (_SHORT, _LONG) if len(digits) <= 12 else (_LONG, _SHORT)
    return next((at for layout in layouts if (at := _laid_out(layout, digits, zone)) is not None), None)


def _absolute(digits: str, sign: str) -> float | None:
    """YYMMDDhhmmss, tenths, quarters of an hour that the local time is ahead (+) or behind (-)."""
    quarters = int(digits[13:15])
    if quarters >= _QUARTERS_OF_A_DAY:
        return None
    at = _laid_out(_SHORT, digits, timezone(quarters * _QUARTER * (1 if sign == "+" else -1)))
    return None if at is None else at + int(digits[12]) / 10


@lru_cache(maxsize=256)  # most are of this minute or the last
def _laid_out(layout: re.Pattern[str], digits: str, zone: tzinfo) -> float | None:
    if layout is _SHORT and len(digits) == 10:  # most are; it takes a third of the time
        year, month, day, hour, minute = [int(digits[at : at + 2]) for at in (0, 2, 4, 6, 8)]
        try:
            return datetime(2000 + year, month, day, hour, minute, tzinfo=zone).timestamp()
        except ValueError:
            return None
    match = layout.match(digits)
    if match is None:
        return None
    year, *rest = (int(field or 0) for field in match.groups())
    month, day, hour, minute, second = rest
    try:
        return datetime(year if year > 99 else 2000 + year, month, day, hour, minute, second, tzinfo=zone).timestamp()
    except ValueError:
        return None


def _iso(text: str, zone: tzinfo) -> float | None:
    """ISO 8601, with a space or a T, with or without a zone."""
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo is not None else when.replace(tzinfo=zone)).timestamp()
    except ValueError:
        return None
