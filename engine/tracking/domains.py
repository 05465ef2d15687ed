"""What a click domain lacks: its addresses, its certificate, and whether a redirector with our keys answers there.

As a browser sees it: DNS, then a connection to each address, TLS with the system's trust, and a nonce that only a
redirector with our keys can answer (selftest.py). Blocks but for DNS; for the command line.
"""

import asyncio
import http.client
import secrets
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Literal
from urllib.parse import urlsplit

from engine.base.hostport import is_ip_address
from engine.net import dns_query
from engine.net.resolver import Lookup
from engine.tracking.selftest import WELL_KNOWN, proof

_TIMEOUT_S = 10.0
#: Renewal is due thirty days before the end where certificates last ninety.
_SOON_DAYS = 14

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """step: "dns", "connect", "tls" or "path"; where: the address it is about, or ""."""

    step: str
    severity: Severity
    text: str
    where: str = ""


async def check_domain(
    url: str, keys: Mapping[int, bytes], resolver: Lookup, context: ssl.SSLContext | None = None
) -> list[Finding]:
    """url: what links begin with. context: None: the system's trust."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    tls = (context or ssl.create_default_context()) if parts.scheme == "https" else None
    found: list[Finding] = []
    if tls is None:
        found.append(Finding("tls", "warning", "links are http: anybody on the way reads who clicks what"))
    addresses = [host]
    if not is_ip_address(host):
        addresses, trouble = await _addresses(resolver, host)
        if addresses:
            found.append(Finding("dns", "ok", f"{host} is {', '.join(addresses)}"))
        else:
            text = trouble or "it has no address: add an A or AAAA (or CNAME) record"
            addresses = await _of_this_machine(host)
            if not addresses:
                return [*found, Finding("dns", "error", f"{host}: {text}")]
            known = f"this machine alone knows it as {', '.join(addresses)} (a hosts file?)"
            found.append(Finding("dns", "warning", f"{host}: {text}; {known}"))
    prefix = parts.path.rstrip("/")
    for address in addresses:
        found += await asyncio.to_thread(_ask, host, address, port, tls, prefix, keys)
    return found


async def _addresses(resolver: Lookup, host: str) -> tuple[list[str], str]:
    """And why there are none, where nobody says."""
    answers = [await resolver.lookup(host, "A"), await resolver.lookup(host, "AAAA")]
    found = [record.value for answer in answers for record in answer.records]
    trouble = next((answer.detail for answer in answers if answer.finding is dns_query.Finding.TROUBLE), "")
    return found, "" if found else trouble


async def _of_this_machine(host: str) -> list[str]:
    """What a program here would be told: the hosts file, and whatever else nsswitch.conf names."""
    loop = asyncio.get_running_loop()
    try:
        told = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in told))


def _ask(
    host: str, address: str, port: int, tls: ssl.SSLContext | None, prefix: str, keys: Mapping[int, bytes]
) -> list[Finding]:
    """At one address."""
    return list(_steps(host, address, port, tls, prefix, keys))


def _steps(
    host: str, address: str, port: int, tls: ssl.SSLContext | None, prefix: str, keys: Mapping[int, bytes]
) -> Iterator[Finding]:
    """One after the other; the first that fails is the last."""
    try:
        sock = socket.create_connection((address, port), _TIMEOUT_S)
    except OSError as exc:
        yield Finding("connect", "error", f"port {port}: {exc.strerror or exc}", address)
        return
    try:
        if tls is not None:
            try:
                sock = secured = tls.wrap_socket(sock, server_hostname=host)
            except OSError as exc:
                reason = getattr(exc, "verify_message", "") or getattr(exc, "reason", None) or exc
                yield Finding("tls", "error", f"no valid certificate for {host}: {reason}", address)
                return
            yield _certificate(secured, address)
        yield from _path(sock, host, prefix, keys, address)
    finally:
        sock.close()


def _certificate(sock: ssl.SSLSocket, address: str) -> Finding:
    ends = str((sock.getpeercert() or {}).get("notAfter", ""))
    days = (ssl.cert_time_to_seconds(ends) - time.time()) / 86400 if ends else 0.0
    severity: Severity = "warning" if days < _SOON_DAYS else "ok"
    return Finding("tls", severity, f"the certificate is valid for {days:.0f} more days", address)


def _path(sock: socket.socket, host: str, prefix: str, keys: Mapping[int, bytes], address: str) -> Iterator[Finding]:
    nonce = secrets.token_hex(16)
    path = f"{prefix}{WELL_KNOWN}/{nonce}"
    connection = http.client.HTTPConnection(host, timeout=_TIMEOUT_S)
    connection.sock = sock
    try:
        connection.request("GET", path, headers={"User-Agent": "postrider check-domain"})
        answer = connection.getresponse()
        status, said = answer.status, answer.read(200).decode("latin-1").strip()
    except (OSError, http.client.HTTPException) as exc:
        yield Finding("path", "error", f"no answer: {exc or type(exc).__name__}", address)
        return
    if status != 200:
        text = f"{WELL_KNOWN} answers {status}: whoever answers there does not pass requests on to our redirector"
        yield Finding("path", "error", text, address)
        return
    right = [made for number in keys if (made := proof({number: keys[number]}, nonce)) is not None]
    if any(compare_digest(said.encode(), each.encode()) for each in right):
        yield Finding("path", "ok", "our redirector answers", address)
    else:
        yield Finding("path", "error", "what answers is no redirector with our keys ([tracking] keys)", address)
