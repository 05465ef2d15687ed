"""What the value of a setting must satisfy beyond its type: ranges, addresses, names, files.

A rule takes the value and the folder of the settings file; it gives the value to use (paths made absolute,
domains in lower case) or raises ValueError with the reason. Rules look at the disk but change nothing there.
What fields and tables say about each other is in settings_checks.py.
"""

import ipaddress
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.base import settings_carriers, settings_feed, settings_links, settings_sms
from engine.base.hostport import format_host_port, is_host_name, is_ip_address, parse_host_port
from engine.base.schedule import parse_schedule
from engine.base.settings import (
    Account,
    Bounces,
    Carrier,
    Delivery,
    Dkim,
    Dsn,
    Events,
    Inbound,
    Intake,
    Keyword,
    Listener,
    Node,
    Provider,
    Resolver,
    Retry,
    RetryClass,
    Route,
    Routing,
    Signing,
    Sms,
    Source,
    SpoolSettings,
    SuppressionSettings,
    TlsFiles,
    Webhook,
)
from engine.base.settings_tracking import ClickDomain, LedgerSettings, Tracking
from engine.base.units import Duration, Size

Rule = Callable[[Any, Path], Any]


def apply(struct: type, field: str, value: Any, base: Path) -> Any:
    """The value to use for this field. Raises ValueError: what is wrong with it."""
    rule = _RULES.get((struct, field), _by_type)
    return value if value is None else rule(value, base)


def _by_type(value: Any, base: Path) -> Any:
    """Where nothing else is said: counts are 1 or more, durations and sizes above zero."""
    if type(value) is int and value < 1:
        raise ValueError(f"{value} is too small; 1 or more")
    if isinstance(value, Duration | Size) and value <= 0:
        raise ValueError("must be more than zero")
    return value


def _or_zero(value: Any, base: Path) -> Any:
    if value < 0:
        raise ValueError("must not be negative")
    return value


def _at_least(least: int, most: int | None = None) -> Rule:
    def rule(value: Any, base: Path) -> Any:
        if value < least:
            raise ValueError(f"{value} is too small; {least} or more")
        if most is not None and value > most:
            raise ValueError(f"{value} is too large; {most} or less")
        return value

    return rule


def _fraction(value: float, base: Path) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{value:g} is not a fraction from 0 to 1")
    return value


def _workers(value: int, base: Path) -> int:
    """More than one for each core is never of use, and 64 cores are more than one disk keeps up with."""
    if not 1 <= value <= 64:
        raise ValueError(f"{value} is not a number of workers, 1 to 64")
    return value


def _port(value: int, base: Path) -> int:
    if not 1 <= value <= 65535:
        raise ValueError(f"{value} is not a port, 1 to 65535")
    return value


def _schedule(value: str, base: Path) -> str:
    parse_schedule(value)
    return value


def _listen_address(value: str, base: Path) -> str:
    """Port 0 is any free port, for tests."""
    parse_host_port(value)
    return value


def _relay(value: str, base: Path) -> str:
    if value and parse_host_port(value)[1] == 0:
        raise ValueError(f'"{value}": port 0 cannot be connected to')
    return value


def _nameservers(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    """Always with a port: "192.0.2.1" means port 53."""
    servers, bad = [], []
    for text in value:
        try:
            host, port = (text, 53) if is_ip_address(text) else parse_host_port(text)
        except ValueError:
            host, port = "", 0
        if is_ip_address(host) and port:
            servers.append(format_host_port(host, port))
        else:
            bad.append(f'"{text}"')
    if bad:
        raise ValueError(f'{", ".join(bad)}: not an IP address with a port, such as "127.0.0.1:53"')
    return tuple(servers)


def _networks(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    bad = []
    for text in value:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            hint = " (bits are set behind the prefix)" if "host bits" in str(error) else ""
            bad.append(f'"{text}"{hint}')
    if bad:
        raise ValueError(f'{", ".join(bad)}: not a network, such as "192.0.2.0/24" or "::1"')
    return value


def _local_address(family: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]) -> Rule:
    def rule(value: str, base: Path) -> str:
        try:
            return value and str(family(value))
        except ValueError:
            kind = "IPv4" if family is ipaddress.IPv4Address else "IPv6"
            raise ValueError(f'"{value}" is not an {kind} address') from None

    return rule


def _host_name(value: str, base: Path) -> str:
    if not is_host_name(value):
        raise ValueError(f'"{value}" is not a host name in ASCII form')
    return value.lower()


def _host_name_or_none(value: str, base: Path) -> str:
    return value and _host_name(value, base)


def _domain(value: str, base: Path) -> str:
    """A domain in ASCII form, lower case."""
    if not is_host_name(value):
        raise ValueError(f'"{value}" is not a domain in ASCII form, such as "example.org"')
    return value.lower()


def _domain_pattern(value: str, base: Path) -> str:
    """A domain, "*", or ".domain" for what lies below it."""
    if value == "*":
        return value
    return "." + _domain(value[1:], base) if value.startswith(".") else _domain(value, base)


def _domain_or_star(value: str, base: Path) -> str:
    return value if value == "*" else _domain(value, base)


def _domain_or_none(value: str, base: Path) -> str:
    return value and _domain(value, base)


def _name(value: str, base: Path) -> str:
    """A name for people and metrics: short, printable, no spaces."""
    if not value or len(value) > 63 or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f'"{value}" is not a name: 1 to 63 printable ASCII characters without spaces')
    return value


