"""The provider table: which receiver stands behind MX names, and what it takes.

A row is found by the ends of the MX names, on label boundaries: ".google.com" and "google.com" both match
"google.com" and "aspmx.l.google.com", never "notgoogle.com". The first row that matches wins.
`problems` finds rows that would never do what they say: the mistakes other engines ship (mail.md, Providers).
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from engine.base.hostport import is_host_name
from engine.base.settings import Provider, SiteDefaults
from engine.routing.plan import OTHER, RELAY, Limits

#: A name is a metric label and part of a key.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_IPV4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.")
#: What a reply never contains, and a pattern often does: texts are looked for as they stand.
_PATTERN_SIGNS = (".*", ".+", "[0-9]", "[a-z]", "(?", "^")


class ProviderTable:
    """The rows, indexed by MX suffix. Immutable."""

    def __init__(self, rows: Sequence[Provider]) -> None:
        self._rows = tuple(rows)
        self._by_suffix: dict[str, int] = {}
        for index, row in enumerate(rows):
            for suffix in row.mx:
                self._by_suffix.setdefault(suffix.lower().removeprefix("."), index)

    def match(self, names: Iterable[str]) -> Provider | None:
        """The provider all these MX hosts (lower case, no final dot) belong to, or None.

        All of them: a domain with one host at a provider and others elsewhere must not spend the provider's budget
        on hosts that are not its own.
        """
        found = {self._index(name) for name in names}
        if len(found) != 1:
            return None
        index = found.pop()
        return None if index is None else self._rows[index]

    def _index(self, name: str) -> int | None:
        """The first row that one of the ends of this name leads to."""
        found: int | None = None
        end = name
        while end:
            index = self._by_suffix.get(end)
            if index is not None and (found is None or index < found):
                found = index
            end = end.partition(".")[2]
        return found


def limits_of(provider: Provider | None, site: str, default: SiteDefaults) -> Limits:
    """What a site may use. With scope "provider" all its sites share one key, and so one budget."""
    if provider is None:
        return Limits(
            key=site,
            connections=default.connections,
            messages_per_connection=default.messages_per_connection,
            rate=float(default.rate),
        )
    return Limits(
        key=f"provider:{provider.name}" if provider.scope == "provider" else site,
        connections=provider.connections,
        messages_per_connection=provider.messages_per_connection,
        rate=float(default.rate if provider.rate is None else provider.rate),
    )


def problems(rows: Sequence[Provider]) -> list[str]:
    """What in this table never fires or cannot be meant, one line each, in the order of the table."""
    found: list[str] = []
    names: set[str] = set()
    suffixes: dict[str, str] = {}
    for row in rows:
        own = [*_name_problems(row, names), *_suffix_problems(row, suffixes), *_limit_problems(row)]
        own += [problem for text, seconds in row.stop for problem in _stop_problems(text, seconds)]
        found += [f'[[provider]] "{row.name}": {problem}' for problem in own]
        names.add(row.name)
        suffixes.update({suffix.lower().removeprefix("."): row.name for suffix in row.mx})
    return found


def _name_problems(row: Provider, names: set[str]) -> Iterator[str]:
    if row.name in names:
        yield "the name is there already"
    if row.name in (OTHER, RELAY):
        yield f'the name "{row.name}" has a meaning of its own'
    elif not _NAME.fullmatch(row.name):
        yield "a name is of lower case letters, digits, dots, hyphens and underscores"


def _suffix_problems(row: Provider, earlier: dict[str, str]) -> Iterator[str]:
    if not row.mx:
        yield "without mx it matches nothing"
    for suffix in row.mx:
        plain = suffix.lower().removeprefix(".")
        if suffix.endswith("."):
            yield f'mx "{suffix}" ends in a dot; MX names are compared without'
        elif "*" in suffix:
            yield f'mx "{suffix}": write ".{plain.lstrip("*.")}", it covers every host below'
        elif not is_host_name(plain):
            yield f'mx "{suffix}" is not the end of a host name'
        elif "." not in plain:
            yield f'mx "{suffix}" would match a whole top-level domain'
        owner = next((earlier[end] for end in _ends(plain) if end in earlier), None)
        if owner is not None:
            yield f'mx "{suffix}" is never reached, "{owner}" above takes it'


def _ends(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.partition(".")[2]


def _limit_problems(row: Provider) -> Iterator[str]:
    if row.connections < 1:
        yield "connections: fewer than 1 would send nothing, ever"
    if row.messages_per_connection < 1:
        yield "messages_per_connection: fewer than 1 would send nothing, ever"


def _stop_problems(text: str, seconds: float) -> Iterator[str]:
    if not text.strip():
        yield "stop: an empty text is in every reply"
        return
    if len(text.strip()) < 4:
        yield f'stop "{text}": too short, it is part of other words'
    if "\\" in text:
        yield f'stop "{text}": a backslash; the text is looked for as it stands, no reply contains it'
    if any(sign in text for sign in _PATTERN_SIGNS):
        yield f'stop "{text}" looks like a pattern; the text is looked for as it stands'
    if _IPV4.search(text):
        yield f'stop "{text}" names an IPv4 address; a reply that speaks of IPv6 would not match'
    if "\r" in text or "\n" in text:
        yield "stop: a reply is one line here"
    if seconds <= 0:
        yield f'stop "{text}": no time given'
