"""The rows of config/scanners.toml: who fetches links and is no person."""

import msgspec


class Scanner(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row; what its fields mean stands on top of config/scanners.toml."""

    name: str
    agent: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()
