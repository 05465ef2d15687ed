"""A resolver without a network: answers of a zone (as tests/support/dns.py reads it), for tests of routing."""

from collections import Counter

import dns.rdatatype
from dns.rdata import Rdata
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from engine.base.clock import Clock
from engine.net.dns_query import Finding, Record, RecordType
from engine.net.resolver import Answer
from tests.support.dns import Zone, parse_zone


class ZoneLookup:
    """`net.resolver.Lookup`. troubled: names DNS gives no answer about. Aliases are not followed."""

    def __init__(
        self, zone: Zone, clock: Clock, troubled: frozenset[str] = frozenset(), negative_ttl: float = 60
    ) -> None:
        self.troubled = troubled
        self.asked: Counter[tuple[str, str]] = Counter()
        self._records = parse_zone(zone)
        self._clock = clock
        self._negative_ttl = negative_ttl

    async def lookup(self, name: str, kind: RecordType) -> Answer:
        self.asked[name, kind] += 1
        now = self._clock.monotonic()
        if name in self.troubled:
            return Answer(finding=Finding.TROUBLE, expires_at=now + 5, detail="SERVFAIL")
        found = self._records.get((name, dns.rdatatype.from_text(kind)))
        if found is not None:
            records = tuple(_record(rdata) for rdata in found)
            return Answer(finding=Finding.FOUND, expires_at=now + found.ttl, records=records)
        exists = any(owner == name or owner.endswith("." + name) for owner, _ in self._records)
        finding, detail = (Finding.NO_DATA, f"no {kind} record") if exists else (Finding.NO_NAME, "no such name")
        return Answer(finding=finding, expires_at=now + self._negative_ttl, detail=detail)


def _record(rdata: Rdata) -> Record:
    match rdata:
        case MX():
            return Record(rdata.exchange.to_text(omit_final_dot=True).lower(), rdata.preference)
        case A() | AAAA():
            return Record(rdata.address)
        case PTR():
            return Record(rdata.target.to_text(omit_final_dot=True).lower())
    raise AssertionError(f"no lookups of {rdata.rdtype} here")
