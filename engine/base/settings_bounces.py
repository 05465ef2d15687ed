"""The rows of config/bounces.toml: what replies mean."""

from typing import Literal, TypeAlias, get_args

import msgspec

#: What a bounce is (mail.md, Bounces). Of these only "hard" is about the address for good.
Kind: TypeAlias = Literal[
    "hard", "soft", "block", "content", "auth", "quota", "config", "expired", "auto-reply", "complaint", "challenge",
    "unknown",
]  # fmt: skip
Phase: TypeAlias = Literal[
    "connect", "banner", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "end-of-data", "queue", "smpp"
]
PHASES: tuple[str, ...] = get_args(Phase)


class BounceRule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One rule; what its fields mean stands on top of config/bounces.toml."""

    name: str
    kind: Kind
    guard: bool = False
    text: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    phase: tuple[Phase, ...] = ()
    provider: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()
