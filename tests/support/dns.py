"""A DNS server on a free loopback port (UDP and TCP), in a thread, that answers from a zone or misbehaves on demand.

    with dns.start("example.net. 300 MX 10 mx1.example.net.\nmx1.example.net. 300 A 192.0.2.1") as server:
        server.address                        # "127.0.0.1:40123", for [resolver] nameservers
        server.queries["example.net"]         # how often this name was asked for, any type
        server.asked["example.net", "MX"]     # this name and type
        server.misbehave("mx1.example.net", "servfail")

A zone is text, one record a line (`name [ttl] type data`; a line that begins with `;` is a comment), or a dict of
name -> list of `[ttl] type data`. Names are absolute, with or without the final dot. A name exists if it has a record
or a name below it has one; all else is NXDOMAIN. Aliases are followed as far as the zone goes.
"""

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Zone = str | Mapping[str, list[str]]

#: servfail, refused, formerr: answers with that code. timeout: no answer. truncate: UDP answers are cut, TCP gives all.
#: garbage: bytes that are no DNS message. wrong_id: an answer nobody asked for. nodata_bare: empty, without SOA.
#: half_alias: only the first CNAME of a chain. empty: an answer of zero bytes.
FAULTS = frozenset(
    {
        "servfail",
        "refused",
        "formerr",
        "timeout",
        "truncate",
        "garbage",
        "wrong_id",
        "nodata_bare",
        "half_alias",
        "empty",
    }
)

_RCODES = {"servfail": dns.rcode.SERVFAIL, "refused": dns.rcode.REFUSED, "formerr": dns.rcode.FORMERR}
_DEFAULT_TTL = 300


def start(zone: Zone = "", *, negative_ttl: int = 60) -> "Server":
    """A running server. negative_ttl: TTL and minimum of the SOA in negative answers."""
    return Server(zone, negative_ttl)


