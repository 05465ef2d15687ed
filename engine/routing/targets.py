"""Which addresses are our own: mail that went there would come back. Others it must not go to: net/addresses.py."""

import ipaddress
import socket
from collections.abc import Iterable

from engine.base.hostport import is_ip_address, parse_host_port
from engine.base.settings import Listener

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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
        return plain in self._addresses or (self._everywhere and (plain.is_unspecified or is_local(plain)))


def is_local(ip: _Address) -> bool:
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
