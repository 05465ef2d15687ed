"""What fields of one table, and tables among themselves, must agree on.

Each check reports through `report(where, what is wrong)` and goes on; nothing is raised. Warnings are things that
work and are probably not meant.
"""

import ipaddress
import os
import ssl
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from engine.base import settings_carriers, settings_feed, settings_sms
from engine.base.hostport import is_ip_address, is_loopback, parse_host_port
from engine.base.settings import (
    Account,
    Carrier,
    Dkim,
    Keyword,
    Listener,
    Resolver,
    Route,
    Routing,
    Settings,
    TlsFiles,
    Webhook,
)

Report = Callable[[str, str], None]
Rows = Sequence[tuple[int, Any]]  #: (number in the file from 1, struct with None in place of a bad required field)


def check_table(table: Any, good: Collection[str], prefix: str, report: Report) -> None:
    """Fields of one table that must fit together. good: the names of the fields that are right by themselves."""
    for struct, fields, check in _TABLE_CHECKS:
        if isinstance(table, struct) and all(field in good for field in fields) and (text := check(table)):
            report(f"{prefix}{fields[-1]}", text)


def _everybody(networks: Sequence[str]) -> str:
    """What of these networks covers all addresses of IPv4 or IPv6, for a message; "" if nothing does."""
    for text in networks:
        if ipaddress.ip_network(text).prefixlen == 0:
            return f'"{text}"'
    nets = [ipaddress.ip_network(text) for text in networks]
    v4 = ipaddress.collapse_addresses(net for net in nets if isinstance(net, ipaddress.IPv4Network))
    v6 = ipaddress.collapse_addresses(net for net in nets if isinstance(net, ipaddress.IPv6Network))
    if any(net.prefixlen == 0 for net in v4) or any(net.prefixlen == 0 for net in v6):
        return "all of them together"
    return ""


def _open_relay(listener: Listener) -> str:
    everybody = _everybody(listener.networks) if listener.kind == "smtp" else ""
    return f"{everybody} would make this an open relay" if everybody else ""


def _any_proxy(listener: Listener) -> str:
    everybody = _everybody(listener.proxy_from)
    return f"{everybody} would let anybody say where it comes from" if everybody else ""


def _any_xclient(listener: Listener) -> str:
    everybody = _everybody(listener.xclient_from)
    return f"{everybody} would let anybody say who it is" if everybody else ""


def _ttl_order(resolver: Resolver) -> str:
    return "is longer than max_ttl" if resolver.min_ttl > resolver.max_ttl else ""


def _no_family(routing: Routing) -> str:
    return "" if routing.ipv4 or routing.ipv6 else "is off like ipv4: nothing could be delivered"


def _half_a_login(route: Route) -> str:
    if bool(route.username) == bool(route.password_file):
        return ""
    return "missing, username is given" if route.username else "given without username"


def _login_to_anybody(route: Route) -> str:
    if route.username and not route.relay:
        return "missing: a login is never offered to whatever host an MX names"
    return ""


def _login_in_the_clear(route: Route) -> str:
    if route.tls == "none" and _logs_in_over_a_network(route):
        return '"none": a login is never sent without TLS but to this machine, so nothing would be delivered'
    return ""


def _logs_in_over_a_network(route: Route) -> bool:
    return bool(route.username and route.relay) and not is_loopback(parse_host_port(route.relay)[0])


def _star_signs_as(key: Dkim) -> str:
    return 'missing: with domain "*" it names the domain that signs' if key.domain == "*" and not key.identity else ""


def _tls_problem(files: TlsFiles) -> str:
    """Why OpenSSL would not serve with these files, or ""."""

    def no_password() -> str:
        raise ValueError("is protected by a password")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.cert, files.key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"key {files.key} does not belong to cert {files.cert}"
        return f"cert {files.cert} and key {files.key} are not a PEM chain and its key"
    except ValueError:
        return f"key {files.key} is protected by a password, which nobody is there to type"
    except OSError as error:
        return f"cert {files.cert} and key {files.key} cannot be read: {error.strerror}"
    mode = stat.S_IMODE(os.stat(files.key).st_mode)
    if mode & 0o037:
        return f"key {files.key} has mode {mode:04o}, others may use it; chmod 0600 or 0640 {files.key}"
    return ""


