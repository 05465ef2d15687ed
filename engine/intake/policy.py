"""What one SMTP listener allows whom, worked out from the settings once and asked by every session.

Immutable: a reload makes a new one, and sessions keep the one they began with.
"""

import functools
import ipaddress

from engine.base.settings import Listener, Settings
from engine.message.address import destination_of
from engine.message.envelope import MessageClass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


@functools.lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """A client's address; IPv4 in IPv6 clothes (a dual-stack socket) is IPv4. Raises ValueError."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class Policy:
    """The rules of one listener. has_credentials: there is a table to check AUTH against."""

    def __init__(self, listener: Listener, settings: Settings, *, has_credentials: bool) -> None:
        self.intake = settings.intake
        self.large_bytes = settings.spool.large_bytes
        self.node = settings.node.name
        #: Domains that anybody may bring mail for; None: who may submit may send to all of them.
        self.domains = tuple(row.domain for row in settings.inbound) if listener.kind == "inbound" else None
        self.postmaster = settings.dsn.postmaster or f"postmaster@{settings.node.name}"
        if self.domains:
            self.postmaster = f"postmaster@{self.domains[0]}"
        self.postmaster_destination = destination_of(self.postmaster)
        self.too_large = b"552 5.3.4 The message is larger than %d bytes" % settings.intake.max_message_bytes
        self.auth = listener.auth and has_credentials and self.domains is None
        self.starttls = listener.tls is not None and not listener.tls.implicit
        #: TLS from the first byte, or the first one after a PROXY header.
        self.implicit_tls = listener.tls is not None and listener.tls.implicit
        self.default_class = MessageClass[listener.message_class.upper()]
        self._networks = parse_networks(listener.networks)
        self._proxy_from = parse_networks(listener.proxy_from)
        self._xclient_from = parse_networks(listener.xclient_from)
        self.ehlo = functools.cache(self._ehlo)
        #: Whether the client's network may submit without AUTH.
        self.may_submit = functools.lru_cache(maxsize=4096)(lambda client: in_networks(client, self._networks))

    def speaks_proxy(self, peer: Address) -> bool:
        """Whether the peer is a proxy, which sends a PROXY header first."""
        return in_networks(peer, self._proxy_from)

    def may_xclient(self, peer: Address) -> bool:
        return in_networks(peer, self._xclient_from)

    def _ehlo(self, starttls: bool, auth: bool, xclient: bool) -> bytes:
        """The reply to EHLO, without the last CRLF."""
        lines = [
            self.node,
            "PIPELINING",
            f"SIZE {self.intake.max_message_bytes}",
            *(["STARTTLS"] if starttls else []),
            *(["AUTH PLAIN LOGIN"] if auth else []),
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "DSN",
            "SMTPUTF8",
            *(["XCLIENT NAME ADDR PORT PROTO HELO LOGIN"] if xclient else []),
            "CHUNKING",
        ]
        return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"]).encode()


def parse_networks(networks: tuple[str, ...]) -> Networks:
    """Of settings, which were checked."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in networks)


def in_networks(address: Address, networks: Networks) -> bool:
    """Whether it is in one of them."""
    return any(address in network for network in networks)
