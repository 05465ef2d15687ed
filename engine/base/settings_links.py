"""What settings of tracking must satisfy; rules as in settings_rules.py."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from engine.base.hostport import is_host_name, is_ip_address

_PATH = re.compile(r"[A-Za-z0-9._~/-]*")
_SHORTEST, _LONGEST = 16, 64


def base_url(value: str, base: Path) -> str:
    """A scheme and a host, a port and the beginning of a path perhaps; without the slash at its end."""
    try:
        parts = urlsplit(value)
        host, good = parts.hostname or "", parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        good = False
    if not good or not (is_host_name(host) or is_ip_address(host)) or parts.username is not None:
        raise ValueError(f'"{value}" is not the beginning of a URL, such as "https://click.example.org"')
    if parts.query or parts.fragment or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f'"{value}" has more than a host and a path, such as "https://click.example.org"')
    if not _PATH.fullmatch(parts.path):  # it stands between quotes of any kind, or none
        raise ValueError(f'"{value}" has a path with other characters than letters, digits and -._~/')
    return value.rstrip("/")


def base_url_or_none(value: str, base: Path) -> str:
    return base_url(value, base) if value else value


def keys(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    """See `parse_keys`, which says what is wrong without a word of the secrets."""
    parse_keys(value)
    return value


def parse_keys(value: tuple[str, ...]) -> dict[int, bytes]:
    """The keys by number, in their order. Raises ValueError."""
    found: dict[int, bytes] = {}
    for place, text in enumerate(value, 1):
        number, _, secret = text.partition(":")
        try:
            key = bytes.fromhex(secret)
        except ValueError:
            key = b""
        if not (number.isascii() and number.isdecimal() and int(number) <= 255 and int(number) not in found):
            raise ValueError(f'key {place}: its number is from 0 to 255, each once, as in "1:hex"')
        if not _SHORTEST <= len(key) <= _LONGEST:
            raise ValueError(f"key {place}: {_SHORTEST} to {_LONGEST} bytes in hexadecimal after the number")
        found[int(number)] = key
    return found


def tenant(value: str, base: Path) -> str:
    if not value or len(value) > 64 or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("1 to 64 printable ASCII characters without space")
    return value