#: (struct, fields that must be good; the last one is named in the problem, check)
_TABLE_CHECKS: tuple[tuple[type, tuple[str, ...], Callable[[Any], str]], ...] = (
    (TlsFiles, ("cert", "key"), _tls_problem),
    (Listener, ("kind", "networks"), _open_relay),
    (Listener, ("proxy_from",), _any_proxy),
    (Listener, ("xclient_from",), _any_xclient),
    (Resolver, ("max_ttl", "min_ttl"), _ttl_order),
    (Routing, ("ipv4", "ipv6"), _no_family),
    (Route, ("username", "password_file"), _half_a_login),
    (Route, ("username", "relay"), _login_to_anybody),
    (Route, ("username", "relay", "tls"), _login_in_the_clear),
    (Dkim, ("domain", "identity"), _star_signs_as),
    (Carrier, ("password", "password_file"), settings_carriers.two_passwords),
    (Carrier, ("join", "languages"), settings_carriers.unjoined_languages),
    (Account, ("password", "credential"), settings_carriers.one_password),
    (Carrier, ("outbind_system_id", "outbind_password"), settings_carriers.half_outbind),
    (Carrier, ("outbind_password", "outbind_system_id"), settings_carriers.open_outbind),
    (Keyword, ("account", "url"), settings_sms.one_target),
    (Webhook, ("secret", "secret_file"), settings_feed.one_secret),
)


def check_rows(tables: Mapping[str, Rows], report: Report) -> None:
    """What the rows of one file say about each other."""
    _check_listeners(tables["listener"], report)
    for number, name in _repeated((number, row.name) for number, row in tables["source"]):
        report(f"[[source]] {number} name", f'"{name}" is there already')
    for number, name in _repeated((number, row.name) for number, row in tables["webhook"]):
        report(f"[[webhook]] {number} name", f'"{name}" is there already')
    check_providers(tables["provider"], report)
    settings_carriers.check_carriers(tables, report)
    for number, name in _repeated((number, row.domain) for number, row in tables["inbound"]):
        report(f"[[inbound]] {number} domain", f'"{name}" is there already')
    domains = {row.domain for _, row in tables["inbound"]}
    for number, row in tables["inbound"]:
        if row.replies and row.replies.rpartition("@")[2].lower() in domains:
            report(f"[[inbound]] {number} replies", f'"{row.replies}" is at an inbound domain: it would come back')
    for number, name in _repeated((number, row.tenant) for number, row in tables["click_domain"]):
        report(f"[[click_domain]] {number} tenant", f'"{name}" is there already')
    keys = [(number, row) for number, row in tables["dkim"] if row.selector and row.domain]
    for number, name in _repeated((number, f"{row.selector}._domainkey.{row.domain}") for number, row in keys):
        report(f"[[dkim]] {number} selector", f"{name} is there already")
    sources = {row.name for _, row in tables["source"]}
    for number, row in tables["route"]:
        if row.source and row.source not in sources:
            report(f"[[route]] {number} source", f'"{row.source}" is not the name of a [[source]]')


def check_providers(rows: Rows, report: Report) -> None:
    """Names of a provider table: each once."""
    for number, name in _repeated((number, row.name) for number, row in rows):
        report(f"[[provider]] {number} name", f'"{name}" is there already')


def _check_listeners(rows: Rows, report: Report) -> None:
    """Two listeners on one address and port, or one of them on all addresses: the second could not start."""
    seen: list[tuple[str, int]] = []
    for number, listener in rows:
        if listener.address is None:
            continue
        host, port = parse_host_port(listener.address)
        if any(port == other_port != 0 and _overlap(host, other) for other, other_port in seen):
            report(f"[[listener]] {number} address", f'"{listener.address}" is taken by another listener')
        seen.append((host, port))


def _overlap(one: str, two: str) -> bool:
    if one.lower() == two.lower():
        return True
    if not (is_ip_address(one) and is_ip_address(two)):
        return False
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(two)
    if first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified


def _repeated(names: Iterable[tuple[int, str | None]]) -> Iterator[tuple[int, str]]:
    """Those whose name came before."""
    seen: set[str] = set()
    for number, name in names:
        if name is None:
            continue
        if name in seen:
            yield number, name
        seen.add(name)