def _suffixes(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    if not value:
        raise ValueError('at least one ending of an MX name, such as ".example.net"')
    return value


def _path(value: str, base: Path) -> str:
    if not value:
        raise ValueError("must not be empty")
    return os.path.abspath(base / value)


def _folder(value: str, base: Path) -> str:
    path = _path(value, base)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ValueError(f"{path} is not a folder")
    return path


def _readable(value: str, base: Path) -> str:
    path = _path(value, base)
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return path


def _secret_or_none(value: str, base: Path) -> str:
    """A file that holds a secret is its owner's alone."""
    if not value:
        return value
    path = _readable(value, base)
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o077:
        raise ValueError(f"{path} has mode {mode:04o}, others can read it; make it 0600")
    return path


def _printable_or_none(value: str, base: Path) -> str:
    if not value.isprintable():
        raise ValueError("control characters are not allowed")
    return value


def _domains(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    return tuple(_domain(text, base) for text in value)


def _replies(value: str, base: Path) -> str:
    """An address, a URL, or a folder."""
    if not value:
        return value
    if value.startswith(("http:", "https:")):
        return settings_feed.url(value, base)
    return _postmaster(value, base) if "@" in value and "/" not in value else _folder(value, base)


def _postmaster(value: str, base: Path) -> str:
    local, at, domain = value.rpartition("@")
    if value and not (at and local and local.isprintable() and " " not in local and is_host_name(domain)):
        raise ValueError(f'"{value}" is not an address, such as "postmaster@example.org"')
    return value


_RULES: dict[tuple[type, str], Rule] = {
    (Node, "name"): _host_name,
    (Node, "data_dir"): _folder,
    (Node, "workers"): _workers,
    (TlsFiles, "cert"): _readable,
    (TlsFiles, "key"): _readable,
    (Listener, "address"): _listen_address,
    (Listener, "networks"): _networks,
    (Listener, "proxy_from"): _networks,
    (Listener, "xclient_from"): _networks,
    (Intake, "max_command_bytes"): _at_least(512),  # RFC 5321 4.5.3.1.4
    (Intake, "max_auth_bytes"): _at_least(512),
    # A file of the spool has less than 2 GiB: segment_bytes, and what was on its way then.
    (SpoolSettings, "segment_bytes"): _at_least(4096, 512 << 20),
    (SpoolSettings, "large_bytes"): _at_least(1, 512 << 20),
    (SpoolSettings, "move_rate"): _or_zero,
    (SpoolSettings, "hot_bytes"): _or_zero,
    (SpoolSettings, "max_memory"): _or_zero,
    (SpoolSettings, "memory_guard"): _fraction,
    (SpoolSettings, "min_free"): _fraction,
    (Resolver, "nameservers"): _nameservers,
    (Resolver, "min_ttl"): _or_zero,
    (Routing, "port"): _port,
    (Routing, "providers_file"): _path,
    (Bounces, "rules_file"): _path,
    (Route, "domain"): _domain_pattern,
    (Route, "relay"): _relay,
    (Route, "username"): _printable_or_none,
    (Route, "password_file"): _secret_or_none,
    (Source, "name"): _name,
    (Source, "address"): _local_address(ipaddress.IPv4Address),
    (Source, "address6"): _local_address(ipaddress.IPv6Address),
    (Source, "ehlo"): _host_name_or_none,
    (Provider, "name"): _name,
    (Provider, "mx"): _suffixes,
    (Dkim, "domain"): _domain_or_star,
    (Dkim, "selector"): _domain,
    (Dkim, "key"): _readable,
    (Dkim, "identity"): _domain_or_none,
    (Signing, "threads"): _or_zero,
    (Signing, "expire_after"): _or_zero,
    (Carrier, "name"): settings_carriers.carrier_name,
    (Carrier, "host"): settings_carriers.host,
    (Carrier, "port"): _port,
    (Carrier, "system_id"): settings_carriers.system_id,
    (Carrier, "password"): settings_carriers.password,
    (Carrier, "password_file"): _secret_or_none,
    (Carrier, "system_type"): settings_carriers.system_type,
    (Carrier, "outbind_system_id"): settings_carriers.outbind_system_id,
    (Carrier, "outbind_password"): settings_carriers.password,
    (Carrier, "binds"): _at_least(1, 100),
    (Carrier, "window"): _at_least(1, 10_000),
    (Carrier, "tls"): settings_carriers.tls,
    (Carrier, "prefixes"): settings_carriers.prefixes,
    (Carrier, "countries"): settings_carriers.countries,
    (Carrier, "networks"): settings_carriers.networks,
    (Carrier, "senders"): settings_carriers.senders,
    (Carrier, "classes"): settings_carriers.classes,
    (Carrier, "price"): settings_carriers.price,
    (Carrier, "languages"): settings_carriers.languages,
    (Carrier, "tlvs"): settings_carriers.tlvs,
    (Carrier, "spare_octets"): _at_least(0, 100),  # protocol/sms_rules.py
    (Carrier, "max_parts"): _at_least(1, 255),
    (Account, "system_id"): settings_carriers.account_id,
    (Account, "password"): settings_carriers.password,
    (Account, "credential"): _printable_or_none,
    (Account, "networks"): _networks,
    (Account, "outbind"): _relay,
    (Account, "outbind_tls"): settings_carriers.tls,
    (Account, "outbind_password"): settings_carriers.password,
    (Account, "max_binds"): _at_least(1, 1000),
    (Account, "window"): _at_least(1, 100_000),
    (Account, "senders"): settings_carriers.senders,
    (Account, "quota"): _or_zero,
    (Account, "stop_words"): settings_sms.words,
    (Account, "start_words"): settings_sms.words,
    (Account, "help"): settings_sms.text,
    (Keyword, "word"): settings_sms.word,
    (Keyword, "url"): settings_feed.url_or_none,
    (Sms, "country"): settings_carriers.country,
    (Sms, "stop_text"): settings_sms.text,
    (Sms, "stop_text_ru"): settings_sms.text,
    (Sms, "start_text"): settings_sms.text,
    (Sms, "start_text_ru"): settings_sms.text,
    (RetryClass, "schedule"): _schedule,
    (Retry, "schedule"): _schedule,
    (Retry, "jitter"): _fraction,
    (Delivery, "idle_timeout"): _or_zero,
    (Inbound, "domain"): _domain,
    (Inbound, "senders"): _domains,
    (Inbound, "trusted"): _domains,
    (Inbound, "replies"): _replies,
    (Dsn, "sender_name"): _printable_or_none,
    (Dsn, "postmaster"): _postmaster,
    (Dsn, "gather"): _or_zero,
    (Dsn, "max_return_bytes"): _or_zero,
    (SuppressionSettings, "hard_bounces"): _at_least(1, 1000),
    (SuppressionSettings, "hard_bounce_expires"): _or_zero,
    (SuppressionSettings, "complaints"): _at_least(1, 1000),
    (SuppressionSettings, "complaint_expires"): _or_zero,
    (SuppressionSettings, "unsubscribe_expires"): _or_zero,
    (Tracking, "base_url"): settings_links.base_url_or_none,
    (Tracking, "keys"): settings_links.keys,
    (Tracking, "unsubscribe_mailto"): _domain_or_none,
    (Tracking, "sms_url"): settings_links.base_url_or_none,
    (Tracking, "proxies"): _networks,
    (Tracking, "scanners_file"): _path,
    (Tracking, "many_recipients"): _at_least(2, 64),
    (Tracking, "max_connections"): _at_least(1),
    (ClickDomain, "tenant"): settings_links.tenant,
    (ClickDomain, "base_url"): settings_links.base_url,
    (ClickDomain, "sms_url"): settings_links.base_url_or_none,
    (LedgerSettings, "segment_bytes"): _at_least(4096, 512 << 20),
    (Events, "segment_bytes"): _at_least(4096),
    (Events, "readers"): settings_feed.readers,
    (Webhook, "name"): _name,
    (Webhook, "url"): settings_feed.url,
    (Webhook, "secret"): settings_feed.secret,
    (Webhook, "secret_file"): _secret_or_none,
    (Webhook, "types"): settings_feed.types,
    (Webhook, "batch_events"): _at_least(1, 10_000),
    (Webhook, "batch_bytes"): _at_least(1024, 16 << 20),
    (Webhook, "batch_wait"): _or_zero,
}
