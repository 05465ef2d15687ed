"""Where a tracked link may lead: http and https alone, in a form that a Location field can hold (T1).

What a browser would make of the value is made here, once: blanks around it and line ends in it are dropped, what is not
ASCII becomes percent-encoded UTF-8, its host A-labels. What a browser would have to guess is left alone.
"""

import re
from typing import NamedTuple

from engine.message.address import AddressError, domain_to_ascii

#: Servers and proxies refuse longer lines of a request, often from 8 KiB on.
MAX_TARGET_BYTES = 4096

_AROUND = "".join(map(chr, range(33)))
_LINE_ENDS = str.maketrans("", "", "\t\r\n")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HTTP = re.compile(r"(https?)://([^/?#\\]+)((?:/[^?#\\]*)?(?:[?#].*)?)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?:([A-Za-z0-9._~!$&'()*+,;=:%-]*)@)?([^@:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
#: Fields that nobody filled in, of the template languages of the field: {{x}} {% x %} ${x} *|X|* %%x%% [[x]] <% %x%.
_TEMPLATE = re.compile(
    r"\{\{|\}\}|\{%|%\}|\$\{|\*\||\|\*|%%|\[\[|\]\]|<%|%>|%(?![0-9A-Fa-f]{2})[A-Za-z_][A-Za-z0-9_.]+%"
)
#: What the path, query and fragment of a URL may not hold as it is (URL standard 1.3; a percent sign stays).
_UNSAFE = re.compile(r"[^!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]")


class Target(NamedTuple):
    """url: where to, ASCII; "": not to be tracked, and `reason` says why, in a word."""

    url: str
    reason: str = ""


def target_of(value: str) -> Target:
    """Where the value of an href leads, its character references resolved."""
    value = value.strip(_AROUND).translate(_LINE_ENDS)
    if _TEMPLATE.search(value):
        return Target("", "template")
    scheme = _SCHEME.match(value)
    if scheme is None:
        return Target("", _relative(value))
    if scheme[1].lower() not in ("http", "https"):
        return Target("", "scheme")
    match = _HTTP.fullmatch(value)
    authority = _authority(match[2]) if match else ""
    if match is None or not authority:
        return Target("", "malformed")
    url = f"{match[1].lower()}://{authority}{_UNSAFE.sub(_encoded, match[3])}"
    return Target(url) if len(url) <= MAX_TARGET_BYTES else Target("", "long")


def _relative(value: str) -> str:
    if not value:
        return "empty"
    return "fragment" if value.startswith("#") else "no-scheme" if value.startswith(("//", "\\")) else "relative"


def _authority(text: str) -> str:
    """User, host and port, the host in ASCII; "" if they are none."""
    match = _AUTHORITY.fullmatch(text)
    if match is None or int(match[3] or 0) > 65535:
        return ""
    host = match[2]
    if not host.isascii():
        try:
            host = domain_to_ascii(host)
        except AddressError:
            return ""
    if not host.startswith("[") and not _HOST.fullmatch(host):
        return ""
    return ("" if match[1] is None else f"{match[1]}@") + host + (f":{match[3]}" if match[3] else "")


def _encoded(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "replace"))