def warnings_of(settings: Settings) -> list[str]:
    """What will work and is probably not meant: one line each, without the file's name."""
    found: list[str] = []
    if not settings.carrier and not any(listener.kind == "smtp" for listener in settings.listener):
        found.append('no [[listener]] of kind "smtp": nothing can submit mail')
    for number, listener in enumerate(settings.listener, 1):
        if listener.kind == "smtp" and not listener.networks and not (listener.auth and _auth_possible(listener)):
            found.append(f"[[listener]] {number}: no networks, and AUTH is not offered: nobody can submit here")
        if listener.kind == "events" and listener.tls is None and not _all_loopback(listener.networks):
            found.append(f"[[listener]] {number}: no tls: only clients on this machine can log in")
        idle = _idle_fields(listener)
        if idle:
            found.append(f'[[listener]] {number}: {idle}: does nothing on a listener of kind "{listener.kind}"')
    inbound = any(listener.kind == "inbound" for listener in settings.listener)
    if inbound and not settings.inbound:
        found.append('a [[listener]] of kind "inbound" and no [[inbound]]: it takes nothing')
    elif settings.inbound and not inbound:
        found.append('[[inbound]], and no [[listener]] of kind "inbound": what comes back is for another node')
    if settings.events.readers and not any(listener.kind == "events" for listener in settings.listener):
        found.append('[events] readers, and no [[listener]] of kind "events": there is nothing to read')
    found += list(_tracking_warnings(settings))
    found += _logins_in_the_clear(settings)
    found += _never_reached([route.domain for route in settings.route])
    found += settings_carriers.carrier_warnings(settings)
    if not settings.dkim and not (settings.carrier and all(one.kind != "smtp" for one in settings.listener)):
        found.append("no [[dkim]]: mail leaves unsigned, and large receivers refuse unsigned bulk mail")
    cores = len(os.sched_getaffinity(0))
    if settings.node.workers > cores:
        found.append(f"[node] workers: {settings.node.workers} for {cores} cores: more than one each only cost memory")
    if settings.node.name == "localhost":
        found.append('[node] name: other servers distrust a greeting of "localhost"; give this host\'s public name')
    return found


def _tracking_warnings(settings: Settings) -> Iterator[str]:
    listens = any(listener.kind == "tracking" for listener in settings.listener)
    led = bool(settings.tracking.base_url or settings.tracking.sms_url or settings.click_domain)
    if listens and not led:
        yield 'a [[listener]] of kind "tracking" and no [tracking] base_url: no link leads there'
    elif led and not listens:
        yield '[tracking] base_url or sms_url, no [[listener]] of kind "tracking": another node answers'
    if settings.tracking.unsubscribe:
        urls = [("[tracking]", settings.tracking.base_url)]
        urls += [(f"[[click_domain]] {row.tenant}", row.base_url) for row in settings.click_domain]
        for where, url in urls:
            if url.lower().startswith("http:") and not is_loopback(urlsplit(url).hostname or ""):
                yield f"{where} base_url: mail programs offer one click to leave for https alone (RFC 8058)"
    mailto = settings.tracking.unsubscribe_mailto
    if mailto and not any(row.kind == "unsubscribe" and row.domain == mailto for row in settings.inbound):
        yield f'[tracking] unsubscribe_mailto: no [[inbound]] "{mailto}" of kind "unsubscribe": another node takes it'


def _logins_in_the_clear(settings: Settings) -> Iterator[str]:
    """Routes that have no word of their own about TLS. One that has: see the check of its table."""
    if settings.delivery.tls == "none":
        for number, route in enumerate(settings.route, 1):
            if route.tls is None and _logs_in_over_a_network(route):
                yield f'[[route]] {number} tls: missing, and [delivery] tls = "none": no login is sent without TLS'


def _never_reached(domains: Sequence[str]) -> Iterator[str]:
    """Routes, by their domains, that another one takes everything from."""
    first: dict[str, int] = {}
    for number, domain in enumerate(domains, 1):
        above = min((first[pattern] for pattern in _patterns_for(domain) if pattern in first), default=0)
        if above:
            yield f'[[route]] {number}: never reached, [[route]] {above} takes "{domains[above - 1]}"'
        first.setdefault(domain, number)


def _patterns_for(domain: str) -> Iterator[str]:
    """The domains of routes that match whatever a route with this one does."""
    yield from ("*", domain)
    yield from (domain[at:] for at, char in enumerate(domain) if char == ".")


#: Fields that do nothing, by the kind of a listener.
_IDLE = {
    "smtp": (),
    "inbound": ("auth", "message_class", "networks"),
    "smpp": ("auth", "message_class", "xclient_from"),
    "http": ("auth", "message_class", "proxy_from", "xclient_from"),
    "tracking": ("auth", "message_class", "networks", "proxy_from", "xclient_from"),
    "events": ("auth", "message_class", "proxy_from", "xclient_from"),
}


def _idle_fields(listener: Listener) -> str:
    """Those that are given and do nothing; a default written out cannot be told from none."""
    names = _IDLE[listener.kind]
    plain = Listener(kind=listener.kind, address=listener.address)
    return ", ".join(name for name in names if getattr(listener, name) != getattr(plain, name))


def _auth_possible(listener: Listener) -> bool:
    """AUTH is offered under TLS, or to loopback."""
    host = parse_host_port(listener.address)[0]
    return listener.tls is not None or host == "localhost" or (is_ip_address(host) and _reaches_loopback(host))


def _all_loopback(networks: Sequence[str]) -> bool:
    return all(ipaddress.ip_network(text).is_loopback for text in networks)


def _reaches_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host)
    return address.is_loopback or address.is_unspecified
