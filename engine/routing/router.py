"""From a destination to a plan: carrier or account, static route, else MX; site, provider, limits, TLS need, source.

    X1  the site and the key of the limits depend on the set of MX hosts only; the TLS need stays with the domain.
    X2  doubt is DEFERRED: only what DNS says for certain, or a loop, or nothing but private addresses, is FAILED (Q3).

`cached` is the hot path: a dict look-up, no await. Plans live as long as the DNS answers they are made of; those of
SMS as long as the settings.
"""

import hashlib
import ipaddress
from collections.abc import Sequence
from typing import Final

from engine.base.clock import Clock
from engine.base.errors import ConfigError
from engine.base.hostport import is_ip_address
from engine.base.settings import Provider, Route, Settings, Source, TlsLevel
from engine.message.channels import channel_of
from engine.message.outcome import Status
from engine.net.addresses import refusal
from engine.net.dns_query import Finding, RecordType
from engine.net.resolver import Lookup
from engine.routing.mx import families, find_mx_hosts
from engine.routing.plan import OTHER, RELAY, UNRESOLVED, Endpoint, NoRoute, Plan
from engine.routing.providers import ProviderTable, limits_of
from engine.routing.routes import StaticRoute, StaticRoutes, override, relay_limits
from engine.routing.sms_plans import SmsPlans
from engine.routing.targets import OwnHosts

#: A longer list of MX names is cut in a site's key and a hash put in its place.
_SITE_CHARS: Final = 80


class Router:
    """Knows where mail goes. `resolve` may run many times at once."""

    def __init__(self, settings: Settings, dns: Lookup, clock: Clock) -> None:
        """Raises ConfigError: a route that cannot be used."""
        self._dns = dns
        self._clock = clock
        self._rules = _Rules(settings)
        self._plans: dict[str, Plan | NoRoute] = {}

    def cached(self, destination: str, via: str = "") -> Plan | NoRoute | None:
        """What is known of this destination and still holds; of SMS, always. via: the relay, or the carrier, that an
        operator chose instead."""
        plan = self._plans.get(_key(destination, via))
        if plan is None:
            return self._rules.sms.plan(destination, via, self._clock.monotonic())
        return plan if plan.expires_at > self._clock.monotonic() else None

    def provider_of(self, destination: str) -> str:
        """Its provider as of the last look-up, for metrics; UNRESOLVED: there was none lately. A dict look-up."""
        plan = self._plans.get(destination) or self._rules.sms.plan(destination, "", 0.0)
        if plan is None:
            return UNRESOLVED
        return plan.provider if isinstance(plan, Plan) else OTHER

    async def resolve(self, destination: str, via: str = "") -> Plan | NoRoute:
        """Where mail for this destination goes now. destination: as `message.address.destination_of` writes it."""
        found = self.cached(destination, via)
        if found is not None:
            return found
        rules, plans = self._rules, self._plans
        found = await rules.plan(destination, via, self._dns, self._clock)
        key = _key(destination, via)
        plans.pop(key, None)
        plans[key] = found
        if len(plans) > rules.settings.resolver.cache_entries:
            del plans[next(iter(plans))]
        return found

    def route_of(self, destination: str) -> Route | None:
        """The [[route]] that matches; None: its MX hosts."""
        route = self._rules.routes.find(destination)
        return None if route is None else route.row

    def reload(self, settings: Settings) -> None:
        """Route by these settings from now on. Raises ConfigError and changes nothing. The resolver reloads itself."""
        self._rules = _Rules(settings)
        self._plans = {}  # a new one: what is being resolved still writes to the old

    def forget(self, destination: str, via: str = "") -> None:
        """Ask DNS again next time, as far as the resolver's own cache allows."""
        self._plans.pop(_key(destination, via), None)


def _key(destination: str, via: str) -> str:
    """In the table of plans; a destination has no space in it."""
    return f"{destination} {via}" if via else destination


