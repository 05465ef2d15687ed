"""`host:port` as people write it: `127.0.0.1:25`, `[::1]:25`, `mx.example.org:25`."""

import ipaddress
import re

#: Letters, digits, hyphens and (in DNS, not in host names proper) underscores; labels of 63, 253 in all.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_PORT = re.compile(r"[0-9]{1,5}")


def is_ip_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address, without brackets, zone or prefix length."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_host_name(text: str) -> bool:
    """Whether this is a host name in ASCII form, without a trailing dot. A dotted IPv4 address is none."""
    return _HOST_NAME.fullmatch(text) is not None and not text.rpartition(".")[2].isdigit()


def parse_host_port(text: str) -> tuple[str, int]:
    """Host (brackets removed) and port 0..65535 of `host:port`. Raises ValueError.

    The host is an IP address or a host name; an IPv6 address must stand in brackets.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError(f'"{text}" is not an address with a port, such as "127.0.0.1:2525" or "[::1]:2525"')
    if host.startswith("[") and host.endswith("]"):
        if ":" not in host or not is_ip_address(host[1:-1]):
            raise ValueError(f'"{text}": "{host}" is not an IPv6 address in brackets')
        return host[1:-1], int(port)
    if ":" in host:
        raise ValueError(f'"{text}": an IPv6 address goes in brackets, as "[::1]:{port}"')
    if not is_ip_address(host) and not is_host_name(host):
        raise ValueError(f'"{text}": "{host}" is neither an IP address nor a host name')
    return host, int(port)


def format_host_port(host: str, port: int) -> str:
    """The written form; `parse_host_port` gives the same pair back."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host, by its name or address, is this machine."""
    return host == "localhost" or host == "::1" or host.startswith("127.")
