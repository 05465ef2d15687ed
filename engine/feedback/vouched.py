"""Reports whose own DKIM signature is of a domain that the settings trust: the provider says it, and nobody else.

A signature counts that covers the whole body and every field that says how to read it, each of which is there once:
else somebody could have another report read in words that were signed.
"""

import asyncio
import logging
from collections.abc import Collection
from typing import Any, NamedTuple

from engine.net.resolver import Lookup

log = logging.getLogger(__name__)

#: Looked at of one message.
_MOST_SIGNATURES = 3
#: Fields that must be signed where they are, and be there once.
_SINGLE = (b"from", b"content-type", b"content-transfer-encoding")


class _Signature(NamedTuple):
    """number: among those of the message. record: the name of its key in DNS."""

    number: int
    domain: str
    record: str


async def vouched_for(content: bytes, domains: Collection[str], dns: Lookup) -> str:
    """The one of these domains that has signed the message; "": none has, or it cannot be told now.

    content: as it came, framed by CRLF.
    """
    if not domains or b"dkim-signature" not in content[: content.find(b"\r\n\r\n")].lower():
        return ""
    for signature in await asyncio.to_thread(_signatures, content, frozenset(domains)):
        answer = await dns.lookup(signature.record, "TXT")
        for record in answer.records[:1]:
            if await asyncio.to_thread(_is_good, content, signature.number, record.value.encode()):
                return signature.domain
    return ""


def _signatures(content: bytes, domains: Collection[str]) -> list[_Signature]:
    """Those that would count if they are good."""
    import dkim  # type: ignore[import-untyped]  # has no annotations; with what it needs 7 MiB, where it is needed

    found = []
    try:
        headers = dkim.DKIM(content).headers
        names = [name.lower() for name, _ in headers]
        fields = [value for name, value in headers if name.lower() == b"dkim-signature"]
        for number, field in enumerate(fields[: _MOST_SIGNATURES * 10]):
            tags = dkim.parse_tag_value(field)
            domain = tags.get(b"d", b"").decode("ascii").lower()
            if domain in domains and _covers(tags, names):
                selector = tags.get(b"s", b"").decode("ascii")
                found.append(_Signature(number, domain, f"{selector}._domainkey.{domain}"))
    except (dkim.DKIMException, ValueError) as exc:  # a strange header; what came before it counts
        log.info("a signature cannot be read: %s", exc)
    return found[:_MOST_SIGNATURES]


def _covers(tags: dict[bytes, bytes], names: list[bytes]) -> bool:
    """Whether it says all that is needed to read the message."""
    signed = {name.strip().lower() for name in tags.get(b"h", b"").split(b":")}
    return b"l" not in tags and all(names.count(name) == (name in signed) or not names.count(name) for name in _SINGLE)


def _is_good(content: bytes, number: int, record: bytes) -> bool:
    import dkim

    def given(name: Any, timeout: int = 5) -> bytes:
        return record

    try:
        return bool(dkim.DKIM(content).verify(number, dnsfunc=given))
    except Exception as exc:  # dkimpy raises more than its own exceptions at what strangers write
        log.info("a signature is not good: %s", exc)
        return False
