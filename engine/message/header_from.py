"""The domain of a From field: the one a DKIM key is chosen by (RFC 5322 3.4, RFC 6854).

Names, comments, groups and quoted strings are stepped over, never believed: in `"x@victim.example" <me@real.example>`
the domain is real.example. Of several mailboxes the first counts. Encoded words need no decoding, because they cannot
hold an address. Linear: one pass, each character looked at once.
"""

import re
from functools import lru_cache

from engine.message.address import AddressError, domain_to_ascii

#: Nearly every From there is: `Name <local@domain>` or `local@domain`, nothing quoted but perhaps the whole name.
_ORDINARY = re.compile(
    rb'[ \t]*+(?:"[^"\\<>\r\n]*+"|[^"()<>@,:;\\\r\n]*+)[ \t]*+<[^"()<>@,:;\\\s]++@([A-Za-z0-9.-]++)>[ \t]*+'
    rb'|[ \t]*+[^"()<>@,:;\\\s]++@([A-Za-z0-9.-]++)[ \t]*+'
)
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*+"?+|\\.|[()<>@,:;]|\[[^\]]*+\]|[^"()<>@,:;\\\[]++|.', re.DOTALL)
_MAX_CACHED = 256


def domain_of_from(value: bytes) -> str:
    """Destination form (A-labels, lower case) of the first mailbox's domain; "" if there is none.

    value: what follows `From:`, still folded.
    """
    return _cached(value) if len(value) <= _MAX_CACHED else _domain(value)


def _domain(value: bytes) -> str:
    match = _ORDINARY.fullmatch(value)
    if match is not None:
        return _normal((match[1] or match[2]).decode("ascii"))
    return _walk(value.decode("utf-8", "replace").replace("\r\n", ""))


_cached = lru_cache(maxsize=2048)(_domain)


def _walk(text: str) -> str:
    """The domain, found piece by piece. A bare `a@b` is outdone by an address in brackets that follows it."""
    depth = 0  # of comments
    inside = False  # angle brackets
    domain: list[str] | None = None  # None: no @ yet in this mailbox
    for piece in _PIECE.findall(text):
        if piece == "(":
            depth += 1
        elif depth:
            depth -= piece == ")"
        elif piece == "<":
            inside, domain = True, None
        elif piece == "@":
            domain = []
        elif piece == ">" or (piece in (",", ";") and not inside):
            if domain and (found := _normal("".join(domain))):
                return found
            inside, domain = False, None
        elif piece == ":":
            domain = None  # the name of a group, or a source route
        elif domain is not None:
            domain.append(piece)
    return _normal("".join(domain)) if domain else ""


def _normal(text: str) -> str:
    try:
        return domain_to_ascii("".join(text.split()))
    except AddressError:
        return ""
