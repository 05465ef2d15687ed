"""Which addresses mail may go to: none of our own, and none that only means something inside a network.

Whoever publishes an MX record chooses where we connect; without this a stranger's domain could send us to the
services of our own network.
"""

import ipaddress
import socket
from collections.abc import Iterable

from engine.base.hostport import is_ip_address, parse_host_port
from engine.base.settings import Listener

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: RFC 6052 2.1: the IPv4 address is in the last 32 bits. A DNS64 resolver makes these for hosts that are IPv4 only.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: Deprecated by RFC 4291 2.5.5.1; some stacks still treat the last 32 bits as an IPv4 address.
_COMPATIBLE = ipaddress.IPv6Network("::/96")

#: All that IANA has given out of IPv6 so far (RFC 4291 2.4).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def refusal(address: str, allow_private: bool) -> str:
    """Why no mail goes to this address (a word or two), or "". address: an IP address without brackets or zone.

    Some are refused whatever the settings: nothing can answer there, or another form hides the real target.
    """
    ip = ipaddress.ip_address(address)
    if ip.is_multicast:
        return "multicast"
    if ip.is_unspecified:
        return "unspecified"
    if ip == ipaddress.IPv4Address("255.255.255.255"):
        return "broadcast"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return "IPv4 in disguise"
        embedded = _embedded(ip)
        if embedded is not None:
            reason = refusal(str(embedded), allow_private)
            # Pythons differ about 6to4: what is inside decides.
            if reason or ip in _NAT64 or ip.sixtofour is not None:
                return f"{reason} inside" if reason else ""
    if allow_private:
        return ""
    if ip.is_loopback:
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST:
        return "private or reserved"
    return "" if ip.is_global and not ip.is_reserved else "private or reserved"


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a relay or translator would take out of this one."""
    if ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 0xFFFF):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.sixtofour


class OwnHosts:
    """This node as others see it: its name, and the addresses where it takes mail.

    port: where mail goes to. A listener elsewhere is no loop: a mail server beside us on port 25 gets its mail.
    """

    def __init__(self, name: str, listeners: Iterable[Listener], port: int) -> None:
        self.name = name.lower()
        self._addresses: set[_Address] = set()
        self._everywhere = False
        for listener in listeners:
            host, listens_on = parse_host_port(listener.address)
            if listener.kind not in ("smtp", "inbound") or listens_on != port:
                continue
            for text in ("127.0.0.1", "::1") if host == "localhost" else (host,):
                if is_ip_address(text):
                    self._addresses.add(ipaddress.ip_address(text))
        self._everywhere = any(address.is_unspecified for address in self._addresses)

    def is_own(self, address: str) -> bool:
        """Whether a connection to this address and the port would reach a listener of ours."""
        ip = ipaddress.ip_address(address)
        plain = getattr(ip, "ipv4_mapped", None) or ip
        return plain in self._addresses or (self._everywhere and (plain.is_unspecified or _is_local(plain)))


def _is_local(ip: _Address) -> bool:
    """Whether this machine has the address. Asks the routing table, through a socket that sends nothing."""
    if ip.is_loopback:
        return True
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(ip), 9))
            return str(probe.getsockname()[0]) == str(ip)
    except OSError:
        return False