class Server:
    """See the top of the file. Also a context manager that stops it."""

    def __init__(self, zone: Zone, negative_ttl: int) -> None:
        self.queries: Counter[str] = Counter()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.over_tcp: Counter[str] = Counter()
        self._negative_ttl = negative_ttl
        self._faults: dict[str, str] = {}
        self._records = parse_zone(zone)
        self._gate = threading.Event()
        self._gate.set()
        self._udp, self._tcp = _bind()
        self.port: int = self._udp.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._stopping = False
        self._threads = [threading.Thread(target=loop, daemon=True) for loop in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def set_zone(self, zone: Zone) -> None:
        """Answer from this zone from now on."""
        self._records = parse_zone(zone)

    def misbehave(self, name: str, fault: str) -> None:
        """Do this whenever the name ("*": any name) is asked for; `fault=""` ends it."""
        assert not fault or fault in FAULTS, f"{fault} is none of {sorted(FAULTS)}"
        self._faults[name.lower().removesuffix(".")] = fault

    def hold(self) -> None:
        """Count questions, but answer none until `release`."""
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    def stop(self) -> None:
        """End both threads and close the port. Twice is once."""
        if self._stopping:
            return
        self._stopping = True
        self._gate.set()
        # A datagram and a connection wake the threads: closing a socket under a blocked call would not.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wake:
            wake.sendto(b"", ("127.0.0.1", self.port))
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            pass
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _serve_udp(self) -> None:
        while True:
            wire, peer = self._udp.recvfrom(4096)
            if self._stopping:
                return
            reply = self._reply(wire, tcp=False)
            if reply is not None:
                with contextlib.suppress(OSError):  # the asker may be gone
                    self._udp.sendto(reply, peer)

    def _serve_tcp(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with connection, contextlib.suppress(OSError, EOFError):
                if self._stopping:
                    return
                connection.settimeout(5)
                length = struct.unpack("!H", _exactly(connection, 2))[0]
                reply = self._reply(_exactly(connection, length), tcp=True)
                if reply is not None:
                    connection.sendall(struct.pack("!H", len(reply)) + reply)

    def _reply(self, wire: bytes, tcp: bool) -> bytes | None:
        """The bytes to answer with, or None for silence."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        question = query.question[0]
        name = _key(question.name)
        self.queries[name] += 1
        self.asked[name, dns.rdatatype.to_text(question.rdtype)] += 1
        self.over_tcp[name] += tcp
        self._gate.wait()
        return self._misbehaved(query, name, self._faults.get(name) or self._faults.get("*", ""), tcp)

    def _misbehaved(self, query: dns.message.Message, name: str, fault: str, tcp: bool) -> bytes | None:
        response = dns.message.make_response(query, recursion_available=True)
        if fault == "timeout":
            return None
        if fault == "garbage":
            return b"\xff" * 40
        if fault == "empty":
            return b""
        if fault in _RCODES:
            response.set_rcode(_RCODES[fault])
            return response.to_wire()
        if fault == "truncate" and not tcp:
            response.flags |= dns.flags.TC
            return response.to_wire()
        self._fill(response, query.question[0], fault)
        if fault == "wrong_id":
            response.id = (query.id + 1) % 65536
        limit = 65535 if tcp else max(512, query.payload or 512)
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            short = dns.message.make_response(query, recursion_available=True)
            short.flags |= dns.flags.TC
            return short.to_wire()

    def _fill(self, response: dns.message.Message, question: dns.rrset.RRset, fault: str) -> None:
        """The answer of the zone, aliases followed; a loop of aliases is given once round."""
        name, kind, seen = question.name, question.rdtype, set()
        while True:
            found = self._records.get((_key(name), kind))
            alias = self._records.get((_key(name), dns.rdatatype.CNAME))
            if found:
                response.answer.append(found)
                return
            if alias is None:
                break
            if _key(name) in seen:
                return
            seen.add(_key(name))
            response.answer.append(alias)
            if fault == "half_alias":
                return
            name = alias[0].target
        if not self._exists(_key(name)):
            response.set_rcode(dns.rcode.NXDOMAIN)
        if fault != "nodata_bare":
            response.authority.append(self._soa(name))

    def _exists(self, name: str) -> bool:
        return any(owner == name or owner.endswith("." + name) for owner, _ in self._records)

    def _soa(self, name: dns.name.Name) -> dns.rrset.RRset:
        zone = dns.name.Name(name.labels[-3:])
        ttl = self._negative_ttl
        return dns.rrset.from_text(zone, ttl, "IN", "SOA", f"ns.invalid. root.invalid. 1 3600 600 86400 {ttl}")


def zone_lines(zone: Zone) -> Iterator[str]:
    """The records of either form of zone, as lines."""
    if isinstance(zone, str):
        lines = [line.strip() for line in zone.splitlines()]
        yield from (line for line in lines if line and not line.startswith(";"))
        return
    for name, records in zone.items():
        yield from (f"{name} {record}" for record in records)


def parse_zone(zone: Zone) -> dict[tuple[str, dns.rdatatype.RdataType], dns.rrset.RRset]:
    """The records by owner (lower case, no final dot) and type."""
    records: dict[tuple[str, dns.rdatatype.RdataType], dns.rrset.RRset] = {}
    for line in zone_lines(zone):
        owner, first, rest = line.split(None, 2)
        ttl, kind, data = _DEFAULT_TTL, first, rest
        if first.isdigit():
            kind, data = rest.split(None, 1)
            ttl = int(first)
        name = dns.name.from_text(owner)
        rdtype = dns.rdatatype.from_text(kind)
        rdata = dns.rdata.from_text(dns.rdataclass.IN, rdtype, data, origin=dns.name.root, relativize=False)
        known = records.setdefault((_key(name), rdtype), dns.rrset.RRset(name, dns.rdataclass.IN, rdtype))
        known.add(rdata, ttl)
    return records


def _key(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _bind() -> tuple[socket.socket, socket.socket]:
    """A UDP and a listening TCP socket on one free port; some other program may hold the second, so try again."""
    for _ in range(50):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        udp.bind(("127.0.0.1", 0))
        try:
            tcp.bind(udp.getsockname())
            tcp.listen(64)
        except OSError:
            udp.close()
            tcp.close()
            continue
        return udp, tcp
    raise OSError("no port is free for UDP and TCP")