class _Rules:
    """Everything a plan depends on besides DNS. Immutable; a reload makes another."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.routes = StaticRoutes(settings)
        if not (settings.routing.ipv4 or settings.routing.ipv6):
            raise ConfigError(["[routing] ipv4 and ipv6 are both off: nothing could be delivered"])
        self._providers = ProviderTable(settings.provider)
        self._own = OwnHosts(settings.node.name, settings.listener, settings.routing.port)
        self.sms = SmsPlans(settings, self.routes.source)

    async def plan(self, destination: str, via: str, dns: Lookup, clock: Clock) -> Plan | NoRoute:
        # A carrier is no way for mail: then it goes as if nobody had chosen one.
        by_relay = via and channel_of(via)[0] == "mail"
        route = self.routes.by_way_of(via) if by_relay else self.routes.find(destination)
        if route is not None and route.relay is not None:
            return await self._to_relay(destination, route, route.relay, dns, clock)
        if destination.startswith("["):
            return self._to_literal(destination, route, clock)
        return await self._to_mx(destination, route, dns, clock)

    async def _to_mx(self, domain: str, route: StaticRoute | None, dns: Lookup, clock: Clock) -> Plan | NoRoute:
        source = route.source if route else self.routes.source
        kinds = self._kinds(source)
        if not kinds:
            return self._no_family(source, clock)
        hosts = await find_mx_hosts(domain, dns, self.settings.routing, self._own, kinds)
        if isinstance(hosts, NoRoute):
            return hosts
        provider = self._providers.match(hosts.best)
        return self._made(domain, _site_key(hosts.names), provider, hosts.groups, route, hosts.expires_at)

    def _to_literal(self, destination: str, route: StaticRoute | None, clock: Clock) -> Plan | NoRoute:
        """[192.0.2.1] and [IPv6:2001:db8::1] (RFC 5321 4.1.3)."""
        expires_at = clock.monotonic() + self.settings.resolver.max_ttl
        address = destination.removeprefix("[").removesuffix("]")
        if address.lower().startswith("ipv6:"):
            address = address[5:]
        if not destination.endswith("]") or not is_ip_address(address):
            return NoRoute(Status.FAILED, "5.1.2", f"{destination} is not an address to deliver to", expires_at)
        address = str(ipaddress.ip_address(address))
        if self._own.is_own(address):
            return NoRoute(Status.FAILED, "5.4.6", f"mail for {destination} loops back to this host", expires_at)
        reason = refusal(address, self.settings.routing.allow_private)
        if reason:
            return NoRoute(
                Status.FAILED, "5.4.4", f"{destination} is not on the public Internet ({reason})", expires_at
            )
        source = route.source if route else self.routes.source
        if ("AAAA" if ":" in address else "A") not in self._kinds(source):
            return self._no_family(source, clock)
        groups = ((Endpoint(address, address, self.settings.routing.port),),)
        return self._made(destination, destination, None, groups, route, expires_at)

    def _made(
        self,
        destination: str,
        site: str,
        provider: Provider | None,
        hosts: tuple[tuple[Endpoint, ...], ...],
        route: StaticRoute | None,
        expires_at: float,
    ) -> Plan:
        limits = limits_of(provider, site, self.settings.site)
        return Plan(
            destination=destination,
            site=site,
            provider=provider.name if provider else OTHER,
            hosts=hosts,
            tls=_tls(route.row.tls if route else None, provider.tls if provider else None, self.settings.delivery.tls),
            source=route.source if route else self.routes.source,
            limits=override(limits, route.row) if route else limits,
            credentials=None,
            stop=tuple((text, float(seconds)) for text, seconds in provider.stop) if provider else (),
            expires_at=expires_at,
        )

    async def _to_relay(
        self, destination: str, route: StaticRoute, relay: tuple[str, int], dns: Lookup, clock: Clock
    ) -> Plan | NoRoute:
        """A relay is the operator's word: private addresses are fine, and its mistakes are no reason to bounce mail."""
        host, port = relay
        if is_ip_address(host):
            addresses: Sequence[str] = (host,)
            expires_at = clock.monotonic() + self.settings.resolver.max_ttl
            trouble = ""
        else:
            addresses, trouble, expires_at = await _addresses(host, dns, clock)
        if not addresses:
            return NoRoute(Status.DEFERRED, "4.4.3", f"the relay {host} has no address: {trouble}", expires_at)
        kinds = self._kinds(route.source)
        usable = [address for address in addresses if ("AAAA" if ":" in address else "A") in kinds]
        if not usable:
            return self._no_family(route.source, clock)
        return Plan(
            destination=destination,
            site=route.site,
            provider=RELAY,
            hosts=(tuple(Endpoint(host, address, port) for address in usable),),
            tls=_tls(route.row.tls, None, self.settings.delivery.tls),
            source=route.source,
            limits=relay_limits(route),
            credentials=route.credentials,
            stop=(),
            expires_at=expires_at,
        )

    def _kinds(self, source: Source) -> tuple[RecordType, ...]:
        """The address families that may be used: those switched on, and of a source with addresses only its own.

        A source is chosen for the reputation of its addresses; leaving from another one is not what was asked for.
        """
        bound = bool(source.address or source.address6)
        routing = self.settings.routing
        return families(
            routing.ipv4 and (bool(source.address) or not bound), routing.ipv6 and (bool(source.address6) or not bound)
        )

    def _no_family(self, source: Source, clock: Clock) -> NoRoute:
        """Ours to mend, so the mail waits."""
        reply = f'source "{source.name}" and [routing] leave no address family to reach it'
        return NoRoute(Status.DEFERRED, "4.3.5", reply, clock.monotonic() + self.settings.resolver.max_ttl)


async def _addresses(host: str, dns: Lookup, clock: Clock) -> tuple[list[str], str, float]:
    """Addresses of a relay's name, why there are none, and how long that holds (monotonic)."""
    if host.lower() == "localhost":  # RFC 6761 6.3: not DNS's to answer
        return ["127.0.0.1", "::1"], "", clock.monotonic() + 3600
    found: list[str] = []
    details: list[str] = []
    expires: list[float] = []
    for kind in families(ipv4=True, ipv6=True):
        answer = await dns.lookup(host, kind)
        expires.append(answer.expires_at)
        if answer.finding is Finding.FOUND:
            found += [record.value for record in answer.records]
        else:
            details.append(answer.detail)
    return found, ", ".join(dict.fromkeys(details)), min(expires)


def _site_key(names: Sequence[str]) -> str:
    """The set of MX hosts as a short text; the same for every domain that has it (X1)."""
    text = ",".join(names)
    if len(text) <= _SITE_CHARS:
        return text
    return f"{names[0]}+{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _tls(route: TlsLevel | None, provider: TlsLevel | None, default: TlsLevel) -> TlsLevel:
    """Route before provider before default; but "encrypt" of the table is a floor and never weakens "verify"."""
    if route is not None:
        return route
    if provider is None or (provider == "encrypt" and default == "verify"):
        return default
    return provider
