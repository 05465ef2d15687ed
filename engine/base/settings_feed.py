"""What settings of URLs and webhooks must satisfy; rules as in settings_rules.py, checks as in settings_checks.py."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from engine.base.settings import Webhook

_TYPE = re.compile(r"[a-z][a-z-]*")
#: What the key of the signature has at least; RFC 2104 3 wants as many octets as the hash.
_LEAST_SECRET = 32
_MAX_LOGIN = 255


def url(value: str, base: Path) -> str:
    """Where something is posted to."""
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not value.isascii() or not value.isprintable() or " " in value or "#" in value:
        raise ValueError(f'"{value}" is not a URL, such as "https://example.org/sms"')
    return value


def url_or_none(value: str, base: Path) -> str:
    return url(value, base) if value else value


def secret(value: str, base: Path) -> str:
    if value and not good_secret(value):
        raise ValueError(f"{_LEAST_SECRET} printable ASCII characters or more, such as `openssl rand -hex 32` gives")
    return value


def good_secret(value: str) -> bool:
    return len(value) >= _LEAST_SECRET and value.isascii() and value.isprintable()


def types(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    if bad := [f'"{text}"' for text in value if not _TYPE.fullmatch(text)]:
        raise ValueError(f"{', '.join(bad)}: not a type of events, such as delivered")
    return value


def readers(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    """Logins, as `postrider credential` takes them, of HTTP Basic."""
    for text in value:
        if not text or len(text) > _MAX_LOGIN or not text.isprintable() or text != text.strip():
            raise ValueError(f'"{text}" is not a login')
        if ":" in text:
            raise ValueError(f'"{text}": a login with a colon cannot be given in HTTP Basic')
    return value


def one_secret(row: Webhook) -> str:
    if bool(row.secret) is not bool(row.secret_file):
        return ""
    return "given, secret is, too: one of the two" if row.secret else "missing, and so is secret: one of the two"
