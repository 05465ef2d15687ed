"""Where a destination goes, and how: the values that routing hands to queue, throttle and delivery.

A `Plan` is made once per destination and lives as long as the DNS answers behind it. `site` is the key of
connections and throttles, `limits.key` that of the budget (a provider may share one budget over its sites);
`tls` is the need of this *domain*, so a connection of the site serves it only if its proven level is enough.
Values only; nothing here does I/O.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from engine.base.settings import Source, TlsLevel
from engine.message.outcome import Status

#: `Plan.provider` where no provider matched, and of a static route. They are metric labels too.
OTHER: Final = "other"
RELAY: Final = "relay"
#: In place of a provider while none is known; a metric label only.
UNRESOLVED: Final = "unresolved"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address to connect to. name: the MX host (or relay) it belongs to, which TLS verifies; never a final dot."""

    name: str
    address: str
    port: int

    @property
    def ipv6(self) -> bool:
        return ":" in self.address

    def __str__(self) -> str:
        """As log lines name a peer: `mx1.example.org[192.0.2.7]:25`."""
        return f"{self.name}[{self.address}]:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be used at once, by everything that has the same key. rate: messages per second; None is no limit."""

    key: str
    connections: int
    messages_per_connection: int
    rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to deliver to one destination, until `expires_at` (monotonic).

    site: "mx1.example.net,mx2.example.net" (sorted MX names, long ones shortened by a hash), "relay:host:port",
    or the address literal; "sms:NAME", "account:ID", "box:DOMAIN" where there is no mail. provider: a name of the
    provider table, RELAY or OTHER; of a carrier its name.
    hosts: preference groups, the best first; never empty, no group empty. source.ehlo is never empty.
    stop: (text in a reply, seconds to leave the site alone).
    """

    destination: str
    site: str
    provider: str
    hosts: tuple[tuple[Endpoint, ...], ...]
    tls: TlsLevel
    source: Source
    limits: Limits
    credentials: tuple[str, str] | None
    stop: tuple[tuple[str, float], ...]
    expires_at: float
    channel: Literal["mail", "carrier", "account", "box"] = "mail"

    def endpoints(self, rng: random.Random) -> list[Endpoint]:
        """The order to try: groups by preference, each shuffled (RFC 5321 5.1), IPv6 and IPv4 taking turns in it.

        Turns, so that a broken IPv6 path costs one timeout and not one for each address.
        """
        order: list[Endpoint] = []
        for group in self.hosts:
            if len(group) == 1:
                order.append(group[0])
                continue
            shuffled = rng.sample(group, len(group))
            order.extend(_take_turns([e for e in shuffled if e.ipv6], [e for e in shuffled if not e.ipv6]))
        return order

    def source_address(self, endpoint: Endpoint) -> str:
        """The local address to bind for this endpoint's family; "" leaves it to the kernel."""
        return self.source.address6 if endpoint.ipv6 else self.source.address

    def stop_for(self, reply: str) -> float | None:
        """Seconds to leave the site alone after this reply; None: no stop rule speaks of it."""
        return max((seconds for text, seconds in self.stop if text in reply), default=None)


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Why a destination cannot be reached now (DEFERRED) or at all (FAILED). reply: one line for logs and DSNs."""

    status: Status
    status_code: str
    reply: str
    expires_at: float


def _take_turns(first: list[Endpoint], second: list[Endpoint]) -> Iterable[Endpoint]:
    """first[0], second[0], first[1], ...; what remains of the longer one at the end."""
    paired = min(len(first), len(second))
    for one, other in zip(first, second, strict=False):
        yield one
        yield other
    yield from first[paired:]
    yield from second[paired:]
