"""The MX hosts of a domain, as groups of addresses (RFC 5321 5.1, RFC 7505, RFC 3974).

    lookup MX -> hosts by preference -> without ourselves and what is worse -> at most `max_mx` -> their addresses

What is said of the domain as a whole is a `NoRoute`: FAILED if asking again would not help, DEFERRED if DNS could
not be asked. A host that cannot be resolved or must not be connected to only leaves the list.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from engine.base.hostport import is_host_name
from engine.base.settings import Routing
from engine.message.outcome import Status
from engine.net.addresses import refusal
from engine.net.dns_query import Finding, RecordType
from engine.net.resolver import Answer, Lookup
from engine.routing.plan import Endpoint, NoRoute
from engine.routing.targets import OwnHosts


@dataclass(frozen=True, slots=True, kw_only=True)
class MxHosts:
    """names: all hosts that may be used, whether or not they resolve now, sorted. best: those of the best preference.

    groups: addresses by preference, the best first; not empty, none empty.
    """

    names: tuple[str, ...]
    best: tuple[str, ...]
    groups: tuple[tuple[Endpoint, ...], ...]
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Host:
    preference: int
    name: str
    addresses: tuple[str, ...]
    troubled: bool  #: DNS could not be asked about it
    expires_at: float


def families(ipv4: bool, ipv6: bool) -> tuple[RecordType, ...]:
    """The address records to ask for."""
    kinds: list[RecordType] = ["AAAA"] if ipv6 else []
    return (*kinds, "A") if ipv4 else tuple(kinds)


async def find_mx_hosts(
    domain: str, dns: Lookup, config: Routing, own: OwnHosts, kinds: Sequence[RecordType]
) -> MxHosts | NoRoute:
    """Where mail for this domain (A-labels, lower case) goes. kinds: see `families`."""
    answer = await dns.lookup(domain, "MX")
    exchanges = _exchanges(domain, answer)
    if isinstance(exchanges, NoRoute):
        return exchanges
    exchanges, named_us = _before(exchanges, {name for _, name in exchanges if name == own.name})
    exchanges = exchanges[: config.max_mx]
    hosts = await asyncio.gather(*(_resolve(preference, name, dns, kinds) for preference, name in exchanges))
    loops = {host.name for host in hosts if any(map(own.is_own, host.addresses))}
    exchanges, resolved_to_us = _before(exchanges, loops)
    looped = named_us or resolved_to_us
    expires_at = min([answer.expires_at, *(host.expires_at for host in hosts)])
    groups, refused = _groups(hosts[: len(exchanges)], config)
    if groups:
        best = exchanges[0][0]
        return MxHosts(
            names=tuple(sorted(name for _, name in exchanges)),
            best=tuple(name for preference, name in exchanges if preference == best),
            groups=groups,
            expires_at=expires_at,
        )
    status, code, why = _nowhere(domain, hosts[: len(exchanges)], looped, refused, kinds)
    return NoRoute(status, code, why, expires_at)


def _exchanges(domain: str, answer: Answer) -> list[tuple[int, str]] | NoRoute:
    """(preference, host) in the order to try, names of one preference by alphabet; garbage left out."""
    match answer.finding:
        case Finding.TROUBLE:
            reply = f"DNS gave no answer about the mail hosts of {domain}: {answer.detail}"
            return NoRoute(Status.DEFERRED, "4.4.3", reply, answer.expires_at)
        case Finding.NO_NAME:
            return NoRoute(Status.FAILED, "5.1.2", f"the domain {domain} does not exist", answer.expires_at)
        case Finding.NO_DATA:
            return [(0, domain)]  # RFC 5321 5.1: the implicit MX
        case Finding.FOUND:
            pass
    if [record.value for record in answer.records] == ["."]:
        return NoRoute(Status.FAILED, "5.1.10", f"the domain {domain} accepts no mail (null MX)", answer.expires_at)
    best: dict[str, int] = {}
    for record in answer.records:
        # An address instead of a name, "." among others, or bytes that no host has: not usable (RFC 5321 5.1).
        if is_host_name(record.value):
            best[record.value] = min(record.preference, best.get(record.value, record.preference))
    if not best:
        reply = f"the MX records of {domain} name no host"
        return NoRoute(Status.FAILED, "5.4.4", reply, answer.expires_at)
    return sorted((preference, name) for name, preference in best.items())


def _before(exchanges: list[tuple[int, str]], ours: set[str]) -> tuple[list[tuple[int, str]], bool]:
    """Those better than the best of `ours`, and whether any of ours is there: mail must not go back (RFC 5321 5.1)."""
    limit = min((preference for preference, name in exchanges if name in ours), default=None)
    if limit is None:
        return exchanges, False
    return [(preference, name) for preference, name in exchanges if preference < limit], True


async def _resolve(preference: int, name: str, dns: Lookup, kinds: Sequence[RecordType]) -> _Host:
    answers = await asyncio.gather(*(dns.lookup(name, kind) for kind in kinds))
    return _Host(
        preference,
        name,
        tuple(record.value for answer in answers for record in answer.records),
        any(answer.finding is Finding.TROUBLE for answer in answers),
        min(answer.expires_at for answer in answers),
    )


def _groups(hosts: Sequence[_Host], config: Routing) -> tuple[tuple[tuple[Endpoint, ...], ...], list[str]]:
    """The addresses mail may go to, by preference; and the others, each with its reason."""
    groups: dict[int, list[Endpoint]] = {}
    refused: list[str] = []
    taken: set[str] = set()
    for host in hosts:
        for address in host.addresses:
            reason = refusal(address, config.allow_private)
            if reason:
                refused.append(f"{address} ({reason})")
            elif address not in taken:
                taken.add(address)
                groups.setdefault(host.preference, []).append(Endpoint(host.name, address, config.port))
    return tuple(tuple(group) for _, group in sorted(groups.items())), refused


def _nowhere(
    domain: str, hosts: Sequence[_Host], looped: bool, refused: Sequence[str], kinds: Sequence[RecordType]
) -> tuple[Status, str, str]:
    """Why nothing is left to connect to. Doubt means later (Q3): a host that DNS was silent about may be good."""
    if any(host.troubled for host in hosts):
        names = ", ".join(host.name for host in hosts if host.troubled)
        return Status.DEFERRED, "4.4.3", f"DNS gave no address for the mail hosts of {domain}: {names}"
    if looped:
        return Status.FAILED, "5.4.6", f"mail for {domain} loops back to this host"
    if refused:
        return Status.FAILED, "5.4.4", f"the mail hosts of {domain} are not on the public Internet: {_few(refused)}"
    wanted = " or ".join({"A": "IPv4", "AAAA": "IPv6"}[kind] for kind in kinds)
    names = _few([host.name for host in hosts])
    return Status.FAILED, "5.4.4", f"no mail host of {domain} has an {wanted} address: {names}"


def _few(texts: Sequence[str]) -> str:
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
