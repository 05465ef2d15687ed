"""The fields List-Unsubscribe and List-Unsubscribe-Post (RFC 2369, RFC 8058): what a header has, and ours."""

import re
from typing import NamedTuple

from engine.message.leaving_links import same_place
from engine.message.link_target import target_of
from engine.message.link_token import as_local_part

_FIELD = re.compile(
    rb"^(list-unsubscribe|list-unsubscribe-post|dkim-signature)[ \t]*:([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*)", re.I | re.M
)
_URL = re.compile(rb"<([^<>]*)>")
#: Of one field; more lists than that nobody is on.
_MOST_URLS = 20


class Declared(NamedTuple):
    """What the client says itself. urls: of unsubscribing, as `same_place` writes them. signed: by DKIM."""

    unsubscribe: bool
    post: bool
    urls: frozenset[str]
    signed: bool


def declared(header: bytes) -> Declared:
    """header: with CRLF, without the empty line."""
    names: set[bytes] = set()
    urls: list[str] = []
    for name, value in _FIELD.findall(header):
        names.add(name.lower())
        if name.lower() == b"list-unsubscribe":
            urls += [_place(url) for url in _URL.findall(value)[:_MOST_URLS]]
    return Declared(
        b"list-unsubscribe" in names, b"list-unsubscribe-post" in names, frozenset(filter(None, urls)),
        b"dkim-signature" in names,
    )  # fmt: skip


def _place(url: bytes) -> str:
    """Blanks inside <> are none of it, folded or not (RFC 2369 2). "": no URL of http."""
    return same_place(target_of(b"".join(url.split()).decode("utf-8", "replace")).url)


def unsubscribe_fields(base_url: str, token: bytes, mailto: str, post: bool) -> bytes:
    """The fields, with CRLF. mailto: domain where it is asked for by mail; "": nowhere. post: with the second field."""
    fields = b"List-Unsubscribe: <%b/u/%b>" % (base_url.encode(), token)
    if mailto:
        address = f"{as_local_part(token.decode())}@{mailto}"
        fields += f",\r\n <mailto:{address}?subject=unsubscribe>".encode()
    return fields + (b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" if post else b"\r\n")
