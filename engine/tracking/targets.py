"""Where a link may lead, written so that it can stand in Location.

T1  only http and https targets; no open redirect: a target comes from the table of a message, never from a request.
"""

import re
from functools import lru_cache
from urllib.parse import quote, urlsplit

import idna

#: What a browser would take for a host of its own: two slashes, and something between them and the path.
_ABSOLUTE = re.compile(r"https?://[^/?#\\]+", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: Everything printable in ASCII but the space, quotes and angle brackets stands for itself: escapes are there already.
_PLAIN = "".join(chr(code) for code in range(33, 127) if chr(code) not in '"<>')
#: Longer than any browser sends back.
_LONGEST = 8192


@lru_cache(4096)
def location(target: str) -> bytes | None:
    """The value of Location for a target; None: nobody may be sent there.

    Spaces and what is not ASCII are escaped as a browser does, a host in other letters becomes its ASCII form.
    """
    if len(target) > _LONGEST or _CONTROL.search(target) is not None or _ABSOLUTE.match(target) is None:
        return None
    try:
        if not target.isascii():
            target = _ascii_host(target)
        return quote(target, safe=_PLAIN).encode("ascii")
    except (ValueError, UnicodeError):  # no host that DNS knows; a lone surrogate
        return None


def _ascii_host(target: str) -> str:
    parts = urlsplit(target)
    host = parts.hostname or ""
    if host.isascii():
        return target
    user, at, place = parts.netloc.rpartition("@")
    _, colon, port = place.rpartition(":")
    known = idna.encode(host, uts46=True).decode() + (colon + port if port.isdigit() else "")
    return parts._replace(netloc=user + at + known).geturl()
