"""Who asks: the peer, or, where the peer is a proxy of ours, the client that the proxy names."""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: A proxy names few; the rest of a longer list was made up by the client.
_MOST_HOPS: Final = 20
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IS_V4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}").fullmatch


class Peers:
    """The proxies that are believed, of [tracking] proxies."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(text, strict=False) for text in networks]
        self.is_proxy = lru_cache(4096)(self._is_proxy)

    def client(self, peer: str, forwarded_for: str) -> str:
        """The address to hold a request against. forwarded_for: all X-Forwarded-For of it, in order, with commas.

        A list is read from its end, as far as proxies of ours wrote it: what stands before was anybody's to write.
        """
        if not forwarded_for or not self.is_proxy(peer):
            return peer
        client = peer
        if _IS_V4(forwarded_for) is not None:
            return forwarded_for  # one proxy, and what most clients have
        for word in reversed(forwarded_for.split(",")[-_MOST_HOPS:]):
            address = parse_address(word.strip())
            if address is None:
                break
            client = str(address)
            if not self.is_proxy(client):
                break
        return client

    def _is_proxy(self, text: str) -> bool:
        address = parse_address(text)
        return address is not None and any(address in network for network in self._networks)


def parse_address(text: str) -> _Address | None:
    """An address as proxies write them, with a port or brackets perhaps; None: it is none ("unknown", "_hidden")."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def neighbourhood(client: str) -> str:
    """Whoever is behind one address: of IPv6 a network of 64 bits, which one customer has to himself."""
    if ":" not in client:
        return client
    address = parse_address(client)
    if not isinstance(address, ipaddress.IPv6Address):
        return client
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
