"""One DNS question, asked of the name servers in turn until one answers. No cache here: see resolver.py.

dnspython makes and reads the messages, on a connected socket of its own for each question: the kernel picks a
fresh port and drops datagrams of others, dnspython checks id and question, so a blind forger has 32 bits to
guess, and a dead server on this host is noticed at once instead of after `timeout`.
A truncated answer is asked for again over TCP.
"""

import enum
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from engine.base import settings
from engine.base.clock import Clock
from engine.base.errors import ConfigError
from engine.base.hostport import format_host_port, parse_host_port

RecordType = Literal["A", "AAAA", "MX", "PTR", "TXT"]

#: dnspython has no annotations here, and no public name for the socket it returns.
_MakeSocket = Callable[..., Awaitable[Any]]

#: What fits an Ethernet frame whatever the path (DNS flag day 2020).
_PAYLOAD_BYTES = 1232


class Finding(enum.Enum):
    """What a question came to. The values are labels of `Metrics.dns`."""

    FOUND = "found"
    NO_NAME = "no_name"  #: NXDOMAIN: nothing of this name exists
    NO_DATA = "no_data"  #: the name exists, without records of this type
    TROUBLE = "trouble"  #: no server gave a usable answer: temporary, says nothing about the name


@dataclass(frozen=True, slots=True)
class Record:
    """One record as text: an address, an MX or PTR host (lower case, no final dot, "." for the root), a TXT joined."""

    value: str
    preference: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a server said. follow: the alias's target, when the server left it at the alias; else ""."""

    finding: Finding
    ttl: float = 0.0
    records: tuple[Record, ...] = ()
    follow: str = ""
    detail: str = ""


class NameServers:
    """The servers of the settings, used in rotation.

    observe(result, seconds) is called once per datagram sent, with a Finding's value, "timeout" or "error".
    """

    def __init__(self, config: settings.Resolver, clock: Clock, observe: Callable[[str, float], None]) -> None:
        """Raises ConfigError: no server in the settings nor in /etc/resolv.conf."""
        self._servers = [parse_host_port(text) for text in config.nameservers] or _system_servers()
        self._timeout = float(config.timeout)
        self._attempts = config.attempts
        self._clock = clock
        self._observe = observe
        self._next = 0
        self._backend = dns.asyncbackend.get_backend("asyncio")

    async def ask(self, name: str, kind: RecordType) -> Response:
        """Ask until a server knows, at most `attempts` times. Never raises for what servers do.

        A server that answers SERVFAIL or the like is not asked again: it has tried by itself already.
        """
        query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD_BYTES)
        start = self._next = (self._next + 1) % len(self._servers)
        servers = self._servers[start:] + self._servers[:start]
        trouble = "no name server"
        for _ in range(self._attempts):
            server = servers.pop(0)
            began = self._clock.monotonic()
            result, response = await self._try(query, server, kind)
            self._observe(result, self._clock.monotonic() - began)
            if response.finding is not Finding.TROUBLE:
                return response
            trouble = f"{format_host_port(*server)} {response.detail}"
            if result != "trouble":
                servers.append(server)
            if not servers:
                break
        return Response(finding=Finding.TROUBLE, detail=trouble)

    async def _try(self, query: dns.message.Message, server: tuple[str, int], kind: RecordType) -> tuple[str, Response]:
        """One server's answer, with the result to count."""
        try:
            response = read_answer(await self._exchange(query, *server), kind)
        except dns.exception.Timeout:
            return "timeout", Response(finding=Finding.TROUBLE, detail="did not answer")
        except (OSError, EOFError, dns.exception.DNSException) as error:
            return "error", Response(finding=Finding.TROUBLE, detail=_reason(error))
        return response.finding.value, response

    async def _exchange(self, query: dns.message.Message, host: str, port: int) -> dns.message.Message:
        """One question and its answer. Raises dns.exception.DNSException (Timeout among them), OSError, EOFError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        make_socket = cast(_MakeSocket, self._backend.make_socket)
        udp = await make_socket(family, socket.SOCK_DGRAM, 0, None, (host, port))
        async with udp:
            message, _ = await dns.asyncquery.udp_with_fallback(
                query,
                host,
                timeout=self._timeout,
                port=port,
                udp_sock=udp,
                backend=self._backend,
                ignore_unexpected=True,
                ignore_errors=True,
            )
        return message


def _system_servers() -> list[tuple[str, int]]:
    """Those of /etc/resolv.conf. Raises ConfigError."""
    try:
        found = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration as error:
        raise ConfigError([f"[resolver] nameservers: none given, and {error}"]) from error
    servers = [(str(server), 53) for server in found]
    if not servers:
        raise ConfigError(["[resolver] nameservers: none given, and none in /etc/resolv.conf"])
    return servers


def read_answer(message: dns.message.Message, kind: RecordType) -> Response:
    """What an answer says. Raises dns.exception.DNSException: alias chains without end, an impossible answer."""
    rcode = message.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not isinstance(message, dns.message.QueryMessage):
        return Response(finding=Finding.TROUBLE, detail=f"answered {dns.rcode.to_text(rcode)}")
    chain = message.resolve_chaining()
    if chain.answer is not None:
        records = tuple(dict.fromkeys(_records(chain.answer)))
        if not records:
            return Response(finding=Finding.TROUBLE, detail="answered with records nobody asked for")
        return Response(finding=Finding.FOUND, ttl=chain.minimum_ttl, records=records)
    if rcode == dns.rcode.NXDOMAIN:
        return Response(finding=Finding.NO_NAME, ttl=chain.minimum_ttl, detail="no such name")
    # An SOA says that the target was looked up and has no such record; without it the server stopped at the alias.
    stopped = bool(chain.cnames) and not any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority)
    follow = chain.canonical_name.to_text(omit_final_dot=True).lower() if stopped else ""
    return Response(finding=Finding.NO_DATA, ttl=chain.minimum_ttl, follow=follow, detail=f"no {kind} record")


def _records(rdatas: Iterable[dns.rdata.Rdata]) -> Iterable[Record]:
    for rdata in rdatas:
        match rdata:
            case MX():
                yield Record(rdata.exchange.to_text(omit_final_dot=True).lower(), rdata.preference)
            case PTR():
                yield Record(rdata.target.to_text(omit_final_dot=True).lower())
            case TXT():
                yield Record(b"".join(rdata.strings).decode("utf-8", "backslashreplace"))
            case A() | AAAA():
                yield Record(rdata.address)


def _reason(error: BaseException) -> str:
    """A few words, printable, on one line."""
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
