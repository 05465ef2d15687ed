"""The resolver: a bounded cache before the name servers, and one question in flight for a name and type.

    R1  every lookup ends: at most `attempts` questions of `timeout` for each of at most MAX_ALIASES aliases.
    R2  whoever asks for what is being asked waits for the same answer; one of them going away disturbs no other.
    R3  the cache holds at most `cache_entries` answers; an answer lives `min_ttl` to `max_ttl`, whatever its TTL.

What DNS says is a value (`Answer`), never an exception. Names are A-labels; anything else does not exist.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from engine.base import settings
from engine.base.clock import Clock
from engine.base.hostport import is_host_name
from engine.base.metrics import Metrics
from engine.net.dns_query import Finding, NameServers, Record, RecordType, Response

#: Aliases followed from answer to answer; a server that resolves them itself gives them all in one.
MAX_ALIASES = 8

_Key = tuple[str, RecordType]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What DNS says about a name. records: not empty if and only if FOUND. expires_at: monotonic.

    detail: for people, why there are no records.
    """

    finding: Finding
    expires_at: float
    records: tuple[Record, ...] = ()
    detail: str = ""


class Lookup(Protocol):
    """What others need of a resolver; tests have their own."""

    async def lookup(self, name: str, kind: RecordType) -> Answer:
        """Never raises for what DNS says."""


class Resolver:
    """Looks names up. Belongs to one event loop; `close` before it ends."""

    def __init__(self, config: settings.Resolver, metrics: Metrics, clock: Clock) -> None:
        """Raises ConfigError: no name server to be had."""
        self._clock = clock
        self._metrics = metrics
        self._cache: OrderedDict[_Key, Answer] = OrderedDict()
        self._flights: dict[_Key, asyncio.Task[Answer]] = {}
        self._configure(config)

    def _configure(self, config: settings.Resolver) -> None:
        def observe(result: str, seconds: float) -> None:
            self._metrics.dns.labels(result).observe(seconds)

        self._servers = NameServers(config, self._clock, observe)
        self._config = config
        self._turns = asyncio.Semaphore(config.max_queries)

    async def lookup(self, name: str, kind: RecordType) -> Answer:
        """The records of this type, of the name or of what it is an alias for."""
        key = (name.lower().removesuffix("."), kind)
        answer = self._cached(key)
        if answer is not None:
            return answer
        if not is_host_name(key[0]):
            expires_at = self._clock.monotonic() + self._config.max_ttl
            return Answer(finding=Finding.NO_NAME, expires_at=expires_at, detail="not a name that DNS can hold")
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._fly(key), name=f"dns {key[0]} {kind}")
        try:
            # Shielded: the task belongs to everybody who waits, so only `close` cancels it (R2).
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if flight.cancelled() and current is not None and not current.cancelling():
                return self._trouble("the resolver was closed")
            raise

    def reload(self, config: settings.Resolver) -> None:
        """Ask these servers from now on, and forget the answers of the old. Raises ConfigError and changes nothing."""
        self._configure(config)
        self._cache = OrderedDict()  # a new one: what is in flight still writes to the old

    async def close(self) -> None:
        """End what is in flight; those who wait get TROUBLE."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _cached(self, key: _Key) -> Answer | None:
        answer = self._cache.get(key)
        if answer is None:
            return None
        if answer.expires_at <= self._clock.monotonic():
            del self._cache[key]
            return None
        self._cache.move_to_end(key)
        return answer

    async def _fly(self, key: _Key) -> Answer:
        servers, cache = self._servers, self._cache
        try:
            async with self._turns:
                answer = await self._resolve(servers, key)
        finally:
            del self._flights[key]
        cache[key] = answer
        if len(cache) > self._config.cache_entries:
            cache.popitem(last=False)
        return answer

    async def _resolve(self, servers: NameServers, key: _Key) -> Answer:
        """Follows aliases until there is an answer (R1)."""
        name, kind = key
        ttl = float(self._config.max_ttl)
        for _ in range(1 + MAX_ALIASES):
            response = await servers.ask(name, kind)
            if response.finding is Finding.TROUBLE:
                return self._trouble(response.detail)
            ttl = min(ttl, response.ttl)
            if not response.follow:
                return self._answer(response, ttl)
            name = response.follow
            if not is_host_name(name):
                return self._answer(response, ttl)
        return self._trouble("the aliases have no end")

    def _answer(self, response: Response, ttl: float) -> Answer:
        ttl = min(max(ttl, self._config.min_ttl), self._config.max_ttl)
        expires_at = self._clock.monotonic() + ttl
        finding, records = response.finding, response.records
        return Answer(finding=finding, expires_at=expires_at, records=records, detail=response.detail)

    def _trouble(self, detail: str) -> Answer:
        """Kept for `min_ttl` too: a thousand domains behind one broken name must not each wait for it in turn."""
        expires_at = self._clock.monotonic() + self._config.min_ttl
        return Answer(finding=Finding.TROUBLE, expires_at=expires_at, detail=detail)
