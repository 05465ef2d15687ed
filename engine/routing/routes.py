"""Static routes and sources: what the operator said about where some mail goes.

Loaded once, with the passwords they name; every mistake of one load is reported together.
"""

import ipaddress
import os
import stat
from dataclasses import dataclass

import msgspec

from engine.base.errors import ConfigError
from engine.base.hostport import format_host_port, is_ip_address, parse_host_port
from engine.base.settings import Route, Settings, Source
from engine.base.settings_carriers import MAX_SMPP_PASSWORD
from engine.routing.plan import Limits

#: Of a relay that says nothing: it is ours, and it wants what we have.
_RELAY_CONNECTIONS = 20
_RELAY_MESSAGES = 1000

#: A password is short; a larger file is another file.
_MAX_PASSWORD_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticRoute:
    """One [[route]], ready to use. relay: host (name or IP address) and port; None: the MX of the domain."""

    row: Route
    relay: tuple[str, int] | None
    credentials: tuple[str, str] | None
    source: Source

    @property
    def site(self) -> str:
        """The key of a relay's connections; sessions of different logins are never shared."""
        assert self.relay is not None
        login = f"{self.row.username}@" if self.row.username else ""
        return f"relay:{login}{format_host_port(*self.relay)}"

    def matches(self, destination: str) -> bool:
        pattern = self.row.domain
        if pattern == "*" or pattern == destination:
            return True
        return pattern.startswith(".") and destination.endswith(pattern)


class StaticRoutes:
    """The [[route]] rows in order, and the [[source]] rows they name."""

    def __init__(self, settings: Settings) -> None:
        """Reads the password files. Raises ConfigError with every problem."""
        problems: list[str] = []
        node = settings.node.name
        sources = {row.name: _with_ehlo(row, node) for row in settings.source}
        #: Of everything that names no source: the first, or whatever the kernel picks.
        self.source = next(iter(sources.values()), Source(name="default", ehlo=node))
        self._routes: list[StaticRoute] = []
        for number, row in enumerate(settings.route, 1):
            try:
                self._routes.append(_load(row, sources, self.source))
            except ValueError as error:
                problems.append(f"[[route]] {number} {error}")
        if problems:
            raise ConfigError(problems)

    def find(self, destination: str) -> StaticRoute | None:
        """The first route that matches."""
        return next((route for route in self._routes if route.matches(destination)), None)

    def by_way_of(self, relay: str) -> StaticRoute:
        """The route to this relay: as a [[route]] has it, or without login. Raises ValueError: not "host:port"."""
        known = next((route for route in self._routes if route.row.relay == relay), None)
        if known is not None:
            return known
        row = Route(domain="*", relay=relay)
        return StaticRoute(row=row, relay=parse_host_port(relay), credentials=None, source=self.source)


def relay_limits(route: StaticRoute) -> Limits:
    """What a relay may be asked to take: as the route says, else generous."""
    limits = Limits(key=route.site, connections=_RELAY_CONNECTIONS, messages_per_connection=_RELAY_MESSAGES, rate=None)
    return override(limits, route.row)


def override(limits: Limits, row: Route) -> Limits:
    """These limits with what the route says instead.

    Changed limits have a key of their own, made of the figures: two routes to one place with different figures never
    fight over one budget, and with the same figures they share it.
    """
    if row.connections is None and row.messages_per_connection is None and row.rate is None:
        return limits
    connections = limits.connections if row.connections is None else row.connections
    messages = limits.messages_per_connection if row.messages_per_connection is None else row.messages_per_connection
    rate = limits.rate if row.rate is None else float(row.rate)
    figures = f"{connections}/{messages}/{'-' if rate is None else f'{rate:g}'}"
    return Limits(key=f"{limits.key} {figures}", connections=connections, messages_per_connection=messages, rate=rate)


def _with_ehlo(source: Source, node: str) -> Source:
    return source if source.ehlo else msgspec.structs.replace(source, ehlo=node)


def _load(row: Route, sources: dict[str, Source], default: Source) -> StaticRoute:
    """Raises ValueError: the field and what is wrong with it."""
    if row.source and row.source not in sources:
        raise ValueError(f'source: "{row.source}" is not the name of a [[source]]')
    try:
        relay = parse_host_port(row.relay) if row.relay else None
    except ValueError as error:
        raise ValueError(f"relay: {error}") from error
    if row.username and relay is None:
        raise ValueError("username: a login is never offered to whatever host an MX names; set relay")
    credentials = (row.username, read_password(row.password_file)) if row.username else None
    source = sources[row.source] if row.source else default
    normal = msgspec.structs.replace(row, domain=row.domain.lower().removesuffix("."))
    return StaticRoute(row=normal, relay=relay, credentials=credentials, source=source)


def read_password(path: str) -> str:
    """The one line of this file. Raises ValueError: not readable, readable by others, empty, or more than a line."""
    if not path:
        raise ValueError("password_file: missing, username is given")
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(_MAX_PASSWORD_BYTES + 1)
    except OSError as error:
        raise ValueError(f"password_file: {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ValueError(f"password_file: {path} has mode {mode:04o}, others can read it; make it 0600")
    if len(data) > _MAX_PASSWORD_BYTES:
        raise ValueError(f"password_file: {path} is too long for a password")
    try:
        password = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError(f"password_file: {path} is not UTF-8 text") from error
    # SASL PLAIN cannot carry NUL (RFC 4616), and a second line is a mistake.
    if not password or any(c in password for c in "\0\r\n"):
        raise ValueError(f"password_file: {path} must hold the password and nothing else")
    return password


def password_problems(settings: Settings) -> list[str]:
    """Password files that cannot be used, for `postrider check`."""
    problems: list[str] = []
    for number, row in enumerate(settings.route, 1):
        if row.username and row.password_file:
            try:
                read_password(row.password_file)
            except ValueError as error:
                problems.append(f"[[route]] {number} {error}")
    for number, carrier in enumerate(settings.carrier, 1):
        if carrier.password_file:
            try:
                length = len(read_password(carrier.password_file).encode())
            except ValueError as error:
                problems.append(f"[[carrier]] {number} {error}")
                continue
            if length > MAX_SMPP_PASSWORD:
                text = f"{length} octets are too long for SMPP; {MAX_SMPP_PASSWORD} or less"
                problems.append(f"[[carrier]] {number} password_file: {carrier.password_file}: {text}")
    return problems


def own_relays(settings: Settings) -> list[str]:
    """Routes whose relay is a listener of this node: mail would go round until its Received fields are counted."""
    ours = [listener.address for listener in settings.listener if listener.kind in ("smtp", "inbound")]
    return [
        f'[[route]] {number} relay: "{row.relay}" is a listener of this node: its mail would come back'
        for number, row in enumerate(settings.route, 1)
        if row.relay and any(_leads_to(row.relay, address, settings.node.name) for address in ours)
    ]


def _leads_to(relay: str, address: str, node: str) -> bool:
    """Whether a relay is what listens at an address of this host, as far as the settings tell."""
    (host, port), (own, own_port) = _host_port(relay), _host_port(address)
    if port != own_port:
        return False
    if host == own:
        return True
    everywhere = is_ip_address(own) and ipaddress.ip_address(own).is_unspecified
    return everywhere and (host == node or (is_ip_address(host) and ipaddress.ip_address(host).is_loopback))


def _host_port(text: str) -> tuple[str, int]:
    host, port = parse_host_port(text.lower())
    return "127.0.0.1" if host == "localhost" else host, port
