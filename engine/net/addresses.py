"""Which addresses we connect to for others: none that only means something inside a network.

Whoever publishes an MX record, or the name in a URL, chooses where we connect; without this a stranger's domain could
send us to the services of our own network.
"""

import ipaddress

#: RFC 6052 2.1: the IPv4 address is in the last 32 bits. A DNS64 resolver makes these for hosts that are IPv4 only.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: Deprecated by RFC 4291 2.5.5.1; some stacks still treat the last 32 bits as an IPv4 address.
_COMPATIBLE = ipaddress.IPv6Network("::/96")

#: All that IANA has given out of IPv6 so far (RFC 4291 2.4).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def refusal(address: str, allow_private: bool) -> str:
    """Why nothing goes to this address (a word or two), or "". address: an IP address without brackets or zone.

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
