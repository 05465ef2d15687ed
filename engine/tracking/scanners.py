"""Who is known to fetch links without being a person: the rows of config/scanners.toml, compiled.

All patterns are one RE2 set, so that a user agent is read once, in linear time, whatever it is and however many rows
there are; what was seen lately is remembered.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import re2

from engine.base.errors import ConfigError
from engine.base.settings_file import load_scanner_rows
from engine.base.settings_scanners import Scanner
from engine.tracking.clients import parse_address

#: Of a user agent; what is behind it is not looked at.
MAX_AGENT = 500
_SEEN = 8192


class Scanners:
    """Immutable but for a memory that is bounded."""

    def __init__(self, rows: Sequence[Scanner]) -> None:
        """Raises ValueError: a text is no pattern, or no network. `problems` says which."""
        self._rows = tuple(rows)
        self._set = re2.Set.SearchSet(_options())
        self._row_of: list[str] = []
        for row in rows:
            for text in row.agent:
                if self._set.Add(text) < 0:
                    raise ValueError(f"{row.name}: {text!r} is not a pattern")
                self._row_of.append(row.name)
        if self._row_of:
            self._set.Compile()
        self._networks = [(ipaddress.ip_network(text), row.name) for row in rows for text in row.networks]
        self.by_agent = lru_cache(_SEEN)(self._by_agent)
        self.by_address = lru_cache(_SEEN)(self._by_address)

    def name(self, client: str, agent: str) -> str:
        """Of the row that knows this one; "": nobody does."""
        return self.by_agent(agent) or (self.by_address(client) if self._networks else "")

    def _by_agent(self, agent: str) -> str:
        if not self._row_of or not agent:
            return ""
        found = self._set.Match(agent[:MAX_AGENT].encode("utf-8", "replace"))
        return self._row_of[min(found)] if found else ""

    def _by_address(self, client: str) -> str:
        address = parse_address(client)
        if address is None:
            return ""
        return next((name for network, name in self._networks if address in network), "")


def load_scanners(path: Path) -> Scanners:
    """Those of a file. Raises ConfigError with everything that is wrong with it."""
    found: list[str] = []
    rows = load_scanner_rows(path, found)
    found += [f"{path.name}: {text}" for text in problems(rows)]
    if found:
        raise ConfigError(found)
    return Scanners(rows)


def problems(rows: Sequence[Scanner]) -> Iterator[str]:
    """Rows that cannot be used, and those that do not do what their samples say."""
    names: set[str] = set()
    for number, row in enumerate(rows, 1):
        if row.name in names:
            yield f'[[scanner]] {number} name: "{row.name}" is there already'
        names.add(row.name)
        if not row.agent and not row.networks:
            yield f"[[scanner]] {row.name}: neither agent nor networks: it knows nobody"
    bad = [text for row in rows for text in _unusable(row)]
    yield from bad
    if bad:
        return
    known = Scanners(rows)
    for row in rows:
        for sample in row.matches:
            if (found := known.by_agent(sample)) != row.name:
                yield f'[[scanner]] {row.name} matches: "{sample}" is known by {found or "no row"}'
        for sample in row.misses:
            if found := known.by_agent(sample):
                yield f'[[scanner]] {row.name} misses: "{sample}" is known by {found}'


def _unusable(row: Scanner) -> Iterator[str]:
    for text in row.agent:
        try:
            re2.compile(text, _options())
        except re2.error:
            yield f"[[scanner]] {row.name} agent: {text!r} is not a pattern"
    for text in row.networks:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            yield f'[[scanner]] {row.name} networks: "{text}" is not a network, such as "192.0.2.0/24"'


def _options() -> "re2.Options":
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    return options
