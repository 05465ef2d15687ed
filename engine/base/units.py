"""Durations, sizes and rates as people write them in settings; counts as they read them."""

import re


class Duration(float):
    """Seconds. Written `90s`, `5m`, `1h`, `3d`, or several together: `1h30m`."""


class Size(int):
    """Bytes. Written `512`, `64KiB`, `25MiB`, `2GiB`."""


class Rate(float):
    """Events per second. Written `20/s`, `600/m`, `3600/h`."""


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
# Twelve digits hold whatever can be meant; ASCII, because \d also takes the digits of every other script.
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,12})?"
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|s|m|h|d))+")
_SIZE = re.compile(r"([0-9]{1,12})\s?(KiB|MiB|GiB|)")
_RATE = re.compile(rf"({_NUMBER})/(s|m|h|d)")


def parse_duration(text: str) -> Duration:
    """Seconds of a written duration. Raises ValueError."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f'"{text}" is not a duration, such as "90s", "5m" or "1h30m"')
    return Duration(sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(text)))


def parse_size(text: str) -> Size:
    """Bytes of a written size. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f'"{text}" is not a size in bytes, KiB, MiB or GiB, such as "25MiB"')
    return Size(int(match[1]) * _BYTES[match[2]])


def parse_rate(text: str) -> Rate:
    """Events per second of a written rate, above zero. Raises ValueError."""
    match = _RATE.fullmatch(text)
    if not match or float(match[1]) == 0:
        raise ValueError(f'"{text}" is not a rate, such as "20/s"')
    return Rate(float(match[1]) / _SECONDS[match[2]])


def format_duration(seconds: float) -> str:
    """The shortest way to write whole seconds: 5400 -> `1h30m`; below a second, milliseconds."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    left, out = round(seconds), ""
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, int(_SECONDS[unit]))
        out += f"{count}{unit}" if count else ""
    return out or "0s"


def format_rate(rate: float) -> str:
    """A rate as settings write it, in the first unit that makes it one or more: 0.5 -> `30/m`."""
    for unit in ("s", "m", "h"):
        # Almost one is one: 1/3600 has no exact binary form.
        if rate * _SECONDS[unit] > 0.9999:
            return f"{rate * _SECONDS[unit]:.4g}/{unit}"
    return f"{rate * _SECONDS['d']:.4g}/d"


def counted(number: int, noun: str) -> str:
    """A number of things: `1 delivery`, `2 deliveries`, `0 mistakes`."""
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else many}"


def dead_share(live_bytes: int, all_bytes: int) -> float:
    """The share of bytes that nobody needs."""
    return round(max(0.0, 1 - live_bytes / all_bytes), 3) if all_bytes else 0.0
