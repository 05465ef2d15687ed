"""What a tracked link, its token or its short code says, and what the ledger has of its message."""

import re
from pathlib import Path
from typing import NamedTuple

from engine.base.errors import EngineError
from engine.base.log import escape
from engine.base.settings import Settings
from engine.message.link_token import FIRST_LINK, Kind, LinkTokens, Token, of_local_part
from engine.message.short_link import CODE_CHARS, ShortCodes
from engine.storage.ledger.reader import LedgerReader
from engine.storage.ledger.sent import Sent
from engine.storage.link_keys import KEYS_NAME, link_keys

_URL = re.compile(r"(?:[^?#]*/)?([cou])/([A-Za-z0-9_-]+)(?:\.gif)?/?(?:[?#].*)?")
_SHORT = re.compile(rf"(?:[^?#]*/)?([0-9A-Za-z]{{{CODE_CHARS}}})/?(?:[?#].*)?")


class LinkOf(NamedTuple):
    """sent: None: the message is not known any more. links: its table. number: of a short link."""

    kind: Kind
    token: Token
    sent: Sent | None
    links: tuple[str, ...]
    number: int | None = None

    @property
    def url(self) -> str:
        """Where it leads; "": nowhere."""
        at = self.token.link - FIRST_LINK
        return self.links[at] if 0 <= at < len(self.links) else ""


def link_of(settings: Settings, text: str) -> LinkOf | None:
    """text: a URL, a token, a short code or a local part. None: it is none of ours.

    Raises EngineError: there is no key to tell by, or nobody knows any more whose short link it is.
    """
    keys = _keys(settings)
    read = _read(text, LinkTokens(keys))
    short = _SHORT.fullmatch(text)
    code = ShortCodes(keys.values()).link(short[1]) if short is not None else None
    if read is None and code is None:
        return None
    reader = LedgerReader(settings.node.data_dir)
    try:
        while reader.refresh():
            pass
        if read is not None:
            kind, token = read
            sent = reader.find(token.message)
            return LinkOf(kind, token, sent, reader.links(sent) if sent is not None else ())
        assert code is not None
        found = reader.by_short(code.number)
        if found is None:
            raise EngineError(f"{escape(text[:200])}: short link number {code.number}, of no message that is known")
        sent, index = found
        token = Token(sent.id, FIRST_LINK + code.link, index)
        return LinkOf(Kind.CLICK, token, sent, reader.links(sent), code.number)
    finally:
        reader.close()


def _keys(settings: Settings) -> dict[int, bytes]:
    """Those there are; none are made. Raises EngineError."""
    file = Path(settings.node.data_dir) / KEYS_NAME
    if not settings.tracking.keys and not file.exists():
        raise EngineError(f"there are no keys of links: none in the settings, and no {file}")
    return link_keys(settings)


def _read(text: str, tokens: LinkTokens) -> tuple[Kind, Token] | None:
    """What a URL, a token or a local part says."""
    match = _URL.fullmatch(text)
    if match is not None:
        tried = [(Kind(match[1].encode()), match[2])]
    else:
        local = of_local_part(text.partition("@")[0])
        tried = [*((kind, text) for kind in Kind), *([(Kind.UNSUBSCRIBE, local)] if local else [])]
    for kind, each in tried:
        token = tokens.read(kind, each)
        if token is not None:
            return kind, token
    return None
